package archive_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/personal"
)

// holds reports which collections have a text in the clear.
func holds(t *testing.T, h *functiontest.Harness, text string) (in []string) {
	t.Helper()
	for _, d := range stores(t, h) {
		if strings.Contains(string(d.Data), text) {
			in = append(in, d.Collection)
		}
	}
	return in
}

// A transform that writes a constant into a personal field is not shown, not even to who has started it, is in no
// document in the clear while it runs, and nowhere when it has ended.
func TestMendForgetsPersonalConstants(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()),
		functiontest.Set(map[string]string{personal.Variable: personal.NewKey()}))
	letter := deadVisit(h, h.Event(visitorCame.New("ada", visitor{"ada", "Ada"})))
	start := func(watch int) (path string) {
		t.Helper()
		body := object("transform", `merge(data, {"name": "Ada " + "Lovelace"})`, "reason", "a wrong name", "watch", watch)
		var m archive.Mend
		h.Call("POST", mends, functiontest.Admin(), body, "Idempotency-Key", letter).Expect(202).JSON(&m)
		if m.Transform != "…" {
			t.Errorf("who has started it sees %q", m.Transform)
		}
		return mends + "/" + m.ID
	}
	path := start(5)
	if in := holds(t, h, "Lovelace"); len(in) > 0 {
		t.Errorf("while it runs the constant is in %v", in)
	}
	h.Restart()
	sent := step(h)
	if len(sent) != 1 {
		t.Fatalf("sent %v", sent)
	}
	if event.Extension(sent[0], event.PersonalValues) == "" || strings.Contains(string(sent[0].Data()), "Lovelace") {
		t.Errorf("sent %s", sent[0])
	}
	h.Advance(5 * time.Second)
	step(h)
	if m := mendOf(h, path); m.State != "done" || m.Transform != "…" || m.Sent != 1 {
		t.Errorf("got %+v", m)
	}
	for _, text := range []string{"Lovelace", `"sealed"`, `"key":"`} {
		for _, d := range stores(t, h) {
			if d.Collection == "mends" && strings.Contains(string(d.Data), text) {
				t.Errorf("when it has ended it is stored: %s", d.Data)
			}
		}
	}
	if in := holds(t, h, "Lovelace"); len(in) > 0 {
		t.Errorf("the constant is in %v", in)
	}
}

// A mend with such a transform that was stopped does not go on, as what it does is not stored any more; the reason why
// it has stopped does not tell the constant either. The consumer gets it.
func TestStoppedMendForgetsPersonalConstants(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()))
	deadVisit(h, encryptedVisits(t, "ada")[0])
	path := startMend(h, object("transform", `{"name": "Ada Lovelace"}`))
	sent := step(h)
	if len(sent) != 1 {
		t.Fatalf("sent %v", sent)
	}
	if v, err := functiontest.Decode(visitorCame, sent[0]); err != nil || v.Name != "Ada Lovelace" {
		t.Errorf("the consumer gets %+v, %v", v, err)
	}
	e := failed(sent[0])
	e.SetExtension(broker.ErrorDest, "/functions/views")
	e.SetExtension(broker.ErrorData, `the name "Ada Lovelace" is refused`)
	h.Receive(e)
	m := mendOf(h, path)
	if m.State != "stopped" || m.Transform != "…" || strings.Contains(m.Why, "Lovelace") {
		t.Errorf("got %+v", m)
	}
	h.Call("POST", path+"/continue", functiontest.Admin(), object("reason", "x")).Expect(409)
	again := startMend(h, object("transform", `{"name": "Ada Lovelace"}`))
	if sent := step(h); len(sent) != 1 {
		t.Errorf("another mend sends %d", len(sent))
	}
	h.Call("POST", again+"/stop", functiontest.Admin(), object("reason", "enough")).Expect(200)
	h.Call("POST", again+"/continue", functiontest.Admin(), object("reason", "x")).Expect(409)
}

// What has no constant, or names no personal member, is shown and stored, so that a mend of it can go on.
func TestWhichTransformsAreHidden(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()))
	for transform, hidden := range map[string]bool{
		`{"name": "Ada"}`: true, `{"lines": data.lines.map(l, merge(l, {"name": "Ada"}))}`: true,
		`{"na" + "me": data.id, "x": 1}`: true, `{"name": string(491234567)}`: true,
		`{string(data.field): "Ada"}`: true, `{"name": data.parts[0]}`: false,
		`{"name": data.first}`: false, `{"name": data["first"]}`: false, `{"name": null}`: false,
		`{"price": {"currency": "EUR"}}`: false, `{"ok": has(data.name), "times": 2}`: false,
	} {
		var m archive.Mend
		h.Call("POST", mends, functiontest.Admin(), object("transform", transform, "reason", "x")).Expect(202).JSON(&m)
		if got := m.Transform != transform; got != hidden {
			t.Errorf("%s: shown as %q", transform, m.Transform)
		}
	}
}
