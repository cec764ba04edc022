package simulate

import (
	"context"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// step begins a call of a port: it lets some time pass, in which other tasks run, and returns an error if the process
// has stopped or its caller no longer waits.
func (i *instance) step(least, spread time.Duration) error {
	sim := i.s.sim
	if i.state == gone || sim.over {
		return errGone
	}
	t := sim.cur
	sim.sleep(least + time.Duration(i.s.rng.Int64N(int64(spread))))
	switch {
	case i.state == gone || sim.over:
		return errGone
	case t != nil && t.late:
		return fault.New(fault.Timeout, "the caller no longer waits")
	}
	sim.mix(uint64(sim.now))
	return nil
}

// down returns the error of a store, a broker or another service that does not respond.
func down(what string) error {
	return fault.New(fault.Unavailable, "the %s is unavailable", what)
}

func (i *instance) open(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
	if err := i.step(time.Millisecond, 10*time.Millisecond); err != nil {
		return nil, err
	}
	if i.s.isAway(StoreOutage) {
		return nil, down("store")
	}
	if f, ok := i.s.hit(StoreError); ok {
		i.s.sim.injected(f, "the store of %s does not open", i.s.name)
		return nil, down("store")
	}
	inner, err := i.s.sim.opener(ctx, name, schema)
	if err != nil {
		return nil, err
	}
	return &driver{i: i, inner: inner}, nil
}

// driver is the database of a function as one of its processes uses it.
type driver struct {
	i     *instance
	inner store.Driver
}

var _ store.Driver = (*driver)(nil)

// before injects the faults that come before the store does anything.
func (d *driver) before(ctx context.Context, what string, least, spread time.Duration) error {
	if ctx.Err() != nil {
		d.i.s.failed()
		return fault.New(fault.Timeout, "the time of the call is up")
	}
	if f, ok := d.i.s.hit(Slow); ok {
		d.i.s.sim.ledger.slow = true
		d.i.s.sim.injected(f, "%s: the store takes %s to %s", d.i.s.name, f.For, what)
		least += f.For
	}
	if err := d.i.step(least, spread); err != nil {
		d.i.s.failed()
		return err
	}
	if d.i.s.isAway(StoreOutage) {
		d.i.s.failed()
		return down("store")
	}
	if f, ok := d.i.s.hit(StoreError); ok {
		d.i.s.failed()
		d.i.s.sim.injected(f, "%s: the store fails to %s", d.i.s.name, what)
		return down("store")
	}
	return nil
}

// Get implements store.Driver.
func (d *driver) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	if err := d.before(ctx, "get", 200*time.Microsecond, 800*time.Microsecond); err != nil {
		return nil, err
	}
	return d.inner.Get(context.WithoutCancel(ctx), keys...)
}

// Query implements store.Driver.
func (d *driver) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	if err := d.before(ctx, "query", 200*time.Microsecond, 2*time.Millisecond); err != nil {
		return nil, false, err
	}
	return d.inner.Query(context.WithoutCancel(ctx), q)
}

// Commit implements store.Driver.
func (d *driver) Commit(ctx context.Context, b store.Batch) error {
	s := d.i.s
	if err := d.before(ctx, "commit", time.Millisecond, 3*time.Millisecond); err != nil {
		return err
	}
	if f, ok := s.hit(CrashBeforeCommit); ok {
		s.sim.injected(f, "%s stops before it commits", s.name)
		d.i.remove()
		return errGone
	}
	if f, ok := s.hit(Conflict); ok {
		s.sim.injected(f, "%s loses a race", s.name)
		s.raced()
		return fault.New(fault.Conflict, "another commit came first")
	}
	if err := d.inner.Commit(context.WithoutCancel(ctx), b); err != nil {
		if s.sim.tracing {
			s.sim.tracef("%s lost a race", s.name)
		}
		return err
	}
	s.sim.mix(uint64(len(b.Mutations)))
	s.sim.waits.committed(s.name, b)
	t := s.sim.cur
	s.races = 0
	if f, ok := s.hit(StoreErrorAfter); ok {
		s.failed()
		s.sim.injected(f, "%s has committed, and the store reports a failure", s.name)
		s.sim.ledger.committed(nil, s.name, b)
		return down("store")
	}
	if f, ok := s.hit(CrashAfterCommit); ok {
		s.sim.injected(f, "%s stops after it has committed", s.name)
		d.i.remove()
		t = nil
	}
	s.sim.ledger.committed(t, s.name, b)
	if d.i.state == gone {
		return errGone
	}
	return nil
}

// Pause waits between two attempts of a unit of work, in simulated time.
func (d *driver) Pause(_ context.Context, n int) {
	d.i.s.sim.sleep(time.Duration(d.i.s.rng.Int64N(int64(n) * int64(time.Millisecond))))
}

// Close implements store.Driver.
func (d *driver) Close() error { return d.inner.Close() }

// Publish implements broker.Publisher.
func (i *instance) Publish(_ context.Context, es ...event.Event) (err error) {
	answered := i.s.sim.publishing(i, es)
	defer func() { answered(err) }()
	s := i.s
	if err := i.step(500*time.Microsecond, 2*time.Millisecond); err != nil {
		return err
	}
	if s.isAway(BrokerOutage) {
		return down("broker")
	}
	if f, ok := s.hit(BrokerError); ok {
		s.sim.injected(f, "the broker accepts nothing of %s", s.name)
		return down("broker")
	}
	if len(es) > 1 {
		if f, ok := s.hit(BrokerErrorPart); ok {
			s.sim.injected(f, "the broker accepts 1 of %d events of %s and fails", len(es), s.name)
			s.sim.publish(es[0])
			return down("broker")
		}
	}
	s.sim.publish(es...)
	if f, ok := s.hit(BrokerErrorAfter); ok {
		s.sim.injected(f, "the broker has accepted events of %s and reports a failure", s.name)
		return down("broker")
	}
	if f, ok := s.hit(CrashAfterPublish); ok {
		s.sim.injected(f, "%s stops after it has published", s.name)
		i.remove()
		return errGone
	}
	return nil
}

// Remote runs effect as a call of another service: doubles of services call it inside a handler. It takes some time and
// fails as the faults say, before or after the effect, which must be idempotent if the service is. It returns the
// error of effect, fault.Unavailable for an injected failure or a stopped process, and fault.Timeout if the caller
// no longer waits.
func (sim *Simulation) Remote(effect func() error) error {
	if sim.cur == nil || sim.cur.inst == nil {
		return effect()
	}
	i := sim.cur.inst
	least := 5 * time.Millisecond
	if f, ok := i.s.hit(RemoteSlow); ok {
		sim.injected(f, "the service that %s calls takes %s", i.s.name, f.For)
		least += f.For
	}
	if i.s.isAway(RemoteOutage) {
		sim.sleep(least)
		return down("other service")
	}
	if f, ok := i.s.hit(RemoteError); ok {
		sim.injected(f, "the service that %s calls is unavailable", i.s.name)
		sim.sleep(least)
		return down("other service")
	}
	if i.state == gone || sim.over {
		return errGone
	}
	// The request was sent: it takes effect even if the caller stops.
	sim.sleep(least)
	if sim.over {
		return errGone
	}
	err := effect()
	if f, ok := i.s.hit(RemoteErrorAfter); ok {
		sim.injected(f, "the service that %s calls did its work and does not answer", i.s.name)
		return down("other service")
	}
	if stepped := i.step(time.Millisecond, 20*time.Millisecond); stepped != nil {
		return stepped
	}
	return err
}
