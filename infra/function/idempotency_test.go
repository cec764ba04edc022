package function_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// till is a function whose operations note the key of each remote call that their handler would make.
type till struct {
	mu     sync.Mutex
	keys   []string
	begun  chan struct{} // gets a value when a handler begins; nil: none does
	finish chan struct{} // what a handler waits for then
	fail   error         // what the handler ends with
}

type sale struct {
	Amount int64 `json:"amount"`
}

type saleInput struct {
	Body sale
}

type saleOutput struct {
	Body sale
}

func (s *till) new(e function.Env) (*function.Function, error) {
	f := function.New("till", e)
	total := function.Collection[sale](f, "total")
	for _, path := range []string{"/api/sales", "/api/returns"} {
		op := function.Operation{Method: "POST", Path: path, Summary: "Sell", Status: http.StatusCreated}
		function.Serve(f, op, func(ctx context.Context, tx *function.Tx, in *saleInput) (*saleOutput, error) {
			s.mu.Lock()
			s.keys = append(s.keys, tx.Key("charge"))
			fail, begun, finish := s.fail, s.begun, s.finish
			s.begun = nil // the next one does not wait
			s.mu.Unlock()
			if begun != nil {
				close(begun)
				<-finish
			}
			t, _, err := total.Find(ctx, tx, "all")
			if err != nil {
				return nil, err
			}
			t.Amount += in.Body.Amount
			if err := total.Put(ctx, tx, "all", t); err != nil {
				return nil, err
			}
			return &saleOutput{Body: t}, fail
		})
	}
	get := function.Operation{Method: "GET", Path: "/api/total", Summary: "Show the total"}
	function.Serve(f, get, func(ctx context.Context, tx *function.Tx, _ *struct{}) (*saleOutput, error) {
		t, _, err := total.Find(ctx, tx, "all")
		return &saleOutput{Body: t}, err
	})
	return f, nil
}

func (s *till) sell(h *functiontest.Harness, path, who, key string, amount int64) *functiontest.Response {
	var header []string
	if key != "" {
		header = []string{"Idempotency-Key", key}
	}
	return h.Call("POST", path, functiontest.As(who), sale{amount}, header...)
}

func wantTotal(h *functiontest.Harness, want int64) {
	h.T.Helper()
	var got sale
	h.Call("GET", "/api/total", functiontest.As("ann"), nil).Expect(http.StatusOK).JSON(&got)
	if got.Amount != want {
		h.T.Errorf("the total is %d, want %d", got.Amount, want)
	}
}

// The tries of one request have one key for a remote call; another caller, operation, key or request has another.
func TestKeyOfARequest(t *testing.T) {
	s := &till{fail: fault.New(fault.Unavailable, "the bank does not answer")}
	h := functiontest.New(t, s.new, functiontest.Once())
	of := func(path, who, key string, amount int64) string {
		s.keys = nil
		s.sell(h, path, who, key, amount).Expect(http.StatusServiceUnavailable)
		return s.keys[0]
	}
	first := of("/api/sales", "ann", "k1", 3)
	if again := of("/api/sales", "ann", "k1", 3); again != first {
		t.Errorf("the same request has the keys %q and %q", first, again)
	}
	h.Restart()
	if again := of("/api/sales", "ann", "k1", 3); again != first {
		t.Errorf("after a restart the same request has the keys %q and %q", first, again)
	}
	for name, other := range map[string]string{
		"operation": of("/api/returns", "ann", "k1", 3), "caller": of("/api/sales", "bob", "k1", 3),
		"key": of("/api/sales", "ann", "k2", 3), "request": of("/api/sales", "ann", "k1", 4),
		"message": of("/api/sales", "ann", "", 3),
	} {
		if other == first {
			t.Errorf("another %s has the same key %q", name, other)
		}
	}
	if one, other := of("/api/sales", "ann", "", 3), of("/api/sales", "ann", "", 3); one == other {
		t.Errorf("two requests without an Idempotency-Key have the key %q", one)
	}
}

// While an instance carries a request out, the same key is 409, and 422 with another request. Afterwards it gets the
// response of the first.
func TestSameKeyAtOnce(t *testing.T) {
	s := &till{begun: make(chan struct{}), finish: make(chan struct{})}
	h := functiontest.New(t, s.new, functiontest.Once())
	begun, first := s.begun, make(chan *functiontest.Response)
	go func() { first <- s.sell(h, "/api/sales", "ann", "k1", 3) }()
	<-begun
	if r := s.sell(h, "/api/sales", "ann", "k1", 3).Expect(http.StatusConflict); r.Header.Get("Retry-After") == "" {
		t.Error("409 without Retry-After")
	}
	s.sell(h, "/api/sales", "ann", "k1", 4).Expect(http.StatusUnprocessableEntity)
	s.sell(h, "/api/sales", "bob", "k1", 10).Expect(http.StatusCreated)
	close(s.finish)
	(<-first).Expect(http.StatusCreated)
	again := s.sell(h, "/api/sales", "ann", "k1", 3).Expect(http.StatusCreated)
	if again.Header.Get("Idempotency-Replayed") == "" {
		t.Error("the response is not the stored one")
	}
	wantTotal(h, 13)
	if len(s.keys) != 2 {
		t.Errorf("the handler ran for %q", s.keys)
	}
}

// Two instances carry the same request out at once: one of them commits, both answer the same, and their remote calls
// have one key. The second does not wait for the first, which may have been killed.
func TestSameKeyInTwoInstances(t *testing.T) {
	s := &till{begun: make(chan struct{}), finish: make(chan struct{})}
	one := functiontest.New(t, s.new, functiontest.Once())
	two := functiontest.New(t, s.new, func(h *functiontest.Harness) { h.Store = one.Store })
	begun, first := s.begun, make(chan *functiontest.Response)
	go func() { first <- s.sell(one, "/api/sales", "ann", "k1", 3) }()
	<-begun
	second := s.sell(two, "/api/sales", "ann", "k1", 3).Expect(http.StatusCreated)
	wantTotal(two, 3)
	close(s.finish)
	r := (<-first).Expect(http.StatusCreated)
	if string(r.Body) != string(second.Body) || r.Header.Get("Idempotency-Replayed") == "" {
		t.Errorf("answered %s and %s", second.Body, r.Body)
	}
	wantTotal(one, 3)
	if len(s.keys) < 2 || s.keys[0] != s.keys[1] {
		t.Errorf("one request has the keys %q", s.keys)
	}
}

// A refusal that was committed is the response to all tries, and its effect happens once.
func TestCommittedRefusalIsStored(t *testing.T) {
	s := &till{fail: function.CommitThen(fault.New(fault.Denied, "the card is blocked now").
		With(fault.Detail{Location: "body.amount", Message: "too much"}))}
	h := functiontest.New(t, s.new)
	first := s.sell(h, "/api/sales", "ann", "k1", 3).Expect(http.StatusForbidden)
	for range 2 {
		h.Restart()
		r := s.sell(h, "/api/sales", "ann", "k1", 3).Expect(http.StatusForbidden)
		if string(r.Body) != string(first.Body) || r.Header.Get("Content-Type") != "application/problem+json" ||
			r.Header.Get("Idempotency-Replayed") == "" || r.Header.Get("Ebb-Committed") == "" {
			t.Errorf("answered %s %v, first %s", r.Body, r.Header, first.Body)
		}
	}
	s.sell(h, "/api/sales", "ann", "k1", 4).Expect(http.StatusUnprocessableEntity)
	wantTotal(h, 3)
	s.sell(h, "/api/sales", "ann", "", 3).Expect(http.StatusForbidden)
	wantTotal(h, 6)
}
