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
	slow := declared
	slow.MinBatchInterval = time.Second
	if u, err := broker.ParseTuning("interval=0"); err != nil || u.Apply(slow).MinBatchInterval != 0 {
		t.Errorf("interval=0: got %+v, %v", u.Apply(slow), err)
	}
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
		"rate=NaN", "tries=3", "batch=9223372036854775807", "concurrency=1000000000", "retry=4294967296", "rate=1e-9",
		"timeout=1ns", "timeout=2540400h", "delay=2540400h", "interval=24h", "max-delay=2540400h",
	} {
		if _, err := broker.ParseTuning(text); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// A name that is there twice is refused: one of the two is a mistake.
func TestTuningTwice(t *testing.T) {
	if _, err := broker.ParseTuning("retry=1, timeout=1m, retry=2"); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

// A wait is never shorter than one before it, however many attempts there were, and never longer than the longest.
func TestBackoffBounds(t *testing.T) {
	for _, policy := range []broker.BackoffPolicy{broker.Linear, broker.Exponential} {
		for _, delay := range []time.Duration{0, 1, 1 << 34, time.Minute, time.Hour, 24 * time.Hour, 1 << 62} {
			for _, most := range []time.Duration{0, time.Second, 24 * time.Hour} {
				d := broker.Delivery{BackoffPolicy: policy, BackoffDelay: delay, BackoffMax: most}
				before := time.Duration(0)
				for n := range 2000 {
					wait := d.Backoff(n)
					if wait < before || most > 0 && wait > most {
						t.Errorf("%s, delay %s, at most %s: wait %d is %s, after %s", policy, delay, most, n, wait, before)
						break
					}
					before = wait
				}
			}
		}
	}
}
