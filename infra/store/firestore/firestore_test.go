package firestore_test

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

func TestConformance(t *testing.T) {
	needEmulator(t)
	defer firestore.SetPruneEvery(1)()
	var clocks sync.Map // by test
	open := func(t *testing.T, schema store.Schema) store.Driver {
		c, _ := clocks.LoadOrStore(t.Name(), &clock{})
		s := open(t, schema)
		s.SetNow(c.(*clock).now)
		return s
	}
	storetest.Run(t, storetest.Harness{
		New:    open,
		Reopen: open,
		Later: func(t *testing.T, schema store.Schema) store.Driver {
			c, _ := clocks.Load(t.Name())
			c.(*clock).later.Store(true)
			return open(t, schema)
		},
		Marks:       func(t *testing.T, d store.Driver) int { return d.(*firestore.Store).Marks(t) },
		MaxDocument: 1<<20 - 1024, // Firestore counts names and keys too
		Histories:   6,            // the emulator lets transactions that lock each other wait for two seconds
	})
}

// clock is the clock of a test's handles. Later, it goes on by more than half an hour with each look.
type clock struct {
	later atomic.Bool
	looks atomic.Int64
}

func (c *clock) now() time.Time {
	if !c.later.Load() {
		return time.Now()
	}
	return time.Now().Add(store.MarkRetention + time.Hour + time.Duration(c.looks.Add(1))*40*time.Minute)
}

var indexed = store.Schema{{Name: "things", Indexes: []store.Index{store.On("n")}}, {Name: "others"}}

func thing(id string) store.Key { return store.Key{Collection: "things", ID: id} }
func other(id string) store.Key { return store.Key{Collection: "others", ID: id} }

func put(k store.Key, version int64, data string) store.Mutation {
	return store.Mutation{Key: k, Version: version, Data: []byte(data)}
}

func commit(t *testing.T, d store.Driver, mutations ...store.Mutation) {
	t.Helper()
	if err := d.Commit(t.Context(), store.Batch{Mutations: mutations}); err != nil {
		t.Fatal(err)
	}
}

func closing(t *testing.T, s *firestore.Store) *firestore.Store {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A document that Firestore would refuse is refused with the reason, and nothing of its batch is stored.
func TestLimits(t *testing.T) {
	s := closing(t, open(t, indexed))
	long := strings.Repeat("x", 1501)
	big := func(n int) string { return `{"text":"` + strings.Repeat("x", n) + `"}` }
	var many []store.Mutation
	for i := range 11 {
		many = append(many, put(other(fmt.Sprint(i)), 1, big(1_000_000)))
	}
	for name, c := range map[string]struct {
		batch []store.Mutation
		kind  fault.Kind
		says  string
	}{
		"a document of more than 1 MiB": {
			[]store.Mutation{put(other("a"), 1, big(1<<20))}, fault.TooLarge, "at most 1048576",
		},
		"an index of more than 1,500 bytes": {
			[]store.Mutation{put(thing("a"), 1, `{"n":"`+long+`"}`)}, fault.Invalid, "at most 1500",
		},
		"a commit of more than 10 MiB": {many, fault.TooLarge, "at most 10485760 at once"},
		"an id that is no text":        {[]store.Mutation{put(other("\xff"), 1, `{}`)}, fault.Invalid, "UTF-8"},
		"data that is no text": {
			[]store.Mutation{put(other("a"), 1, "{\"a\":\"\xff\"}")}, fault.Invalid, "UTF-8",
		},
		"one of several is more than it may be": {
			[]store.Mutation{put(other("kept"), 1, `{}`), put(other("a"), 1, big(1<<20))}, fault.TooLarge, "at most",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.Commit(t.Context(), store.Batch{Mutations: c.batch})
			if !fault.Is(err, c.kind) || !strings.Contains(fault.Public(err), c.says) {
				t.Errorf("got %v: %v", fault.KindOf(err), err)
			}
		})
	}
	if docs, _, err := s.Query(t.Context(), store.Query{Collection: "others", Limit: 10}); err != nil || len(docs) > 0 {
		t.Errorf("there are %d documents, %v", len(docs), err)
	}
	for _, v := range []any{long, "\xff"} {
		_, _, err := s.Query(
			t.Context(),
			store.Query{Collection: "things", Limit: 1, Where: []store.Filter{{Field: "n", Op: store.Equal, Value: v}}},
		)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("a query for %.10q…: got %v", v, err)
		}
	}
}

// Firestore accepts a document of the largest size.
func TestLargestDocument(t *testing.T) {
	s := closing(t, open(t, indexed))
	for _, k := range []store.Key{thing("a"), other("a"), other(strings.Repeat("long", 600))} {
		most := sort.Search(1<<20, func(size int) bool {
			data := fmt.Sprintf(`{"n":1.5,"s":"%s"}`, strings.Repeat("x", size))
			err := s.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{put(k, 1, data)}})
			if err != nil && (!fault.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), "names and indexes included")) {
				t.Errorf("%d bytes: %v", len(data), err)
			}
			return err != nil
		}) - 1
		if most < 1<<20-4000 {
			t.Errorf("%s: the largest is %d", k.Collection, most)
		}
	}
}

// A batch of more than 500 writes, Firestore's former limit, is one commit.
func TestManyWrites(t *testing.T) {
	s := closing(t, open(t, indexed))
	var b store.Batch
	for i := range 1200 {
		k := thing(fmt.Sprint(i))
		b.Preconditions = append(b.Preconditions, store.Precondition{Key: k})
		b.Mutations = append(b.Mutations, put(k, 1, fmt.Sprintf(`{"n":%d}`, i)))
	}
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), b); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
}

// A precondition is on the version: a document that was deleted and created again with the same version satisfies it,
// although this handle has cached another update time.
func TestVersionsCountAndNotUpdates(t *testing.T) {
	a, b := closing(t, open(t, indexed)), closing(t, open(t, indexed))
	commit(t, a, put(thing("x"), 1, `{"n":1}`))
	commit(t, b, store.Mutation{Key: thing("x")})
	commit(t, b, put(thing("x"), 1, `{"n":2}`))
	at := func(version int64) store.Batch {
		return store.Batch{
			Preconditions: []store.Precondition{{Key: thing("x"), Version: version}},
			Mutations:     []store.Mutation{put(thing("x"), version+1, `{"n":3}`)},
		}
	}
	if err := a.Commit(t.Context(), at(1)); err != nil {
		t.Error(err)
	}
	if err := b.Commit(t.Context(), at(1)); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
}

// Two functions never share a database: each has an inbox.
func TestDatabaseOfAnotherFunction(t *testing.T) {
	closing(t, open(t, indexed))
	commit(t, closing(t, open(t, indexed)), put(thing("x"), 1, `{}`))
	c := databaseOf(t)
	c.Function = "thief"
	s, err := firestore.Open(t.Context(), c, indexed)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	for what, err := range map[string]error{
		"ready":  s.Ready(t.Context()),
		"commit": s.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{put(thing("x"), 2, `{}`)}}),
	} {
		if err == nil || !strings.Contains(err.Error(), "belongs to the function test") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// An address has a project and a database, or a project only; others are refused, and the error does not contain them.
func TestParseURL(t *testing.T) {
	for address, want := range map[string][2]string{
		"firestore://shop/orders":    {"shop", "orders"},
		"firestore://shop/(default)": {"shop", "(default)"},
		"firestore://shop":           {"shop", ""},
		"firestore://shop/":          {"shop", ""},
	} {
		project, database, err := firestore.ParseURL(address)
		if got := [2]string{project, database}; err != nil || got != want {
			t.Errorf("%s: got %q, %v", address, got, err)
		}
	}
	for _, address := range []string{
		"", "firestore:", "firestore:shop", "firestore:///orders", "postgres://shop/orders",
		"firestore://a:secret@shop/orders", "firestore://shop/orders/more", "firestore://shop/orders?x=y",
		"firestore://shop/orders#x", "firestore://%zz",
	} {
		_, _, err := firestore.ParseURL(address)
		if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", address, err)
		}
	}
}
