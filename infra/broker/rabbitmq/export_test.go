package rabbitmq

import (
	"context"

	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// Driver returns the broker's driver.
func Driver(b *Broker) eventqueue.Driver { return b.driver }

// Kill ends the broker as the death of its process does: its connections end, and no call of it has an effect any more.
func Kill(b *Broker) {
	Cut(b)
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.Close(now)
}

// Cut ends the broker's connections, and with closed set it makes no new ones.
func Cut(b *Broker) {
	d := b.driver
	d.mu.Lock()
	d.closed = true
	conn := d.consuming
	d.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
	_ = d.publisher.close()
}

// QueueName returns the name of the first queue of a trigger.
func QueueName(b *Broker, trigger string) string { return b.driver.queueName(trigger, 0) }
