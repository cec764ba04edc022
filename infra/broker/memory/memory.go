// Package memory implements the broker with a log in the memory of one process, for tests and for runs that need no
// durability. It uses package eventlog like the driver on disk, but a killed process loses all events.
package memory

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
)

// Broker implements broker.Broker in memory.
type Broker struct{ *eventlog.Broker }

var _ broker.Broker = (*Broker)(nil)

// Option configures a broker.
type Option func(*eventlog.Options)

// WithObserver sets the broker's observer.
func WithObserver(o broker.Observer) Option { return func(c *eventlog.Options) { c.Observer = o } }

// WithLogger sets the broker's logger; the default is slog.Default.
func WithLogger(l *slog.Logger) Option { return func(c *eventlog.Options) { c.Logger = l } }

// WithMaxEvent limits the size of an event in bytes; the default is 1 MiB.
func WithMaxEvent(bytes int) Option { return func(c *eventlog.Options) { c.MaxEvent = bytes } }

// WithRetention sets how long the log keeps events for a trigger that is not served; negative: for ever. The default is
// seven days.
func WithRetention(d time.Duration) Option { return func(c *eventlog.Options) { c.Retention = d } }

// New returns an empty broker. It runs goroutines until it is closed.
func New(opts ...Option) *Broker { return Open(NewLog(), opts...) }

// Open returns a broker with a log that another broker has used before and has closed.
func Open(log *Log, opts ...Option) *Broker {
	var o eventlog.Options
	for _, opt := range opts {
		opt(&o)
	}
	core, err := eventlog.New(log, o)
	if err != nil {
		panic(err) // a log in memory does not fail
	}
	return &Broker{core}
}

// Log holds the events, cursors and attempts of a broker. It outlives the broker that uses it.
type Log struct {
	mu       sync.Mutex
	next     uint64
	entries  []eventlog.Entry
	cursors  map[string][]byte
	saved    map[string]time.Time // when each cursor was saved
	attempts map[string][]byte
}

var (
	_ eventlog.Log  = (*Log)(nil)
	_ eventlog.Ager = (*Log)(nil)
)

// NewLog returns an empty log.
func NewLog() *Log {
	return &Log{next: 1, cursors: map[string][]byte{}, saved: map[string]time.Time{}, attempts: map[string][]byte{}}
}

// Append implements eventlog.Log.
func (l *Log) Append(_ context.Context, events []event.Event) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pos := l.next
	l.next++
	l.entries = append(l.entries, eventlog.Entry{Pos: pos, Events: events})
	return pos, nil
}

// Read implements eventlog.Log.
func (l *Log) Read(_ context.Context, from uint64, limit int) ([]eventlog.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.index(from)
	return slices.Clone(l.entries[i:min(i+limit, len(l.entries))]), nil
}

func (l *Log) index(pos uint64) int {
	return sort.Search(len(l.entries), func(i int) bool { return l.entries[i].Pos >= pos })
}

// End implements eventlog.Log.
func (l *Log) End(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next, nil
}

// Trim implements eventlog.Log.
func (l *Log) Trim(_ context.Context, before uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = slices.Delete(l.entries, 0, l.index(before))
	return nil
}

// Cursors implements eventlog.Log.
func (l *Log) Cursors(context.Context) (map[string][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string][]byte, len(l.cursors))
	for name, c := range l.cursors {
		out[name] = c
	}
	return out, nil
}

// CursorTimes implements eventlog.Ager.
func (l *Log) CursorTimes(context.Context) (map[string]time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.saved), nil
}

// LoadCursor implements eventlog.Log.
func (l *Log) LoadCursor(_ context.Context, trigger string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cursors[trigger], nil
}

// CreateCursor implements eventlog.Log.
func (l *Log) CreateCursor(_ context.Context, trigger string, cursor []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cursors[trigger] == nil {
		l.cursors[trigger], l.saved[trigger] = cursor, time.Now()
	}
	return nil
}

// SaveCursors implements eventlog.Log.
func (l *Log) SaveCursors(_ context.Context, cursors map[string][]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, c := range cursors {
		l.cursors[name], l.saved[name] = c, time.Now()
	}
	return nil
}

// LoadAttempts implements eventlog.Log.
func (l *Log) LoadAttempts(_ context.Context, trigger string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attempts[trigger], nil
}

// SaveAttempts implements eventlog.Log.
func (l *Log) SaveAttempts(_ context.Context, trigger string, attempts []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts[trigger] = attempts
	return nil
}

// DropCursor implements eventlog.Log.
func (l *Log) DropCursor(_ context.Context, trigger string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.cursors, trigger)
	delete(l.saved, trigger)
	delete(l.attempts, trigger)
	return nil
}

// Close implements eventlog.Log.
func (l *Log) Close() error { return nil }
