package eventlog

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// A trigger that no process serves holds the log: when it is served again, it goes on where it stopped. The trigger of
// a removed function would hold it for ever. So a trigger whose cursor was not saved for Options.Retention is
// forgotten, as by Forget. Should it be served again, it begins at the end of the log.
//
// A trigger that is served saves its cursor at the latest when the log has grown by saveIdle entries. One that is
// stuck does not, but this process knows those that it serves, and those that another process serves have a lease.

// DefaultRetention is how long the log keeps events for a trigger that no process serves.
const DefaultRetention = 7 * 24 * time.Hour

const (
	// forgetGrace is how long a process runs before it forgets a trigger: after an outage of everything, others may be
	// starting as well.
	forgetGrace = time.Hour

	leaseWait = time.Second // for the lease of a trigger that no process serves
)

// forgetUnserved forgets the triggers that no process has served for long.
func (b *Broker) forgetUnserved(ctx context.Context) {
	ager, ok := b.log.(Ager)
	if !ok || b.opts.Retention < 0 || time.Since(b.started) < min(forgetGrace, b.opts.Retention) {
		return
	}
	saved, err := ager.CursorTimes(ctx)
	if err != nil {
		b.opts.Logger.Warn("cannot tell which triggers are served", "error", err)
		return
	}
	for name, at := range saved {
		if time.Since(at) < b.opts.Retention || b.session(name) != nil {
			continue
		}
		err := b.forgetTrigger(ctx, name)
		switch {
		case err == nil:
			b.opts.Logger.Error("a trigger that no process has served for long is forgotten, and what the log had for it; "+
				"replay from the archive what its function needs", "trigger", name, "served_until", at)
		case !fault.Is(err, fault.Conflict): // that is one which is served
			b.opts.Logger.Warn("a trigger cannot be forgotten", "trigger", name, "error", err)
		}
	}
}

// forgetTrigger forgets a trigger unless a process serves it.
func (b *Broker) forgetTrigger(ctx context.Context, name string) error {
	l, ok := b.log.(Leaser)
	if !ok {
		return b.Forget(ctx, name)
	}
	wait, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	_, release, err := l.Lease(wait, name)
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		return fault.New(fault.Conflict, "trigger %q is being served", name)
	}
	if err != nil {
		return err
	}
	defer release()
	return b.Forget(ctx, name)
}
