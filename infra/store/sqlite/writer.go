package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// maxGroup is the most batches that share one transaction. It limits how long the first batch waits for the last.
const maxGroup = 256

// writer runs the only goroutine that writes. It takes all waiting batches and commits them together, so that they
// share one fsync.
type writer struct {
	conn     *conn
	versions map[store.Key]int64 // reused by write
	queue    chan *request
	stopped  chan struct{}
}

// request is a batch with its result.
type request struct {
	batch     store.Batch
	abandoned <-chan struct{} // closed when its caller waits no longer: the batch is not committed any more
	err       error
	done      chan struct{} // closed when err is final
}

func startWriter(c *conn, now func() time.Time) *writer {
	c.now, c.marked = now, pruneEvery // the first mark makes it look for old ones
	w := &writer{
		conn: c, versions: map[store.Key]int64{}, queue: make(chan *request, maxGroup), stopped: make(chan struct{}),
	}
	go w.run()
	return w
}

// commit sends a batch to the writer and waits for the result. When the context ends while the writer has the batch,
// the batch may or may not be committed.
func (w *writer) commit(ctx context.Context, b store.Batch) error {
	r := &request{batch: b, abandoned: ctx.Done(), done: make(chan struct{})}
	select {
	case w.queue <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		if r.err == errAbandoned {
			return ctx.Err()
		}
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errAbandoned is the error of a request that was abandoned before it was committed.
var errAbandoned = fmt.Errorf("the caller waits no longer: %w", context.Canceled)

func (r *request) isAbandoned() bool {
	select {
	case <-r.abandoned:
		return true
	default:
		return false
	}
}

// close commits the waiting batches and closes the connection. commit must not be called after it.
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
		if w.conn.marked > pruneEvery {
			_ = w.conn.prune() // later marks make it try again
		}
	}
}

// gather returns all waiting requests. Before, it yields to the goroutines whose commits have just ended, because they
// may commit again and a larger group saves more than starting at once.
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

// commitGroup commits every batch of a group, or sets its error. When one batch fails in SQLite, each is committed
// alone, so that only that one fails.
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

// try commits a group in one transaction. An error is that of the whole group; blame reports that one batch caused it
// and nothing was committed.
//
// The statements that write check the preconditions, without further statements. When a batch conflicts after its first
// write, the whole group is rolled back and tried again, with each precondition checked before the batch's first write.
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

// errHalf reports that a batch conflicted after its first write.
var errHalf = errors.New("conflict after the first write")

func (w *writer) tryWith(group []*request, write func(store.Batch) (conflict, err error)) (blame bool, err error) {
	if err := run(w.conn.beginWrite); err != nil {
		return false, err
	}
	defer w.conn.rollback() // has no effect after a commit
	for _, r := range group {
		if r.isAbandoned() {
			r.err = errAbandoned
			continue
		}
		if r.err, err = write(r.batch); err != nil {
			return true, err
		}
	}
	return false, run(w.conn.commit)
}

// write applies a batch whose preconditions hold, and otherwise returns a conflict.
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

// conditions returns the required versions of the documents that a batch writes.
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

// checkAndWrite does the same, but checks each precondition before the first write.
func (w *writer) checkAndWrite(b store.Batch) (conflict, err error) {
	for _, p := range b.Preconditions {
		if now, err := w.conn.version(p.Key); err != nil || now != p.Version {
			return changed(p.Key), err
		}
	}
	versions := w.conditions(b)
	for _, m := range b.Mutations {
		if version, conditional := versions[m.Key]; !conditional || version != 0 || m.Data == nil {
			continue
		}
		if last, err := w.conn.lastOf(m.Key); err != nil || last >= m.Version {
			return changed(m.Key), err
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
