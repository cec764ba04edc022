package saga_test

import (
	"context"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// Await refuses a saga that does not exist, returns one as it is when the wait is over, and does not wait for one that
// has ended, wherever it is stored and whichever instance has changed it.
func TestAwait(t *testing.T) {
	stores := map[string]saga.Store[trip]{
		"documents": saga.Documents[trip](""),
		"journal": saga.InJournal("trip", func(_, e trip) trip { return e }, 1,
			func(c saga.Change[trip]) []trip { return []trip{c.State} }),
	}
	for name, stored := range stores {
		t.Run(name, func(t *testing.T) {
			d := flight()
			d.Store = stored
			shared := memory.Opener(memory.Twice())
			share := func(h *functiontest.Harness) { h.Store = shared }
			var here, there *saga.Saga[trip]
			h := functiontest.New(t, trips(d, &here), share)
			other := functiontest.New(t, trips(d, &there), share)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			past := time.Now().Add(-time.Second)
			if k, err := here.Await(ctx, "1", past); !fault.Is(err, fault.NotFound) {
				t.Errorf("one that does not exist: got %+v, %v", k, err)
			}
			begin(t, h)
			for _, s := range []*saga.Saga[trip]{here, there} {
				k, err := s.Await(ctx, "1", past)
				if err != nil || k.Owner != "ada" || k.Saga.Status != saga.Running {
					t.Errorf("one that goes on: got %+v, %v", k, err)
				}
			}
			other.MustDeliver(booked.New("1", data{ID: "1", Seat: "9a"}))
			for _, s := range []*saga.Saga[trip]{here, there} {
				k, err := s.Await(ctx, "1", time.Now().Add(time.Hour))
				if err != nil || k.Seat != "9a" || k.Saga.Status != saga.Completed || ctx.Err() != nil {
					t.Errorf("one that has ended: got %+v, %v, %v", k, err, ctx.Err())
				}
			}
		})
	}
}
