package broker_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// A tuning is read from text, and changes what it names and nothing else.
func TestTuning(t *testing.T) {
	declared := broker.Trigger{Name: "x", Batch: 128, Concurrency: 1, Delivery: broker.DefaultDelivery}
	for text, change := range map[string]func(*broker.Trigger){
		"":                      func(*broker.Trigger) {},
		"retry=0, patience=0s":  func(t *broker.Trigger) { t.Delivery.Retry, t.Delivery.Patience = 0, 0 },
		"retry=20,timeout=1m":   func(t *broker.Trigger) { t.Delivery.Retry, t.Delivery.Timeout = 20, time.Minute },
		"concurrency=4":         func(t *broker.Trigger) { t.Concurrency, t.Batch = 4, 1 },
		"concurrency=4,batch=8": func(t *broker.Trigger) { t.Concurrency, t.Batch = 4, 8 },
		"rate=0.5,interval=1s":  func(t *broker.Trigger) { t.Rate, t.MinBatchInterval = 0.5, time.Second },
		"backoff=linear,delay=2s,max-delay=1h,patience=2h": func(t *broker.Trigger) {
			d := &t.Delivery
			d.BackoffPolicy, d.BackoffDelay, d.BackoffMax, d.Patience = broker.Linear, 2*time.Second, time.Hour, 2*time.Hour
		},
	} {
		u, err := broker.ParseTuning(text)
		want := declared
		change(&want)
		if got := u.Apply(declared); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"retry", "retry=-1", "timeout=5", "timeout=-5s", "backoff=steep", "batch=0", "concurrency=x", "rate=0",
		"rate=NaN", "tries=3",
	} {
		if _, err := broker.ParseTuning(text); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}
