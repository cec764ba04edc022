package outside_test

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/outside"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

var dropped = event.Define(ns, "desk.dropped", 1, event.Fact, "A bid was dropped.", sale{ID: "s1"})

// bids is a function that starts a call for each letter of the id of an order, and has a result of each.
type bids struct {
	result func(ctx context.Context, tx *function.Tx, call *outside.Call[sale, string], r outside.Result[sale, string],
	) error
	call func(id string)                                                 // while the call is made; nil: nothing
	fail error                                                           // of each call
	db   func(commit func() error, b store.Batch) (err error, done bool) // in place of a commit; nil: nothing

	get func(keys []store.Key) // before they are read; nil: nothing

	mu   sync.Mutex
	made []string // the ids of calls, with what they were made with
}

type bid struct {
	IDs []string `json:"ids"`
}

type bidsDriver struct {
	store.Driver
	b *bids
}

func (d bidsDriver) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	if d.b.get != nil && len(keys) > 0 {
		d.b.get(keys)
	}
	return d.Driver.Get(ctx, keys...)
}

func (d bidsDriver) Commit(ctx context.Context, b store.Batch) error {
	commit := func() error { return d.Driver.Commit(ctx, b) }
	if d.b.db != nil {
		if err, done := d.b.db(commit, b); done {
			return err
		}
	}
	return commit()
}

func (b *bids) make(_ context.Context, r outside.Request[sale]) (string, error) {
	if b.call != nil {
		b.call(r.ID)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.made = append(b.made, strings.TrimSpace(r.ID+" "+r.In.Status))
	return "", b.fail
}

func (b *bids) new(e function.Env) (*function.Function, error) {
	f := function.New("bids", e)
	calls := outside.New(f)
	results := function.Collection[bid](f, "results")
	var call *outside.Call[sale, string]
	call = outside.Declare(calls, "bid", outside.Policy{}, b.make, func(
		ctx context.Context, tx *function.Tx, r outside.Result[sale, string],
	) error {
		known, _, err := results.Find(ctx, tx, "all")
		if err != nil {
			return err
		}
		known.IDs = append(known.IDs, strings.TrimSpace(r.ID+" "+r.In.Status))
		if err := results.Put(ctx, tx, "all", known); err != nil {
			return err
		}
		tx.Emit(sold.New(r.ID, sale{ID: r.ID}))
		if b.result != nil {
			return b.result(ctx, tx, call, r)
		}
		return nil
	})
	function.Emits(f, sold)
	function.On(f, ordered, func(ctx context.Context, tx *function.Tx, o sale) error {
		for _, id := range o.ID {
			if err := call.Start(ctx, tx, string(id), sale{ID: string(id)}); err != nil {
				return err
			}
		}
		return nil
	})
	function.On(f, dropped, func(ctx context.Context, tx *function.Tx, o sale) error {
		return call.Cancel(ctx, tx, o.ID)
	})
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/bids", Summary: "Bids", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{ Body bid }, error) {
			all, _, err := results.Find(ctx, tx, "all")
			return &struct{ Body bid }{all}, err
		})
	return f, nil
}

func (b *bids) harness(t *testing.T, open store.Opener) *functiontest.Harness {
	return functiontest.New(t, b.new, func(h *functiontest.Harness) {
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return bidsDriver{db, b}, err
		}
	})
}

// want checks which calls were made and which results have committed, in their order.
func (b *bids) want(h *functiontest.Harness, made, ended string) {
	h.T.Helper()
	if got := strings.Join(b.made, ", "); got != made {
		h.T.Errorf("made %q, want %q", got, made)
	}
	var all bid
	h.Call("GET", "/api/bids", functiontest.Nobody, nil).JSON(&all)
	if got := strings.Join(all.IDs, ", "); got != ended {
		h.T.Errorf("ended %q, want %q", got, ended)
	}
}

// A result whose handler cancels another call of the same unit has that one's result dropped, although it is there.
func TestResultCancelsAnotherOfItsUnit(t *testing.T) {
	b := &bids{result: func(ctx context.Context, tx *function.Tx, call *outside.Call[sale, string],
		r outside.Result[sale, string],
	) error {
		if r.ID == "a" {
			return call.Cancel(ctx, tx, "b")
		}
		return nil
	}}
	h := b.harness(t, memory.Opener(memory.Twice()))
	h.Deliver(ordered.New("1", sale{ID: "ab"}))
	b.want(h, "a, b", "a")
}

// A result whose handler starts another call of the same unit anew has that one made once more, and its result is that
// of the new call.
func TestResultStartsAnotherOfItsUnitAnew(t *testing.T) {
	b := &bids{result: func(ctx context.Context, tx *function.Tx, call *outside.Call[sale, string],
		r outside.Result[sale, string],
	) error {
		if r.ID != "a" {
			return nil
		}
		if err := call.Cancel(ctx, tx, "b"); err != nil {
			return err
		}
		return call.Start(ctx, tx, "b", sale{ID: "b", Status: "anew"})
	}}
	h := b.harness(t, memory.Opener(memory.Twice()))
	e := h.Event(ordered.New("1", sale{ID: "ab"}))
	h.Receive(e)
	h.Clock.Advance(2 * time.Second)
	wantStatus(h, e, 200)
	b.want(h, "a, b, b anew", "a, b anew")
}

// A result whose handler starts its own call anew, beside others of the unit.
func TestResultStartsItsCallAnew(t *testing.T) {
	b := &bids{result: func(ctx context.Context, tx *function.Tx, call *outside.Call[sale, string],
		r outside.Result[sale, string],
	) error {
		if r.In.Status != "" {
			return nil
		}
		return call.Start(ctx, tx, r.ID, sale{ID: r.ID, Status: "anew"})
	}}
	h := b.harness(t, memory.Opener(memory.Twice()))
	wantStatus(h, h.Event(ordered.New("1", sale{ID: "ab"})), 200)
	b.want(h, "a, b, a anew, b anew", "a, b, a anew, b anew")
}

// A call that the handler of one result starts is made once, although that of another one in the unit looks at it.
func TestCallThatAnotherResultLooksAt(t *testing.T) {
	b := &bids{result: func(ctx context.Context, tx *function.Tx, call *outside.Call[sale, string],
		r outside.Result[sale, string],
	) error {
		switch r.ID {
		case "a":
			return call.Start(ctx, tx, "c", sale{ID: "c"})
		case "b":
			if there, err := call.Pending(ctx, tx, "c"); err != nil || !there {
				return fault.New(fault.Invalid, "c was not started: %v", err)
			}
		}
		return nil
	}}
	h := b.harness(t, memory.Opener(memory.Twice()))
	wantStatus(h, h.Event(ordered.New("1", sale{ID: "ab"})), 200)
	b.want(h, "a, b, c", "a, b, c")
}

// A call that a result's handler starts is not made when the unit of the result is refused.
func TestCallOfARefusedResult(t *testing.T) {
	b := &bids{
		result: func(ctx context.Context, tx *function.Tx, call *outside.Call[sale, string],
			r outside.Result[sale, string],
		) error {
			if r.ID == "c" {
				return nil
			}
			return call.Start(ctx, tx, "c", sale{ID: "c"})
		},
		db: func(_ func() error, batch store.Batch) (error, bool) {
			starts := func(m store.Mutation) bool { return m.ID == "bid/c" && m.Data != nil }
			return fault.New(fault.TooLarge, "too much"), slices.ContainsFunc(batch.Mutations, starts)
		},
	}
	h := b.harness(t, memory.Opener(memory.Twice()))
	wantStatus(h, h.Event(ordered.New("1", sale{ID: "a"})), 200)
	b.want(h, "a", "")
}

// A call that one event of a batch starts, and another one cancels, is not made.
func TestCallThatItsBatchCancels(t *testing.T) {
	b := &bids{}
	h := b.harness(t, memory.Opener(memory.Twice()))
	wantStatuses(h, []ce.Event{h.Event(ordered.New("1", sale{ID: "ab"})), h.Event(dropped.New("2", sale{ID: "a"}))}, 200)
	b.want(h, "b", "b")
}

// Of results whose unit was committed, but the store did not tell, no message is acknowledged before their events are
// published.
func TestUnitOfResultsMayBeCommitted(t *testing.T) {
	untold := false
	b := &bids{db: func(commit func() error, batch store.Batch) (error, bool) {
		results := func(m store.Mutation) bool { return m.Collection == "results" }
		if untold || !slices.ContainsFunc(batch.Mutations, results) {
			return nil, false
		}
		untold = true
		if err := commit(); err != nil {
			return err, true
		}
		return unavailable, true
	}}
	h := b.harness(t, memory.Opener(memory.Twice()))
	e := h.Event(ordered.New("1", sale{ID: "ab"}))
	if r := h.Receive(e)[0]; r.OK() && len(h.Emitted()) == 0 {
		t.Errorf("acknowledged before the events of the results are published: %v", r)
	}
	h.Clock.Advance(2 * time.Second)
	wantStatus(h, e, 200)
	wantEnded(h, "a", "b")
	b.want(h, "a, b", "a, b")
}

// Calls that have failed in a unit that was committed, but the store did not tell, have failed once: they are not
// postponed once more, by events with the ids of those that the unit has.
func TestUnitOfFailuresMayBeCommitted(t *testing.T) {
	untold := false
	var attempts []string
	postponed := regexp.MustCompile(`"attempts":\d+`)
	b := &bids{fail: unavailable, db: func(commit func() error, batch store.Batch) (error, bool) {
		err := commit()
		for _, m := range batch.Mutations {
			if err == nil && m.Collection == outside.Collection {
				attempts = append(attempts, postponed.FindString(string(m.Data)))
			}
		}
		if untold || len(attempts) < 4 {
			return err, true
		}
		untold = true
		return unavailable, true
	}}
	h := b.harness(t, memory.Opener())
	e := h.Event(ordered.New("1", sale{ID: "ab"}))
	if r := h.Receive(e)[0]; r.OK() {
		t.Errorf("acknowledged before the timers of the calls are published: %v", r)
	}
	h.Clock.Advance(2 * time.Second)
	wantStatus(h, e, 200)
	if want := []string{"", "", `"attempts":1`, `"attempts":1`}; !slices.Equal(attempts, want) {
		t.Errorf("the calls are written with %q, want %q", attempts, want)
	}
	ids := map[string]int{}
	for _, e := range h.Emitted() {
		ids[e.ID()]++
	}
	if !slices.Equal(slices.Collect(maps.Values(ids)), []int{1, 1}) {
		t.Errorf("published %v, want two timers, each once", ids)
	}
}

// A message is not acknowledged when its call was finished by another instance, which may not have published yet.
func TestAnotherInstanceHasTheResult(t *testing.T) {
	shared := memory.Opener()
	begun, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	one := &bids{call: func(string) { close(begun); <-goOn }}
	other := &bids{call: func(string) { close(goOn); <-ended }}
	first, second := one.harness(t, shared), other.harness(t, shared)
	e := first.Event(ordered.New("1", sale{ID: "a"}))
	first.RefuseToPublish(unavailable)
	go func() {
		defer close(ended)
		first.Receive(e)
	}()
	<-begun
	second.Clock.Advance(2 * time.Second)
	if r := second.Receive(e)[0]; r.OK() {
		t.Errorf("acknowledged before the events of the result are published: %v", r)
	}
	for range 2 {
		second.Clock.Advance(2 * time.Second)
		second.Receive(e)
	}
	wantStatus(second, e, 200)
	wantEnded(second, "a")
}

// When the time of a batch ends while its calls are made, its messages come again, and each result commits once.
func TestTimeEndsWhileCallsAreMade(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &bids{call: func(string) { cancel() }}
	h := b.harness(t, memory.Opener(memory.Twice()))
	es := []ce.Event{h.Event(ordered.New("1", sale{ID: "ab"})), h.Event(ordered.New("2", sale{ID: "c"}))}
	for i, r := range h.I.Receive(ctx, es) {
		if r.OK() {
			t.Errorf("event %d is acknowledged", i+1)
		}
	}
	h.Clock.Advance(2 * time.Second)
	wantStatuses(h, es, 200)
	wantEnded(h, "a", "b", "c")
	b.want(h, "a, a, b, c", "a, b, c")
}

// A result whose handler panics holds up no other of its unit. It is handled later.
func TestResultPanics(t *testing.T) {
	bad := true
	b := &bids{result: func(_ context.Context, _ *function.Tx, _ *outside.Call[sale, string],
		r outside.Result[sale, string],
	) error {
		if bad && r.ID == "a" {
			panic("a")
		}
		return nil
	}}
	h := b.harness(t, memory.Opener(memory.Twice()))
	wantStatus(h, h.Event(ordered.New("1", sale{ID: "ab"})), 200)
	wantEnded(h, "b")
	bad = false
	h.Advance(time.Hour)
	wantEnded(h, "a")
	b.want(h, "a, b, a", "b, a")
}

// Events that are left are published in the order of their commits: those of a call's result are not before those of a
// unit that committed while the call was made, although their outbox entry was named before.
func TestResultIsLeftAfterWhatCameBetween(t *testing.T) {
	var h *functiontest.Harness
	b := &bids{call: func(id string) {
		if id == "a" {
			h.RefuseToPublish(unavailable)
			h.Deliver(ordered.New("2", sale{ID: "b"}))
		}
	}}
	h = b.harness(t, memory.Opener())
	h.Deliver(ordered.New("1", sale{ID: "a"}))
	h.RefuseToPublish(nil)
	h.Deliver(ordered.New("3", sale{ID: "c"}))
	var subjects []string
	for _, e := range h.Emitted() {
		if e.Type() == sold.Name() {
			subjects = append(subjects, e.Subject())
		}
	}
	b.want(h, "b, a, c", "b, a, c")
	if got := strings.Join(subjects, ", "); got != "b, a, c" {
		t.Errorf("published %q, want %q", got, "b, a, c")
	}
}

// A call that another instance finishes, while a message that comes again makes the call before it, is not made again.
func TestAnotherInstanceFinishesTheNextCall(t *testing.T) {
	shared := memory.Opener()
	ctx, cancel := context.WithCancel(t.Context())
	var first *functiontest.Harness
	var es []ce.Event
	one := &bids{call: func(string) { cancel() }}
	other := &bids{call: func(id string) {
		if id == "a" {
			first.Receive(es[1])
		}
	}}
	first = one.harness(t, shared)
	second := other.harness(t, shared)
	es = []ce.Event{first.Event(ordered.New("1", sale{ID: "a"})), first.Event(ordered.New("2", sale{ID: "b"}))}
	first.I.Receive(ctx, es)
	one.call = nil
	one.made = nil
	first.Clock.Advance(2 * time.Second)
	second.Clock.Advance(2 * time.Second)
	second.Receive(es...)
	one.want(first, "b", "b, a")
	other.want(second, "a", "b, a")
	second.Clock.Advance(2 * time.Second)
	wantStatuses(second, es, 200)
}

// starts returns the handler of results that starts another call after that of an id.
func starts(next map[string]string) func(context.Context, *function.Tx, *outside.Call[sale, string],
	outside.Result[sale, string]) error {
	return func(ctx context.Context, tx *function.Tx, call *outside.Call[sale, string], r outside.Result[sale, string],
	) error {
		if id := next[r.ID]; id != "" {
			return call.Start(ctx, tx, id, sale{ID: id})
		}
		return nil
	}
}

// A call that a result starts does not wait for the slowest call of the batch.
func TestNextCallDoesNotWait(t *testing.T) {
	next := make(chan struct{})
	b := &bids{result: starts(map[string]string{"b": "c"}), call: func(id string) {
		switch id {
		case "a":
			select {
			case <-next:
			case <-time.After(20 * time.Second):
				t.Error("the next call of b waits for the call a")
			}
		case "c":
			close(next)
		}
	}}
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		env.Go = nil // goroutines
		return b.new(env)
	})
	es := []ce.Event{h.Event(ordered.New("1", sale{ID: "a"})), h.Event(ordered.New("2", sale{ID: "b"}))}
	wantStatuses(h, es, 200)
	slices.Sort(b.made)
	if !slices.Equal(b.made, []string{"a", "b", "c"}) {
		t.Errorf("made %q, want a, b and c", b.made)
	}
}

// A call whose turn comes late is not made again when another instance has taken its message over and finished it.
func TestNextCallWhoseTurnComesLate(t *testing.T) {
	shared := memory.Opener()
	var first, second *functiontest.Harness
	var es []ce.Event
	next := starts(map[string]string{"a": "c", "b": "d"})
	one, other := &bids{result: next}, &bids{result: next}
	one.call = func(id string) {
		if id != "c" {
			return
		}
		for _, h := range []*functiontest.Harness{first, second} {
			h.Clock.Advance(2 * time.Second)
		}
		second.Receive(es...)
	}
	first, second = one.harness(t, shared), other.harness(t, shared)
	es = []ce.Event{first.Event(ordered.New("1", sale{ID: "a"})), first.Event(ordered.New("2", sale{ID: "b"}))}
	first.Receive(es...)
	one.want(first, "a, b, c", "a, b, c, d")
	other.want(second, "c, d", "a, b, c, d")
	first.Clock.Advance(time.Minute)
	wantStatuses(first, es, 200)
}

// A message that comes again is not done while the events of a result are not published that another instance has
// committed since the message was read.
func TestAnotherInstanceCommitsMeanwhile(t *testing.T) {
	shared := memory.Opener()
	ctx, cancel := context.WithCancel(t.Context())
	one, other := &bids{call: func(string) { cancel() }}, &bids{}
	first, second := one.harness(t, shared), other.harness(t, shared)
	e := first.Event(ordered.New("1", sale{ID: "a"}))
	first.I.Receive(ctx, []ce.Event{e}) // the call is left
	one.call = nil
	first.RefuseToPublish(unavailable)
	for _, h := range []*functiontest.Harness{first, second} {
		h.Clock.Advance(2 * time.Second)
	}
	other.get = func(keys []store.Key) {
		if keys[0].Collection == outside.Collection {
			other.get = nil
			first.Receive(e)
		}
	}
	if r := second.Receive(e)[0]; r.OK() {
		t.Errorf("acknowledged before the events of the result are published: %v", r)
	}
	if other.get != nil {
		t.Error("the documents that are left were not read")
	}
	second.Clock.Advance(2 * time.Second)
	wantStatus(second, e, 200)
	wantEnded(second, "a")
}

// A duplicate is not acknowledged while the instance that has the result of its call has not published its events yet.
func TestDuplicateBetweenResultAndPublication(t *testing.T) {
	shared := memory.Opener()
	step := func() chan struct{} { return make(chan struct{}) }
	began, finish, committed, publish, ended := step(), step(), step(), step(), step()
	one, other := &bids{call: func(string) { close(began); <-finish }}, &bids{}
	one.db = func(commit func() error, batch store.Batch) (error, bool) {
		ends := func(m store.Mutation) bool { return m.Collection == outside.Collection && m.Data == nil }
		if !slices.ContainsFunc(batch.Mutations, ends) {
			return nil, false
		}
		err := commit()
		close(committed)
		<-publish
		return err, true
	}
	first, second := one.harness(t, shared), other.harness(t, shared)
	e := first.Event(ordered.New("1", sale{ID: "a"}))
	go func() {
		defer close(ended)
		first.I.Receive(t.Context(), []ce.Event{e})
	}()
	<-began
	other.get = func(keys []store.Key) {
		if keys[0].Collection == outside.Collection {
			other.get = nil
			close(finish)
			<-committed
		}
	}
	if r := second.Receive(e)[0]; r.OK() {
		t.Errorf("acknowledged before the events of the result are published: %v", r)
	}
	if other.get != nil {
		t.Error("the documents that are left were not read")
	}
	close(publish)
	<-ended
	second.Clock.Advance(2 * time.Second)
	wantStatuses(second, []ce.Event{e}, 200)
	other.want(second, "", "a")
}
