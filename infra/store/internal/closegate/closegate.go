// Package closegate refuses calls of a driver after Close, and makes Close wait for running calls, as store.Driver
// requires.
package closegate

import (
	"context"
	"sync"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Gate counts running calls until it is closed. The zero Gate is open. Its methods may be called concurrently.
type Gate struct {
	calls  sync.RWMutex // read-locked by every running call; Close locks it
	closed bool
}

// Enter begins a call, which the caller ends with done. It returns fault.Unavailable when the gate is closed, and the
// error of ctx when that has ended.
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

// Close waits for running calls, refuses further ones and then calls release. A second Close does nothing.
func (g *Gate) Close(release func() error) error {
	g.calls.Lock()
	defer g.calls.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	return release()
}
