package function_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// small is a store whose documents have a limit in bytes.
type small struct {
	store.Driver
	bytes int
}

func (s small) Commit(ctx context.Context, b store.Batch) error {
	for _, m := range b.Mutations {
		if len(m.Data) > s.bytes {
			return fault.New(fault.TooLarge, "%s has %d bytes", m.Collection, len(m.Data))
		}
	}
	return s.Driver.Commit(ctx, b)
}

// A batch whose events together emit more than one document of the outbox takes is handled in smaller units. An event
// that emits too much by itself is refused for good, and holds up no other.
func TestLargeEmissions(t *testing.T) {
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("copier", env)
		function.OnAny(f, func(_ context.Context, tx *function.Tx, e ce.Event) error {
			e = e.Clone()
			e.SetID("copy-" + e.ID())
			tx.EmitRaw(e)
			return nil
		})
		return f, nil
	}, functiontest.Once(), func(h *functiontest.Harness) {
		open := memory.Opener()
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return small{db, 256 << 10}, err
		}
	})
	var batch []ce.Event
	for n := range 20 {
		e := h.Event(ship(fmt.Sprint(n)))
		size := 50 << 10
		if n == 7 {
			size = 300 << 10
		}
		_ = e.SetData("text/plain", strings.Repeat("x", size))
		batch = append(batch, e)
	}
	for n, r := range h.Receive(batch...) {
		if r.OK() == (n == 7) {
			t.Errorf("event %d: got %+v", n, r)
		}
	}
	if got := len(h.Emitted()); got != 19 {
		t.Errorf("%d events were published, want 19", got)
	}
}

// A database that takes few documents in a commit refuses a large batch once. Later batches begin with units of the
// size that fits, so that handlers are not run once more for each size that is refused, and grow with care.
func TestLaterBatchesFit(t *testing.T) {
	ran := 0
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("counter", env)
		function.OnAny(f, func(context.Context, *function.Tx, ce.Event) error {
			ran++
			return nil
		})
		return f, nil
	}, functiontest.Once(), func(h *functiontest.Harness) {
		open := memory.Opener()
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return few{db, 20}, err
		}
	})
	const size = 256
	for round, most := range []int{4*size + 128, 2 * size, 2 * size} {
		batch := make([]ce.Event, size)
		for n := range batch {
			batch[n] = h.Event(ship(fmt.Sprint(round, " ", n)))
		}
		ran = 0
		for n, r := range h.Receive(batch...) {
			if !r.OK() {
				t.Errorf("round %d, event %d: got %+v", round, n, r)
			}
		}
		if ran > most {
			t.Errorf("round %d: handlers ran %d times for %d events, want at most %d", round, ran, size, most)
		}
	}
}

// few is a store that takes few documents in a commit.
type few struct {
	store.Driver
	most int
}

func (f few) Commit(ctx context.Context, b store.Batch) error {
	if len(b.Mutations) > f.most {
		return fault.New(fault.TooLarge, "%d documents", len(b.Mutations))
	}
	return f.Driver.Commit(ctx, b)
}

// What units remove beside their own work, entries of the outbox that have become durable and expired documents, never
// makes a commit too large for the database: a unit that needs nearly all of the room is committed without it, and
// smaller ones remove it, as does Stop.
func TestTidyingNeedsNoRoom(t *testing.T) {
	const most = 20
	lag, opener, now := &lagging{}, memory.Opener(), time.Now()
	f := function.New("writer", function.Env{
		Publisher: lag, Now: func() time.Time { return now },
		Store: func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := opener(ctx, name, schema)
			return few{db, most}, err
		},
	})
	notes := function.Collection[reminder](f, "notes", store.Expire("until"))
	function.Emits(f, orderShipped)
	if err := f.Instance().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	write := func(count int, until time.Time) {
		t.Helper()
		err := f.Update(t.Context(), func(ctx context.Context, tx *function.Tx) error {
			for range count {
				if err := notes.Put(ctx, tx, tx.NewID(), reminder{Until: until}); err != nil {
					return err
				}
			}
			tx.Emit(orderShipped.New("a", orderRef{OrderID: "a"}))
			return nil
		})
		if err != nil {
			t.Fatalf("a unit with %d documents: %v", count, err)
		}
	}
	stored := func(collection string) int {
		t.Helper()
		db, err := opener(t.Context(), "writer", f.Instance().Declaration().Schema)
		if err != nil {
			t.Fatal(err)
		}
		docs, _, err := db.Query(t.Context(), store.Query{Collection: collection, Limit: store.MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		return len(docs)
	}
	const units = 3 * most
	for range units {
		write(1, now.Add(time.Minute))
	}
	if got := stored("_outbox"); got != units {
		t.Fatalf("the outbox has %d entries, want %d", got, units)
	}
	lag.settled, now = lag.place, now.Add(time.Hour) // all of it may be removed at once
	write(most-1, time.Time{})
	if notes, entries := stored("notes"), stored("_outbox"); notes != units+most-1 || entries != units+1 {
		t.Errorf("after a large unit: got %d notes and %d entries, want %d and %d", notes, entries, units+most-1, units+1)
	}
	for range units {
		lag.settled, now = lag.place, now.Add(time.Minute)
		write(1, time.Time{})
	}
	if notes, entries := stored("notes"), stored("_outbox"); notes != units+most-1 || entries > 2 {
		t.Errorf("after small units: got %d notes and %d entries, want %d and at most 2", notes, entries, units+most-1)
	}
	lag.settled = 0
	for range units {
		write(1, time.Time{})
	}
	if err := f.Instance().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := stored("_outbox"); got != 0 {
		t.Errorf("after Stop: the outbox has %d entries, want none", got)
	}
}
