// Package gate lets the calls of a driver in until it is closed, and has closing wait for those that run. It is how
// every driver keeps what store.Driver says of Close.
package gate

import (
	"context"
	"sync"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Gate is open until it is closed. The zero Gate is open. Its methods may be called concurrently.
type Gate struct {
	calls  sync.RWMutex // held for reading by every call; what Close waits for
	closed bool
}

// Enter begins a call; done ends it. Behind a closed gate it is fault.Unavailable, and the error of a context that has ended.
func (g *Gate) Enter(ctx context.Context) (done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g.calls.RLock()
	if g.closed {
		g.calls.RUnlock()
		return nil, fault.New(fault.Unavailable, "the database is closed")
	}
	return g.calls.RUnlock, nil
}

// Close waits for running calls, lets no more in and releases what they used. A second Close does nothing.
func (g *Gate) Close(release func() error) error {
	g.calls.Lock()
	defer g.calls.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	return release()
}
