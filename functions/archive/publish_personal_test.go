package archive_test

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// What an operator publishes has its personal fields encrypted, as what functions emit: an erasure destroys it.
func TestPublishPersonal(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()))
	shown := h.Call("POST", "/api/archive/events", functiontest.Admin(),
		map[string]any{"type": visitorCame.Name(), "data": visitor{"ada", "Ada Lovelace"}}).Expect(202)
	if strings.Contains(string(shown.Body), "Lovelace") {
		t.Errorf("shown: %s", shown.Body)
	}
	es := h.Emitted()
	if len(es) != 1 || strings.Contains(string(es[0].Data()), "Lovelace") {
		t.Fatalf("published: %v", es)
	}
	if v, err := functiontest.Decode(visitorCame, es[0]); err != nil || v.Name != "Ada Lovelace" {
		t.Errorf("the consumer gets %+v, %v", v, err)
	}
	h.Receive(es...)
	for _, d := range stores(t, h) {
		if strings.Contains(string(d.Data), "Lovelace") {
			t.Errorf("%s has it in the clear: %s", d.Collection, d.Data)
		}
	}
	h.MustDeliver(event.PersonErased.New("ada", event.ErasedPerson{PersonID: "ada"}))
	h.Emitted()
	h.Call("POST", "/api/archive/events", functiontest.Admin(),
		map[string]any{"type": visitorCame.Name(), "data": visitor{"ada", "Ada Lovelace"}}).Expect(409)
}
