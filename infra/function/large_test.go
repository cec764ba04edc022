package function_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

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
