package archive_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// interposed is a store that calls a func at each commit, instead of committing.
type interposed struct {
	store.Driver
	commit func(b store.Batch, commit func() error) error
}

func (d interposed) Commit(ctx context.Context, b store.Batch) error {
	return d.commit(b, func() error { return d.Driver.Commit(ctx, b) })
}

// interpose gives the function a store whose commits go through a func.
func interpose(commit func(b store.Batch, commit func() error) error) functiontest.Option {
	return func(h *functiontest.Harness) {
		open := memory.Opener()
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return interposed{db, commit}, err
		}
	}
}

// writes reports whether a batch writes to a collection.
func writes(b store.Batch, collection string) bool {
	for _, m := range b.Mutations {
		if m.Collection == collection {
			return true
		}
	}
	return false
}

// Instances that append at the same time do not meet: no commit is refused, and every event is stored once.
func TestAppendsDoNotMeet(t *testing.T) {
	var conflicts, waiting atomic.Int64
	together := sync.NewCond(&sync.Mutex{})
	const instances, batches, size = 4, 10, 8
	h := functiontest.New(t, archive.New, interpose(func(_ store.Batch, commit func() error) error {
		together.L.Lock() // until every instance has read and is about to commit
		if waiting.Add(1)%instances == 0 {
			together.Broadcast()
		} else {
			together.Wait()
		}
		together.L.Unlock()
		err := commit()
		if fault.Is(err, fault.Conflict) {
			conflicts.Add(1)
			return nil // so that all go on in step
		}
		return err
	}))
	var work sync.WaitGroup
	for n := range instances {
		work.Go(func() {
			for i := range batches {
				var batch []ce.Event
				for k := range size {
					batch = append(batch, h.Event(captured(fmt.Sprintf("%d-%d-%d", n, i, k))))
				}
				h.Receive(batch...)
			}
		})
	}
	work.Wait()
	if got := len(pages(h, "?limit=500")); conflicts.Load() > 0 || got != instances*batches*size {
		t.Errorf("%d conflicts, %d events", conflicts.Load(), got)
	}
}

// The order of a partition key is that of its deliveries, also when the clock of the instance that gets the later event
// is behind.
func TestOrderAcrossClocks(t *testing.T) {
	h := functiontest.New(t, archive.New)
	h.MustDeliver(captured("a"), captured("b"))
	h.Clock.Advance(-time.Hour)
	h.Restart()
	h.MustDeliver(captured("c"))
	h.MustDeliver(captured("d"))
	h.Clock.Advance(2 * time.Hour)
	h.MustDeliver(captured("e"))
	equal(t, "in order", pages(h, "?limit=1"), []string{"a", "b", "c", "d", "e"})
	equal(t, "from the end", pages(h, "?limit=1&order=desc"), []string{"e", "d", "c", "b", "a"})
}

// An event whose unit has read the log before a replay, and commits after it, is replayed: it is late.
func TestReplaySealsTheLog(t *testing.T) {
	for after := range 4 { // at which of the replay's units the late one has read the log
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			var h *functiontest.Harness
			var past []ce.Event
			var during func()
			h = functiontest.New(t, archive.New, functiontest.Once(), interpose(func(b store.Batch, commit func() error) error {
				if run := during; run != nil && writes(b, "log") {
					during = nil
					run()
				}
				return commit()
			}))
			h.MustDeliver(captured("a"))
			late := h.Event(captured("late"))
			next := []ce.Event{h.Event(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))}
			step := func() {
				h.Receive(next...)
				next = nil
				for _, e := range h.Emitted() {
					switch e.Type() {
					case event.ArchiveReplay.Name():
						next = append(next, e)
					case event.ArchiveReplayed.Name():
					default:
						past = append(past, e)
					}
				}
			}
			for range after {
				step()
			}
			during = func() {
				for len(next) > 0 {
					step()
				}
			}
			h.Receive(late)
			for len(next) > 0 {
				step()
			}
			past = append(past, h.Emitted()...)
			found := map[string]int{}
			for _, e := range past {
				found[e.Subject()]++
			}
			if found["a"] != 1 || found["late"] != 1 || len(found) != 2 {
				t.Errorf("replayed %v", found)
			}
		})
	}
}

// seed writes documents as an older version of the archive did.
func seed(t *testing.T, h *functiontest.Harness, documents map[string]string) {
	t.Helper()
	db, err := h.Store(t.Context(), "archive", store.Schema{{Name: "events"}, {Name: "heads"}})
	if err != nil {
		t.Fatal(err)
	}
	var b store.Batch
	for id, data := range documents {
		k := store.Key{Collection: "events", ID: id}
		if id == "head" {
			k.Collection = "heads"
		}
		b.Mutations = append(b.Mutations, store.Mutation{Key: k, Version: 1, Data: json.RawMessage(data)})
	}
	if err := db.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// An archive that older versions have written is read as before: the events that they counted come first, and those are
// repaired whose data they wrote as it was.
func TestYesterdaysArchive(t *testing.T) {
	h := functiontest.New(t, archive.New)
	old := func(n int, minute int, subject, members string) string {
		return fmt.Sprintf(`{"position":%d,"at":"2026-03-01T11:%02d:00.000000000Z","id":"e%d","source":"/s","type":"t",`+
			`"subject":"%s","correlation_id":"%s","event":{"specversion":"1.0","id":"e%d","source":"/s","type":"t",`+
			`"subject":"%s",%s,"correlationid":"%s"}}`, n, minute, n, subject, subject, n, subject, members, subject)
	}
	seed(t, h, map[string]string{
		"head":             `{"position":3,"at":"2026-03-01T11:30:00.000000000Z"}`,
		"0000000000000001": old(1, 10, "a", `"datacontenttype":"application/json","data":{"n":1}`),
		"0000000000000002": old(2, 20, "b", "\"datacontenttype\":\"application/json\",\"data\":\xff,\"x\":{"),
		"0000000000000003": old(3, 30, "a", `"datacontenttype":"application/x+json","data":"{\"n\":3}"`),
	})
	h.MustDeliver(captured("c"), captured("a"))
	for query, want := range map[string][]string{
		"?order=asc": {"a", "b", "a", "c", "a"}, "?order=desc": {"a", "c", "a", "b", "a"},
		"?subject=a": {"a", "a", "a"}, "?correlation=a&order=desc": {"a", "a", "a"}, "?type=t": {"a", "b", "a"},
		"?since=2026-03-01T11:15:00Z":                            {"b", "a", "c", "a"},
		"?since=2026-03-01T11:15:00Z&until=2026-03-01T11:25:00Z": {"b"},
		"?until=2026-03-01T11:25:00Z&order=desc":                 {"b", "a"},
		"?since=2026-03-01T11:45:00Z":                            {"c", "a"},
	} {
		equal(t, query, read(h, query).subjects(), want)
		equal(t, query+" page by page", pages(h, query+"&limit=1"), want)
	}
	all := read(h, "").Items
	for i, want := range []string{`{"n":1}`, "\xff,\"x\":{", `{"n":3}`} {
		if got := string(all[i].Event.Data()); got != want || all[i].Event.Extensions()["correlationid"] == nil {
			t.Errorf("event %d: got data %q, want %q", i+1, got, want)
		}
	}
	var one struct{ Position string }
	h.Call("GET", "/api/archive/events/0000000000000002", functiontest.Admin(), nil).Expect(200).JSON(&one)
	h.Call("GET", "/api/archive/causality/b", functiontest.Admin(), nil).Expect(200)
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))
	past, _, done := run(h)
	var got []string
	for _, e := range past {
		got = append(got, e.Subject())
	}
	equal(t, "replayed", got, []string{"a", "b", "a", "c", "a"})
	if one.Position != "0000000000000002" || done.Count != 5 {
		t.Errorf("got position %s, %d replayed", one.Position, done.Count)
	}
}

// A replay that an older version has begun is carried on from its cursor.
func TestYesterdaysReplay(t *testing.T) {
	h := functiontest.New(t, archive.New)
	documents := map[string]string{"head": `{"position":9,"at":"2026-03-01T11:30:00.000000000Z"}`}
	for n := 1; n < 10; n++ {
		documents[fmt.Sprintf("%016x", n)] = fmt.Sprintf(`{"position":%d,"at":"2026-03-01T11:30:00.000000000Z","id":"e%d",`+
			`"source":"/s","type":"t","event":{"specversion":"1.0","id":"e%d","source":"/s","type":"t"}}`, n, n, n)
	}
	seed(t, h, documents)
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{
		ReplayID: "r", To: "views", Cursor: "eyJuZXh0Ijo2LCJsYXN0Ijo4LCJvcGVuIjp0cnVlLCJjb3VudCI6NX0", // {"next":6,"last":8,…
	}))
	if past, _, done := run(h); len(past) != 4 || past[0].ID() != "e6" || done.Count != 9 {
		t.Errorf("got %d events, %+v", len(past), done)
	}
}

// A page, and a portion of a replay, are limited in bytes and not only in events.
func TestLargeEvents(t *testing.T) {
	largest := 0
	h := functiontest.New(t, archive.New, interpose(func(b store.Batch, commit func() error) error {
		for _, m := range b.Mutations {
			if m.Collection == "_outbox" {
				largest = max(largest, len(m.Data))
			}
		}
		return commit()
	}))
	const size = 100 << 10
	for n := range 60 {
		e := h.Event(captured(fmt.Sprintf("a-%02d", n)))
		e.SetType("com.example.large.v1")
		_ = e.SetData("text/plain", strings.Repeat("x", size))
		h.Receive(e)
	}
	if got := len(read(h, "?limit=500").Items); got > 42 || got < 30 {
		t.Errorf("a page of 4 MiB has %d events of 100 KiB", got)
	}
	if got := len(pages(h, "?limit=500")); got != 60 {
		t.Errorf("the pages have %d events", got)
	}
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))
	if past, _, done := run(h); len(past) != 60 || done.Count != 60 || largest > 512<<10 {
		t.Errorf("%d events were replayed, the largest document of the outbox has %d bytes", len(past), largest)
	}
}

// A replay gets on with a store that refuses portions of the usual size.
func TestReplayByHalves(t *testing.T) {
	h := functiontest.New(t, archive.New, interpose(func(b store.Batch, commit func() error) error {
		for _, m := range b.Mutations {
			if len(m.Data) > 4000 {
				return fault.New(fault.TooLarge, "the document has %d bytes", len(m.Data))
			}
		}
		return commit()
	}))
	numbered(h, 200)
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))
	if past, portions, done := run(h); len(past) != 200 || done.Count != 200 {
		t.Errorf("got %d events in %d portions, %+v", len(past), portions, done)
	}
}
