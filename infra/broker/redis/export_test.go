package redis

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Kill ends the broker as the death of its process does: nothing that it does from now on reaches the server. Its
// leases end at once, and not after Config.Lease.
func Kill(b *Broker) {
	now, cancel := context.WithCancel(context.Background())
	keys, _ := b.log.client.Keys(now, b.log.lease("*")).Result()
	if len(keys) > 0 {
		b.log.client.Del(now, keys...)
	}
	b.log.client.Close()
	cancel()
	b.Close(now)
}

// Client returns the broker's connection.
func Client(b *Broker) *redis.Client { return b.log.client }
