package sqlite

import (
	"context"
	"runtime"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// The most batches that share one transaction; it bounds how long the first waits for the last.
const maxGroup = 256

// writer is the one goroutine that writes. It takes all batches that wait and
// commits them together, so that they share one fsync.
type writer struct {
	conn    *conn
	queue   chan *request
	stopped chan struct{}
}

// request is a batch on its way through the writer.
type request struct {
	ctx   context.Context
	batch store.Batch
	err   error
	done  chan struct{} // closed when err is final
}

func startWriter(c *conn) *writer {
	w := &writer{conn: c, queue: make(chan *request, maxGroup), stopped: make(chan struct{})}
	go w.run()
	return w
}

// commit hands a batch to the writer and waits for it. A context that ends while the
// writer has the batch leaves it unknown whether it is committed.
func (w *writer) commit(ctx context.Context, b store.Batch) error {
	r := &request{ctx: ctx, batch: b, done: make(chan struct{})}
	select {
	case w.queue <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close commits what still waits and closes the connection. Nobody may commit any more.
func (w *writer) close() error {
	close(w.queue)
	<-w.stopped
	return w.conn.close()
}

func (w *writer) run() {
	defer close(w.stopped)
	for first := range w.queue {
		group := w.gather(first)
		w.commitGroup(group)
		for _, r := range group {
			close(r.done)
		}
	}
}

// gather takes everybody who waits. It lets those run first who were answered just
// now and may be about to commit again: a larger group is worth more than a head start.
func (w *writer) gather(first *request) []*request {
	runtime.Gosched()
	group := []*request{first}
	for len(group) < maxGroup {
		select {
		case r, open := <-w.queue:
			if !open {
				return group
			}
			group = append(group, r)
		default:
			return group
		}
	}
	return group
}

// commitGroup commits every batch of a group, or sets its error. When one cannot be
// written at all, each is tried alone, so that only the one which is to blame fails.
func (w *writer) commitGroup(group []*request) {
	blame, err := w.try(group)
	switch {
	case err == nil:
	case blame && len(group) > 1:
		for i := range group {
			w.commitGroup(group[i : i+1])
		}
	default:
		for _, r := range group {
			r.err = err
		}
	}
}

// try commits a group in one transaction. An error concerns all of it; blame says
// that one batch caused it, and that nothing has been committed.
func (w *writer) try(group []*request) (blame bool, err error) {
	if err := run(w.conn.beginWrite); err != nil {
		return false, err
	}
	defer w.conn.rollback() // does nothing after a commit
	for _, r := range group {
		if r.err = r.ctx.Err(); r.err != nil {
			continue
		}
		if r.err, err = w.check(r.batch); err != nil {
			return true, err
		}
		if r.err != nil {
			continue
		}
		for _, m := range r.batch.Mutations {
			if err := w.conn.apply(m); err != nil {
				return true, err
			}
		}
	}
	return false, run(w.conn.commit)
}

// check returns a conflict when a precondition of a batch does not hold.
func (w *writer) check(b store.Batch) (conflict, err error) {
	for _, p := range b.Preconditions {
		now, err := w.conn.version(p.Key)
		if err != nil {
			return nil, err
		}
		if now != p.Version {
			return fault.New(fault.Conflict, "%s %q has changed in the meantime", p.Collection, p.ID), nil
		}
	}
	return nil, nil
}
