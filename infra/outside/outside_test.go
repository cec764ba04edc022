package outside_test

import (
	"context"
	"fmt"
	"net/http"
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

type sale struct {
	ID     string `json:"id"`
	Status string `json:"status,omitempty"`
}

var (
	ns      = event.NewNamespace("com.example", "https://example.com/schemas/")
	ordered = event.Define(ns, "desk.ordered", 1, event.Fact, "Something was ordered.", sale{ID: "s1"})
	sold    = event.Define(ns, "sales.sold", 1, event.Fact, "A sale has ended.", sale{ID: "s1", Status: "paid"})
)

// shop is a function that charges for each order, and then sends a receipt if it is told to.
type shop struct {
	policy   outside.Policy
	receipts bool

	mu    sync.Mutex
	made  []string                  // the keys of calls, in order
	bank  func(n int) error         // what the n-th call is answered
	store func(b store.Batch) error // what a commit fails with; nil: none does
	then  func(n int) error         // what the n-th handler of a result fails with
	ends  int

	refused string          // id of a sale whose result fails
	slow    <-chan struct{} // the call for s1 is made beside the others, and waits for it; nil: it does neither
}

func (s *shop) call(_ context.Context, r outside.Request[sale]) (string, error) {
	if s.slow != nil && r.ID == "s1" {
		<-s.slow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, r.Key)
	if s.bank != nil {
		if err := s.bank(len(s.made)); err != nil {
			return "", err
		}
	}
	return "receipt of " + r.In.ID, nil
}

func (s *shop) new(e function.Env) (*function.Function, error) {
	if s.slow != nil {
		first := true
		e.Go = func(call func()) {
			if first {
				first = false
				go call()
				return
			}
			call()
		}
	}
	f := function.New("sales", e)
	sales := function.Collection[sale](f, "sales")
	calls := outside.New(f)
	var receipt *outside.Call[sale, string]
	end := func(ctx context.Context, tx *function.Tx, r outside.Result[sale, string]) error {
		if s.ends++; s.then != nil {
			if err := s.then(s.ends); err != nil {
				return err
			}
		}
		if r.ID == s.refused {
			return unavailable
		}
		r.In.Status = r.Out
		if r.Err != nil {
			r.In.Status = "failed: " + fault.Public(r.Err)
		}
		if err := sales.Put(ctx, tx, r.ID, r.In); err != nil {
			return err
		}
		tx.Emit(sold.New(r.ID, r.In))
		return nil
	}
	charge := outside.Declare(calls, "charge", s.policy, s.call,
		func(ctx context.Context, tx *function.Tx, r outside.Result[sale, string]) error {
			if s.receipts {
				return receipt.Start(ctx, tx, r.ID, r.In)
			}
			return end(ctx, tx, r)
		})
	receipt = outside.Declare(calls, "receipt", s.policy, s.call, end)
	function.Emits(f, sold)
	function.On(f, ordered, func(ctx context.Context, tx *function.Tx, o sale) error {
		return charge.Start(ctx, tx, o.ID, o)
	})
	type input struct{ Body sale }
	function.Serve(f, function.Operation{Method: "POST", Path: "/api/sales", Summary: "Sell", Status: 202},
		func(ctx context.Context, tx *function.Tx, in *input) (*struct{}, error) {
			return nil, charge.Start(ctx, tx, in.Body.ID, in.Body)
		})
	return f, nil
}

// failing is a store whose commits can be made to fail.
type failing struct {
	store.Driver
	s *shop
}

func (d failing) Commit(ctx context.Context, b store.Batch) error {
	d.s.mu.Lock()
	fail := d.s.store
	d.s.mu.Unlock()
	if fail != nil {
		if err := fail(b); err != nil {
			return err
		}
	}
	return d.Driver.Commit(ctx, b)
}

func (s *shop) harness(t *testing.T, options ...functiontest.Option) *functiontest.Harness {
	open := memory.Opener(memory.Twice())
	return functiontest.New(t, s.new, append(options, func(h *functiontest.Harness) {
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return failing{db, s}, err
		}
	})...)
}

var unavailable = fault.New(fault.Unavailable, "down")

// wantEnd checks the keys of the calls that were made, and that the sale has ended once, as the result of e.
func (s *shop) wantEnd(h *functiontest.Harness, cause ce.Event, status string, keys ...string) {
	h.T.Helper()
	if !slices.Equal(s.made, keys) {
		h.T.Errorf("made %q, want %q", s.made, keys)
	}
	var ends []ce.Event
	for _, e := range h.Emitted() {
		if e.Type() == sold.Name() {
			ends = append(ends, e)
		}
	}
	if len(ends) != 1 {
		h.T.Fatalf("ended %d times", len(ends))
	}
	got, err := sold.Decode(ends[0])
	if err != nil || got.Status != status {
		h.T.Errorf("ended %+v, %v, want %q", got, err, status)
	}
	if cause.Context == nil {
		return
	}
	if id := event.Extension(ends[0], event.CausationID); id != cause.ID() {
		h.T.Errorf("the cause is %q, want %q", id, cause.ID())
	}
	if id := event.Extension(ends[0], event.CorrelationID); id != event.Extension(cause, event.CorrelationID) {
		h.T.Errorf("the correlation is %q", id)
	}
}

func wantStatus(h *functiontest.Harness, e ce.Event, want int) {
	h.T.Helper()
	if got := h.Receive(e)[0]; got.Status != want {
		h.T.Fatalf("answered %+v, want %d", got, want)
	}
}

const (
	charge  = "sales/charge/s1"
	receipt = "sales/receipt/s1"
)

// A call is made once, after the commit, although its handler runs twice, and its result is the message's.
func TestCall(t *testing.T) {
	s := &shop{}
	h := s.harness(t)
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 200)
	wantStatus(h, e, 200)
	s.wantEnd(h, e, "receipt of s1", charge)
}

// A result whose commit loses races is handled again, and the call is not made again.
func TestRacesMakeNoCalls(t *testing.T) {
	s := &shop{}
	h := s.harness(t)
	races := 0
	s.store = func(b store.Batch) error {
		if races++; races%6 != 0 {
			return fault.New(fault.Conflict, "another commit came first")
		}
		return nil
	}
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 200)
	s.wantEnd(h, e, "receipt of s1", charge)
}

// A crash between the call and the commit of its result: the message comes again, and the call is made again under its
// key. The same for a call that the result of another has started.
func TestCrashBeforeTheResult(t *testing.T) {
	for _, receipts := range []bool{false, true} {
		t.Run(fmt.Sprint("receipts ", receipts), func(t *testing.T) {
			s := &shop{receipts: receipts}
			h := s.harness(t)
			commits, kept := 0, 1
			if receipts {
				kept = 2 // the first result is committed
			}
			s.store = func(store.Batch) error {
				if commits++; commits > kept {
					return unavailable
				}
				return nil
			}
			e := h.Event(ordered.New("s1", sale{ID: "s1"}))
			wantStatus(h, e, 503)
			s.store = nil
			h.Restart()
			h.Clock.Advance(time.Minute)
			wantStatus(h, e, 200)
			wantStatus(h, e, 200)
			if receipts {
				s.wantEnd(h, e, "receipt of s1", charge, receipt, receipt)
			} else {
				s.wantEnd(h, e, "receipt of s1", charge, charge)
			}
		})
	}
}

// An event is acknowledged only when the events of the result are published.
func TestResultIsPublishedFirst(t *testing.T) {
	s := &shop{}
	h := s.harness(t)
	h.RefuseToPublish(unavailable)
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 503)
	wantStatus(h, e, 503)
	h.RefuseToPublish(nil)
	wantStatus(h, e, 200)
	s.wantEnd(h, e, "receipt of s1", charge)
}

// A call that fails is made again at once, and later when its timers go off; its event is acknowledged meanwhile.
func TestFailures(t *testing.T) {
	s := &shop{bank: func(n int) error {
		if n < 8 {
			return unavailable
		}
		return nil
	}}
	h := s.harness(t)
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 200)
	if len(s.made) != 3 {
		t.Errorf("made %d calls at once, want 3", len(s.made))
	}
	wantStatus(h, e, 200)
	h.Restart()
	h.Advance(time.Hour)
	s.wantEnd(h, e, "receipt of s1", slices.Repeat([]string{charge}, 8)...)
}

// A clock that is set while a call is made does not end the attempts that are made at once.
func TestClockIsSetDuringACall(t *testing.T) {
	for _, by := range []time.Duration{2 * time.Hour, -25 * time.Hour} {
		var h *functiontest.Harness
		s := &shop{bank: func(n int) error {
			if n > 1 {
				return nil
			}
			h.Clock.Advance(by)
			return unavailable
		}}
		h = s.harness(t)
		e := h.Event(ordered.New("s1", sale{ID: "s1"}))
		wantStatus(h, e, 200)
		s.wantEnd(h, e, "receipt of s1", charge, charge)
	}
}

// A service that asks for patience gets it, and the message does not wait for it.
func TestRetryAfter(t *testing.T) {
	s := &shop{bank: func(n int) error {
		if n == 1 {
			return fault.New(fault.Exhausted, "slow down").After(time.Minute)
		}
		return nil
	}}
	h := s.harness(t)
	begun, e := h.Clock.Now(), h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 200)
	if h.Advance(59 * time.Second); len(s.made) != 1 || h.Clock.Now().Sub(begun) != 59*time.Second {
		t.Errorf("made %d calls in %s", len(s.made), h.Clock.Now().Sub(begun))
	}
	h.Advance(2 * time.Second)
	s.wantEnd(h, e, "receipt of s1", charge, charge)
}

// A refusal is final, and so is the last failure of a call that is given up.
func TestFinalFailures(t *testing.T) {
	refused := &shop{bank: func(int) error { return fault.New(fault.Invalid, "no such card") }}
	h := refused.harness(t)
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 200)
	refused.wantEnd(h, e, "failed: no such card", charge)

	stuck := &shop{bank: func(int) error { return unavailable }, policy: outside.Policy{
		GiveUp: time.Minute, Retry: outside.Retry{AtOnce: 1, Max: 20 * time.Second}, Breaker: outside.Breaker{Failures: -1},
	}}
	h = stuck.harness(t)
	e = h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 200)
	h.Advance(time.Hour)
	stuck.wantEnd(h, e, "failed: down", slices.Repeat([]string{charge}, len(stuck.made))...)
	if n := len(stuck.made); n < 5 || n > 10 {
		t.Errorf("made %d calls in a minute", n)
	}
}

// A service that fails is called by one call at a time until it is back.
func TestBreaker(t *testing.T) {
	s := &shop{
		bank: func(int) error { return unavailable },
		policy: outside.Policy{
			Retry: outside.Retry{AtOnce: 1}, Breaker: outside.Breaker{Failures: 4, Pause: 3 * time.Minute},
		},
	}
	h := s.harness(t)
	for n := range 20 {
		id := fmt.Sprint("s", n)
		h.MustDeliver(ordered.New(id, sale{ID: id}))
	}
	if len(s.made) != 4 {
		t.Errorf("made %d calls, want 4", len(s.made))
	}
	h.Advance(4 * time.Minute)
	if len(s.made) != 5 {
		t.Errorf("made %d calls, want one more", len(s.made))
	}
	s.bank = nil
	h.Advance(time.Hour)
	ends := slices.DeleteFunc(h.Emitted(), func(e ce.Event) bool { return e.Type() != sold.Name() })
	if len(ends) != 20 {
		t.Errorf("%d sales have ended, want 20", len(ends))
	}
}

// A request that starts a call is answered as decided. After a crash the same Idempotency-Key, or the clock's sweep,
// has the call made again.
func TestRequests(t *testing.T) {
	for _, way := range []string{"key", "sweep"} {
		t.Run(way, func(t *testing.T) {
			s := &shop{}
			h := s.harness(t)
			s.store = func(b store.Batch) error {
				if slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool { return m.Collection == "_idempotency" }) {
					return nil
				}
				return unavailable
			}
			sell := func() {
				h.Call("POST", "/api/sales", functiontest.As("ann"), sale{ID: "s1"}, "Idempotency-Key", "k").Expect(202)
			}
			sell()
			s.store = nil
			h.Restart()
			if h.Clock.Advance(time.Hour); way == "key" {
				sell()
			} else {
				h.MustDeliver(event.ClockSwept.New("clock", event.SweptClock{At: h.Clock.Now()}))
				for _, e := range h.Emitted() {
					wantStatus(h, e, 200)
				}
			}
			s.wantEnd(h, ce.Event{}, "receipt of s1", charge, charge)
		})
	}
}

// A duplicate that comes while the call is made waits, in this instance and in another.
func TestDuplicateDuringTheCall(t *testing.T) {
	s := &shop{}
	h := s.harness(t)
	other := functiontest.New(t, s.new, func(o *functiontest.Harness) { o.Store = h.Store })
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	s.bank = func(int) error {
		s.bank = nil
		s.mu.Unlock()
		defer s.mu.Lock()
		wantStatus(h, e, 503)
		wantStatus(other, e, 503)
		h.Clock.Advance(time.Minute) // this instance knows all the same
		wantStatus(h, e, 503)
		return nil
	}
	wantStatus(h, e, 200)
	wantStatus(h, e, 200)
	s.wantEnd(h, e, "receipt of s1", charge)
}

// A call that is due for two messages at once, its timer's and the sweep's, is made by one of them.
func TestDueTwice(t *testing.T) {
	s := &shop{bank: func(int) error { return unavailable }, policy: outside.Policy{Retry: outside.Retry{AtOnce: 1}}}
	h := s.harness(t)
	other := functiontest.New(t, s.new, func(o *functiontest.Harness) { o.Store = h.Store })
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 200)
	timers := h.Timers()
	if len(timers) != 1 {
		t.Fatalf("set %d timers", len(timers))
	}
	h.Clock.Advance(time.Minute)
	other.Clock.Advance(time.Minute)
	s.bank = func(int) error {
		s.bank = nil
		s.mu.Unlock()
		defer s.mu.Lock()
		for range 2 {
			other.MustDeliver(event.CallDue.New("charge/s1", event.DueCall{Function: "sales", Call: "charge/s1"}))
			other.Clock.Advance(10 * time.Second)
		}
		return nil
	}
	wantStatus(h, timers[0].Event, 200)
	s.wantEnd(h, e, "receipt of s1", charge, charge)
}

// Two messages of one batch for which a call is due make it once.
func TestDueTwiceInABatch(t *testing.T) {
	s := &shop{bank: func(int) error { return unavailable }, policy: outside.Policy{Retry: outside.Retry{AtOnce: 1}}}
	h := s.harness(t)
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 200)
	h.Clock.Advance(time.Minute)
	s.bank = nil
	due := event.CallDue.New("charge/s1", event.DueCall{Function: "sales", Call: "charge/s1"})
	h.MustDeliver(due, due)
	s.wantEnd(h, e, "receipt of s1", charge, charge)
}

// A handler of the result that fails or panics has the call made again later, and the event is no dead letter.
func TestResultHandlerFails(t *testing.T) {
	s := &shop{then: func(n int) error {
		switch {
		case n <= 2:
			return fault.New(fault.Invalid, "not this result")
		case n <= 4:
			panic("not this one either")
		}
		return nil
	}}
	h := s.harness(t)
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	wantStatus(h, e, 200)
	h.Advance(time.Hour)
	s.wantEnd(h, e, "receipt of s1", slices.Repeat([]string{charge}, len(s.made))...)
}

// A replayed event makes no call.
func TestReplay(t *testing.T) {
	s := &shop{}
	h := s.harness(t)
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	e.SetExtension(event.Replay, "r1")
	wantStatus(h, e, http.StatusOK)
	if len(s.made) != 0 || len(h.Emitted()) != 0 {
		t.Errorf("made %q", s.made)
	}
}

// Two calls of one name are a defect that shows when the function is declared.
func TestDeclaredTwice(t *testing.T) {
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "twice") {
			t.Errorf("got %q", p)
		}
	}()
	calls := outside.New(function.New("sales", function.Env{}))
	for range 2 {
		outside.Declare(calls, "charge", outside.Policy{},
			func(context.Context, outside.Request[sale]) (string, error) { return "", nil },
			func(context.Context, *function.Tx, outside.Result[sale, string]) error { return nil })
	}
}
