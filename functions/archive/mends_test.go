package archive_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

const mends = "/api/archive/mends"

// broken returns n dead letters of orders whose data has the amount in another field.
func broken(h *functiontest.Harness, n int) (all []ce.Event) {
	h.T.Helper()
	for i := range n {
		e := dead(h, captured(fmt.Sprintf("o-%03d", i)), "/functions/orders")
		e.DataEncoded = fmt.Appendf(nil, `{"order_id":"o-%03d","sum":%d}`, i, i)
		h.Clock.Advance(time.Millisecond)
		h.Receive(e)
		all = append(all, e)
	}
	return all
}

func object(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

const sumToAmount = `{"amount": data.sum * 100, "sum": null}`

// startMend starts a mend and returns its path.
func startMend(h *functiontest.Harness, body map[string]any) string {
	h.T.Helper()
	if body["reason"] == nil {
		body["reason"] = "the field was renamed"
	}
	var m archive.Mend
	h.Call("POST", mends, functiontest.Admin(), body).Expect(202).JSON(&m)
	return mends + "/" + m.ID
}

func mendOf(h *functiontest.Harness, path string) (m archive.Mend) {
	h.T.Helper()
	h.Call("GET", path, functiontest.Admin(), nil).Expect(200).JSON(&m)
	return m
}

// step hands the archive its own commands, until it sends none but timers, and returns what it has sent to others.
func step(h *functiontest.Harness) (sent []ce.Event) {
	h.T.Helper()
	for {
		var own []ce.Event
		for _, e := range h.Emitted() {
			switch e.Type() {
			case event.ArchiveMend.Name():
				own = append(own, e)
			case event.ClockSchedule.Name():
			default:
				sent = append(sent, e)
			}
		}
		if len(own) == 0 {
			return sent
		}
		h.Receive(own...)
		h.Receive(own...) // a command comes twice
	}
}

// An operator tries a transform, which changes nothing, and mends all letters by it. They are sent in batches of 1, 10,
// 100, each once, and the job ends. Letters of another cause stay.
func TestMendMany(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	h.Receive(dead(h, reserved("other"), "/functions/views"))
	all := broken(h, 120)
	body := object("where", `consumer == "orders" && has(data.sum)`, "transform", sumToAmount)
	var tried struct {
		Looked, Selected, Changed, Refused int
		Examples                           []archive.Example
		Next                               string
	}
	h.Call("POST", mends+"/dry-run", functiontest.Admin(), body).Expect(200).JSON(&tried)
	if tried.Looked != 121 || tried.Selected != 120 || tried.Changed != 120 || tried.Refused != 0 || tried.Next != "" ||
		len(tried.Examples) != 5 || string(tried.Examples[1].After) != `{"amount":100,"order_id":"o-001"}` {
		t.Errorf("the dry run: got %+v", tried)
	}
	if got := h.Emitted(); len(got) > 0 || len(deadLetters(h, "?limit=200")) != 121 {
		t.Fatalf("the dry run has sent %v", got)
	}
	path := startMend(h, body)
	seen := map[string]int{}
	for _, want := range []int{1, 10, 100, 9, 0} {
		sent := step(h)
		if len(sent) != want {
			t.Errorf("a batch of %d, want %d: %+v", len(sent), want, mendOf(h, path))
		}
		for _, e := range sent {
			seen[e.ID()]++
			if data, err := moneyCaptured.Decode(e); err != nil || fmt.Sprintf("o-%03d", data.Amount/100) != data.OrderID {
				t.Errorf("sent %s, %v", e.Data(), err)
			}
		}
		h.Advance(5 * time.Second)
	}
	for _, e := range all {
		if seen[e.ID()] != 1 {
			t.Errorf("%s was sent %d times", e.ID(), seen[e.ID()])
		}
	}
	m := mendOf(h, path)
	if m.State != "done" || m.Sent != 120 || m.Looked != 121 || m.Failed != 0 || m.By != "admin" || len(m.Acts) != 1 {
		t.Errorf("got %+v", m)
	}
	if got := deadLetters(h, ""); len(got) != 1 || got[0].Function != "views" {
		t.Errorf("these wait: %v", got)
	}
	h.Call("POST", path+"/continue", functiontest.Admin(), object("reason", "x")).Expect(409)
	h.Call("POST", path+"/stop", functiontest.Admin(), object("reason", "x")).Expect(409)
}

// The first letter that fails again stops the mend. An operator has it go on behind it, in batches from 1 on, and the
// letter that has failed is not sent by it again. What is stopped sends nothing when its command comes.
func TestMendStops(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	broken(h, 30)
	path := startMend(h, object("transform", sumToAmount))
	first := step(h)
	h.Advance(5 * time.Second)
	second := step(h)
	if len(first) != 1 || len(second) != 10 {
		t.Fatalf("sent %d and %d", len(first), len(second))
	}
	h.Receive(failed(second[3]), failed(second[4]))
	m := mendOf(h, path)
	if m.State != "stopped" || m.Failed != 2 || !strings.Contains(m.Why, "failed again in orders: 422") {
		t.Errorf("got %+v", m)
	}
	h.Advance(time.Minute)
	if sent := step(h); len(sent) != 0 {
		t.Errorf("stopped, it sends %d", len(sent))
	}
	h.Call("POST", path+"/continue", functiontest.Admin(), object("reason", "orders is mended")).Expect(200)
	total := 0
	for _, want := range []int{1, 10, 8, 0} {
		sent := step(h)
		if total += len(sent); len(sent) != want {
			t.Errorf("a batch of %d, want %d", len(sent), want)
		}
		h.Advance(5 * time.Second)
	}
	m = mendOf(h, path)
	if m.State != "done" || m.Sent != 30 || total != 19 || len(m.Acts) != 2 || m.Acts[1].Reason != "orders is mended" {
		t.Errorf("got %+v", m)
	}
	if got := deadLetters(h, ""); len(got) != 2 || got[0].Mend == "" {
		t.Errorf("these wait: %+v", got)
	}
	other := startMend(h, object("where", "times > 1"))
	if sent := step(h); len(sent) != 1 {
		t.Errorf("another mend sends %d", len(sent))
	}
	h.Call("POST", other+"/stop", functiontest.Admin(), object("reason", "enough")).Expect(200)
	h.Advance(time.Minute)
	if sent := step(h); len(sent) != 0 {
		t.Errorf("stopped by an operator, it sends %d", len(sent))
	}
}

// Letters that do not become valid stay as they are, and the mend tells which and why. A mend that is large for the
// store goes on in smaller portions.
func TestMendRefuses(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	broken(h, 3)
	h.Clock.Advance(time.Millisecond)
	bytes := dead(h, captured("bytes"), "/functions/orders")
	bytes.DataEncoded = []byte("\xff{")
	h.Receive(bytes)
	path := startMend(h, object("transform", `{"amount": data.sum < 2 ? data.sum : 10 / (data.sum - 2), "sum": null}`,
		"watch", 0))
	sent := 0
	for range 3 {
		sent += len(step(h))
		h.Advance(0)
	}
	m := mendOf(h, path)
	if m.State != "done" || sent != 2 || m.Sent != 2 || m.Refused != 2 || len(m.Refusals) != 2 {
		t.Fatalf("sent %d, got %+v", sent, m)
	}
	if !strings.Contains(m.Refusals[0].Why, "transform, line 1, column") ||
		!strings.Contains(m.Refusals[0].Why, "division by zero") || !strings.Contains(m.Refusals[1].Why, "not JSON") {
		t.Errorf("got %+v", m.Refusals)
	}
	waits := deadLetters(h, "")
	if len(waits) != 2 || waits[0].Mended || waits[1].Mended || string(waits[0].Event.Data()) != "\xff{" {
		t.Errorf("these wait: %+v", waits)
	}
}

// An expression that is wrong is refused with its place before anything is done; one that costs too much ends the dry
// run and stops the mend.
func TestBadTransforms(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	e := dead(h, captured("a"), "/functions/orders")
	e.DataEncoded = []byte(`{"order_id":"a","list":[` + strings.Repeat("1,", 2000) + `1],"text":"` +
		strings.Repeat("x", 1000) + `"}`)
	h.Receive(e)
	doubled := "data.text" + strings.Repeat(`+data.text`, 200)
	for _, c := range []struct{ where, transform, want string }{
		{"consumer ==", "", "where, line 1, column 12: Syntax error"},
		{"true &&\n foo", "", "where, line 2, column 2: undeclared reference to 'foo'"},
		{"1", "", "where: the expression yields int: want bool"},
		{"", "data.text + 1 == 2", "transform: the expression yields bool"},
		{`reason.matches("(a+)+")`, "", "undeclared reference to 'matches'"},
		{"[0].map(a, [a, a]).map(a, [a, a]).size() > 1", "", "where, line 1, column"},
		{"data.list.map(a, [a]) == data.list.map(a, [a])", "", "the result of map cannot be compared"},
		{"data.list.all(a, data.list.all(b, data.list.all(c, a + b + c > 0)))", "",
			"where, the loop at line 1, column 14: costs more than"},
		{"", `{"list": data.list.map(a, data.list.map(b, a))}`, "transform, the loop at line 1, column"},
		{"", `{"list": data.list.map(a, data.text)}`, "has more than 1048576 bytes"},
		{"", `{"text": [` + strings.Repeat(doubled+", ", 1) + `1]}`, ""},
		{"", strings.Repeat("[", 100) + strings.Repeat("]", 100), "transform"},
		{"", `{"x": duration("1s")}`, "has no form in JSON"},
		{"", `{"x": 1.0 / 0.0}`, "is no number of JSON"},
		{"", `{1: 2}`, "transform"},
		{"", "data.list", "want an object"},
		{"", "data.nothing", "no such key: nothing"},
		{"", "{" + strings.Repeat(" ", 5000) + "}", ""},
	} {
		body := object("where", c.where, "transform", c.transform)
		got := h.Call("POST", mends+"/dry-run", functiontest.Admin(), body)
		if c.want == "" {
			continue // it is answered
		}
		if !strings.Contains(strings.ReplaceAll(string(got.Body), `\"`, `"`), c.want) {
			t.Errorf("%.90s %.90s: got %d %.500s, want %q", c.where, c.transform, got.Status, got.Body, c.want)
		}
	}
	path := startMend(h, object("where", "data.list.all(a, data.list.all(b, data.list.all(c, a + b + c > 0)))"))
	step(h)
	if m := mendOf(h, path); m.State != "stopped" || !strings.Contains(m.Why, "costs more") {
		t.Errorf("got %+v", m)
	}
	if got := deadLetters(h, ""); len(got) != 1 || got[0].State != "waiting" {
		t.Errorf("got %+v", got)
	}
}

// Personal fields are placeholders for expressions, and keep their values. No attribute has them encrypted either.
func TestMendPersonalFields(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()))
	deadVisit(h, encryptedVisits(t, "ada")[0])
	var tried struct {
		Selected int
		Examples []archive.Example
	}
	h.Call("POST", mends+"/dry-run", functiontest.Admin(), object("where", `data.name == "erased"`, "transform",
		`{"name": event.exists(k, string(event[k]).contains("Name of")) ? "leaked" : data.name}`)).Expect(200).JSON(&tried)
	if tried.Selected != 1 || strings.Contains(string(tried.Examples[0].After), "leaked") {
		t.Errorf("got %+v", tried)
	}
	startMend(h, object("transform", `{"name": data.name}`))
	sent := step(h)
	if len(sent) != 1 {
		t.Fatalf("sent %v", sent)
	}
	if v, err := functiontest.Decode(visitorCame, sent[0]); err != nil || v.Name != "Name of ada" {
		t.Errorf("the consumer gets %+v, %v", v, err)
	}
}

// A page of dead letters is limited in bytes, and no letter is left out.
func TestDeadLettersAreLimitedInBytes(t *testing.T) {
	h := functiontest.New(t, archive.New)
	for i := range 12 {
		e := dead(h, captured(fmt.Sprint(i)), "/functions/orders")
		e.DataEncoded = []byte(`{"x":"` + strings.Repeat("x", 900<<10) + `"}`)
		h.Clock.Advance(time.Millisecond)
		h.Receive(e)
	}
	var subjects []string
	for cursor, pages := "", 0; ; pages++ {
		var l struct {
			letters
			Next string
		}
		got := h.Call("GET", "/api/archive/dead-letters?limit=200"+cursor, functiontest.Admin(), nil).Expect(200)
		if got.JSON(&l); len(got.Body) > 5<<20 || len(l.Items) == 0 {
			t.Fatalf("a page of %d letters has %d bytes", len(l.Items), len(got.Body))
		}
		for _, i := range l.Items {
			subjects = append(subjects, i.Event.Subject())
		}
		if l.Next == "" {
			break
		}
		cursor = "&cursor=" + l.Next
	}
	equal(t, "all", subjects, []string{"11", "10", "9", "8", "7", "6", "5", "4", "3", "2", "1", "0"})
}

// Two mends of the same letters send each of them once.
func TestTwoMendsAtOnce(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	broken(h, 40)
	a := startMend(h, object("transform", sumToAmount, "watch", 0))
	b := startMend(h, object("transform", sumToAmount, "watch", 0))
	seen := map[string]int{}
	for range 6 {
		for _, e := range step(h) {
			seen[e.ID()]++
		}
		h.Advance(0)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
	x, y := mendOf(h, a), mendOf(h, b)
	if len(seen) != 40 || x.Sent+y.Sent != 40 || x.State != "done" || y.State != "done" {
		t.Errorf("sent %d: %+v, %+v", len(seen), x, y)
	}
	var list struct{ Items []archive.Mend }
	h.Call("GET", mends, functiontest.Admin(), nil).Expect(200).JSON(&list)
	if len(list.Items) != 2 {
		t.Errorf("got %+v", list)
	}
}

// The documents of ended mends expire; those of running ones do not.
func TestMendsExpire(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	broken(h, 1)
	startMend(h, object("transform", sumToAmount, "watch", 0))
	for range 3 {
		step(h)
		h.Advance(0)
	}
	count := func() int {
		return len(slices.DeleteFunc(stores(t, h), func(d store.Document) bool { return d.Collection != "mends" }))
	}
	if n := count(); n != 1 {
		t.Fatalf("%d mends", n)
	}
	h.Clock.Advance(91 * 24 * time.Hour)
	for range 3 {
		h.MustDeliver(reserved("later"))
		h.Clock.Advance(time.Minute)
	}
	if n := count(); n != 0 {
		t.Errorf("after 91 days: %d mends", n)
	}
}
