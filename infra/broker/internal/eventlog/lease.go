package eventlog

import (
	"context"
	"time"
)

// A Claim is how a driver takes, renews and gives up the lease of one trigger. Its methods may be called from several
// goroutines, but not at the same time.
type Claim interface {
	// Take takes the lease, unless another process has it.
	Take(ctx context.Context) (taken bool, err error)

	// Renew renews the lease, unless another process has it by now. After an error it may still be this process's.
	Renew(ctx context.Context) (mine bool, err error)

	// Release gives the lease up. When that fails, it expires.
	Release(ctx context.Context)
}

// Hold implements Leaser.Lease for leases that expire after a time. It waits until the lease is taken, and renews it
// until it is released or lost. It reports the lease as lost well before another process can take it, so that two
// processes rarely serve one trigger.
func Hold(ctx context.Context, lease time.Duration, c Claim) (lost <-chan struct{}, release func(), err error) {
	for {
		taken, err := c.Take(ctx)
		if err != nil {
			return nil, nil, err
		}
		if taken {
			lost, release = renewed(lease, c)
			return lost, release, nil
		}
		select {
		case <-time.After(lease / 5):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// renewed renews a lease.
func renewed(lease time.Duration, c Claim) (lost <-chan struct{}, release func()) {
	gone, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		last := time.Now()
		for {
			select {
			case <-time.After(lease / 4):
			case <-ctx.Done():
				return
			}
			began := time.Now()
			attempt, stop := context.WithTimeout(ctx, lease/4)
			mine, err := c.Renew(attempt)
			stop()
			switch {
			case ctx.Err() != nil:
				return
			case err == nil && mine:
				last = began
			case err == nil || time.Since(last) > lease/2:
				close(gone)
				return
			}
		}
	}()
	return gone, func() {
		cancel()
		<-ended
		ctx, cancel := context.WithTimeout(context.Background(), lease/4)
		defer cancel()
		c.Release(ctx)
	}
}
