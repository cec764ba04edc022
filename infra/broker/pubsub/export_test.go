package pubsub

import (
	"context"

	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// Driver returns the broker's driver.
func Driver(b *Broker) eventqueue.Driver { return b.driver }

// Kill ends the broker as the death of its process does: no request of it reaches Pub/Sub any more.
func Kill(b *Broker) {
	b.driver.lifetime.End()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.Close(now)
}
