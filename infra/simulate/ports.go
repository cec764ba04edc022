package simulate

import (
	"context"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// step is what every call of a port begins with: it takes its time, in which others have their turn, and fails for a
// process that does not exist any more or that nobody waits for.
func (i *instance) step(least, spread time.Duration) error {
	w := i.s.w
	if i.state == gone || w.over {
		return errGone
	}
	t := w.cur
	w.sleep(least + time.Duration(i.s.rng.Int64N(int64(spread))))
	switch {
	case i.state == gone || w.over:
		return errGone
	case t != nil && t.late:
		return fault.New(fault.Timeout, "it took too long")
	}
	w.mix(uint64(w.now))
	return nil
}

// down is what a store or a broker that is not there answers.
func down(what string) error {
	return fault.New(fault.Unavailable, "the %s is not there just now", what)
}

func (i *instance) open(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
	if err := i.step(time.Millisecond, 10*time.Millisecond); err != nil {
		return nil, err
	}
	if f, ok := i.s.hit(StoreError); ok {
		i.s.w.struck(f, "the store of %s does not open", i.s.name)
		return nil, down("store")
	}
	inner, err := i.s.w.opener(ctx, name, schema)
	if err != nil {
		return nil, err
	}
	return &driver{i: i, inner: inner}, nil
}

// driver is a function's database as one process sees it.
type driver struct {
	i     *instance
	inner store.Driver
}

var _ store.Driver = (*driver)(nil)

// before is what goes wrong before the store does anything.
func (d *driver) before(what string, least, spread time.Duration) error {
	if f, ok := d.i.s.hit(Slow); ok {
		d.i.s.w.struck(f, "%s: the store takes %s to %s", d.i.s.name, f.For, what)
		least += f.For
	}
	if err := d.i.step(least, spread); err != nil {
		return err
	}
	if f, ok := d.i.s.hit(StoreError); ok {
		d.i.s.w.struck(f, "%s: the store fails to %s", d.i.s.name, what)
		return down("store")
	}
	return nil
}

// Get implements store.Driver.
func (d *driver) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	if err := d.before("get", 200*time.Microsecond, 800*time.Microsecond); err != nil {
		return nil, err
	}
	return d.inner.Get(context.WithoutCancel(ctx), keys...)
}

// Query implements store.Driver.
func (d *driver) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	if err := d.before("query", 200*time.Microsecond, 2*time.Millisecond); err != nil {
		return nil, false, err
	}
	return d.inner.Query(context.WithoutCancel(ctx), q)
}

// Commit implements store.Driver.
func (d *driver) Commit(ctx context.Context, b store.Batch) error {
	s := d.i.s
	if err := d.before("commit", time.Millisecond, 3*time.Millisecond); err != nil {
		return err
	}
	if f, ok := s.hit(CrashBeforeCommit); ok {
		s.w.struck(f, "%s stops before it commits", s.name)
		d.i.remove()
		return errGone
	}
	if f, ok := s.hit(Conflict); ok {
		s.w.struck(f, "%s loses a race", s.name)
		return fault.New(fault.Conflict, "somebody was quicker")
	}
	if err := d.inner.Commit(context.WithoutCancel(ctx), b); err != nil {
		if s.w.telling {
			s.w.tell("%s lost a race", s.name)
		}
		return err
	}
	s.w.mix(uint64(len(b.Mutations)))
	s.w.waits.committed(s.name, b)
	if f, ok := s.hit(StoreErrorAfter); ok {
		s.w.struck(f, "%s has committed, and is told that it has not", s.name)
		return down("store")
	}
	if f, ok := s.hit(CrashAfterCommit); ok {
		s.w.struck(f, "%s stops after it has committed", s.name)
		d.i.remove()
		return errGone
	}
	return nil
}

// Pause is how a unit of work waits between two attempts.
func (d *driver) Pause(_ context.Context, n int) {
	d.i.s.w.sleep(time.Duration(d.i.s.rng.Int64N(int64(n) * int64(time.Millisecond))))
}

// Close implements store.Driver.
func (d *driver) Close() error { return d.inner.Close() }

// Publish implements broker.Publisher.
func (i *instance) Publish(_ context.Context, es ...event.Event) error {
	s := i.s
	if err := i.step(500*time.Microsecond, 2*time.Millisecond); err != nil {
		return err
	}
	if f, ok := s.hit(BrokerError); ok {
		s.w.struck(f, "the broker takes nothing of %s", s.name)
		return down("broker")
	}
	if len(es) > 1 {
		if f, ok := s.hit(BrokerErrorPart); ok {
			s.w.struck(f, "the broker takes 1 of %d events of %s and fails", len(es), s.name)
			s.w.publish(es[0])
			return down("broker")
		}
	}
	s.w.publish(es...)
	if f, ok := s.hit(BrokerErrorAfter); ok {
		s.w.struck(f, "the broker has taken events of %s, and says that it has not", s.name)
		return down("broker")
	}
	if f, ok := s.hit(CrashAfterPublish); ok {
		s.w.struck(f, "%s stops after it has published", s.name)
		i.remove()
		return errGone
	}
	return nil
}

// Remote is a call of another service, which a double of it makes inside of a handler: it takes its time and fails as
// the faults say. The effect must be idempotent by itself if the service is; an error of it is returned. A process
// that has stopped has no effect any more. What fails is fault.Unavailable, what nobody waits for fault.Timeout.
func (w *World) Remote(effect func() error) error {
	if w.cur == nil || w.cur.inst == nil {
		return effect()
	}
	i := w.cur.inst
	least := 5 * time.Millisecond
	if f, ok := i.s.hit(RemoteSlow); ok {
		w.struck(f, "what %s calls takes %s", i.s.name, f.For)
		least += f.For
	}
	if f, ok := i.s.hit(RemoteError); ok {
		w.struck(f, "what %s calls is not there", i.s.name)
		w.sleep(least)
		return down("other service")
	}
	if i.state == gone || w.over {
		return errGone
	}
	// The request is on its way: it takes effect whatever becomes of the caller.
	w.sleep(least)
	if w.over {
		return errGone
	}
	err := effect()
	if f, ok := i.s.hit(RemoteErrorAfter); ok {
		w.struck(f, "what %s calls has done it and does not answer", i.s.name)
		return down("other service")
	}
	if stepped := i.step(time.Millisecond, 20*time.Millisecond); stepped != nil {
		return stepped
	}
	return err
}
