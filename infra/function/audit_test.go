package function_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
)

type refundInput struct {
	ID   string `path:"id"`
	Body struct {
		Reason string `json:"reason,omitempty"`
		Dry    bool   `json:"dry,omitempty"`
		Refuse string `json:"refuse,omitempty"`
	}
}

type refundOutput struct {
	Location string `header:"Location"`
}

// audited is a function with operations for staff, for owners and for customers.
func audited(env function.Env) (*function.Function, error) {
	f := function.New("tickets", env)
	all := function.Collection[note](f, "tickets")
	act := func(ctx context.Context, tx *function.Tx, in *refundInput) (*refundOutput, error) {
		if in.Body.Dry {
			_, _, err := all.Find(ctx, tx, in.ID)
			return &refundOutput{}, err
		}
		if err := all.Put(ctx, tx, in.ID, note{in.Body.Reason}); err != nil {
			return nil, err
		}
		switch in.Body.Refuse {
		case "":
			return &refundOutput{Location: "/api/refunds/" + in.ID}, nil
		case "commit":
			return nil, function.CommitThen(fault.New(fault.Invalid, "counted"))
		}
		return nil, fault.New(fault.Conflict, "refused")
	}
	for _, op := range []function.Operation{
		{Method: "POST", Path: "/api/tickets/{id}/refund", Access: function.Only(auth.RoleAdmin)},
		{Method: "PUT", Path: "/api/tickets/{id}", Owner: manifest.OwnerHidden},
		{Method: "POST", Path: "/api/tickets/{id}/purchase"},
		{Method: "POST", Path: "/api/open/{id}", Access: function.Public},
		{Method: "POST", Path: "/api/mine/{id}", Owner: manifest.OwnerOnly},
		{Method: "DELETE", Path: "/api/mine/{id}", Owner: manifest.OwnerOnly},
	} {
		op.Status = 201
		function.Serve(f, op, act)
	}
	return f, nil
}

func actsOf(t *testing.T, events []ce.Event) (acts []event.RecordedAct) {
	t.Helper()
	for _, e := range events {
		act, err := event.ActRecorded.Decode(e)
		if err != nil {
			t.Fatal(err)
		}
		acts = append(acts, act)
	}
	return acts
}

// What staff changes is recorded with who did it, where and why, as an event and in the list, and nothing else is.
func TestActsAreRecorded(t *testing.T) {
	h := functiontest.New(t, audited)
	boss := auth.Principal{Subject: "boss", Roles: []string{auth.RoleAdmin}, Session: "s1"}
	ada := functiontest.As("ada")
	for _, c := range []struct {
		who          auth.Principal
		method, path string
		body         any
		want, acts   int
	}{
		{boss, "POST", "/api/tickets/a%2Fb/refund", map[string]any{"reason": "it rained"}, 201, 1},
		{boss, "PUT", "/api/tickets/t", map[string]any{}, 201, 1},
		{boss, "PUT", "/api/tickets/t", map[string]any{"refuse": "commit"}, 422, 1},
		{boss, "PUT", "/api/tickets/t", map[string]any{"refuse": "yes"}, 409, 0},
		{boss, "PUT", "/api/tickets/t", map[string]any{"dry": true}, 201, 0},
		{boss, "PUT", "/api/tickets/t", "[]", 422, 0},
		{boss, "POST", "/api/tickets/t/purchase", map[string]any{}, 201, 0},
		{boss, "POST", "/api/open/t", map[string]any{}, 201, 0},
		{boss, "POST", "/api/mine/t", map[string]any{}, 201, 1},
		{boss, "DELETE", "/api/mine/t", map[string]any{}, 201, 0},
		{boss, "GET", "/api/audit/tickets", nil, 200, 0},
		{ada, "POST", "/api/tickets/t/refund", map[string]any{}, 403, 0},
		{ada, "PUT", "/api/tickets/t", map[string]any{}, 201, 0},
	} {
		h.Call(c.method, c.path, c.who, c.body).Expect(c.want)
		if acts := actsOf(t, h.Noted()); len(acts) != c.acts {
			t.Errorf("%s %s by %s: got %+v, want %d acts", c.method, c.path, c.who.Subject, acts, c.acts)
		}
		h.Clock.Advance(time.Second)
	}
	var listed struct{ Items []event.RecordedAct }
	h.Call("GET", "/api/audit/tickets", boss, nil).Expect(200).JSON(&listed)
	if len(listed.Items) != 4 || listed.Items[1].Status != 422 || listed.Items[2].Status != 201 {
		t.Fatalf("the list has %+v", listed.Items)
	}
	got := listed.Items[3]
	if got.ActID == "" || got.At.IsZero() || got.From == "" {
		t.Errorf("got %+v", got)
	}
	got.ActID, got.At = "", time.Time{}
	want := event.RecordedAct{
		Function: "tickets", Operation: "POST /api/tickets/{id}/refund", Target: "/api/tickets/a%2Fb/refund",
		Made: "/api/refunds/a/b", By: "boss", Roles: []string{auth.RoleAdmin}, Session: "s1", From: "192.0.2.0/24",
		Status: 201, Reason: "it rained",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, method := range []string{"DELETE", "PUT", "PATCH", "POST"} {
		h.Call(method, "/api/audit/tickets", boss, nil).Expect(405)
	}
	h.Call("GET", "/api/audit/tickets", ada, nil).Expect(403)
}

// The list has pages, and those of one person. A request that comes again is one act.
func TestActsAreListed(t *testing.T) {
	h := functiontest.New(t, audited)
	for i := range 5 {
		who := auth.Principal{Subject: []string{"boss", "clerk"}[i%2], Roles: []string{auth.RoleAdmin}}
		for range 2 {
			path, key := fmt.Sprint("/api/tickets/t", i), fmt.Sprint("key ", i)
			h.Call("PUT", path, who, map[string]any{}, "Idempotency-Key", key).Expect(201)
		}
		h.Clock.Advance(time.Minute)
	}
	if acts := actsOf(t, h.Noted()); len(acts) != 5 {
		t.Errorf("got %d acts", len(acts))
	}
	for query, want := range map[string]string{
		"?limit=2": "43210", "?limit=1&by=boss": "420", "?by=clerk": "31", "?by=ada": "",
	} {
		var got strings.Builder
		for cursor := ""; ; {
			var page struct {
				Items []event.RecordedAct
				Next  string
			}
			h.Call("GET", "/api/audit/tickets"+query+cursor, functiontest.Admin(), nil).Expect(200).JSON(&page)
			for _, act := range page.Items {
				got.WriteString(strings.TrimPrefix(act.Target, "/api/tickets/t"))
			}
			if page.Next == "" {
				break
			}
			cursor = "&cursor=" + page.Next
		}
		if got.String() != want {
			t.Errorf("%s: got %s, want %s", query, got.String(), want)
		}
	}
	h.Call("GET", "/api/audit/tickets?cursor=x", functiontest.Admin(), nil).Expect(422)
}

// A customer's API key is not staff, an admin's is, and the record names it.
func TestActsByKey(t *testing.T) {
	h := functiontest.New(t, audited)
	key := apikey.New()
	h.MustDeliver(keyEvent(h, key, func(k *event.ChangedAPIKey) {
		k.Roles, k.Scopes = []string{auth.RoleAdmin}, []string{"tickets:write"}
	}))
	h.Call("POST", "/api/tickets/t/refund", functiontest.Nobody, map[string]any{}, "X-API-Key", key).Expect(201)
	acts := []event.RecordedAct{}
	for _, e := range h.Noted() {
		if act, err := event.ActRecorded.Decode(e); err == nil && e.Type() == event.ActRecorded.Name() {
			acts = append(acts, act)
		}
	}
	if len(acts) != 1 || acts[0].KeyID != "k1" || acts[0].By != "ada" {
		t.Errorf("got %+v", acts)
	}
}
