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
)

type paid struct {
	ID    string `json:"id"`
	Payer string `json:"payer" person:"id"`
	Token string `json:"token" personal:"erased"`
}

var payment = event.Define(ns, "desk.paying", 1, event.Fact, "Somebody pays.", paid{"p", "ada", "tok_1"})

// What a call is made with is stored encrypted while it has no result, with nothing of the event that started it that
// could be decrypted. The service and the handler of the result get it as it was, and placeholders after an erasure.
func TestPersonalFieldsOfCalls(t *testing.T) {
	var asked, ended []string
	down := true
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("till", env)
		charge := outside.Declare(outside.New(f), "charge", outside.Policy{Retry: outside.Retry{AtOnce: 1}},
			func(_ context.Context, r outside.Request[paid]) (string, error) {
				if down {
					return "", fault.New(fault.Unavailable, "the bank is closed")
				}
				asked = append(asked, r.Key+" "+r.In.Token)
				return "", nil
			},
			func(_ context.Context, tx *function.Tx, r outside.Result[paid, string]) error {
				ended = append(ended, r.In.Token)
				return nil
			})
		function.On(f, payment, func(ctx context.Context, tx *function.Tx, p paid) error {
			return charge.Start(ctx, tx, p.ID, p)
		})
		return f, nil
	}, functiontest.Once())
	start := func(id, payer string) {
		t.Helper()
		e := h.Event(payment.New(id, paid{id, payer, "tok_" + id}))
		e.SetExtension(event.Person, payer)
		e.SetExtension(event.PersonalKey, "wrapped")
		if r := h.Receive(e)[0]; !r.OK() {
			t.Fatalf("the call of %s is answered %+v", id, r)
		}
	}
	start("p1", "ada")
	start("p2", "bob")
	d := h.I.Declaration()
	db, err := h.Store(t.Context(), d.Name, d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	docs, _, err := db.Query(t.Context(), store.Query{Collection: outside.Collection, Limit: 10})
	if err != nil || len(docs) != 2 {
		t.Fatalf("%d calls are stored, %v", len(docs), err)
	}
	for _, d := range docs {
		if text := string(d.Data); strings.Contains(text, "tok_") || strings.Contains(text, `"wrapped"`) ||
			!strings.Contains(text, "sealed:") || !strings.Contains(text, `"call":"charge (sealed)"`) {
			t.Errorf("got %s", text)
		}
	}
	// An older version of the kit has stored a call in the clear.
	clear := `{"call":"charge","id":"p3","run":"r","in":{"id":"p3","payer":"eve","token":"tok_p3"},` +
		`"at":"2026-03-01T12:00:00Z","due":1,"message":"m"}`
	old := store.Mutation{Key: store.Key{Collection: outside.Collection, ID: "charge/p3"}, Version: 1, Data: []byte(clear)}
	if err := db.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{old}}); err != nil {
		t.Fatal(err)
	}
	h.MustDeliver(event.PersonErased.New("bob", event.ErasedPerson{PersonID: "bob"}))
	down = false
	h.Clock.Advance(time.Hour)
	for _, id := range []string{"p1", "p2", "p3"} {
		h.MustDeliver(event.CallDue.New("charge/"+id, event.DueCall{Function: "till", Call: "charge/" + id}))
	}
	wantAsked := []string{"till/charge/p1 tok_p1", "till/charge/p2 erased", "till/charge/p3 tok_p3"}
	wantEnded := []string{"tok_p1", "erased", "tok_p3"}
	if !slices.Equal(asked, wantAsked) || !slices.Equal(ended, wantEnded) {
		t.Errorf("got %q and %q, want %q and %q", asked, ended, wantAsked, wantEnded)
	}
}
