package function_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

var (
	scaleChecked = event.Define(example, "scale.check", 1, event.Command, "Check the scale.", boat{"x"})
	nameClaimed  = event.Define(example, "scale.claim", 1, event.Command, "Claim a name.", boat{"ann"})
)

// pan is one side of the scale: both weigh the same in every state that is committed.
type pan struct {
	Weight int `json:"weight"`
}

// scale is a function that refuses when its two pans differ, and to give a name to two.
type scale struct {
	between func() // runs between two reads of a handler
	pans    *store.Collection[pan]
	f       *function.Function
}

func (s *scale) load(weight int) error {
	return s.f.Update(context.Background(), func(ctx context.Context, tx *function.Tx) error {
		if err := s.pans.Put(ctx, tx, "left", pan{weight}); err != nil {
			return err
		}
		return s.pans.Put(ctx, tx, "right", pan{weight})
	})
}

func (s *scale) check(ctx context.Context, tx *function.Tx) error {
	left, _, err := s.pans.Find(ctx, tx, "left")
	if err != nil {
		return err
	}
	if do := s.between; do != nil {
		s.between = nil
		do()
	}
	right, _, err := s.pans.Find(ctx, tx, "right")
	if err == nil && left != right {
		err = fault.New(fault.NotFound, "the scale is not even: %d and %d", left.Weight, right.Weight)
	}
	return err
}

func (s *scale) declare(env function.Env) (*function.Function, error) {
	f := function.New("scale", env)
	s.f, s.pans = f, function.Collection[pan](f, "pans")
	names := function.Collection[boat](f, "names")
	for _, method := range []string{"GET", "POST"} {
		op := function.Operation{Method: method, Path: "/api/scale", Access: function.Public}
		function.Serve(f, op, func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
			return nil, s.check(ctx, tx)
		})
	}
	op := function.Operation{Method: "DELETE", Path: "/api/scale", Access: function.Public}
	function.Serve(f, op, func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
		if err := s.check(ctx, tx); err != nil {
			return nil, function.CommitThen(err)
		}
		return nil, nil
	})
	function.On(f, scaleChecked, func(ctx context.Context, tx *function.Tx, _ boat) error { return s.check(ctx, tx) })
	function.On(f, nameClaimed, func(ctx context.Context, tx *function.Tx, who boat) error {
		name := tx.Event().Subject()
		has, taken, err := names.Find(ctx, tx, name)
		if err == nil && taken && has != who {
			err = fault.New(fault.Invalid, "%s is taken", name)
		}
		if err != nil {
			return err
		}
		return names.Put(ctx, tx, name, who)
	})
	return f, nil
}

// A refusal that a handler has decided on two reads around the commit of another unit does not stand, of a request that
// reads, of one that writes, and of an event.
func TestRefusalsOfStatesThatNeverWere(t *testing.T) {
	s := &scale{}
	h := functiontest.New(t, s.declare, functiontest.Once())
	weight := 0
	disturb := func() {
		s.between = func() {
			weight++
			if err := s.load(weight); err != nil {
				t.Error(err)
			}
		}
	}
	for _, method := range []string{"GET", "POST", "DELETE"} {
		disturb()
		if r := h.Call(method, "/api/scale", functiontest.Nobody, nil); r.Status != http.StatusNoContent {
			t.Errorf("%s: got %d", method, r.Status)
		}
	}
	for range 2 { // in a batch too
		disturb()
		for i, r := range h.Deliver(scaleChecked.New("a", boat{"x"}), scaleChecked.New("b", boat{"x"})) {
			if !r.OK() {
				t.Errorf("event %d: got %d %s", i, r.Status, r.Message)
			}
		}
	}
}

// What was refused for the write of a neighbour in its batch is decided again when the commit of the batch fails.
func TestRefusedForWhatIsNotCommitted(t *testing.T) {
	fails := false
	h := functiontest.New(t, (&scale{}).declare, functiontest.Once(), func(h *functiontest.Harness) {
		open := h.Store
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return failing{db, &fails}, err
		}
	})
	ann, bob := nameClaimed.New("n1", boat{"ann"}).Keyed("ann"), nameClaimed.New("n1", boat{"bob"}).Keyed("bob")
	fails = true
	for i, r := range h.Deliver(ann, bob) {
		if r.Status != http.StatusServiceUnavailable {
			t.Errorf("event %d: got %d %s, want 503", i, r.Status, r.Message)
		}
	}
	fails = false
	h.MustDeliver(bob)
	if r := h.Deliver(ann)[0]; r.Status != http.StatusUnprocessableEntity {
		t.Errorf("got %d, want 422: bob has the name", r.Status)
	}
}

// failing is a database whose commits fail while it says so.
type failing struct {
	store.Driver
	fails *bool
}

func (f failing) Commit(ctx context.Context, b store.Batch) error {
	if *f.fails {
		return fault.New(fault.Unavailable, "the database does not answer")
	}
	return f.Driver.Commit(ctx, b)
}
