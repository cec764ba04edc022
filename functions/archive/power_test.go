package archive_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// An admin cannot give the power of a user to a key by an event, nor keep another admin out for good, nor make or
// change a record of what staff has done: neither by publishing one, nor by mending one that is a dead letter.
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
	shutOut := event.RevokedAccess{Subject: "boss", IssuedBefore: now.AddDate(99, 0, 0), Until: now.AddDate(99, 0, 0)}
	for _, c := range []struct {
		name  string
		data  any
		draft event.Draft
	}{
		{event.APIKeyChanged.Name(), key, event.APIKeyChanged.New("k", key)},
		{event.ActRecorded.Name(), act, event.ActRecorded.New("bob", act)},
		{event.AccessRevoked.Name(), shutOut, event.AccessRevoked.New("boss", shutOut)},
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

// Nor by an event that the clock publishes, which is within another one: in what is published, or mended by hand or by
// a transform. A mend refuses such a letter and goes on with the others.
func TestEventsOfFunctionsOnlyWithinOthers(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(event.KitTypes()...))
	now, operator := h.Clock.Now(), auth.Principal{Subject: "olga", Roles: []string{auth.RoleOperator}}
	schedule := func(inner any) event.ScheduleEvent {
		raw, err := json.Marshal(inner)
		if err != nil {
			t.Fatal(err)
		}
		return event.ScheduleEvent{TimerID: "t", Due: now, Event: raw}
	}
	envelope := func(eventType string, data any) map[string]any {
		return map[string]any{"specversion": "1.0", "id": "i", "source": "/functions/users", "type": eventType,
			"datacontenttype": "application/json", "data": data}
	}
	key := envelope(event.APIKeyChanged.Name(), event.ChangedAPIKey{
		KeyID: "k", Hash: apikey.Hash(apikey.New()), Subject: "boss", Roles: []string{"admin"}, Version: 9,
		ExpiresAt: now.Add(time.Hour),
	})
	evil, deep := schedule(key), schedule(envelope(event.ClockSchedule.Name(), schedule(key)))
	harmless := schedule(envelope("com.example.later.v1", map[string]any{}))
	for _, data := range []event.ScheduleEvent{evil, deep} {
		made := map[string]any{"type": event.ClockSchedule.Name(), "data": data}
		h.Call("POST", "/api/archive/events", operator, made).Expect(403)
	}
	h.Call("POST", "/api/archive/events", operator,
		map[string]any{"type": event.PersonErased.Name(), "data": event.ErasedPerson{PersonID: "ada"}}).Expect(403)
	h.Call("POST", "/api/archive/events", operator,
		map[string]any{"type": event.ClockSchedule.Name(), "data": harmless}).Expect(202)
	h.Emitted()
	for _, d := range []event.Draft{
		event.ActRecorded.New("bob", event.RecordedAct{
			ActID: "a", At: now, Function: "orders", Operation: "PUT /api/x", Target: "/api/x", By: "bob", Roles: []string{},
			Status: 200,
		}),
		event.ClockSchedule.New("t", harmless), event.ClockCancel.New("t", event.CancelTimer{TimerID: "t"}),
	} {
		e := h.Event(d)
		e.SetExtension(broker.ErrorDest, "/functions/clock")
		h.Clock.Advance(time.Millisecond)
		if r := h.Receive(e); !r[0].OK() {
			t.Fatalf("got %+v", r)
		}
	}
	var page struct{ Items []archive.DeadLetter }
	h.Call("GET", "/api/archive/dead-letters", operator, nil).Expect(200).JSON(&page)
	path := "/api/archive/dead-letters/" + page.Items[1].ID
	h.Call("PUT", path, operator, map[string]any{"data": evil}).Expect(403)
	h.Call("PUT", path, operator, map[string]any{"data": harmless}).Expect(200)
	transform := `event.type.contains("clock.schedule") ? {"event": {"type": "` + event.APIKeyChanged.Name() + `"}} : {}`
	h.Call("POST", mends+"/dry-run", operator, object("transform", transform)).Expect(200)
	mend := startMend(h, object("transform", transform, "watch", 0))
	for range 3 {
		for _, e := range step(h) {
			if e.Type() != event.ClockCancel.Name() {
				t.Errorf("sent %s", e)
			}
		}
		h.Advance(0)
	}
	if m := mendOf(h, mend); m.State != "done" || m.Refused != 2 || m.Sent != 1 {
		t.Errorf("got %+v", m)
	}
}

// An operator cannot have a letter with the token that sets the password of an admin sent to another address: such an
// event is neither mended nor published, within a command to the clock neither. It can be sent again as it is.
func TestOperatorCannotRedirectSecrets(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(
		append(event.KitTypes(), events.UserPasswordResetRequested.Info(), events.UserEmailProofRequested.Info())...))
	operator := auth.Principal{Subject: "olga", Roles: []string{auth.RoleOperator}}
	asked := events.RequestedPasswordReset{
		UserID: "boss", Email: "boss@example.com", Token: "boss.secret", ExpiresAt: h.Clock.Now().Add(time.Hour),
	}
	path := deadVisit(h, h.Event(events.UserPasswordResetRequested.New("boss", asked)))
	redirected := asked
	redirected.Email, redirected.Token = "olga@example.com", "erased"
	h.Call("PUT", path, operator, map[string]any{"data": redirected}).Expect(403)
	h.Call("POST", "/api/archive/events", operator,
		map[string]any{"type": events.UserPasswordResetRequested.Name(), "data": asked}).Expect(403)
	proof := events.RequestedEmailProof{UserID: "boss", Email: "olga@example.com", Token: "x", ExpiresAt: asked.ExpiresAt}
	inner := map[string]any{"specversion": "1.0", "id": "i", "source": "/functions/users", "data": proof,
		"type": events.UserEmailProofRequested.Name(), "datacontenttype": "application/json"}
	h.Call("POST", "/api/archive/events", operator, map[string]any{"type": event.ClockSchedule.Name(), "data": object(
		"timer_id", "t", "due", h.Clock.Now(), "event", inner)}).Expect(403)
	mend := startMend(h, object("transform", `{"email": "olga@example.com"}`, "watch", 0))
	if sent := step(h); len(sent) > 0 {
		t.Errorf("sent %v", sent)
	}
	if m := mendOf(h, mend); m.Refused != 1 {
		t.Errorf("got %+v", m)
	}
	h.Call("POST", path+"/replay", operator, nil).Expect(202)
	again := h.Emitted()
	if len(again) != 1 {
		t.Fatalf("sent %v", again)
	}
	if got, err := functiontest.Decode(events.UserPasswordResetRequested, again[0]); err != nil || got != asked {
		t.Errorf("sent %+v, %v", got, err)
	}
}
