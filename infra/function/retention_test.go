package function_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// documents returns all documents of a collection of the function.
func documents(t *testing.T, h *functiontest.Harness, collection string) (found []store.Document) {
	t.Helper()
	d := h.I.Declaration()
	db, err := h.Store(t.Context(), d.Name, d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	q := store.Query{Collection: collection, Limit: store.MaxLimit}
	for more := true; more; {
		var docs []store.Document
		if docs, more, err = db.Query(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		found = append(found, docs...)
		if more {
			q.After = &store.Position{ID: docs[len(docs)-1].ID}
		}
	}
	return found
}

// shipAt returns an order to ship whose event has a time of its own; the zero time: none.
func shipAt(h *functiontest.Harness, subject string, at time.Time) ce.Event {
	e := h.Event(ship(subject))
	c := e.Context.(*ce.EventContextV1)
	if c.Time = nil; !at.IsZero() {
		e.SetTime(at)
	}
	return e
}

// An inbox remembers each event for three days, whatever time the event has: its own, none, one of long ago or one to
// come. Old events that keep coming hold up nothing.
func TestInboxForgets(t *testing.T) {
	const perHour, days = 4, 12
	h := functiontest.New(t, counting)
	for hour := range days * 24 {
		for _, at := range []time.Time{
			h.Clock.Now(), {}, h.Clock.Now().AddDate(0, 0, -9), h.Clock.Now().AddDate(1, 0, 0),
		} {
			e := shipAt(h, fmt.Sprint("s", hour), at)
			for range 2 {
				if r := h.Receive(e); !r[0].OK() {
					t.Fatal(r)
				}
			}
		}
		h.Emitted()
		h.Clock.Advance(time.Hour)
	}
	if got, most := len(documents(t, h, "_inbox")), (72+1)*perHour; got > most {
		t.Errorf("after %d days the inbox has %d entries, want at most %d", days, got, most)
	}
	for hour := range days * 24 {
		if n := count(t, h, fmt.Sprint("s", hour)); n != perHour {
			t.Fatalf("hour %d: %d events were handled, want %d", hour, n, perHour)
		}
	}
}

// reminder is what reminding stores.
type reminder struct {
	Text    string    `json:"text"`
	Until   time.Time `json:"until,omitzero"`
	Created int64     `json:"created"`
}

type reminderInput struct {
	Body reminder
}

// reminding makes a function that consumes and emits nothing, and whose notes expire.
func reminding(env function.Env) (*function.Function, error) {
	f := function.New("notes", env)
	notes := function.Collection[reminder](f, "notes", store.Expire("until"))
	logs := function.Collection[reminder](f, "log", store.Retain("created", 48*time.Hour))
	function.Serve(f, function.Operation{Method: "POST", Path: "/api/notes", Status: 204},
		func(ctx context.Context, tx *function.Tx, in *reminderInput) (*struct{}, error) {
			in.Body.Created = tx.Now().Unix()
			if err := logs.Put(ctx, tx, tx.NewID(), in.Body); err != nil {
				return nil, err
			}
			return nil, notes.Put(ctx, tx, in.Body.Text, in.Body)
		})
	return f, nil
}

// Stored responses and documents with an expiry are removed by requests too: in a function that consumes nothing no
// event comes. A document without a time stays.
func TestRequestsForget(t *testing.T) {
	h := functiontest.New(t, reminding)
	h.Call("POST", "/api/notes", functiontest.As("ada"), reminder{Text: "for ever"}).Expect(204)
	for n := range 10 * 24 {
		h.Call("POST", "/api/notes", functiontest.As("ada"),
			reminder{Text: fmt.Sprint("note ", n), Until: h.Clock.Now().Add(5 * time.Hour)},
			"Idempotency-Key", fmt.Sprint("key ", n)).Expect(204)
		h.Clock.Advance(time.Hour)
	}
	for collection, most := range map[string]int{"_idempotency": 25, "notes": 1 + 7, "log": 49} {
		if got := len(documents(t, h, collection)); got > most || got < most-2 {
			t.Errorf("%s has %d documents, want about %d", collection, got, most)
		}
	}
	if n := len(documents(t, h, "notes")); documents(t, h, "notes")[0].ID != "for ever" {
		t.Errorf("the note without a time is gone, of %d", n)
	}
}

// A unit removes a bounded number of documents, whatever has piled up, and the next ones go on until all are gone.
func TestUnitsForgetInPortions(t *testing.T) {
	h := functiontest.New(t, reminding)
	post := func(n int) {
		h.Call("POST", "/api/notes", functiontest.As("ada"),
			reminder{Text: fmt.Sprint("note ", n), Until: h.Clock.Now().Add(time.Hour)},
			"Idempotency-Key", fmt.Sprint(n)).Expect(204)
	}
	for n := range 700 {
		post(n)
	}
	h.Clock.Advance(100 * time.Hour)
	all := func() int {
		return len(documents(t, h, "notes")) + len(documents(t, h, "log")) + len(documents(t, h, "_idempotency"))
	}
	for n := 700; all() > 3*(n-700); n++ {
		before := all()
		post(n)
		if gone := before + 3 - all(); gone > 200 || gone < 1 {
			t.Fatalf("one request has removed %d documents", gone)
		}
		if n == 720 {
			t.Fatalf("after 20 requests %d documents are left", all())
		}
	}
}

// What an older version of the kit has written is removed too, and recognised until then: entries without a time of
// their own, of which some were never to be removed.
func TestInboxOfAnOlderVersion(t *testing.T) {
	h := functiontest.New(t, counting)
	e := shipAt(h, "known", time.Time{})
	old := map[string]string{"ffffffff " + e.Source() + " " + e.ID(): `{"outbox":""}`, "strange": `{"at":"what?"}`}
	for n := range 500 {
		at := h.Clock.Now().Add(-time.Duration(n) * time.Hour)
		id := fmt.Sprintf("%08x /old %d", at.Unix()/3600, n)
		old[id] = `{}`
		if n%3 == 0 {
			old[id] = fmt.Sprintf(`{"at":%d}`, h.Clock.Now().Unix()-3600)
		}
	}
	d := h.I.Declaration()
	db, err := h.Store(t.Context(), d.Name, d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	for id, data := range old {
		key := store.Key{Collection: "_inbox", ID: id}
		batch := store.Batch{Mutations: []store.Mutation{{Key: key, Version: 1, Data: json.RawMessage(data)}}}
		if err := db.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	for hour := range 80 {
		h.MustDeliver(ship(fmt.Sprint("s", hour)))
		if hour == 60 {
			if r := h.Receive(e); !r[0].OK() || count(t, h, "known") != 0 {
				t.Errorf("a duplicate of an event that the older version has handled was handled: %v", r)
			}
		}
		h.Clock.Advance(time.Hour)
	}
	if got := len(documents(t, h, "_inbox")); got > 74 {
		t.Errorf("the inbox has %d entries, want 73 of the last three days", got)
	}
}
