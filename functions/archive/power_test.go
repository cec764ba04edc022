package archive_test

import (
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// An admin cannot give the power of a user to a key by an event, nor make or change a record of what staff has done:
// neither by publishing one, nor by mending one that is a dead letter.
func TestEventsOfFunctionsOnly(t *testing.T) {
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		env.System = func() manifest.System {
			return manifest.System{Functions: []*manifest.Declaration{{Types: event.KitTypes()}}}
		}
		return archive.New(env)
	})
	now := h.Clock.Now()
	key := event.ChangedAPIKey{
		KeyID: "k", Hash: apikey.Hash(apikey.New()), Subject: "boss", Roles: []string{"admin"}, Version: 9,
		ExpiresAt: now.Add(time.Hour),
	}
	act := event.RecordedAct{
		ActID: "a", At: now, Function: "orders", Operation: "PUT /api/x", Target: "/api/x", By: "bob", Roles: []string{},
		Status: 200,
	}
	for _, c := range []struct {
		name  string
		data  any
		draft event.Draft
	}{
		{event.APIKeyChanged.Name(), key, event.APIKeyChanged.New("k", key)},
		{event.ActRecorded.Name(), act, event.ActRecorded.New("bob", act)},
	} {
		made := map[string]any{"type": c.name, "data": c.data}
		h.Call("POST", "/api/archive/events", functiontest.Admin(), made).Expect(403)
		e := h.Event(c.draft)
		e.SetExtension(broker.ErrorDest, "/functions/orders")
		if r := h.Receive(e); !r[0].OK() {
			t.Fatalf("got %+v", r)
		}
		var page struct{ Items []struct{ ID string } }
		h.Call("GET", "/api/archive/dead-letters", functiontest.Admin(), nil).Expect(200).JSON(&page)
		path := "/api/archive/dead-letters/" + page.Items[0].ID
		h.Call("PUT", path, functiontest.Admin(), map[string]any{"data": c.data}).Expect(403)
	}
	if got := h.Emitted(); len(got) > 0 {
		t.Errorf("published %v", got)
	}
}
