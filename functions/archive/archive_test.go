package archive_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

type list struct {
	Items []struct {
		Position string
		Event    decoded
	}
	Next string
}

// decoded is an event that the kit decodes: the SDK does not read JSON of a type with +json.
type decoded struct{ ce.Event }

func (d *decoded) UnmarshalJSON(data []byte) (err error) {
	d.Event, err = event.FromJSON(data)
	return err
}

func (l list) subjects() []string {
	got := []string{}
	for _, i := range l.Items {
		got = append(got, i.Event.Subject())
	}
	return got
}

func read(h *functiontest.Harness, query string) list {
	h.T.Helper()
	var l list
	h.Call("GET", "/api/archive/events"+query, functiontest.Admin(), nil).Expect(200).JSON(&l)
	return l
}

// pages returns the subjects of all events, read page by page.
func pages(h *functiontest.Harness, query string) []string {
	h.T.Helper()
	all := []string{}
	for cursor := ""; ; {
		l := read(h, query+cursor)
		all = append(all, l.subjects()...)
		if l.Next == "" {
			return all
		}
		cursor = "&cursor=" + l.Next
	}
}

// The event types of the product of these tests.
var (
	product       = event.NewNamespace("dev.ebb", "https://ebb.dev/schemas/")
	stockReserved = event.Define(
		product, "inventory.reserved", 1, event.Fact, "Stock is reserved.", reservedStock{OrderID: "o"},
	)
	moneyCaptured = event.Define(
		product, "payments.captured", 1, event.Fact, "Money was charged.", capturedMoney{OrderID: "o", Amount: 5},
	)
)

type reservedStock struct {
	OrderID string `json:"order_id" minLength:"1"`
}

type capturedMoney struct {
	OrderID string `json:"order_id" minLength:"1"`
	Amount  int    `json:"amount"`
}

func reserved(order string) event.Draft {
	return stockReserved.New(order, reservedStock{OrderID: order})
}

func captured(order string) event.Draft {
	return moneyCaptured.New(order, capturedMoney{OrderID: order, Amount: 5})
}

// numbered delivers n events about a-000, a-001 …, in batches.
func numbered(h *functiontest.Harness, n int) {
	h.T.Helper()
	for first := 0; first < n; first += 100 {
		var batch []event.Draft
		for i := first; i < min(first+100, n); i++ {
			batch = append(batch, reserved(fmt.Sprintf("a-%03d", i)))
		}
		h.MustDeliver(batch...)
	}
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// Every event is stored in the order of arrival, once, and unchanged.
func TestStore(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	first := h.Event(reserved("a"))
	h.Receive(first, h.Event(captured("b")))
	h.Restart()
	h.Receive(first, h.Event(reserved("c")))
	got := read(h, "")
	equal(t, "subjects", got.subjects(), []string{"a", "b", "c"})
	if got.Items[0].Event.String() != first.String() || got.Items[1].Position >= got.Items[2].Position {
		t.Fatalf("got %+v", got.Items)
	}
}

// Events are found by subject, type, correlation and time, in both directions, and over pages.
func TestList(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	start := h.Clock.Now()
	for _, d := range []event.Draft{reserved("a"), reserved("b"), captured("a"), captured("b"), reserved("c")} {
		h.MustDeliver(d)
		h.Clock.Advance(time.Minute)
	}
	at := func(minutes int) string {
		return url.QueryEscape(start.Add(time.Duration(minutes) * time.Minute).Format(time.RFC3339))
	}
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"?order=asc", []string{"a", "b", "a", "b", "c"}},
		{"?order=desc", []string{"c", "b", "a", "b", "a"}},
		{"?subject=a", []string{"a", "a"}},
		{"?subject=a&type=dev.ebb.payments.captured.v1", []string{"a"}},
		{"?type=dev.ebb.inventory.reserved.v1&order=desc", []string{"c", "b", "a"}},
		{"?correlation=b", []string{"b", "b"}},
		{"?since=" + at(1) + "&until=" + at(3), []string{"b", "a"}},
		{"?since=" + at(2) + "&order=desc", []string{"c", "b", "a"}},
		{"?since=" + at(9), []string{}},
		{"?until=" + at(-1), []string{}},
	} {
		equal(t, c.query, read(h, c.query).subjects(), c.want)
		equal(t, c.query+" page by page", pages(h, c.query+"&limit=1"), c.want)
	}
	h.Call("GET", "/api/archive/events?cursor=nonsense", functiontest.Admin(), nil).Expect(422)
}

// One event is found by its position and by its id.
func TestGet(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	h.Clock.Advance(time.Since(h.Clock.Now())) // ids carry the real time
	e := h.Event(reserved("a"))
	h.Receive(h.Event(reserved("x")), e)
	for _, id := range []string{e.ID(), read(h, "").Items[1].Position} {
		var got struct{ Event ce.Event }
		h.Call("GET", "/api/archive/events/"+id, functiontest.Admin(), nil).Expect(200).JSON(&got)
		if got.Event.String() != e.String() {
			t.Errorf("%s: got %v", id, got.Event)
		}
	}
	h.Call("GET", "/api/archive/events/nobody", functiontest.Admin(), nil).Expect(404)
}

// Only administrators can use the API.
func TestAdminsOnly(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	for _, path := range []string{"events", "events/x", "causality/x", "dead-letters", "dead-letters/x"} {
		h.Call("GET", "/api/archive/"+path, functiontest.As("ada"), nil).Expect(403)
		h.Call("GET", "/api/archive/"+path, functiontest.Nobody, nil).Expect(401)
	}
	h.Call("POST", "/api/archive/replays", functiontest.As("ada"), map[string]any{"to": "views"}).Expect(403)
}

type node struct {
	ID     string
	Caused []node
}

// The causes of events are a tree, found by the correlation and by the order.
func TestCausality(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	caused := func(d event.Draft, by string) ce.Event {
		e := h.Event(d)
		e.SetExtension(event.CorrelationID, "story")
		if by != "" {
			e.SetExtension(event.CausationID, by)
		}
		return e
	}
	root := caused(reserved("order"), "")
	child := caused(captured("order"), root.ID())
	grandchild := caused(events.UserDeleted.New("ada", events.DeletedUser{UserID: "ada"}), child.ID())
	h.Receive(grandchild, root, child, h.Event(reserved("other")))
	for _, id := range []string{"story", "order"} {
		var got struct {
			Correlations []string
			Count        int
			Roots        []node
		}
		h.Call("GET", "/api/archive/causality/"+id, functiontest.Admin(), nil).Expect(200).JSON(&got)
		want := []node{{ID: root.ID(), Caused: []node{{ID: child.ID(), Caused: []node{{ID: grandchild.ID()}}}}}}
		if got.Count != 3 || fmt.Sprint(got.Roots) != fmt.Sprint(want) {
			t.Errorf("%s: got %+v, want %v", id, got, want)
		}
		equal(t, id, got.Correlations, []string{"story"})
	}
	h.Call("GET", "/api/archive/causality/nothing", functiontest.Admin(), nil).Expect(404)
}

// Events whose causes form a cycle, which only forged events can have, are in the response.
func TestCycle(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	one, two := h.Event(reserved("order")), h.Event(reserved("order"))
	one.SetExtension(event.CausationID, two.ID())
	two.SetExtension(event.CausationID, one.ID())
	h.Receive(one, two)
	var got struct{ Roots []node }
	h.Call("GET", "/api/archive/causality/order", functiontest.Admin(), nil).Expect(200).JSON(&got)
	if len(got.Roots) != 2 {
		t.Fatalf("got %+v", got)
	}
}

// run delivers the archive's own commands to it until the replay is done. It returns the replayed events.
func run(h *functiontest.Harness) (replayed []ce.Event, portions int, done event.FinishedReplay) {
	h.T.Helper()
	for portions < 50 {
		var next []ce.Event
		n := 0
		for _, e := range h.Emitted() {
			switch e.Type() {
			case event.ArchiveReplay.Name():
				next = append(next, e)
			case event.ArchiveReplayed.Name():
				var err error
				if done, err = event.ArchiveReplayed.Decode(e); err != nil {
					h.T.Fatal(err)
				}
			default:
				replayed = append(replayed, e)
				n++
			}
		}
		if n > 500 {
			h.T.Fatalf("%d events in one portion", n)
		}
		if len(next) == 0 {
			return replayed, portions, done
		}
		portions++
		h.Restart()
		h.Receive(next...)
		h.Receive(next...) // again, which changes nothing
	}
	h.T.Fatal("the replay does not end")
	return nil, 0, done
}

// A replay publishes past events in order, with their original ids, to one function only, and then archive.replayed.
func TestReplay(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	numbered(h, 1234)
	h.MustDeliver(captured("z"))
	var asked struct {
		ReplayID string `json:"replay_id"`
	}
	h.Call("POST", "/api/archive/replays", functiontest.Admin(),
		map[string]any{"to": "views", "types": []string{"dev.ebb.inventory.reserved.v1"}}).Expect(202).JSON(&asked)
	past, portions, done := run(h)
	if len(past) != 1234 || done.Count != 1234 || done.ReplayID != asked.ReplayID || done.To != "views" || portions < 3 {
		t.Fatalf("got %d events in %d portions, %+v", len(past), portions, done)
	}
	for i, e := range past {
		if e.Subject() != fmt.Sprintf("a-%03d", i) || e.Extensions()[event.ReplayTo] != "views" ||
			e.Extensions()[event.Replay] != asked.ReplayID {
			t.Fatalf("event %d: got %v", i, e)
		}
	}
	before := read(h, "?type=dev.ebb.inventory.reserved.v1&subject=a-000")
	if past[0].ID() != before.Items[0].Event.ID() || past[0].Source() != before.Items[0].Event.Source() {
		t.Fatal("the replayed event has another id or source")
	}
	h.Receive(past[0])
	if got := read(h, "?subject=a-000"); len(got.Items) != 1 {
		t.Fatalf("a replayed event was kept again: %+v", got)
	}
}

// A replay may be limited to a range of time and one entity; without types it has all types.
func TestReplaySpan(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	h.MustDeliver(reserved("a"))
	h.Clock.Advance(time.Hour)
	since := h.Clock.Now()
	h.MustDeliver(reserved("a"), reserved("b"), captured("a"))
	h.Clock.Advance(time.Hour)
	until := h.Clock.Now()
	h.MustDeliver(captured("a"))
	h.MustDeliver(event.ArchiveReplay.New(
		"r", event.ReplayEvents{ReplayID: "r", To: "views", Since: since, Until: until, Subject: "a"},
	))
	past, _, done := run(h)
	equal(t, "types", functiontest.Types(past), []string{"inventory.reserved.v1", "payments.captured.v1"})
	if done.Count != 2 {
		t.Fatalf("got %+v", done)
	}
}

// An event that does not conform to its schema is stored and not replayed: consumers would refuse it, and one that
// counts the replayed events would wait for ever.
func TestReplaySkipsInvalidEvents(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	bad := h.Event(reserved("bad"))
	if err := bad.SetData(ce.ApplicationJSON, []byte(`{"order_id":7}`)); err != nil {
		t.Fatal(err)
	}
	h.Receive(bad)
	h.MustDeliver(reserved("a"))
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))
	past, _, done := run(h)
	if len(past) != 1 || past[0].Subject() != "a" || done.Count != 1 {
		t.Fatalf("got %v, %+v", past, done)
	}
	if got := read(h, "?subject=bad"); len(got.Items) != 1 {
		t.Fatalf("it was not kept: %+v", got)
	}
}

// An event from before a replay that reaches the archive only after it is replayed when it arrives; one from long after
// it, or of another type, is not.
func TestReplayLateEvents(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	late, other := h.Event(reserved("late")), h.Event(captured("other"))
	h.MustDeliver(reserved("a"))
	h.MustDeliver(
		event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views", Types: []string{late.Type()}}),
	)
	if past, _, done := run(h); len(past) != 1 || done.Count != 1 {
		t.Fatalf("got %v, %+v", past, done)
	}
	h.Clock.Advance(time.Hour)
	h.Restart()
	h.Receive(late, other)
	h.MustDeliver(reserved("b"))
	emitted := h.Emitted()
	if len(emitted) != 1 || emitted[0].ID() != late.ID() ||
		emitted[0].Extensions()[event.ReplayTo] != "views" || emitted[0].Extensions()[event.Replay] != "r" {
		t.Fatalf("got %v", emitted)
	}
}

// A replay of an empty archive ends at once. A replay to the archive itself, or with a forged cursor, is refused for
// good.
func TestReplayEnds(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))
	if past, _, done := run(h); len(past) != 0 || done.ReplayID != "r" || done.Count != 0 {
		t.Fatalf("got %v, %+v", past, done)
	}
	for _, bad := range []event.ReplayEvents{
		{ReplayID: "r", To: "archive"}, {ReplayID: "r", To: "views", Cursor: "forged"},
	} {
		if got := h.Deliver(event.ArchiveReplay.New("r", bad)); got[0].Status != 422 {
			t.Errorf("%+v: got %+v", bad, got[0])
		}
	}
}

type letters struct {
	Items []letter
}

type letter struct {
	ID, State, Subscriber, Function, Code, Reason, Mend string
	Times                                               int
	Mended                                              bool
	Event                                               ce.Event
}

func dead(h *functiontest.Harness, d event.Draft, subscriber string) ce.Event {
	e := h.Event(d)
	e.SetExtension(broker.ErrorDest, subscriber)
	e.SetExtension(broker.ErrorCode, "422")
	e.SetExtension(broker.ErrorData, "no such order")
	return e
}

func deadLetters(h *functiontest.Harness, query string) []letter {
	h.T.Helper()
	var l letters
	h.Call("GET", "/api/archive/dead-letters"+query, functiontest.Admin(), nil).Expect(200).JSON(&l)
	return l.Items
}

// The same event is one dead letter for each subscriber that refused it; the log stores it once.
func TestDeadLetters(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	e := dead(h, captured("a"), "/functions/orders")
	h.Receive(e)
	h.Receive(e)
	other := e.Clone()
	other.SetExtension(broker.ErrorDest, "http://payments.ebb.svc.cluster.local/events")
	h.Clock.Advance(time.Second)
	h.Receive(other)
	got := deadLetters(h, "")
	if len(got) != 2 || got[0].Function != "payments" || got[1].Function != "orders" || got[1].Code != "422" ||
		got[1].Reason != "no such order" {
		t.Fatalf("got %+v", got)
	}
	if _, left := got[0].Event.Extensions()[broker.ErrorDest]; left {
		t.Fatal("the event still has the extensions of a dead letter")
	}
	if in := read(h, ""); len(in.Items) != 0 {
		t.Fatalf("dead letters are in the log: %+v", in)
	}
}

// Knative's brokers encode the answer of the subscriber in base64, and may cut it within a character.
func TestReasonInBase64(t *testing.T) {
	long := strings.Repeat("x", 766) + "ö"
	for data, want := range map[string]string{
		"bm8gc3VjaCBvcmRlcg==":         "no such order",
		"eyJ0aXRsZSI6Ikdyw7bDn2UifQo=": `{"title":"Größe"}` + "\n",
		"no such order":                "no such order",
		"test":                         "test",
		"notfound":                     "notfound",
		base64.StdEncoding.EncodeToString([]byte(long)[:767]): strings.Repeat("x", 766),
		"": "",
	} {
		h := functiontest.New(t, archive.New)
		e := dead(h, captured("a"), "/functions/orders")
		e.SetExtension(broker.ErrorData, data)
		h.Receive(e)
		if got := deadLetters(h, ""); len(got) != 1 || got[0].Reason != want {
			t.Errorf("%s: got %+v, want the reason %q", data, got, want)
		}
	}
}

// A dead letter of bytes that are not what their type says is kept, shown and sent again byte by byte.
func TestDeadLetterOfBytes(t *testing.T) {
	h := functiontest.New(t, archive.New)
	e := dead(h, captured("a"), "/functions/orders")
	e.DataEncoded = []byte("\xff{")
	if got := h.Receive(e); !got[0].OK() {
		t.Fatalf("got %+v", got)
	}
	l := deadLetters(h, "")[0]
	h.Call("POST", "/api/archive/dead-letters/"+l.ID+"/replay", functiontest.Admin(), nil).Expect(202)
	emitted := h.Emitted()
	if string(l.Event.Data()) != "\xff{" || len(emitted) != 1 || string(emitted[0].Data()) != "\xff{" {
		t.Fatalf("got %+v, sent %v", l, emitted)
	}
}

// A dead letter is mended, with data that conforms to its schema, and sent to the function that failed, with side
// effects.
func TestMendAndReplay(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	e := dead(h, captured("a"), "/functions/orders")
	h.Receive(e)
	path := "/api/archive/dead-letters/" + deadLetters(h, "")[0].ID
	h.Call("PUT", path, functiontest.Admin(), `{"data":{"order_id":""}}`).Expect(422)
	h.Call("PUT", path, functiontest.Admin(), map[string]any{"data": capturedMoney{OrderID: "b", Amount: 7}}).Expect(200)
	h.Call("POST", path+"/replay", functiontest.Admin(), nil).Expect(202)
	emitted := h.Emitted()
	if len(emitted) != 1 || emitted[0].ID() != e.ID() || emitted[0].Source() != e.Source() {
		t.Fatalf("got %v", emitted)
	}
	ext := emitted[0].Extensions()
	if ext[event.ReplayTo] != "orders" || ext[event.Replay] != nil || ext[broker.ErrorCode] != nil ||
		ext[event.PartitionKey] != "a" {
		t.Fatalf("got extensions %v", ext)
	}
	data, err := moneyCaptured.Decode(emitted[0])
	if err != nil || data.OrderID != "b" {
		t.Fatalf("got %+v, %v", data, err)
	}
	if got := deadLetters(h, ""); len(got) != 0 {
		t.Fatalf("still waiting: %+v", got)
	}
	if got := deadLetters(h, "?state=replayed"); len(got) != 1 || !got[0].Mended {
		t.Fatalf("got %+v", got)
	}
}

// failed returns the dead letter of an event that was sent again.
func failed(e ce.Event) ce.Event {
	e = e.Clone()
	e.SetExtension(broker.ErrorDest, "/functions/orders")
	e.SetExtension(broker.ErrorCode, "422")
	return e
}

// A dead letter that was replayed and fails again is waiting again, as the same entry. One that is delivered twice
// changes nothing: it undoes no mend, and does not make the letter wait again that was sent or dropped since.
func TestFailsAgain(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	e := dead(h, captured("a"), "/functions/orders")
	h.Receive(e)
	path := "/api/archive/dead-letters/" + deadLetters(h, "")[0].ID
	check := func(when, state string, times int, data string) {
		t.Helper()
		got := deadLetters(h, "?state="+state)
		if len(got) != 1 || got[0].Times != times || string(got[0].Event.Data()) != data {
			t.Fatalf("%s: got %+v", when, got)
		}
	}
	h.Call("PUT", path, functiontest.Admin(), `{"data":{"order_id":"b","amount":7}}`).Expect(200)
	const mended = `{"order_id":"b","amount":7}`
	h.Receive(e)
	check("delivered twice", "waiting", 1, mended)
	h.Call("POST", path+"/replay", functiontest.Admin(), nil).Expect(202)
	first := failed(h.Emitted()[0])
	h.Receive(e)
	check("delivered again after the replay", "replayed", 1, mended)
	h.Receive(first, first)
	check("failed again", "waiting", 2, mended)
	h.Call("PUT", path, functiontest.Admin(), `{"data":{"order_id":"c","amount":8}}`).Expect(200)
	h.Call("POST", path+"/replay", functiontest.Admin(), nil).Expect(202)
	second := failed(h.Emitted()[0])
	h.Receive(first)
	check("the first failure once more", "replayed", 2, `{"order_id":"c","amount":8}`)
	h.Receive(second)
	check("failed a third time", "waiting", 3, `{"order_id":"c","amount":8}`)
	if _, left := deadLetters(h, "")[0].Event.Extensions()[event.ReplayNumber]; left {
		t.Error("the event still has its number")
	}
	h.Call("DELETE", path, functiontest.Admin(), nil).Expect(204)
	h.Receive(e, first, second)
	h.Call("GET", path, functiontest.Admin(), nil).Expect(404)
	if got := append(deadLetters(h, ""), deadLetters(h, "?state=replayed")...); len(got) != 0 {
		t.Errorf("a dropped letter is back: %+v", got)
	}
}

// A dead letter that was sent again and does not fail is forgotten in time. One that waits, or has failed again, stays.
func TestReplayedDeadLettersAreForgotten(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	for _, order := range []string{"waits", "fails", "succeeds"} {
		h.Receive(dead(h, captured(order), "/functions/orders"))
	}
	for _, l := range deadLetters(h, "") {
		if order := l.Event.Subject(); order != "waits" {
			h.Call("POST", "/api/archive/dead-letters/"+l.ID+"/replay", functiontest.Admin(), nil).Expect(202)
			if again := h.Emitted()[0]; order == "fails" {
				h.Receive(failed(again))
			}
		}
	}
	later := func(days int) (orders []string) {
		h.Clock.Advance(time.Duration(days) * 24 * time.Hour)
		h.MustDeliver(reserved("x"))
		for _, l := range append(deadLetters(h, ""), deadLetters(h, "?state=replayed")...) {
			orders = append(orders, l.Event.Subject())
		}
		slices.Sort(orders)
		return orders
	}
	equal(t, "after 29 days", later(29), []string{"fails", "succeeds", "waits"})
	equal(t, "after 31 days", later(2), []string{"fails", "waits"})
}

// A dead letter can be dropped.
func TestDrop(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	h.Receive(dead(h, captured("a"), "/functions/orders"))
	path := "/api/archive/dead-letters/" + deadLetters(h, "")[0].ID
	h.Call("DELETE", path, functiontest.Admin(), nil).Expect(204)
	h.Call("GET", path, functiontest.Admin(), nil).Expect(404)
	h.Call("POST", path+"/replay", functiontest.Admin(), nil).Expect(404)
}

// A replayed dead letter of the archive itself is stored as at the first delivery.
func TestOwnDeadLetter(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...))
	h.Receive(dead(h, captured("a"), "/functions/archive"))
	h.Call("POST", "/api/archive/dead-letters/"+deadLetters(h, "")[0].ID+"/replay", functiontest.Admin(), nil).Expect(202)
	h.Receive(h.Emitted()...)
	got := read(h, "")
	if len(got.Items) != 1 || got.Items[0].Event.Extensions()[event.ReplayTo] != nil {
		t.Fatalf("got %+v", got)
	}
}

// BenchmarkStore measures how fast batches of events are stored.
func BenchmarkStore(b *testing.B) {
	h := functiontest.New(b, archive.New, functiontest.Once())
	batch := make([]ce.Event, 128)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		for i := range batch {
			batch[i] = h.Event(captured(fmt.Sprintf("order-%d-%d", n, i)))
		}
		h.Receive(batch...)
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "events/s")
}

// visitor is the data of an event with a personal field.
type visitor struct {
	ID   string `json:"id" person:"id"`
	Name string `json:"name" personal:"erased"`
}

var visitorCame = event.Define(event.NewNamespace("com.example.door", "https://example.com/schemas"), "door.opened", 1,
	event.Fact, "A visitor came.", visitor{"v", "Ada"})

// encryptedVisits returns events about visitors as their function emits them.
func encryptedVisits(t *testing.T, ids ...string) []ce.Event {
	t.Helper()
	door := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("door", env)
		function.Emits(f, visitorCame)
		function.On(f, events.UserDeleted, func(_ context.Context, tx *function.Tx, u events.DeletedUser) error {
			tx.Emit(visitorCame.New(u.UserID, visitor{u.UserID, "Name of " + u.UserID}))
			return nil
		})
		return f, nil
	})
	for _, id := range ids {
		door.MustDeliver(events.UserDeleted.New(id, events.DeletedUser{UserID: id}))
	}
	return door.Emitted()
}

// The archive stores the key of an encrypted event apart, and gives it to a replay. When the person is erased the key
// is gone from every event, also from dead letters; others keep theirs. That is told, and the key of an event that
// comes later is not stored.
func TestErasure(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(visitorCame.Info()))
	visits := encryptedVisits(t, "ada", "grace")
	dead := visits[0].Clone()
	dead.SetExtension(broker.ErrorDest, "/functions/views")
	h.Receive(append(visits, dead)...)
	replayedNames := func() (names []string) {
		cmd := event.ReplayEvents{ReplayID: fmt.Sprint("r", h.Clock.Now()), To: "views"}
		h.MustDeliver(event.ArchiveReplay.New("r", cmd))
		for n := 0; n < 5; n++ {
			for _, e := range h.Emitted() {
				if e.Type() == event.ArchiveReplay.Name() {
					h.Receive(e)
				}
				if e.Type() == visitorCame.Name() {
					v, err := functiontest.Decode(visitorCame, e)
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, v.Name)
				}
			}
		}
		h.Clock.Advance(time.Minute)
		return names
	}
	if got, want := replayedNames(), []string{"Name of ada", "Name of grace"}; !slices.Equal(got, want) {
		t.Errorf("before the erasure: got %v, want %v", got, want)
	}
	h.MustDeliver(event.PersonErased.New("ada", event.ErasedPerson{PersonID: "ada"}))
	audit := slices.DeleteFunc(h.Emitted(), func(e ce.Event) bool { return e.Type() != event.DataErased.Name() })
	if len(audit) != 1 {
		t.Fatalf("got %v", audit)
	}
	told, err := event.DataErased.Decode(audit[0])
	if err != nil || told.Function != "archive" || told.PersonID != "ada" || len(told.Erased) != 1 ||
		told.Erased[0].Count != 1 {
		t.Errorf("got %v, %v", told, err)
	}
	late := visits[0].Clone()
	late.SetID("late")
	h.Receive(late)
	h.Emitted() // what is late for a replay goes along with it
	if got, want := replayedNames(), []string{"erased", "Name of grace", "erased"}; !slices.Equal(got, want) {
		t.Errorf("after the erasure: got %v, want %v", got, want)
	}
	var letters struct{ Items []archive.DeadLetter }
	h.Call("GET", "/api/archive/dead-letters", functiontest.Admin(), nil).Expect(200).JSON(&letters)
	h.Call("POST", "/api/archive/dead-letters/"+letters.Items[0].ID+"/replay", functiontest.Admin(), nil).Expect(202)
	for _, e := range h.Emitted() {
		if v, err := functiontest.Decode(visitorCame, e); err != nil || v.Name != "erased" {
			t.Errorf("a dead letter: got %v, %v", v, err)
		}
	}
}

// The key of an event that a timer will publish is within the data of the command to the clock: it is stored apart and
// destroyed too.
func TestErasureOfScheduledEvents(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.Knows(append(event.KitTypes(), visitorCame.Info())...))
	visit := encryptedVisits(t, "ada")[0]
	key := event.Extension(visit, event.PersonalKey)
	inner, err := event.ToJSON(visit)
	if err != nil {
		t.Fatal(err)
	}
	schedule := event.ClockSchedule.New("t", event.ScheduleEvent{TimerID: "t", Due: h.Clock.Now(), Event: inner})
	h.MustDeliver(schedule)
	replayedKeys := func() (keys []string) {
		h.Clock.Advance(time.Minute)
		h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))
		past, _, _ := run(h)
		for _, e := range past {
			if data, err := event.ClockSchedule.Decode(e); err == nil {
				again, err := event.FromJSON(data.Event)
				if err != nil || again.ID() != visit.ID() {
					t.Errorf("got %v, %v", again, err)
				}
				keys = append(keys, event.Extension(again, event.PersonalKey))
			}
		}
		return keys
	}
	equal(t, "before", replayedKeys(), []string{key})
	h.MustDeliver(event.PersonErased.New("ada", event.ErasedPerson{PersonID: "ada"}))
	h.Emitted()
	equal(t, "after", replayedKeys(), []string{""})
	late := h.Event(schedule)
	h.Receive(late)
	for _, e := range h.Emitted() { // what is late for a replay goes along with it
		if data, err := event.ClockSchedule.Decode(e); err == nil && strings.Contains(string(data.Event), key) {
			t.Error("the key goes along with what is late")
		}
	}
	for _, d := range stores(t, h) {
		if d.Collection != "_outbox" && strings.Contains(string(d.Data), key) {
			t.Errorf("the key is in %s: %s", d.Collection, d.Data)
		}
	}
}

// stores returns all documents of a function.
func stores(t *testing.T, h *functiontest.Harness) (all []store.Document) {
	t.Helper()
	d := h.I.Declaration()
	db, err := h.Store(t.Context(), d.Name, d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range d.Schema {
		docs, _, err := db.Query(t.Context(), store.Query{Collection: spec.Name, Limit: store.MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, docs...)
	}
	return all
}

// Events are stored for as long as the settings say: for ever, or for a time after their arrival.
func TestRetention(t *testing.T) {
	for retention, want := range map[string]int{"0s": 20, "240h": 11} {
		h := functiontest.New(t, archive.New, functiontest.Set(map[string]string{"EBB_ARCHIVE_RETENTION": retention}))
		for day := range 20 {
			u := fmt.Sprint("u", day)
			h.MustDeliver(events.UserDeleted.New(u, events.DeletedUser{UserID: u}))
			h.Clock.Advance(24 * time.Hour)
		}
		var all list
		h.Call("GET", "/api/archive/events?limit=100", functiontest.Admin(), nil).Expect(200).JSON(&all)
		if got := all.subjects(); len(got) != want || got[len(got)-1] != "u19" {
			t.Errorf("%s: got %v, want the last %d", retention, got, want)
		}
	}
}
