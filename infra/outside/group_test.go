package outside_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// orders returns n events that start a call each.
func orders(h *functiontest.Harness, n int) (es []ce.Event) {
	for i := range n {
		id := fmt.Sprint("s", i+1)
		es = append(es, h.Event(ordered.New(id, sale{ID: id})))
	}
	return es
}

// ended returns the subjects of the sales that have ended since the last call, sorted.
func ended(h *functiontest.Harness) (ids []string) {
	for _, e := range h.Emitted() {
		if e.Type() == sold.Name() {
			ids = append(ids, e.Subject())
		}
	}
	slices.Sort(ids)
	return ids
}

func wantEnded(h *functiontest.Harness, want ...string) {
	h.T.Helper()
	if got := ended(h); !slices.Equal(got, want) {
		h.T.Errorf("ended %q, want %q", got, want)
	}
}

func wantStatuses(h *functiontest.Harness, es []ce.Event, want int) {
	h.T.Helper()
	for i, r := range h.Receive(es...) {
		if r.Status != want {
			h.T.Errorf("event %d is answered %+v, want %d", i+1, r, want)
		}
	}
}

// The results of a batch share one unit of work. When an instance stops before it has published their events, the first
// message that comes again has all of them published, and the others publish nothing more.
func TestResultsShareAUnit(t *testing.T) {
	s := &shop{}
	h := s.harness(t)
	commits := 0
	s.store = func(store.Batch) error {
		commits++
		return nil
	}
	es := orders(h, 5)
	h.RefuseToPublish(unavailable)
	wantStatuses(h, es, 503)
	if commits != 2 {
		t.Errorf("%d commits, want 2", commits)
	}
	h.Restart()
	h.Clock.Advance(2 * time.Second)
	h.RefuseToPublish(nil)
	wantStatuses(h, es[2:3], 200)
	wantEnded(h, "s1", "s2", "s3", "s4", "s5")
	wantStatuses(h, es, 200)
	wantEnded(h)
	if len(s.made) != 5 {
		t.Errorf("made %d calls, want 5", len(s.made))
	}
}

// A result whose handler fails holds up no other of its batch. It is handled later.
func TestOneResultFails(t *testing.T) {
	s := &shop{refused: "s1"}
	h := s.harness(t)
	wantStatuses(h, orders(h, 3), 200)
	wantEnded(h, "s2", "s3")
	s.refused = ""
	h.Advance(time.Hour)
	wantEnded(h, "s1")
}

// When the unit of several results is refused, each has a unit of its own.
func TestUnitOfResultsIsRefused(t *testing.T) {
	s := &shop{}
	h := s.harness(t)
	s.store = func(b store.Batch) error {
		results := 0
		for _, m := range b.Mutations {
			if m.Collection == "sales" {
				results++
			}
		}
		if results > 1 {
			return fault.New(fault.TooLarge, "too much")
		}
		return nil
	}
	wantStatuses(h, orders(h, 3), 200)
	wantEnded(h, "s1", "s2", "s3")
}

// A slow call holds up no result of its batch, and has a unit of its own. After a crash its message has that unit's
// events published, and no others.
func TestSlowCallIsApart(t *testing.T) {
	others := make(chan struct{})
	s := &shop{slow: others}
	h := s.harness(t)
	results := 0
	s.store = func(b store.Batch) error {
		if slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool { return m.Collection == "sales" }) {
			if results++; results == 1 {
				close(others)
			}
		}
		return nil
	}
	es := orders(h, 4)
	h.RefuseToPublish(unavailable)
	wantStatuses(h, es, 503)
	if results != 2 {
		t.Errorf("%d units with results, want 2", results)
	}
	h.Restart()
	h.Clock.Advance(2 * time.Second)
	h.RefuseToPublish(nil)
	wantStatuses(h, es[:1], 200)
	wantEnded(h, "s1", "s2", "s3", "s4")
	wantStatuses(h, es, 200)
	wantEnded(h)
}

// The timer of a call that has failed belongs to its message: that is acknowledged when the timer is published.
func TestTimerIsPublishedFirst(t *testing.T) {
	s := &shop{bank: func(int) error { return unavailable }}
	h := s.harness(t)
	e := h.Event(ordered.New("s1", sale{ID: "s1"}))
	h.RefuseToPublish(unavailable)
	wantStatus(h, e, 503)
	wantStatus(h, e, 503)
	h.Restart()
	h.Clock.Advance(2 * time.Second)
	wantStatus(h, e, 503)
	h.RefuseToPublish(nil)
	wantStatus(h, e, 200)
	s.bank = nil
	h.Advance(time.Hour)
	wantEnded(h, "s1")
}
