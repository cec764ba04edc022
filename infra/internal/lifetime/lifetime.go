// Package lifetime ends the work that an object does for itself when the object is closed: its requests and its
// goroutines. An object keeps a Lifetime where it would otherwise keep a context.
package lifetime

import (
	"context"
	"sync"
	"time"
)

// Lifetime lasts until End. Its methods may be called concurrently.
type Lifetime struct {
	ended chan struct{}

	mu      sync.Mutex
	last    int
	cancels map[int]context.CancelFunc // nil after the end
}

// New returns a Lifetime that has begun.
func New() *Lifetime {
	return &Lifetime{ended: make(chan struct{}), cancels: map[int]context.CancelFunc{}}
}

// End ends the lifetime and all contexts that are bound to it. Calls after the first have no effect.
func (l *Lifetime) End() {
	l.mu.Lock()
	cancels := l.cancels
	if cancels != nil {
		l.cancels = nil
		close(l.ended)
	}
	l.mu.Unlock()
	for _, cancel := range cancels {
		cancel()
	}
}

// Done returns a channel that is closed at the end.
func (l *Lifetime) Done() <-chan struct{} { return l.ended }

// Ended reports whether the lifetime has ended.
func (l *Lifetime) Ended() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// Bind returns a copy of ctx that also ends with the lifetime. The caller calls the function that it returns as soon as
// the context is not needed any more; until then the lifetime holds it.
func (l *Lifetime) Bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancels == nil {
		cancel()
		return ctx, cancel
	}
	l.last++
	n := l.last
	l.cancels[n] = cancel
	return ctx, func() {
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.cancels, n)
	}
}

// BindTimeout is Bind of a context that also ends after a timeout. Then its error is context.DeadlineExceeded.
func (l *Lifetime) BindTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	bound, release := l.Bind(ctx)
	ctx, cancel := context.WithTimeout(bound, timeout)
	return ctx, func() { cancel(); release() }
}

// Context returns a context that ends with the lifetime.
func (l *Lifetime) Context() context.Context {
	ctx, _ := l.Bind(context.Background())
	return ctx
}
