// Package dispatch is the broker that all drivers over a log share: it groups what is
// published into log entries, and serves triggers from the log by Knative's delivery rules.
//
// A driver supplies a Log and embeds Core. Memory stays bounded whatever a trigger does: a
// trigger holds a bounded number of unfinished events, and reads on from the log when there is
// room. What a trigger has finished is kept as a Cursor: the position up to which it has read,
// and the few events below it that are not finished. So one stuck event costs one line and not a
// list of all that was finished after it.
package dispatch

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Log is a durable sequence of entries, each a group of events, and a small table of cursors.
// Positions start at 1 and grow; there may be gaps. All methods but Append may be called concurrently.
type Log interface {
	// Append makes the events one entry, and returns when that is as durable as the driver promises.
	// It is called by one goroutine at a time.
	Append(ctx context.Context, events []event.Event) (pos uint64, err error)

	// Read returns up to limit entries from a position onward, in order. It does not wait:
	// nothing comes back when there is no entry at or after from yet.
	Read(ctx context.Context, from uint64, limit int) ([]Entry, error)

	// End is a position after every entry whose Append has returned.
	End(ctx context.Context) (uint64, error)

	// Trim may drop all entries before a position.
	Trim(ctx context.Context, before uint64) error

	// Cursors are the saved cursors of every trigger that was ever known and not dropped.
	Cursors(ctx context.Context) (map[string][]byte, error)
	LoadCursor(ctx context.Context, trigger string) ([]byte, error)        // nil: not known
	CreateCursor(ctx context.Context, trigger string, cursor []byte) error // does nothing when there is one
	SaveCursors(ctx context.Context, cursors map[string][]byte) error
	DropCursor(ctx context.Context, trigger string) error

	Close() error
}

// An Entry is what one Append has written. Readers do not change its events.
type Entry struct {
	Pos    uint64
	Events []event.Event
}

// A Notifier is a Log that others append to as well. It calls wake whenever it hears of an entry.
type Notifier interface{ Notify(wake func()) }

// A Leaser is a Log that several processes share: a trigger is served by the one that has its lease.
type Leaser interface {
	// Lease waits until this process has the trigger's lease. It is kept until release is called;
	// lost is closed when it could not be kept.
	Lease(ctx context.Context, trigger string) (lost <-chan struct{}, release func(), err error)
}
