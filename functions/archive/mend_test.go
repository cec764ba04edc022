package archive_test

import (
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/personal"
)

// deadVisit stores an event about a visitor as a dead letter, and returns its path.
func deadVisit(h *functiontest.Harness, visit ce.Event) (path string) {
	visit = visit.Clone()
	visit.SetExtension(broker.ErrorDest, "/functions/views")
	h.Receive(visit)
	return "/api/archive/dead-letters/" + deadLetters(h, "")[0].ID
}

// sentAgain replays a dead letter and returns the data that the consumer gets.
func sentAgain(t *testing.T, h *functiontest.Harness, path string) visitor {
	t.Helper()
	h.Call("POST", path+"/replay", functiontest.Admin(), nil).Expect(202)
	es := h.Emitted()
	if len(es) != 1 {
		t.Fatalf("sent %v", es)
	}
	v, err := functiontest.Decode(visitorCame, es[0])
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mended(v visitor) map[string]any { return map[string]any{"data": v} }

// An operator who mends a dead letter writes a new value into a personal field, or leaves the placeholder, which keeps
// the value. The new value is encrypted under the person's key: it is in no document in the clear, the consumer gets
// it, and an erasure destroys it.
func TestMendPersonalField(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()))
	path := deadVisit(h, encryptedVisits(t, "ada")[0])
	h.Call("PUT", path, functiontest.Admin(), mended(visitor{"ada", "erased"})).Expect(200)
	if got := sentAgain(t, h, path); got.Name != "Name of ada" {
		t.Errorf("the placeholder stays: the consumer gets %q", got.Name)
	}
	shown := string(h.Call("PUT", path, functiontest.Admin(), mended(visitor{"ada", "Ada Lovelace"})).Expect(200).Body)
	if strings.Contains(shown, "Lovelace") {
		t.Errorf("the new value is shown: %s", shown)
	}
	if got := sentAgain(t, h, path); got.Name != "Ada Lovelace" {
		t.Errorf("a new value: the consumer gets %q", got.Name)
	}
	h.Call("PUT", path, functiontest.Admin(), mended(visitor{"ada", "erased"})).Expect(200)
	if got := sentAgain(t, h, path); got.Name != "Ada Lovelace" {
		t.Errorf("mended again without another value: the consumer gets %q", got.Name)
	}
	for _, d := range stores(t, h) {
		if strings.Contains(string(d.Data), "Lovelace") {
			t.Errorf("%s has the new value in the clear: %s", d.Collection, d.Data)
		}
	}
	h.MustDeliver(event.PersonErased.New("ada", event.ErasedPerson{PersonID: "ada"}))
	h.Emitted()
	if got := sentAgain(t, h, path); got.Name != "erased" {
		t.Errorf("after the erasure the consumer gets %q", got.Name)
	}
	h.Call("PUT", path, functiontest.Admin(), mended(visitor{"ada", "Ada"})).Expect(409)
	h.Call("PUT", path, functiontest.Admin(), mended(visitor{"ada", "erased"})).Expect(200)
}

// An event from before the field was personal has its value in the clear. Mended, it is encrypted, under a new key when
// the archive has none of the person; it makes none that everyone could use. An event that is given to another person
// is encrypted under that person's key.
func TestMendUnderAnotherKey(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()),
		functiontest.Set(map[string]string{personal.Variable: personal.NewKey()}))
	past := h.Event(visitorCame.New("ada", visitor{"ada", "Ada"}))
	path := deadVisit(h, past)
	h.Call("PUT", path, functiontest.Admin(), mended(visitor{"ada", "Ada Lovelace"})).Expect(200)
	for _, d := range stores(t, h) {
		if strings.Contains(string(d.Data), "Lovelace") {
			t.Errorf("%s has the new value in the clear: %s", d.Collection, d.Data)
		}
	}
	h.Call("POST", path+"/replay", functiontest.Admin(), nil).Expect(202)
	again := h.Emitted()[0]
	if event.Extension(again, event.Person) != "ada" || event.Extension(again, event.PersonalKey) == "" {
		t.Errorf("sent with the extensions %v", again.Extensions())
	}
	h.Call("PUT", path, functiontest.Admin(), mended(visitor{"grace", "erased"})).Expect(200)
	h.MustDeliver(event.PersonErased.New("ada", event.ErasedPerson{PersonID: "ada"}))
	h.Emitted()
	h.Call("POST", path+"/replay", functiontest.Admin(), nil).Expect(202)
	if again := h.Emitted()[0]; event.Extension(again, event.Person) != "grace" ||
		event.Extension(again, event.PersonalKey) == "" {
		t.Errorf("given to another person it is sent with the extensions %v", again.Extensions())
	}

	public := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()),
		functiontest.Set(map[string]string{personal.Variable: ""}))
	path = deadVisit(public, past)
	public.Call("PUT", path, functiontest.Admin(), mended(visitor{"ada", "Ada Lovelace"})).Expect(409)
}

// A value that an operator writes into a personal field is encrypted, also when the field has it already.
func TestMendWithTheSameValue(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()))
	path := deadVisit(h, encryptedVisits(t, "ada")[0])
	shown := string(h.Call("PUT", path, functiontest.Admin(), mended(visitor{"ada", "Name of ada"})).Expect(200).Body)
	if strings.Contains(shown, "Name of") {
		t.Errorf("the value is shown: %s", shown)
	}
	for _, d := range stores(t, h) {
		if strings.Contains(string(d.Data), "Name of") {
			t.Errorf("%s has the value in the clear: %s", d.Collection, d.Data)
		}
	}
	if got := sentAgain(t, h, path); got.Name != "Name of ada" {
		t.Errorf("the consumer gets %q", got.Name)
	}
}
