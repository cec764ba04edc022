package function

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
)

// waiters are requests that wait for a document to change. They are a short cut only: a waiter also looks by itself,
// since another instance may make the change.
type waiters struct {
	mu    sync.Mutex
	on    map[string][]*waiter
	count atomic.Int64
}

// waiter holds the documents of its id as they were last committed here.
type waiter struct {
	woken chan struct{}
	docs  map[store.Key]store.Document // guarded by waiters.mu
}

func (w *waiters) any() bool { return w.count.Load() > 0 }

func (w *waiters) add(id string) (me *waiter, remove func()) {
	me = &waiter{woken: make(chan struct{}, 1), docs: map[store.Key]store.Document{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.on == nil {
		w.on = map[string][]*waiter{}
	}
	w.on[id] = append(w.on[id], me)
	w.count.Add(1)
	return me, func() { w.remove(id, me) }
}

func (w *waiters) remove(id string, me *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count.Add(-1)
	w.on[id] = slices.DeleteFunc(w.on[id], func(o *waiter) bool { return o == me })
	if len(w.on[id]) == 0 {
		delete(w.on, id)
	}
}

// pick collects the documents that a request waits for.
func (w *waiters) pick(into *[]store.Document) func(store.Document) {
	return func(d store.Document) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.on[d.ID]) > 0 {
			*into = append(*into, d)
		}
	}
}

// wake hands over what was committed. An older document that comes late, because units of one
// document that follow each other return in any order, takes no newer one's place.
func (w *waiters) wake(docs []store.Document) {
	if len(docs) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range docs {
		for _, o := range w.on[d.ID] {
			if known, ok := o.docs[d.Key]; ok && d.Version > 0 && known.Version > d.Version {
				continue
			}
			o.docs[d.Key] = d
			select {
			case o.woken <- struct{}{}:
			default: // it has been woken and has not looked yet
			}
		}
	}
}

// take is what was committed since the last time.
func (w *waiters) take(me *waiter) (docs []store.Document) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range me.docs {
		docs = append(docs, d)
	}
	clear(me.docs)
	return docs
}

// How long Await waits before it looks by itself, at first and at most.
const (
	firstLook = 250 * time.Millisecond
	lastLook  = time.Second
)

// Await waits until check is done with the function's data, until passes or ctx ends, whichever
// is first; the latter two are no error. It looks when this instance has committed a document with the id, with
// that document as it was committed, and by itself from time to time.
func Await(
	ctx context.Context, f *Function, id string, until time.Time, check func(ctx context.Context, tx *Tx) (bool, error),
) error {
	me, remove := f.waiters.add(id)
	defer remove()
	patience := time.NewTimer(time.Until(until))
	defer patience.Stop()
	look := time.NewTimer(firstLook)
	defer look.Stop()
	for pause := firstLook; ; {
		committed := f.waiters.take(me)
		done := false
		err := f.Read(ctx, func(ctx context.Context, tx *Tx) (err error) {
			tx.db.Assume(committed...)
			done, err = check(ctx, tx)
			return err
		})
		if err != nil || done {
			return err
		}
		select {
		case <-me.woken:
		case <-look.C:
			pause = min(2*pause, lastLook)
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return nil
		}
		look.Reset(pause)
	}
}
