package outside_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/outside"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// stuck is a shop whose bank fails, with one call that has failed for a while.
func stuck(t *testing.T, id string) (*shop, *functiontest.Harness) {
	t.Helper()
	s := &shop{
		bank:   func(int) error { return unavailable },
		policy: outside.Policy{GiveUp: -1, Breaker: outside.Breaker{Failures: -1}},
	}
	h := s.harness(t)
	h.MustDeliver(ordered.New(id, sale{ID: id}))
	h.Advance(time.Minute)
	return s, h
}

type shownCall struct {
	Call, ID, Key, Error, Ending string
	CausationID                  string `json:"causation_id"`
	Attempts                     int
	Undeclared                   bool
}

func calls(h *functiontest.Harness, query string) (shown []shownCall) {
	h.T.Helper()
	var page struct{ Items []shownCall }
	r := h.Call("GET", "/api/calls/sales"+query, functiontest.Admin(), nil).Expect(200)
	if r.JSON(&page); strings.Contains(string(r.Body), `"in"`) {
		h.T.Errorf("it shows what the call is made with: %s", r.Body)
	}
	return page.Items
}

// An operator sees what has no result, and others do not.
func TestOperatorSees(t *testing.T) {
	_, h := stuck(t, "s1")
	got := calls(h, "?failing=true")
	if len(got) != 1 || got[0].Call != "charge" || got[0].ID != "s1" || got[0].Key != charge ||
		got[0].Attempts < 3 || got[0].Error != "down" || got[0].CausationID == "" || got[0].Undeclared {
		t.Errorf("got %+v", got)
	}
	var one shownCall
	h.Call("GET", "/api/calls/sales/charge/s1", functiontest.Admin(), nil).Expect(200).JSON(&one)
	if one != got[0] {
		t.Errorf("got %+v", one)
	}
	h.Call("GET", "/api/calls/sales/charge/s2", functiontest.Admin(), nil).Expect(404)
	h.Call("GET", "/api/calls/sales", functiontest.As("ada"), nil).Expect(403)
	h.Call("POST", "/api/calls/sales/charge/s1/retry", functiontest.As("ada"), nil).Expect(403)
}

// A retry makes the call now, under its key, and the result is that of the message that began it.
func TestOperatorRetries(t *testing.T) {
	for _, id := range []string{"s1", "/a b/c"} {
		s, h := stuck(t, id)
		begun := h.Emitted()[0]
		made := len(s.made)
		path := "/api/calls/sales/charge/s1"
		if id != "s1" {
			path = "/api/calls/sales/charge/%2Fa%20b%2Fc"
		}
		var acted struct {
			Ended bool
			Call  *shownCall
		}
		h.Call("POST", path+"/retry", functiontest.Admin(), nil).Expect(200).JSON(&acted)
		if acted.Ended || acted.Call == nil || acted.Call.Attempts < 4 || len(s.made) <= made {
			t.Errorf("made %d calls, %+v", len(s.made)-made, acted)
		}
		s.bank = nil
		h.Call("POST", path+"/retry", functiontest.Admin(), nil).Expect(200).JSON(&acted)
		if !acted.Ended {
			t.Errorf("got %+v", acted)
		}
		h.Call("POST", path+"/retry", functiontest.Admin(), nil).Expect(404)
		var end string
		for _, e := range h.Emitted() {
			if e.Type() == sold.Name() {
				end = event.Extension(e, event.CorrelationID)
			}
		}
		if end == "" || end != event.Extension(begun, event.CorrelationID) {
			t.Errorf("the correlation is %q, want that of %v", end, begun)
		}
		made = len(s.made)
		if h.Advance(time.Hour); len(s.made) != made {
			t.Error("its timer made it again")
		}
	}
}

// An end is a failure with its reason, and the call is not made again.
func TestOperatorEnds(t *testing.T) {
	s, h := stuck(t, "s1")
	h.Emitted()
	made := len(s.made)
	var acted struct{ Ended bool }
	h.Call("POST", "/api/calls/sales/charge/s1/end", functiontest.Admin(), map[string]any{"reason": "the bank is closed"}).
		Expect(200).JSON(&acted)
	h.Advance(time.Hour)
	if !acted.Ended || len(s.made) != made || len(calls(h, "")) != 0 {
		t.Errorf("ended %v, made %d, %v are left", acted.Ended, len(s.made)-made, calls(h, ""))
	}
	var got []string
	for _, e := range h.Emitted() {
		if e.Type() == sold.Name() {
			data, _ := sold.Decode(e)
			got = append(got, data.Status)
		}
	}
	if !slices.Equal(got, []string{"failed: given up by an operator: the bank is closed"}) {
		t.Errorf("got %q", got)
	}
}

// An end that is committed is made, also when the process dies before the result is.
func TestEndSurvives(t *testing.T) {
	s, h := stuck(t, "s1")
	made := len(s.made)
	h.Emitted()
	committed := 0
	s.store = func(b store.Batch) error {
		if committed++; committed > 1 {
			return fault.New(fault.Unavailable, "the process has died")
		}
		return nil
	}
	h.Call("POST", "/api/calls/sales/charge/s1/end", functiontest.Admin(), map[string]any{"reason": "closed"})
	s.store = nil
	h.Restart()
	h.Advance(time.Hour)
	h.MustDeliver(event.ClockSwept.New("clock", event.SweptClock{At: h.Clock.Now()}))
	for _, e := range h.Emitted() {
		if e.Type() == event.CallDue.Name() {
			h.Receive(e)
		}
	}
	if left := calls(h, ""); len(left) != 0 || len(s.made) != made {
		t.Errorf("made %d calls, left %+v", len(s.made)-made, left)
	}
}

// A function may have no use for a failure: then the call goes on, unless it is forgotten.
func TestEndIsRefused(t *testing.T) {
	s, h := stuck(t, "s1")
	s.then = func(int) error { return fault.New(fault.Invalid, "only the bank knows where the money is") }
	end := func(forget bool) *functiontest.Response {
		body := map[string]any{"reason": "closed", "forget": forget}
		return h.Call("POST", "/api/calls/sales/charge/s1/end", functiontest.Admin(), body)
	}
	if r := end(false).Expect(409); !strings.Contains(string(r.Body), "only the bank knows") {
		t.Errorf("got %s", r.Body)
	}
	if left := calls(h, ""); len(left) != 1 || left[0].Ending != "" {
		t.Errorf("left %+v", left)
	}
	made := len(s.made)
	if h.Advance(time.Hour); len(s.made) == made {
		t.Error("the call does not go on")
	}
	end(true).Expect(200)
	made = len(s.made)
	if h.Advance(time.Hour); len(s.made) != made || len(calls(h, "")) != 0 {
		t.Error("it is not forgotten")
	}
}

// A call of another version of the function can be forgotten, and nothing else.
func TestUndeclared(t *testing.T) {
	open := memory.Opener()
	keep := func(h *functiontest.Harness) {
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			return open(ctx, name, schema)
		}
	}
	other := &shop{bank: func(int) error { return unavailable }, policy: outside.Policy{GiveUp: -1}}
	next := false
	declare := func(e function.Env) (*function.Function, error) {
		if !next {
			return other.new(e)
		}
		f := function.New("sales", e)
		outside.New(f)
		return f, nil
	}
	h := functiontest.New(t, declare, keep)
	h.MustDeliver(ordered.New("s1", sale{ID: "s1"}))
	next = true
	h.Restart()
	if got := calls(h, ""); len(got) != 1 || !got[0].Undeclared {
		t.Errorf("got %+v", got)
	}
	path := "/api/calls/sales/charge/s1"
	h.Call("POST", path+"/retry", functiontest.Admin(), nil).Expect(409)
	h.Call("POST", path+"/end", functiontest.Admin(), map[string]any{"reason": "old"}).Expect(409)
	h.Call("POST", path+"/end", functiontest.Admin(), map[string]any{"reason": "old", "forget": true}).Expect(200)
	if got := calls(h, ""); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

// The manifest names the calls, and the timers of calls come to the function that has set them alone.
func TestManifest(t *testing.T) {
	s := &shop{}
	d := s.harness(t).I.Declaration()
	if len(d.Calls) != 2 || d.Calls[0].Name != "charge" || d.Calls[0].Deadline != "10s" || d.Calls[0].GiveUp != "24h0m0s" {
		t.Errorf("got %+v", d.Calls)
	}
	for _, f := range d.Trigger.Filters[0].Any {
		if f.Exact["type"] == event.CallDue.Name() && f.Exact["source"] != "/functions/sales" {
			t.Errorf("got %+v", f)
		}
	}
}
