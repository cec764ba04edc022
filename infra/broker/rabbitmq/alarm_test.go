package rabbitmq_test

import (
	"context"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/rabbitmq"
)

// While an alarm lasts RabbitMQ reads nothing from connections that publish: neither Publish nor Close waits for that
// longer than its context, also when so much was sent that a write blocks. After the alarm events are taken again.
func TestAlarm(t *testing.T) {
	cfg := rabbitmq.Config{Name: name()}
	b := open(t, cfg)
	must(t, server(t).Alarm(true))
	t.Cleanup(func() { server(t).Alarm(false) })
	large := brokertest.Event("large", "k")
	large.DataEncoded = make([]byte, b.MaxEvent()-1000)
	promptly := func(what string, do func(context.Context)) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			do(ctx)
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s outlives its context", what)
		}
	}
	for range 6 {
		promptly("Publish", func(ctx context.Context) {
			if err := b.Publish(ctx, large); err == nil {
				t.Error("an event was taken during the alarm")
			}
		})
	}
	promptly("Close", func(ctx context.Context) { b.Close(ctx) })
	must(t, server(t).Alarm(false))
	must(t, open(t, cfg).Publish(t.Context(), brokertest.Event("1", "k")))
}
