package manifest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// The environment changes the delivery of all functions, and that of one function after that. What is not valid names
// its variable.
func TestTuned(t *testing.T) {
	d := manifest.Declaration{
		Function:     manifest.Function{Name: "gift-cards"},
		Subscription: broker.Trigger{Delivery: broker.DefaultDelivery, Batch: 128, Concurrency: 1},
	}
	env := map[string]string{"EBB_DELIVERY": "retry=3,timeout=1m", "EBB_DELIVERY_GIFT_CARDS": "retry=4"}
	got, err := d.Tuned(config.Map(env))
	if err != nil || got.Delivery.Retry != 4 || got.Delivery.Timeout != time.Minute || got.Batch != 128 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := d.Tuned(nil); err != nil || got.Delivery.Retry != broker.DefaultDelivery.Retry {
		t.Errorf("without an environment: %+v, %v", got, err)
	}
	env["EBB_DELIVERY_GIFT_CARDS"] = "tries=4"
	var invalid *config.Error
	_, err = d.Tuned(config.Map(env))
	if !errors.As(err, &invalid) || invalid.Violations[0].Variable != "EBB_DELIVERY_GIFT_CARDS" {
		t.Errorf("got %v", err)
	}
}
