// Package hosttest is the suite that hosts pass where a platform delivers: what an event has come to when the host has
// answered.
package hosttest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// Outcome is what an event has come to for the platform.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"    // it does not come again
	Again   Outcome = "again"   // it comes again
	Refused Outcome = "refused" // it is, or will be, a dead letter: another attempt would change nothing
)

// Host is a host as its platform sees it.
type Host interface {
	// Deliver hands events over, in order and at once if the platform does so, and returns what each has come to.
	Deliver(t *testing.T, events ...ce.Event) []Outcome

	// DeliverText hands over a message that is no event.
	DeliverText(t *testing.T, text string) Outcome

	// Tick tells the function the time, as the platform does.
	Tick(t *testing.T) error
}

// Harness is what a host's test hands to the suite.
type Harness struct {
	// New returns a host of an instance that is not started. The deployed manifest has the hash; "": any.
	New func(t *testing.T, f host.Instance, manifest string) Host

	// Platform names sentences that the platform holds and not the host. They are skipped.
	Platform []string
}

// The sentences that a platform may hold.
const (
	Filters = "an event that the filters do not let through is done, and does not reach the function"
	Order   = "after a failure the later events of its key wait, and those of other keys do not"
)

type sentence struct {
	name string
	test func(*testing.T, Harness)
}

func sentences() []sentence {
	return []sentence{
		{"an event is handled, and one that comes again is not handled twice", testTwice},
		{Filters, testFilters},
		{"what fails for a while comes again, and is handled then", testAgain},
		{"a final refusal is told apart from a failure that is tried again", testRefused},
		{"a panic is an answer about its event, and the others are handled", testPanic},
		{Order, testOrder},
		{"what is no CloudEvent is not done, and the function goes on", testText},
		{"a dead letter reaches the function that stores dead letters, whatever it is", testDeadLetter},
		{"a tick reaches the function", testTick},
		{"a function whose declaration differs from what was deployed takes no events", testManifest},
	}
}

// Sentences returns what the suite holds, in its order: the names of its subtests.
func Sentences() (names []string) {
	for _, s := range sentences() {
		names = append(names, s.name)
	}
	return names
}

// Run runs the suite against the host.
func Run(t *testing.T, h Harness) {
	for _, s := range sentences() {
		t.Run(s.name, func(t *testing.T) {
			if slices.Contains(h.Platform, s.name) {
				t.Skip("the platform holds it")
			}
			s.test(t, h)
		})
	}
}

// order is the data of the events.
type order struct {
	ID string `json:"id" minLength:"1"`
}

var (
	example = event.NewNamespace("com.example", "https://example.com/schemas/")
	ship    = event.Define(example, "shop.ship", 1, event.Command, "Ship an order.", order{"o1"})
	other   = event.Define(example, "shop.other", 1, event.Command, "Do something else.", order{"o1"})
)

// shipped counts how often an order was shipped.
type shipped struct {
	N int `json:"n"`
}

// shop is the function under test.
type shop struct {
	f      *function.Function
	orders *store.Collection[shipped]

	mu    sync.Mutex
	dead  []string // where dead letters come from
	ticks int
	away  bool
}

type nowhere struct{}

func (nowhere) Publish(context.Context, ...ce.Event) error { return nil }

// function returns a function whose orders decide what becomes of them by their ids.
func (s *shop) function() *function.Function {
	f := function.New("shipping", function.Env{
		Store: memory.Opener(), Publisher: nowhere{}, Logger: slog.New(slog.DiscardHandler),
	})
	s.f, s.orders = f, function.Collection[shipped](f, "orders")
	function.On(f, ship, func(ctx context.Context, tx *function.Tx, o order) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case o.ID == "panic":
			panic("on purpose")
		case o.ID == "refused":
			return fault.New(fault.Invalid, "it is refused")
		case o.ID == "away" && s.away:
			return fault.New(fault.Unavailable, "away")
		}
		done, _, err := s.orders.Find(ctx, tx, o.ID)
		if err != nil {
			return err
		}
		return s.orders.Put(ctx, tx, o.ID, shipped{done.N + 1})
	})
	function.OnDeadLetter(f, func(_ context.Context, _ *function.Tx, e ce.Event) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dead = append(s.dead, event.Extension(e, broker.ErrorDest))
		return nil
	})
	function.OnTick(f, func(context.Context, *function.Tx, time.Time) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ticks++
		return nil
	})
	return f
}

// made returns an event about an order with the partition key; "": it has none.
func made(t *testing.T, of event.Type[order], id, key string) ce.Event {
	t.Helper()
	e := ce.New()
	e.SetID(fmt.Sprint("event of ", id))
	e.SetSource("/functions/orders")
	e.SetType(of.Name())
	e.SetSubject(id)
	if key != "" {
		e.SetExtension(event.PartitionKey, key)
	}
	if err := e.SetData(ce.ApplicationJSON, order{id}); err != nil {
		t.Fatal(err)
	}
	return e
}

func want(t *testing.T, what string, got []Outcome, want ...Outcome) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// want checks that these orders were shipped once, and no others.
func (s *shop) want(t *testing.T, ids ...string) {
	t.Helper()
	err := s.f.Read(t.Context(), func(ctx context.Context, tx *function.Tx) error {
		for _, id := range []string{"a", "b", "c", "away", "behind", "panic", "refused"} {
			done, _, err := s.orders.Find(ctx, tx, id)
			if err != nil {
				return err
			}
			if want := slices.Contains(ids, id); done.N > 1 || want != (done.N == 1) {
				t.Errorf("order %s was shipped %d times, and %v should be", id, done.N, ids)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func begin(t *testing.T, h Harness) (*shop, Host) {
	t.Helper()
	s := &shop{}
	return s, h.New(t, s.function().Instance(), "")
}

func testTwice(t *testing.T, h Harness) {
	s, hosted := begin(t, h)
	e := made(t, ship, "a", "")
	want(t, "the first time", hosted.Deliver(t, e), Done)
	want(t, "the second time", hosted.Deliver(t, e), Done)
	s.want(t, "a")
}

func testFilters(t *testing.T, h Harness) {
	s, hosted := begin(t, h)
	elsewhere := made(t, ship, "b", "")
	elsewhere.SetExtension(event.ReplayTo, "payments")
	want(t, "others", hosted.Deliver(t, made(t, other, "a", ""), elsewhere), Done, Done)
	want(t, "its own", hosted.Deliver(t, made(t, ship, "c", "")), Done)
	s.want(t, "c")
}

func testAgain(t *testing.T, h Harness) {
	s, hosted := begin(t, h)
	s.away = true
	e := made(t, ship, "away", "")
	want(t, "away", hosted.Deliver(t, e), Again)
	s.mu.Lock()
	s.away = false
	s.mu.Unlock()
	want(t, "back", hosted.Deliver(t, e), Done)
	s.want(t, "away")
}

func testRefused(t *testing.T, h Harness) {
	_, hosted := begin(t, h)
	want(t, "refused", hosted.Deliver(t, made(t, ship, "refused", "")), Refused)
}

func testPanic(t *testing.T, h Harness) {
	s, hosted := begin(t, h)
	want(t, "a panic", hosted.Deliver(t, made(t, ship, "a", "1"), made(t, ship, "panic", "2"), made(t, ship, "b", "3")),
		Done, Again, Done)
	s.want(t, "a", "b")
}

func testOrder(t *testing.T, h Harness) {
	s, hosted := begin(t, h)
	s.away = true
	want(t, "one is away", hosted.Deliver(t,
		made(t, ship, "a", "k"), made(t, ship, "away", "k"), made(t, ship, "behind", "k"), made(t, ship, "b", "l")),
		Done, Again, Again, Done)
	s.want(t, "a", "b")
}

func testText(t *testing.T, h Harness) {
	s, hosted := begin(t, h)
	for _, text := range []string{"", "hello", "{}", `{"specversion":"1.0"}`} {
		if got := hosted.DeliverText(t, text); got == Done {
			t.Errorf("%q: got %s", text, got)
		}
	}
	want(t, "an event", hosted.Deliver(t, made(t, ship, "a", "")), Done)
	s.want(t, "a")
}

func testDeadLetter(t *testing.T, h Harness) {
	s, hosted := begin(t, h)
	e := made(t, other, "a", "")
	e.SetExtension(broker.ErrorDest, "payments")
	e.SetExtension(broker.ErrorCode, 500)
	want(t, "a dead letter", hosted.Deliver(t, e), Done)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.dead, []string{"payments"}) {
		t.Errorf("got the dead letters of %v", s.dead)
	}
}

func testTick(t *testing.T, h Harness) {
	s, hosted := begin(t, h)
	if err := hosted.Tick(t); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ticks != 1 {
		t.Errorf("got %d ticks", s.ticks)
	}
}

func testManifest(t *testing.T, h Harness) {
	s := &shop{}
	hosted := h.New(t, s.function().Instance(), "of another version")
	want(t, "an event", hosted.Deliver(t, made(t, ship, "a", "")), Again)
}
