package function_test

import (
	"context"
	"strconv"
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

// picky is a broker that never takes events about bad.
type picky struct{ said string }

// Publish implements broker.Publisher.
func (p *picky) Publish(_ context.Context, es ...ce.Event) error {
	for _, e := range es {
		p.said += e.Subject() + " "
		if e.Subject() == "bad" {
			return fault.New(fault.Invalid, "this broker does not take that")
		}
	}
	return nil
}

// An event that the broker refuses for good is quarantined in the outbox, for later instances too, and holds nothing
// else up: not its neighbours in the entry, not the answer.
func TestAnEventThatTheBrokerRefuses(t *testing.T) {
	b := &picky{}
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		env.Publisher = b
		return counting(env)
	}, functiontest.Once())
	receive := func(what, said string, batch ...ce.Event) {
		t.Helper()
		b.said = ""
		for i, r := range h.Receive(batch...) {
			if !r.OK() {
				t.Errorf("%s: got %+v for event %d, want it handled", what, r, i)
			}
		}
		if b.said != said {
			t.Errorf("%s: got %q published, want %q", what, b.said, said)
		}
	}
	bad := h.Event(ship("bad"))
	receive("together, then each", "a bad a bad b ", h.Event(ship("a")), bad, h.Event(ship("b")))
	receive("nothing waits for it", "c ", h.Event(ship("c")))
	receive("it was handled", "", bad)
	b.said = ""
	h.Clock.Advance(10 * time.Second)
	h.Restart()
	receive("after a restart", "d ", bad, h.Event(ship("d")))
	receive("after a sweep", "", sweepEvent(h))
	if left := quarantined(t, h); len(left) != 1 || !strings.Contains(left[0],
		`"reason":"this broker does not take that"`) ||
		strings.Count(left[0], `"specversion"`) != 1 || !strings.Contains(left[0], `"subject":"bad"`) {
		t.Errorf("got %q in the outbox, want the refused event and the reason", left)
	}
	if n := count(t, h, "bad"); n != 1 {
		t.Errorf("got %d, want 1", n)
	}
}

// quarantined returns the entries that are in the outbox when nothing else is.
func quarantined(t *testing.T, h *functiontest.Harness) (left []string) {
	t.Helper()
	h.Restart() // it removes what it has published
	db, err := h.Store(t.Context(), "inventory", h.I.Declaration().Schema)
	if err != nil {
		t.Fatal(err)
	}
	docs, _, err := db.Query(t.Context(), store.Query{Collection: "_outbox", Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		left = append(left, string(d.Data))
	}
	return left
}

// An entry that cannot be decoded is quarantined unchanged, and those behind it are published.
func TestAnEntryThatCannotBeDecoded(t *testing.T) {
	p := newTally()
	h, all := pods(t, 1, p)
	p.fail(errCrashed)
	h.Call("POST", "/api/counters/a", functiontest.As("ada"), map[string]any{"by": 2}).Expect(201)
	p.fail(nil)
	db, err := h.Store(t.Context(), "inventory", h.I.Declaration().Schema)
	if err != nil {
		t.Fatal(err)
	}
	bad := []string{`{"at":"2026-01-01T00:00:00Z","events":[{"specversion":"9"}]}`, `{"events":7}`, `{"at":7}`}
	err = store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		for i, data := range bad {
			if err := tx.Create(ctx, store.Key{Collection: "_outbox", ID: "0" + strconv.Itoa(i)}, []byte(data)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Clock.Advance(time.Minute)
	for range 2 {
		receive(t, all[0], 200, sweepEvent(h), h.Event(ship("b")))
	}
	p.want(t, "past the bad entries", "a×1 b×2")
	left := quarantined(t, h)
	if len(left) != len(bad) {
		t.Fatalf("got %q in the outbox, want the %d bad entries", left, len(bad))
	}
	for i, data := range bad {
		if !strings.HasPrefix(left[i], `{"quarantined":{"at":`) || !strings.HasSuffix(left[i], data[1:]) {
			t.Errorf("got %s, want a mark on %s", left[i], data)
		}
	}
}

// strict is a database that takes no document about big, and that does not answer while it is out.
type strict struct {
	store.Driver
	out *bool
}

// Commit implements store.Driver.
func (s strict) Commit(ctx context.Context, b store.Batch) error {
	for _, m := range b.Mutations {
		if m.ID == "big" {
			return fault.New(fault.TooLarge, "this database does not take that")
		}
	}
	return s.Driver.Commit(ctx, b)
}

// Get implements store.Driver.
func (s strict) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	if *s.out {
		return nil, fault.New(fault.Unavailable, "this database does not answer")
	}
	return s.Driver.Get(ctx, keys...)
}

func onStrict(out *bool) functiontest.Option {
	return func(h *functiontest.Harness) {
		open := memory.Opener()
		h.Store = func(ctx context.Context, name string, s store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, s)
			return strict{db, out}, err
		}
	}
}

// When the store refuses a commit for good, only the event fails that is to blame, and order holds across it.
func TestABatchWithOneThatCannotBeStored(t *testing.T) {
	out := false
	h := functiontest.New(t, counting, onStrict(&out))
	results := h.Deliver(ship("not-yet"), ship("a"), ship("big"), ship("b"), ship("c").Keyed("not-yet"), ship("d"))
	for i, want := range []int{503, 200, 422, 200, 0, 200} {
		if r := results[i]; r.Status != want || r.Skipped != (want == 0) {
			t.Errorf("event %d: got %+v, want status %d", i, r, want)
		}
	}
	for _, name := range []string{"a", "b", "d"} {
		if n := count(t, h, name); n != 1 {
			t.Errorf("%s: got %d, want 1", name, n)
		}
	}
}

// Deliveries fail as such, and say why, when the inbox cannot be read.
func TestAStoreThatDoesNotAnswer(t *testing.T) {
	out := false
	h := functiontest.New(t, counting, onStrict(&out))
	out = true
	for i, r := range h.Deliver(ship("a"), ship("b")) {
		if r.Status != 503 || !strings.Contains(r.Message, "does not answer") {
			t.Errorf("event %d: got %+v", i, r)
		}
	}
	out = false
	if r := h.Deliver(ship("a")); !r[0].OK() {
		t.Errorf("got %+v", r)
	}
}

// An event that comes days after it was said is handled once all the same, also by an instance that clears its inbox
// at once.
func TestALateEventComesTwice(t *testing.T) {
	h := functiontest.New(t, counting, functiontest.Once())
	late := h.Event(ship("a"))
	late.SetTime(h.Clock.Now().Add(-30 * 24 * time.Hour))
	for range 3 {
		if r := h.Receive(late); !r[0].OK() {
			t.Fatalf("got %+v", r)
		}
		h.Restart()
		h.MustDeliver(ship("b"))
	}
	if n := count(t, h, "a"); n != 1 {
		t.Errorf("got %d, want 1", n)
	}
	h.Clock.Advance(80 * time.Hour)
	h.MustDeliver(ship("b")) // and the inbox has let go
	h.Receive(late)
	if n := count(t, h, "a"); n != 2 {
		t.Errorf("got %d after the inbox has forgotten, want 2", n)
	}
}
