package function_test

import (
	"context"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// onceOnly makes a function whose handler fails as fail says when the order is shipped already.
func onceOnly(fail func() error) func(function.Env) (*function.Function, error) {
	return func(env function.Env) (*function.Function, error) {
		f := function.New("once", env)
		shipped := function.Collection[orderRef](f, "shipped")
		function.On(f, orderShip, func(ctx context.Context, tx *function.Tx, o orderRef) error {
			_, there, err := shipped.Find(ctx, tx, tx.Event().Subject())
			if err != nil {
				return err
			}
			if there {
				return fail()
			}
			return shipped.Put(ctx, tx, tx.Event().Subject(), o)
		})
		return f, nil
	}
}

// A duplicate is acknowledged, although its handler, which takes it for a new event at first, fails in some way: alone
// and beside others.
func TestDuplicateThatItsHandlerRefuses(t *testing.T) {
	for what, fail := range map[string]func() error{
		"for good": func() error { return fault.New(fault.Invalid, "shipped") },
		"for now":  func() error { return fault.New(fault.Unavailable, "shipped") },
		"missing":  func() error { return fault.New(fault.NotFound, "shipped") },
		"conflict": func() error { return fault.New(fault.Conflict, "shipped") },
		"panic":    func() error { panic("shipped") },
	} {
		t.Run(what, func(t *testing.T) {
			h := functiontest.New(t, onceOnly(fail))
			first, second := h.Event(ship("a")), h.Event(ship("b"))
			receive(t, h.F, 200, first)
			receive(t, h.F, 200, first)
			h.Restart()
			for i, r := range h.Receive(first, second, first, second) {
				if r.Status != 200 {
					t.Errorf("event %d is answered %v", i+1, r)
				}
			}
		})
	}
}
