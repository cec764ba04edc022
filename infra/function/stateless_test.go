package function_test

import (
	"context"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// A function without collections or events of its own still runs: what it changes is elsewhere, and its
// Idempotency-Keys and its ticks need a unit of work.
func TestWithoutCollections(t *testing.T) {
	ticks := 0
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("relay", env)
		ok := func(context.Context, *function.Tx, *struct{}) (*struct{}, error) { return nil, nil }
		function.Serve(f, function.Operation{Method: "POST", Path: "/api/relay"}, ok)
		function.OnTick(f, func(context.Context, *function.Tx, time.Time) error { ticks++; return nil })
		return f, nil
	})
	for range 2 {
		h.Call("POST", "/api/relay", functiontest.As("ada"), nil, "Idempotency-Key", "k").Expect(204)
	}
	if h.Tick(); ticks == 0 {
		t.Error("it was not ticked")
	}
}
