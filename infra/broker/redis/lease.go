package redis

import (
	"context"
	"crypto/rand"

	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
)

// Lease implements eventlog.Leaser. The lease is a key that expires, with the name of its owner.
func (l *log) Lease(ctx context.Context, trigger string) (<-chan struct{}, func(), error) {
	return eventlog.Hold(ctx, l.cfg.Lease, claim{l, l.lease(trigger), rand.Text()})
}

// claim implements eventlog.Claim.
type claim struct {
	*log
	key, owner string
}

func (c claim) Take(ctx context.Context) (bool, error) {
	return c.client.SetNX(ctx, c.key, c.owner, c.cfg.Lease).Result()
}

func (c claim) Renew(ctx context.Context) (bool, error) {
	return renewScript.Run(ctx, c.client, []string{c.key}, c.owner, c.cfg.Lease.Milliseconds()).Bool()
}

func (c claim) Release(ctx context.Context) {
	releaseScript.Run(ctx, c.client, []string{c.key}, c.owner)
}
