// Package eventlog is the broker that all drivers over a log share. It groups what is published into log entries, reads
// each entry once per process, and hands the events that match to the triggers through package delivery.
//
// A driver supplies a Log and embeds Broker. Memory stays bounded whatever a trigger does: a trigger holds a bounded
// number of unfinished events, and reads on from the log when there is room. What a trigger has finished is saved as a
// Cursor: the position up to which it has read, and the few events before it that are not finished. So one stuck event
// costs one line and not a list of everything that was finished after it.
//
// After a crash a trigger goes on from its saved cursor: what was finished after the last save comes again. Its
// attempts are saved beside the cursor; see attempts.go.
package eventlog

import (
	"context"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Log is a durable sequence of entries, each a group of events, and a small table of cursors.
// Positions start at 1 and grow; there may be gaps. All methods but Append may be called concurrently.
type Log interface {
	// Append makes the events one entry, and returns when that is as durable as the driver promises.
	// It is called by one goroutine at a time.
	Append(ctx context.Context, events []event.Event) (pos uint64, err error)

	// Read returns up to limit entries from a position onward, in order. It does not wait: it returns none when there is
	// no entry at or after from yet.
	Read(ctx context.Context, from uint64, limit int) ([]Entry, error)

	// End returns a position after every entry whose Append has returned.
	End(ctx context.Context) (uint64, error)

	// Trim may drop all entries before a position.
	Trim(ctx context.Context, before uint64) error

	// Cursors returns the saved cursors of every trigger that was created and not dropped.
	Cursors(ctx context.Context) (map[string][]byte, error)

	// LoadCursor returns the saved cursor of a trigger; nil when the trigger is not known.
	LoadCursor(ctx context.Context, trigger string) ([]byte, error)

	// CreateCursor makes the trigger known, durably, or does nothing when it is known already.
	CreateCursor(ctx context.Context, trigger string, cursor []byte) error

	// SaveCursors replaces cursors. Those that a crash loses cost only deliveries that come again.
	SaveCursors(ctx context.Context, cursors map[string][]byte) error

	// LoadAttempts returns what SaveAttempts has saved last for a trigger; nil: nothing.
	LoadAttempts(ctx context.Context, trigger string) ([]byte, error)

	// SaveAttempts replaces the attempts of a trigger. It returns when they survive the death of the process; a power cut
	// may bring older ones back.
	SaveAttempts(ctx context.Context, trigger string, attempts []byte) error

	// DropCursor forgets a trigger, with its attempts.
	DropCursor(ctx context.Context, trigger string) error

	// Close releases the log. No other method is called after it.
	Close() error
}

// An Entry is what one Append has written. Readers do not change its events.
type Entry struct {
	Pos    uint64
	Events []event.Event
}

// A Notifier is a Log that other processes append to as well. It calls wake when it learns of an entry.
type Notifier interface{ Notify(wake func()) }

// A Jumper is a Log that leaves large gaps between positions, such as after its server has come back without its end.
type Jumper interface {
	// Jumps returns the large gaps before the end of the log that a cursor may be before, in any order.
	Jumps(ctx context.Context) ([]Gap, error)
}

// A Gap is a range of positions without entries: from From on, and before To.
type Gap struct{ From, To uint64 }

// An Ager is a Log that knows when the cursor of each trigger was created or last saved.
type Ager interface {
	CursorTimes(ctx context.Context) (map[string]time.Time, error)
}

// A Leaser is a Log that several processes share: a trigger is served by the process that has its lease.
type Leaser interface {
	// Lease waits until this process has the trigger's lease. The lease is renewed until release is called; lost is closed
	// when that failed.
	Lease(ctx context.Context, trigger string) (lost <-chan struct{}, release func(), err error)
}
