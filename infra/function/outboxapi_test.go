package function_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// unrecorded is a publisher that takes every record of an act of staff, and leaves other events to the next.
type unrecorded struct{ broker.Publisher }

func (u unrecorded) Publish(ctx context.Context, es ...ce.Event) error {
	es = slices.DeleteFunc(slices.Clone(es), func(e ce.Event) bool { return e.Type() == event.ActRecorded.Name() })
	if len(es) == 0 {
		return nil
	}
	return u.Publisher.Publish(ctx, es...)
}

// An operator sees the entries with events that the broker refuses for good, has one published again when the broker
// has been mended, and drops one.
func TestQuarantinedEntries(t *testing.T) {
	p := newTally()
	h := functiontest.New(t, func(e function.Env) (*function.Function, error) {
		e.Publisher = unrecorded{p}
		return counting(e)
	})
	p.fail(fault.New(fault.Invalid, "this broker takes no such event"))
	receive(t, h.F, 200, h.Event(ship("a")))
	receive(t, h.F, 200, h.Event(ship("b")))
	h.Clock.Advance(time.Minute)

	type entry struct {
		ID, Reason string
		Events     []struct{ ID, Type, Subject string }
		Contents   map[string]any
	}
	list := func() []entry {
		var page struct{ Items []entry }
		h.Call("GET", "/api/outbox/inventory", functiontest.Admin(), nil).Expect(200).JSON(&page)
		return page.Items
	}
	all := list()
	if len(all) != 2 || !strings.Contains(all[0].Reason, "takes no such event") || len(all[0].Events) != 1 ||
		all[0].Events[0].Subject != "a" || all[0].Contents != nil {
		t.Fatalf("got %+v", all)
	}
	path := func(n int) string { return "/api/outbox/inventory/" + all[n].ID }
	var one entry
	if h.Call("GET", path(0), functiontest.Admin(), nil).Expect(200).JSON(&one); one.Contents["events"] == nil {
		t.Errorf("got %+v", one)
	}
	h.Call("GET", "/api/outbox/inventory", functiontest.As("ada"), nil).Expect(403)
	h.Call("POST", path(0)+"/retry", functiontest.As("ada"), nil).Expect(403)

	retry := func(want int) {
		t.Helper()
		h.Call("POST", path(0)+"/retry", functiontest.Admin(), nil).Expect(want)
	}
	retry(409)
	if len(list()) != 2 {
		t.Errorf("it is not quarantined again: %+v", list())
	}
	p.fail(fault.New(fault.Unavailable, "the broker is away"))
	retry(204)
	p.fail(nil)
	receive(t, h.F, 200, h.Event(ship("c"))) // the next unit that emits publishes it
	if got := p.String(); got != "a×1 c×1" || len(list()) != 1 {
		t.Errorf("published %s, quarantined %+v", got, list())
	}
	retry(404)

	h.Call("POST", path(1)+"/drop", functiontest.Admin(), nil).Expect(400)
	h.Call("POST", path(1)+"/drop", functiontest.Admin(), map[string]string{"reason": "a test"}).Expect(204)
	if got := p.String(); got != "a×1 c×1" || len(list()) != 0 {
		t.Errorf("published %s, quarantined %+v", got, list())
	}
}
