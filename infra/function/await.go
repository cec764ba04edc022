package function

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
)

// waiters are requests that wait for a document to change. They are a short cut only:
// who waits also looks by itself, since another instance may make the change.
type waiters struct {
	mu    sync.Mutex
	on    map[string][]chan struct{}
	count atomic.Int64
}

func (w *waiters) any() bool { return w.count.Load() > 0 }

func (w *waiters) add(key string) (changed chan struct{}, remove func()) {
	changed = make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.on == nil {
		w.on = map[string][]chan struct{}{}
	}
	w.on[key] = append(w.on[key], changed)
	w.count.Add(1)
	return changed, func() { w.remove(key, changed) }
}

func (w *waiters) remove(key string, changed chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count.Add(-1)
	rest := w.on[key][:0]
	for _, c := range w.on[key] {
		if c != changed {
			rest = append(rest, c)
		}
	}
	if w.on[key] = rest; len(rest) == 0 {
		delete(w.on, key)
	}
}

func (w *waiters) wake(keys []store.Key) {
	if len(keys) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		for _, c := range w.on[k.ID] {
			select {
			case c <- struct{}{}:
			default: // it has been woken and has not looked yet
			}
		}
	}
}

// Await waits until check is done with the function's data, until passes or ctx ends, whichever
// is first; the latter two are no error. It looks when this instance has committed a
// document with the id key, and by itself from time to time.
func Await(ctx context.Context, f *Function, key string, until time.Time, check func(ctx context.Context, tx *Tx) (bool, error)) error {
	changed, remove := f.waiters.add(key)
	defer remove()
	patience := time.NewTimer(time.Until(until))
	defer patience.Stop()
	for look := 100 * time.Millisecond; ; look = min(2*look, time.Second) {
		done := false
		err := f.Read(ctx, func(ctx context.Context, tx *Tx) (err error) {
			done, err = check(ctx, tx)
			return err
		})
		if err != nil || done {
			return err
		}
		select {
		case <-changed:
		case <-time.After(look):
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
