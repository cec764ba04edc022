package saga_test

import (
	"fmt"
	"testing"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/saga"
)

// A saga is handed over to a person, which the list and the saga show and the audit trail has. The saga goes on as
// before. Of two who take it at once the second is told, and one that has ended has nobody any more to look after it.
func TestHandOver(t *testing.T) {
	var s *saga.Saga[trip]
	h := functiontest.New(t, trips(flight(), &s))
	begin(t, h)
	h.Emitted()
	type detail struct {
		Assignee  string
		HandOvers []saga.HandOver `json:"hand_overs"`
	}
	hand := func(status int, by string, in map[string]any) (d detail) {
		t.Helper()
		in["reason"] = "she knows the airline"
		who := auth.Principal{Subject: by, Roles: []string{auth.RoleOperator}}
		r := h.Call("POST", "/api/sagas/trip/1/hand-over", who, in).Expect(status)
		if status == 200 {
			r.JSON(&d)
		}
		return d
	}
	h.Call("POST", "/api/sagas/trip/1/hand-over", functiontest.As("ada"), map[string]any{"reason": "x"}).Expect(403)
	d := hand(200, "ada", map[string]any{"to": "grace", "from": ""})
	if len(d.HandOvers) != 1 || d.Assignee != "grace" || d.HandOvers[0].By != "ada" || d.HandOvers[0].To != "grace" ||
		d.HandOvers[0].Reason != "she knows the airline" || !d.HandOvers[0].At.Equal(h.Clock.Now()) {
		t.Errorf("got %+v", d)
	}
	if got := functiontest.Types(h.Noted()); len(got) != 1 || got[0] != "audit.act-recorded.v1" {
		t.Errorf("it emits %v", got)
	}
	hand(409, "mary", map[string]any{"to": "mary", "from": ""})
	hand(422, "mary", map[string]any{"to": "mary@example.com"})
	if d := hand(200, "mary", map[string]any{"to": "grace"}); len(d.HandOvers) != 1 {
		t.Errorf("to the same person: got %+v", d)
	}
	var page struct{ Items []detail }
	h.Call("GET", "/api/sagas/trip?status=running", functiontest.Admin(), nil).Expect(200).JSON(&page)
	if len(page.Items) != 1 || page.Items[0].Assignee != "grace" {
		t.Errorf("listed: %+v", page)
	}
	for i := range 25 {
		d = hand(200, "ada", map[string]any{"to": fmt.Sprint("p", i)})
	}
	if d = hand(200, "ada", map[string]any{"from": "p24"}); d.Assignee != "" || len(d.HandOvers) != 20 {
		t.Errorf("to nobody: got %+v", d)
	}
	h.Emitted()
	h.MustDeliver(booked.New("1", data{ID: "1"}))
	if k := show(t, h); k.Status != "completed" {
		t.Errorf("it does not go on: %+v", k)
	}
	hand(409, "ada", map[string]any{"to": "ada"})
}
