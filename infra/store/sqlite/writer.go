package sqlite

import (
	"context"
	"errors"
	"runtime"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// The most batches that share one transaction; it bounds how long the first waits for the last.
const maxGroup = 256

// writer is the one goroutine that writes. It takes all batches that wait and
// commits them together, so that they share one fsync.
type writer struct {
	conn     *conn
	versions map[store.Key]int64 // scratch of write
	queue    chan *request
	stopped  chan struct{}
}

// request is a batch on its way through the writer.
type request struct {
	ctx   context.Context
	batch store.Batch
	err   error
	done  chan struct{} // closed when err is final
}

func startWriter(c *conn) *writer {
	w := &writer{conn: c, versions: map[store.Key]int64{}, queue: make(chan *request, maxGroup), stopped: make(chan struct{})}
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
//
// Conditions are looked at by the statements that write, which costs nothing more. A batch that meets its conflict only
// after it has written has to be taken back, and with it the whole group, which is then tried
// again with a look at each condition first.
func (w *writer) try(group []*request) (blame bool, err error) {
	write := w.write
	for {
		blame, err = w.tryWith(group, write)
		if !errors.Is(err, errHalf) {
			return blame, err
		}
		write = w.checkAndWrite
	}
}

// errHalf says that a batch met its conflict after it had written something.
var errHalf = errors.New("a conflict half-way")

func (w *writer) tryWith(group []*request, write func(store.Batch) (conflict, err error)) (blame bool, err error) {
	if err := run(w.conn.beginWrite); err != nil {
		return false, err
	}
	defer w.conn.rollback() // does nothing after a commit
	for _, r := range group {
		if r.err = r.ctx.Err(); r.err != nil {
			continue
		}
		if r.err, err = write(r.batch); err != nil {
			return true, err
		}
	}
	return false, run(w.conn.commit)
}

// write applies a batch whose conditions hold, and returns a conflict otherwise.
func (w *writer) write(b store.Batch) (conflict, err error) {
	versions := w.conditions(b)
	for _, p := range b.Preconditions {
		if _, written := versions[p.Key]; written {
			continue
		}
		if now, err := w.conn.version(p.Key); err != nil || now != p.Version {
			return changed(p.Key), err
		}
	}
	for i, m := range b.Mutations {
		version, conditional := versions[m.Key]
		if !conditional {
			if err := w.conn.apply(m); err != nil {
				return nil, err
			}
			continue
		}
		was, err := w.conn.swap(m, version)
		switch {
		case err != nil:
			return nil, err
		case !was && i > 0:
			return nil, errHalf
		case !was:
			return changed(m.Key), nil
		}
	}
	return nil, nil
}

// conditions are the versions at which the documents that a batch writes must be.
func (w *writer) conditions(b store.Batch) map[store.Key]int64 {
	clear(w.versions)
	for _, m := range b.Mutations {
		w.versions[m.Key] = unconditional
	}
	for _, p := range b.Preconditions {
		if _, written := w.versions[p.Key]; written {
			w.versions[p.Key] = p.Version
		}
	}
	for k, version := range w.versions {
		if version == unconditional {
			delete(w.versions, k)
		}
	}
	return w.versions
}

const unconditional = -1

// checkAndWrite does the same, but looks at each condition before it writes anything.
func (w *writer) checkAndWrite(b store.Batch) (conflict, err error) {
	for _, p := range b.Preconditions {
		if now, err := w.conn.version(p.Key); err != nil || now != p.Version {
			return changed(p.Key), err
		}
	}
	for _, m := range b.Mutations {
		if err := w.conn.apply(m); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func changed(k store.Key) error {
	return fault.New(fault.Conflict, "%s %q has changed in the meantime", k.Collection, k.ID)
}
