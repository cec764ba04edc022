package function_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	brokermemory "github.com/ebb-dev/ebb/infra/broker/memory"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// tally is a broker that counts how often each subject was published. It holds a Publish of the subject hold until
// release is closed, and fails while err is set.
type tally struct {
	mu      sync.Mutex
	times   map[string]int
	order   string
	err     error
	hold    string
	held    chan struct{}
	release chan struct{}
}

func newTally() *tally {
	return &tally{times: map[string]int{}, held: make(chan struct{}, 8), release: make(chan struct{})}
}

// Publish implements broker.Publisher.
func (p *tally) Publish(_ context.Context, es ...ce.Event) error {
	for _, e := range es {
		if p.hold != "" && e.Subject() == p.hold {
			p.held <- struct{}{}
			<-p.release
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range es {
		if p.err != nil {
			return p.err
		}
		p.times[e.Subject()]++
		p.order += e.Subject() + " "
	}
	return nil
}

func (p *tally) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// String lists the subjects in order: "a×1 b×2".
func (p *tally) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, s := range slices.Sorted(maps.Keys(p.times)) {
		all = append(all, fmt.Sprintf("%s×%d", s, p.times[s]))
	}
	return strings.Join(all, " ")
}

func (p *tally) want(t *testing.T, what, want string) {
	t.Helper()
	if got := p.String(); got != want {
		t.Errorf("%s: got %q published, want %q", what, got, want)
	}
}

// pods returns n started instances of the function on one store, and a harness for making events.
func pods(t *testing.T, n int, p broker.Publisher) (*functiontest.Harness, []*function.Function) {
	t.Helper()
	var all []*function.Function
	var env function.Env
	h := functiontest.New(t, func(e function.Env) (*function.Function, error) {
		e.Publisher = p
		env = e
		return counting(e)
	}, functiontest.Once())
	all = append(all, h.F)
	for len(all) < n {
		all = append(all, startPod(t, env))
	}
	return h, all
}

func startPod(t *testing.T, env function.Env) *function.Function {
	t.Helper()
	f, err := counting(env)
	if err == nil {
		err = f.Instance().Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func receive(t *testing.T, f *function.Function, want int, batch ...ce.Event) broker.Result {
	t.Helper()
	var last broker.Result
	for i, r := range f.Instance().Receive(t.Context(), batch) {
		if r.Status != want {
			t.Fatalf("event %d: got %+v, want status %d", i, r, want)
		}
		last = r
	}
	return last
}

func sweepEvent(h *functiontest.Harness) ce.Event {
	return h.Event(event.ClockSwept.New("clock", event.SweptClock{At: h.Clock.Now()}))
}

// A duplicate and a sweep publish nothing that a unit of the same instance is publishing or has published.
func TestWhatIsBeingPublishedIsNotPublishedAgain(t *testing.T) {
	p := newTally()
	h, all := pods(t, 1, p)
	f, first := all[0], h.Event(ship("a"))
	receive(t, f, 200, first)
	p.hold = "slow"
	slow, done := h.Event(ship("slow")), make(chan broker.Result, 1)
	go func() { done <- f.Instance().Receive(t.Context(), []ce.Event{slow})[0] }()
	<-p.held
	h.Clock.Advance(time.Minute)
	p.mu.Lock()
	p.hold = ""
	p.mu.Unlock()
	receive(t, f, 200, first)
	receive(t, f, 200, sweepEvent(h))
	receive(t, f, 503, slow) // not acknowledged before its events are published
	p.want(t, "while slow is being published", "a×1")
	close(p.release)
	if r := <-done; !r.OK() {
		t.Errorf("got %+v", r)
	}
	receive(t, f, 200, slow, first)
	p.want(t, "at the end", "a×1 slow×1")
}

// What another instance may be publishing is left alone: by a start, a sweep, and by a duplicate, which comes again.
func TestWhatAnotherInstancePublishesIsLeftAlone(t *testing.T) {
	p := newTally()
	h, all := pods(t, 3, p)
	a, b := h.Event(ship("a")), h.Event(ship("b"))
	receive(t, all[0], 200, a, b)
	h.Clock.Advance(10 * time.Millisecond)
	receive(t, all[1], 200, sweepEvent(h))
	startPod(t, all[2].Env())
	if r := receive(t, all[2], 503, a); r.RetryAfter != time.Second {
		t.Errorf("got %+v, want it to come again after a second", r)
	}
	p.want(t, "soon", "a×1 b×1")
}

// errCrashed is what a broker answers to an instance that has crashed.
var errCrashed = fault.New(fault.Unavailable, "crashed")

// A message that comes again after a crash publishes the entry of its own unit and no other. What has no message is
// published by a sweep once it is old enough.
func TestAMessagePublishesItsOwnEntry(t *testing.T) {
	p := newTally()
	h, all := pods(t, 2, p)
	p.fail(errCrashed)
	a, b, c := h.Event(ship("a")), h.Event(ship("b")), h.Event(ship("c"))
	receive(t, all[0], 503, a)
	receive(t, all[0], 503, b)
	receive(t, all[0], 503, c)
	p.fail(nil)
	h.Clock.Advance(2 * time.Second)
	receive(t, all[1], 200, b)
	p.want(t, "after b came again", "b×1")
	receive(t, all[1], 200, b, sweepEvent(h))
	p.want(t, "after b and an early sweep", "b×1")
	h.Clock.Advance(8 * time.Second)
	receive(t, all[1], 200, sweepEvent(h))
	p.want(t, "after a late sweep", "a×1 b×1 c×1")
}

// An inbox entry and a stored response of an older version name no outbox entry: the first duplicate of one has the
// whole outbox published, and later ones have not.
func TestEntriesOfAnOlderVersion(t *testing.T) {
	p := newTally()
	h, all := pods(t, 2, p)
	p.fail(errCrashed)
	a, b := h.Event(ship("a")), h.Event(ship("b"))
	receive(t, all[0], 503, a)
	receive(t, all[0], 503, b)
	db, err := h.Store(t.Context(), "inventory", h.I.Declaration().Schema)
	if err != nil {
		t.Fatal(err)
	}
	docs, _, err := db.Query(t.Context(), store.Query{Collection: "_inbox", Limit: 10})
	if err != nil || len(docs) != 2 {
		t.Fatalf("got %d entries, %v", len(docs), err)
	}
	err = store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		for _, d := range docs {
			if _, err := tx.Set(ctx, d.Key, []byte(`{}`)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	receive(t, all[1], 503, a)
	p.fail(nil)
	receive(t, all[1], 200, a)
	p.want(t, "the first time", "a×1 b×1")
	p.fail(errCrashed)
	receive(t, all[0], 503, h.Event(ship("c")))
	p.fail(nil)
	receive(t, all[1], 200, a, b)
	p.want(t, "the second time", "a×1 b×1")
}

// hop goes to and fro between two functions.
type hop struct {
	Left int    `json:"left"`
	ID   string `json:"id"`
}

var (
	toPing = event.Define(example, "ping.hop", 1, event.Fact, "A hop.", hop{})
	toPong = event.Define(example, "pong.hop", 1, event.Fact, "A hop.", hop{})
)

// answering makes a function that answers one event with another.
func answering(name string, in, out event.Type[hop]) func(function.Env) (*function.Function, error) {
	return func(env function.Env) (*function.Function, error) {
		f := function.New(name, env)
		seen := function.Collection[hop](f, "seen")
		function.Emits(f, out)
		function.On(f, in, func(ctx context.Context, tx *function.Tx, h hop) error {
			if h.Left > 0 {
				tx.Emit(out.New(h.ID, hop{Left: h.Left - 1, ID: h.ID}))
			}
			return seen.Put(ctx, tx, fmt.Sprint(h.ID, "-", h.Left), h)
		})
		return f, nil
	}
}

// twice is a Publisher that publishes some events once more, as a broker does that loses an answer.
type twice struct {
	broker.Publisher
	mu    sync.Mutex
	times map[string]int
	every int
	n     int
	done  chan struct{} // one for each chain that has ended
}

func (p *twice) Publish(ctx context.Context, es ...ce.Event) error {
	p.mu.Lock()
	var more []ce.Event
	for _, e := range es {
		if p.times[e.ID()]++; p.times[e.ID()] == 1 {
			if p.n++; p.n%p.every == 0 {
				more = append(more, e)
			}
			if strings.Contains(string(e.Data()), `"left":0`) {
				p.done <- struct{}{}
			}
		}
	}
	p.mu.Unlock()
	return p.Publisher.Publish(ctx, append(slices.Clone(es), more...)...)
}

// Two functions that answer one another, in several instances and many deliveries at once, publish each event once,
// although every twentieth is delivered twice.
func TestADuplicateIsNoStorm(t *testing.T) {
	for _, n := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(n, " instances"), func(t *testing.T) {
			const chains, hops = 32, 20
			b, open := brokermemory.New(), memory.Opener()
			p := &twice{Publisher: b, times: map[string]int{}, every: 20, done: make(chan struct{}, chains)}
			defer b.Close(context.Background())
			for _, constructor := range []func(function.Env) (*function.Function, error){
				answering("ping", toPing, toPong), answering("pong", toPong, toPing),
			} {
				for range n {
					f, err := constructor(function.Env{Store: open, Publisher: p, Logger: slog.New(slog.DiscardHandler)})
					if err == nil {
						err = f.Instance().Start(t.Context())
					}
					if err != nil {
						t.Fatal(err)
					}
					trigger := f.Instance().Declaration().Subscription
					trigger.Batch, trigger.Concurrency = 1, 16
					if _, err := b.Subscribe(t.Context(), trigger, f.Instance().Receive); err != nil {
						t.Fatal(err)
					}
				}
			}
			h := functiontest.New(t, counting)
			for i := range chains {
				id := fmt.Sprint("chain-", i)
				if err := b.Publish(t.Context(), h.Event(toPing.New(id, hop{Left: hops, ID: id}))); err != nil {
					t.Fatal(err)
				}
			}
			for range chains {
				<-p.done
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			emitted, published := len(p.times), 0
			for _, n := range p.times {
				published += n
			}
			most := emitted + emitted/20 // where a unit took longer than the handover, a duplicate may have stepped in
			if emitted != chains*hops || published > most {
				t.Errorf("%d events were emitted and published %d times, want %d and at most %d times",
					emitted, published, chains*hops, most)
			}
		})
	}
}

// countedOps is a database that counts its calls.
type countedOps struct {
	store.Driver
	n *opCount
}

type opCount struct{ gets, queries, commits int }

// Get implements store.Driver.
func (c countedOps) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	c.n.gets++
	return c.Driver.Get(ctx, keys...)
}

// Query implements store.Driver.
func (c countedOps) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	c.n.queries++
	return c.Driver.Query(ctx, q)
}

// Commit implements store.Driver.
func (c countedOps) Commit(ctx context.Context, b store.Batch) error {
	c.n.commits++
	return c.Driver.Commit(ctx, b)
}

// The inbox and the outbox cost an ordinary unit no call of the store of their own: the handler reads one document, and
// one commit writes everything, finds out that the event is new and removes the entry before. The commit of a first
// duplicate fails, and it is handled again: then it reads the inbox and its own entry. Units after it read the inbox
// before.
func TestWhatAUnitCosts(t *testing.T) {
	n := &opCount{}
	h := functiontest.New(t, counting, functiontest.Once(), func(h *functiontest.Harness) {
		open := h.Store
		h.Store = func(ctx context.Context, name string, s store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, s)
			return countedOps{db, n}, err
		}
	})
	takes := func(what string, e ce.Event, gets, commits int) {
		t.Helper()
		*n = opCount{}
		receive(t, h.F, 200, e)
		if want := (opCount{gets: gets, commits: commits}); *n != want {
			t.Errorf("%s took %+v, want %+v", what, *n, want)
		}
	}
	receive(t, h.F, 200, h.Event(ship("a"))) // it also looks for expired entries
	last := h.Event(ship("a"))
	takes("a unit", last, 1, 1)
	takes("another unit", h.Event(ship("a")), 1, 1)
	takes("a duplicate", last, 3, 2)
	for range 2 { // the commit removes the entry of the unit before
		takes("a unit after duplicates", h.Event(ship("a")), 2, 1)
		takes("another duplicate", last, 2, 1)
	}
	for range 64 {
		receive(t, h.F, 200, h.Event(ship("a")))
	}
	takes("a unit long after", h.Event(ship("a")), 1, 1)
}

// What is committed is answered as done although the broker is down, also without a key. Units that emit nothing do not
// notice. The events are published by the next unit that emits, in order; an outbox that stays is logged as an error
// once.
func TestABrokerThatIsDown(t *testing.T) {
	var logged strings.Builder
	p := newTally()
	h := functiontest.New(t, func(e function.Env) (*function.Function, error) {
		e.Publisher, e.Logger = p, slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelError}))
		return counting(e)
	}, functiontest.Once())
	add := func(name string) {
		t.Helper()
		h.Call("POST", "/api/counters/"+name, functiontest.As("ada"), map[string]any{"by": 2}).Expect(201)
	}
	p.fail(errCrashed)
	add("a")
	add("b")
	for n := range 3 {
		h.Clock.Advance(time.Minute)
		receive(t, h.F, 200, sweepEvent(h))
		add(fmt.Sprint("c", n))
	}
	if got := count(t, h, "a"); got != 2 {
		t.Errorf("counted to %d, want 2", got)
	}
	receive(t, h.F, 503, h.Event(ship("d")))
	if n := strings.Count(logged.String(), "outbox"); n != 1 {
		t.Errorf("%d errors were logged, want 1: %s", n, &logged)
	}
	p.fail(nil)
	add("e")
	p.want(t, "after the outage", "a×1 b×1 c0×1 c1×1 c2×1 d×1 e×1")
	if got := p.order; got != "a b c0 c1 c2 d e " {
		t.Errorf("got %q published in order", got)
	}
}

// What a function has left that went to zero is published by the clock's sweep, which starts it.
func TestAFunctionThatGoesToZero(t *testing.T) {
	p := newTally()
	h, _ := pods(t, 1, p)
	p.fail(errCrashed)
	h.Call("POST", "/api/counters/a", functiontest.As("ada"), map[string]any{"by": 2}).Expect(201)
	h.Restart()
	p.fail(nil)
	h.Clock.Advance(20 * time.Second)
	receive(t, h.F, 200, sweepEvent(h))
	p.want(t, "after a sweep", "a×1")
}
