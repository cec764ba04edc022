package nats

import "context"

// Kill ends the broker as the death of its process does: nothing that it does from now on reaches the server. On a
// cluster its leases end at once, and not after Config.Lease.
func Kill(b *Broker) {
	now, cancel := context.WithCancel(context.Background())
	if kv, err := b.log.js.KeyValue(now, b.log.cfg.Stream+"-leases"); err == nil {
		keys, _ := kv.Keys(now)
		for _, key := range keys {
			kv.Delete(now, key)
		}
	}
	b.log.nc.Close()
	cancel()
	b.Close(now)
}
