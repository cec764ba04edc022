package archive_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// narrow is a store whose documents have at most 400 KB with their keys, as in DynamoDB, but for those of the outbox.
func narrow() functiontest.Option {
	return interpose(func(b store.Batch, commit func() error) error {
		for _, m := range b.Mutations {
			if len(m.Data) > 398<<10 && m.Collection != "_outbox" {
				return fault.New(fault.TooLarge, "the document has %d bytes", len(m.Data))
			}
		}
		return commit()
	})
}

// An event that is larger than a document of the store is archived, shown, replayed byte by byte and removed in time.
// So is one that becomes a dead letter, which can be mended.
func TestEventsLargerThanDocuments(t *testing.T) {
	h := functiontest.New(t, archive.New, narrow(), functiontest.Knows(product.Types()...),
		functiontest.Set(map[string]string{"EBB_ARCHIVE_RETENTION": "240h"}))
	data := bytes.Repeat([]byte{0xff, 0x00, 'x'}, 400_000) // is stored in base64
	large := h.Event(captured("large"))
	large.SetType("com.example.large.v1")
	large.DataEncoded = data
	h.Receive(h.Event(reserved("before")), large, h.Event(reserved("after")))
	l := read(h, "")
	equal(t, "listed", l.subjects(), []string{"before", "large", "after"})
	if got := l.Items[1].Event; !bytes.Equal(got.Data(), data) || got.ID() != large.ID() {
		t.Errorf("listed: got %d bytes of %s", len(got.Data()), got.ID())
	}
	h.Call("GET", "/api/archive/events/"+l.Items[1].Position, functiontest.Admin(), nil).Expect(200)
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))
	past, _, done := run(h)
	if len(past) != 3 || done.Count != 3 || !bytes.Equal(past[1].Data(), data) {
		t.Errorf("got %d replayed events, %+v", len(past), done)
	}

	h.Receive(failed(large))
	dead := deadLetters(h, "")
	if len(dead) != 1 || !bytes.Equal(dead[0].Event.Data(), data) {
		t.Fatalf("got %d dead letters", len(dead))
	}
	path := "/api/archive/dead-letters/" + dead[0].ID
	h.Call("POST", path+"/replay", functiontest.Admin(), nil).Expect(202)
	again := h.Emitted()
	if len(again) != 1 || !bytes.Equal(again[0].Data(), data) {
		t.Fatalf("got %d events", len(again))
	}
	h.Receive(failed(again[0]))
	h.Call("PUT", path, functiontest.Admin(), `{"data":{"small":true}}`).Expect(200)
	parts := func(of string) (n int) {
		for _, d := range stores(t, h) {
			if d.Collection == of {
				n++
			}
		}
		return n
	}
	if dead = deadLetters(h, ""); len(dead) != 1 || string(dead[0].Event.Data()) != `{"small":true}` ||
		parts("dead_letter_parts") != 0 {
		t.Errorf("mended: got %v, and %d parts", dead, parts("dead_letter_parts"))
	}
	other := failed(large)
	other.SetID("other")
	h.Receive(other)
	for _, l := range deadLetters(h, "") {
		h.Call("DELETE", "/api/archive/dead-letters/"+l.ID, functiontest.Admin(), nil).Expect(204)
	}
	if n := parts("dead_letter_parts"); n != 0 {
		t.Errorf("dropped: %d parts are left", n)
	}
	if n := parts("log_parts"); n < 2 {
		t.Errorf("the log has %d parts", n)
	}
	h.Clock.Advance(11 * 24 * time.Hour)
	for range 3 {
		h.MustDeliver(reserved("later"))
		h.Clock.Advance(time.Minute)
	}
	if n := parts("log_parts"); n != 0 {
		t.Errorf("after the retention: %d parts are left", n)
	}
}

// An event of which a part is removed already is shown without its data, and not replayed.
func TestTornEvent(t *testing.T) {
	h := functiontest.New(t, archive.New, narrow(), functiontest.Knows(product.Types()...))
	large := h.Event(captured("large"))
	large.SetType("com.example.large.v1")
	_ = large.SetData("text/plain", strings.Repeat("x", 900<<10))
	h.Receive(large, h.Event(reserved("after")))
	d := h.I.Declaration()
	db, err := h.Store(t.Context(), d.Name, d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	docs, _, err := db.Query(t.Context(), store.Query{Collection: "log_parts", Limit: 10})
	if err != nil || len(docs) < 2 {
		t.Fatalf("got %d parts, %v", len(docs), err)
	}
	removal := store.Batch{Mutations: []store.Mutation{{Key: docs[0].Key, Version: 2}}}
	if err := db.Commit(t.Context(), removal); err != nil {
		t.Fatal(err)
	}
	l := read(h, "")
	if len(l.Items) != 2 || l.Items[0].Event.ID() != large.ID() || len(l.Items[0].Event.Data()) != 0 {
		t.Errorf("got %+v", l)
	}
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))
	if past, _, done := run(h); len(past) != 1 || done.Count != 1 || past[0].Subject() != "after" {
		t.Errorf("got %d replayed events, %+v", len(past), done)
	}
}

// Large events are replayed from a database that takes few documents at once, though each is in several parts.
func TestReplayLargeEventsInSmallSteps(t *testing.T) {
	h := functiontest.New(t, archive.New, functiontest.CommitLimit(40), functiontest.Knows(product.Types()...))
	const count = 14
	for n := range count {
		e := h.Event(captured(fmt.Sprint("large-", n)))
		e.SetType("com.example.large.v1")
		e.DataEncoded = bytes.Repeat([]byte{0xff, 0x00, 'x'}, 170_000) // three parts
		if r := h.Receive(e); !r[0].OK() {
			t.Fatalf("got %+v", r)
		}
	}
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{
		ReplayID: "r", To: "views", Types: []string{"com.example.another.v1"},
	}))
	if past, _, done := run(h); len(past) != 0 || done.Count != 0 {
		t.Errorf("of another type: got %d replayed events, %+v", len(past), done)
	}
	h.MustDeliver(event.ArchiveReplay.New("q", event.ReplayEvents{ReplayID: "q", To: "views"}))
	if past, _, done := run(h); len(past) != count || done.Count != count {
		t.Errorf("got %d replayed events, %+v", len(past), done)
	}
}
