package redis

import (
	"context"
	"crypto/rand"
	"time"
)

// Lease implements eventlog.Leaser. The lease is a key that expires, with the name of its owner.
func (l *log) Lease(ctx context.Context, trigger string) (<-chan struct{}, func(), error) {
	key, owner := l.lease(trigger), rand.Text()
	for {
		taken, err := l.client.SetNX(ctx, key, owner, l.cfg.Lease).Result()
		if err != nil {
			return nil, nil, err
		}
		if taken {
			lost, release := l.hold(key, owner)
			return lost, release, nil
		}
		select {
		case <-time.After(l.cfg.Lease / 5):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// hold renews the lease until it is released or lost. It reports the lease as lost well before others can take it, so
// that two processes rarely serve one trigger.
func (l *log) hold(key, owner string) (lost <-chan struct{}, release func()) {
	gone, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		renewed := time.Now()
		for {
			select {
			case <-time.After(l.cfg.Lease / 4):
			case <-ctx.Done():
				return
			}
			began := time.Now()
			attempt, stop := context.WithTimeout(ctx, l.cfg.Lease/4)
			mine, err := renewScript.Run(attempt, l.client, []string{key}, owner, l.cfg.Lease.Milliseconds()).Bool()
			stop()
			switch {
			case ctx.Err() != nil:
				return
			case err == nil && mine:
				renewed = began
			case err == nil || time.Since(renewed) > l.cfg.Lease/2:
				close(gone)
				return
			}
		}
	}()
	return gone, func() {
		cancel()
		<-ended
		ctx, cancel := context.WithTimeout(context.Background(), l.cfg.Lease/4)
		defer cancel()
		releaseScript.Run(ctx, l.client, []string{key}, owner) // on failure it expires
	}
}
