// Package storetest is the conformance suite of store drivers. Each case has the name of the sentence in package
// store's documentation that it checks.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// Harness describes a driver to the suite.
type Harness struct {
	// New opens a new, empty database for a test. The suite closes it.
	New func(t *testing.T, schema store.Schema) store.Driver

	// Reopen opens the database of the same test again, possibly with another schema and while other handles are open.
	// Nil: the driver cannot, and the cases that need it are skipped.
	Reopen func(t *testing.T, schema store.Schema) store.Driver

	// Later opens the database of the same test again, by a clock that is past store.MarkRetention. Nil: the driver has no
	// clock that a test can set, and the cases that need it are skipped.
	Later func(t *testing.T, schema store.Schema) store.Driver

	// Marks returns the number of marks of deleted documents in the database of a driver. Nil: it cannot be told.
	Marks func(t *testing.T, d store.Driver) int

	// MaxDocument is the size in bytes of the largest document in the suite; 0: 1 MiB.
	MaxDocument int

	// MaxMutations is the most mutations of one commit in the suite; 0: any number. It is for a database that limits them.
	MaxMutations int

	// Histories is the number of recorded histories of concurrent calls; 0: 40. Lower it for a database whose conflicting
	// calls wait for seconds.
	Histories int
}

// Schema is the schema of most cases.
var Schema = store.Schema{
	{Name: "things", Indexes: []store.Index{
		store.On("n"),
		store.On("kind", "n"),
		store.On("kind", "n", "name"),
		store.On("state.customer_id"),
	}},
	{Name: "others"},
	{Name: "once", SingleUse: true},
}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	groups := map[string]map[string]func(*testing.T, Harness){
		"get": getCases, "commit": commitCases, "versions": versionCases, "query": queryCases, "life": lifeCases,
		"property": propertyCases,
	}
	for group, cases := range groups {
		t.Run(group, func(t *testing.T) {
			for name, run := range cases {
				t.Run(name, func(t *testing.T) { run(t, h) })
			}
		})
	}
}

var getCases = map[string]func(*testing.T, Harness){
	"a missing document has version 0 and no data": func(t *testing.T, h Harness) {
		d := h.open(t)
		got := get(t, d, thing("nobody"))
		if want := []store.Document{{Key: thing("nobody")}}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	},

	"one document per key in the order of the keys": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 1, `{"n":1}`), put(thing("b"), 7, `{"n":2}`), put(other("a"), 3, `{"n":3}`))
		got := get(t, d, thing("b"), other("a"), thing("missing"), thing("a"), thing("b"))
		want := []string{"things/b@7 2", "others/a@3 3", "things/missing@0 -", "things/a@1 1", "things/b@7 2"}
		same(t, describe(got), want)
	},

	"no keys are no documents": func(t *testing.T, h Harness) {
		if got := get(t, h.open(t)); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	},

	"the caller may keep and change what it gets": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 1, `{"n":1}`))
		spoil(get(t, d, thing("a"))[0].Data)
		docs, _ := query(t, d, store.Query{Collection: "things", Limit: 1})
		spoil(docs[0].Data)
		same(t, describe(get(t, d, thing("a"))), []string{"things/a@1 1"})
	},

	"what several keys return is one consistent state": func(t *testing.T, h Harness) {
		d := h.open(t)
		keys := []store.Key{thing("a")}
		for i := range 60 { // enough for a commit between the first and the last
			keys = append(keys, other(fmt.Sprint(i)))
		}
		keys = append(keys, thing("z"))
		ctx, stop := context.WithCancel(t.Context())
		var writing sync.WaitGroup
		writing.Go(func() {
			for v := int64(1); ctx.Err() == nil; v++ {
				commit(t, d, put(thing("a"), v, `{}`), put(thing("z"), v, `{}`))
			}
		})
		for range 300 {
			docs := get(t, d, keys...)
			if first, last := docs[0].Version, docs[len(docs)-1].Version; first != last {
				t.Errorf("read halves of two commits: %d and %d", first, last)
				break
			}
		}
		stop()
		writing.Wait()
	},

	"an undeclared collection is refused": func(t *testing.T, h Harness) {
		d := h.open(t)
		nowhere := store.Key{Collection: "nowhere", ID: "a"}
		_, err := d.Get(t.Context(), thing("a"), nowhere)
		wantKind(t, err, fault.Internal)
		wantKind(t, try(t, d, nil, put(nowhere, 1, `{}`)), fault.Internal)
		wantKind(t, try(t, d, []store.Precondition{{Key: nowhere}}), fault.Internal)
		_, _, err = d.Query(t.Context(), store.Query{Collection: "nowhere", Limit: 1})
		wantKind(t, err, fault.Internal)
	},
}

var commitCases = map[string]func(*testing.T, Harness){
	"a write without precondition replaces the whole document": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 1, `{"n":1,"name":"x"}`))
		commit(t, d, put(thing("a"), 2, `{"n":2}`))
		sameJSON(t, get(t, d, thing("a"))[0].Data, `{"n":2}`)
	},

	"the version is the writer's": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 41, `{"n":1}`))
		same(t, describe(get(t, d, thing("a"))), []string{"things/a@41 1"})
	},

	"what was handed over may be changed afterwards": func(t *testing.T, h Harness) {
		d := h.open(t)
		m := put(thing("a"), 1, `{"n":1}`)
		commit(t, d, m)
		spoil(m.Data)
		same(t, describe(get(t, d, thing("a"))), []string{"things/a@1 1"})
	},

	"data keeps its digits and its characters": func(t *testing.T, h Harness) {
		d := h.open(t)
		const data = `{"n":9007199254740993,"f":0.1,"e":-2.5e-3,"s":"é \" \\ \n 日本 \u2028 🚢 <b>",` +
			`"o":{},"a":[1,null,true,` +
			`"x",{"y":[]}],"":0}`
		commit(t, d, put(thing("a"), 1, data))
		sameJSON(t, get(t, d, thing("a"))[0].Data, data)
	},

	"a mutation without data deletes": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 1, `{"n":1}`), put(thing("b"), 1, `{"n":2}`))
		commit(t, d, remove(thing("a")), remove(thing("never was")))
		same(t, describe(get(t, d, thing("a"), thing("b"))), []string{"things/a@0 -", "things/b@1 2"})
		docs, _ := query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 10})
		same(t, ids(docs), []string{"b"})
	},

	"a precondition holds or nothing is applied": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("here"), 3, `{"n":1}`), put(other("here"), 4, `{"n":1}`))
		here, there, gone := thing("here"), other("here"), thing("gone")
		for name, row := range map[string]struct {
			pre   []store.Precondition
			holds bool
		}{
			"absent and it is":             {[]store.Precondition{at(gone, 0)}, true},
			"absent and it is not":         {[]store.Precondition{at(here, 0)}, false},
			"at the version":               {[]store.Precondition{at(here, 3)}, true},
			"at an older version":          {[]store.Precondition{at(here, 4)}, false},
			"at a newer version":           {[]store.Precondition{at(here, 2)}, false},
			"at a version and it is gone":  {[]store.Precondition{at(gone, 1)}, false},
			"mixed and all hold":           {[]store.Precondition{at(gone, 0), at(here, 3), at(there, 4)}, true},
			"mixed and the last does not":  {[]store.Precondition{at(gone, 0), at(here, 3), at(there, 5)}, false},
			"mixed and the first does not": {[]store.Precondition{at(gone, 2), at(here, 3), at(there, 4)}, false},
		} {
			t.Run(name, func(t *testing.T) {
				// The precondition is on other documents than those that are written and deleted.
				commit(t, d, put(thing("old"), 1, `{"n":1}`), put(thing("doomed"), 1, `{"n":1}`), remove(thing("new")))
				err := try(t, d, row.pre, put(thing("new"), 1, `{"n":2}`), put(thing("old"), 2, `{"n":2}`), remove(thing("doomed")))
				want := []string{"things/new@1 2", "things/old@2 2", "things/doomed@0 -"}
				if !row.holds {
					want = []string{"things/new@0 -", "things/old@1 1", "things/doomed@1 1"}
					wantKind(t, err, fault.Conflict)
				} else if err != nil {
					t.Error(err)
				}
				same(t, describe(get(t, d, thing("new"), thing("old"), thing("doomed"))), want)
			})
		}
	},

	"preconditions alone are checked": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 1, `{}`))
		if err := try(t, d, []store.Precondition{at(thing("a"), 1)}); err != nil {
			t.Error(err)
		}
		wantKind(t, try(t, d, []store.Precondition{at(thing("a"), 2)}), fault.Conflict)
	},

	"an empty batch is nothing": func(t *testing.T, h Harness) {
		if err := try(t, h.open(t), nil); err != nil {
			t.Error(err)
		}
	},

	"twenty concurrent increments all survive": func(t *testing.T, h Harness) {
		d := h.open(t)
		var running sync.WaitGroup
		for range 20 {
			running.Go(func() { increment(t, d, thing("counter")) })
		}
		running.Wait()
		same(t, describe(get(t, d, thing("counter"))), []string{"things/counter@20 20"})
	},

	"a batch that fails does not disturb others at the same time": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 1, `{}`))
		var running sync.WaitGroup
		for i := range 20 {
			key := thing(fmt.Sprint("good ", i))
			running.Go(func() { commit(t, d, put(key, 1, `{}`)) })
			running.Go(func() {
				wantKind(t, try(t, d, []store.Precondition{at(thing("a"), 9)}, put(key, 2, `{}`)), fault.Conflict)
			})
		}
		running.Wait()
		for i := range 20 {
			same(t, describe(get(t, d, thing(fmt.Sprint("good ", i)))), []string{fmt.Sprintf("things/good %d@1 -", i)})
		}
	},

	"of those who race to create one wins": func(t *testing.T, h Harness) {
		d := h.open(t)
		var won atomic.Int64
		var running sync.WaitGroup
		for range 10 {
			running.Go(func() {
				err := try(t, d, []store.Precondition{{Key: thing("a")}}, put(thing("a"), 1, `{}`))
				if err == nil {
					won.Add(1)
				} else {
					wantKind(t, err, fault.Conflict)
				}
			})
		}
		running.Wait()
		if won.Load() != 1 {
			t.Errorf("%d won", won.Load())
		}
	},

	"ids are any text and are not confused": func(t *testing.T, h Harness) {
		d := h.open(t)
		names := []string{
			"a", "A", "á", "a\u0301", "日本語", "🚢", "with space", "a/b", "..", ".", "__x__", "it's", `"quoted"`, "%2F",
			"a'; --", strings.Repeat("long", 60),
		}
		var batch []store.Mutation
		for i, id := range names {
			batch = append(batch, put(thing(id), int64(i+1), fmt.Sprintf(`{"n":%d}`, i)))
		}
		commit(t, d, batch...)
		for i, id := range names {
			same(t, describe(get(t, d, thing(id))), []string{fmt.Sprintf("things/%s@%d %d", id, i+1, i)})
		}
		docs, _ := query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 100})
		same(t, ids(docs), names)
	},

	"big documents": func(t *testing.T, h Harness) {
		d := h.open(t)
		size := h.MaxDocument
		if size == 0 {
			size = 1 << 20
		}
		data := `{"n":1,"text":"` + strings.Repeat("ebb ", (size-100)/4) + `"}`
		commit(t, d, put(thing("big"), 1, data))
		if got := string(get(t, d, thing("big"))[0].Data); len(got) < len(data) {
			t.Errorf("got %d bytes of %d", len(got), len(data))
		}
		docs, _ := query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 1})
		same(t, ids(docs), []string{"big"})
	},
}

var lifeCases = map[string]func(*testing.T, Harness){
	"a cancelled context ends a call": func(t *testing.T, h Harness) {
		d := h.open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, err := range everyCall(ctx, d) {
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("%s: got %v, want a cancelled context", name, err)
			}
		}
	},

	"a passed deadline ends a call": func(t *testing.T, h Harness) {
		d := h.open(t)
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		for name, err := range everyCall(ctx, d) {
			wantKindOf(t, name, err, fault.Timeout)
		}
	},

	"a driver whose callers gave up goes on": func(t *testing.T, h Harness) {
		d := h.open(t)
		for n := range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*20*time.Microsecond)
			_ = everyCall(ctx, d) // any result is fine
			cancel()
		}
		commit(t, d, put(thing("a"), 1, `{"n":1}`))
		same(t, describe(get(t, d, thing("a"))), []string{"things/a@1 1"})
	},

	"a method called after close answers unavailable": func(t *testing.T, h Harness) {
		d := h.open(t)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		for name, err := range everyCall(t.Context(), d) {
			wantKindOf(t, name, err, fault.Unavailable)
		}
	},

	"closing twice is allowed": func(t *testing.T, h Harness) {
		d := h.open(t)
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	},

	"close waits for running calls": func(t *testing.T, h Harness) {
		d := h.open(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // for calls that never return
		defer cancel()
		var running sync.WaitGroup
		var started atomic.Int64
		for i := range 8 {
			running.Go(func() {
				for n := int64(1); ; n++ {
					err := d.Commit(ctx, store.Batch{Mutations: []store.Mutation{put(thing(fmt.Sprint(i)), n, `{}`)}})
					started.Add(1)
					if err != nil {
						wantKind(t, err, fault.Unavailable)
						return
					}
				}
			})
		}
		for started.Load() < 50 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
	},

	"opening again finds everything": reopening(func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 3, `{"n":1}`), put(thing("b"), 1, `{"n":2}`), put(other("a"), 2, `{"n":9}`))
		commit(t, d, remove(thing("b")))
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = h.reopen(t, Schema)
		same(
			t, describe(get(t, d, thing("a"), thing("b"), other("a"))), []string{"things/a@3 1", "things/b@0 -", "others/a@2 9"},
		)
		docs, _ := query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 5})
		same(t, ids(docs), []string{"a"})
	}),

	"opening with a schema creates what is missing": reopening(func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 1, `{"n":1,"size":2}`), put(thing("b"), 1, `{"n":2,"size":1}`))
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = h.reopen(t, store.Schema{
			{Name: "things", Indexes: []store.Index{store.On("size")}},
			{Name: "added", Indexes: []store.Index{store.On("n")}},
		})
		docs, _ := query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "size"}}, Limit: 5})
		same(t, ids(docs), []string{"b", "a"})
		commit(t, d, put(store.Key{Collection: "added", ID: "x"}, 1, `{"n":1}`))
	}),

	"a collection that is declared no longer keeps its documents": reopening(func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(other("a"), 1, `{"n":1}`))
		if err := errors.Join(d.Close(), h.reopen(t, Schema[:1]).Close()); err != nil {
			t.Fatal(err)
		}
		same(t, describe(get(t, h.reopen(t, Schema), other("a"))), []string{"others/a@1 1"})
	}),

	"a collection becomes single use": reopening(func(t *testing.T, h Harness) {
		d := h.open(t) // an older version of the function, which runs beside the newer one for a while
		commit(t, d, put(thing("a"), 3, `{"n":1}`), put(thing("b"), 1, `{"n":2}`))
		commit(t, d, remove(thing("a")))
		schema := slices.Clone(Schema)
		schema[0].SingleUse = true
		newer := h.reopen(t, schema)
		found := func(want ...string) {
			t.Helper()
			for _, handle := range []store.Driver{d, newer} {
				all, _ := query(t, handle, store.Query{Collection: "things", Limit: 9})
				sorted, _ := query(t, handle, store.Query{
					Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 9,
				})
				same(t, ids(all), want)
				same(t, ids(sorted), want)
				for _, d := range get(t, handle, thing("a"), thing("b")) {
					if there := slices.Contains(want, d.ID); (d.Version > 0) != there {
						t.Errorf("%s is there: %v, want %v", d.ID, !there, there)
					}
				}
			}
		}
		found("b")
		const first = 1 << 52 // the largest that a new document has; see store.SingleUse
		absent := []store.Precondition{at(thing("a"), 0)}
		if err := try(t, newer, absent, put(thing("a"), first, `{"n":1}`)); err != nil {
			t.Fatal(err)
		}
		found("a", "b")
		change := []store.Precondition{at(thing("a"), first)}
		if err := try(t, newer, change, put(thing("a"), first+1, `{"n":1}`)); err != nil {
			t.Fatal(err)
		}
		wantKind(t, try(t, d, change, put(thing("a"), first+1, `{"n":1}`)), fault.Conflict)
		commit(t, newer, remove(thing("a")))
		found("b")
		wantKind(t, try(t, newer, change, put(thing("a"), first+1, `{"n":1}`)), fault.Conflict)
		if err := try(t, d, absent, put(thing("a"), first+2, `{"n":1}`)); err != nil {
			t.Fatal(err)
		}
		found("a", "b")
	}),

	"handles on one database see one another's commits": reopening(func(t *testing.T, h Harness) {
		a := h.open(t)
		b := h.reopen(t, Schema)
		commit(t, a, put(thing("a"), 1, `{"n":1}`))
		same(t, describe(get(t, b, thing("a"))), []string{"things/a@1 1"})
		commit(t, b, put(thing("a"), 2, `{"n":2}`))
		wantKind(t, try(t, a, []store.Precondition{at(thing("a"), 1)}, put(thing("a"), 2, `{"n":3}`)), fault.Conflict)
	}),

	"increments through several handles all survive": reopening(func(t *testing.T, h Harness) {
		d := h.open(t)
		var running sync.WaitGroup
		for range 4 {
			handle := h.reopen(t, Schema)
			for range 5 {
				running.Go(func() { increment(t, handle, thing("counter")) })
			}
		}
		running.Wait()
		same(t, describe(get(t, d, thing("counter"))), []string{"things/counter@20 20"})
	}),

	"opening is safe when many do so at once": reopening(func(t *testing.T, h Harness) {
		h.open(t)
		var running sync.WaitGroup
		for i := range 8 {
			running.Go(func() {
				schema := append(store.Schema{{Name: fmt.Sprint("only", i%2), Indexes: []store.Index{store.On("x")}}}, Schema...)
				d := h.Reopen(t, schema)
				commit(t, d, put(thing(fmt.Sprint(i)), 1, `{}`), put(store.Key{Collection: schema[0].Name, ID: "a"}, 1, `{}`))
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		docs, _ := query(t, h.reopen(t, Schema), store.Query{Collection: "things", Limit: 100})
		if len(docs) != 8 {
			t.Errorf("%d of 8 are there", len(docs))
		}
	}),
}

// reopening skips a case for drivers that cannot reopen a database.
func reopening(run func(*testing.T, Harness)) func(*testing.T, Harness) {
	return func(t *testing.T, h Harness) {
		if h.Reopen == nil {
			t.Skip("the driver cannot open a database again")
		}
		run(t, h)
	}
}

func (h Harness) open(t *testing.T) store.Driver { return closing(t, h.New(t, Schema)) }

func (h Harness) reopen(t *testing.T, schema store.Schema) store.Driver {
	return closing(t, h.Reopen(t, schema))
}

func closing(t *testing.T, d store.Driver) store.Driver {
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return d
}

// everyCall calls every method once and returns the errors by the method's name.
func everyCall(ctx context.Context, d store.Driver) map[string]error {
	_, get := d.Get(ctx, thing("a"), thing("b"))
	_, _, query := d.Query(ctx, store.Query{Collection: "things", Limit: 1})
	commit := d.Commit(ctx, store.Batch{Mutations: []store.Mutation{put(thing("x"), 1, `{}`)}})
	return map[string]error{"Get": get, "Query": query, "Commit": commit}
}

// increment adds one to a document's n and version, and retries after each conflict.
func increment(t *testing.T, d store.Driver, k store.Key) {
	for {
		docs, err := d.Get(t.Context(), k)
		if err != nil {
			t.Error(err)
			return
		}
		v := docs[0].Version
		err = try(t, d, []store.Precondition{at(k, v)}, put(k, v+1, fmt.Sprintf(`{"n":%d}`, v+1)))
		if !fault.Is(err, fault.Conflict) {
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

func thing(id string) store.Key { return store.Key{Collection: "things", ID: id} }
func other(id string) store.Key { return store.Key{Collection: "others", ID: id} }

func put(k store.Key, version int64, data string) store.Mutation {
	return store.Mutation{Key: k, Version: version, Data: json.RawMessage(data)}
}

func at(k store.Key, version int64) store.Precondition {
	return store.Precondition{Key: k, Version: version}
}

func remove(k store.Key) store.Mutation { return store.Mutation{Key: k} }

func try(t *testing.T, d store.Driver, pre []store.Precondition, mutations ...store.Mutation) error {
	t.Helper()
	return d.Commit(t.Context(), store.Batch{Preconditions: pre, Mutations: mutations})
}

// commit and the helpers below report with Error and not Fatal, because cases call them from goroutines.
func commit(t *testing.T, d store.Driver, mutations ...store.Mutation) {
	t.Helper()
	if err := try(t, d, nil, mutations...); err != nil {
		t.Error("commit:", err)
	}
}

func get(t *testing.T, d store.Driver, keys ...store.Key) []store.Document {
	t.Helper()
	docs, err := d.Get(t.Context(), keys...)
	if err != nil || len(docs) != len(keys) {
		t.Errorf("get: %d documents for %d keys, %v", len(docs), len(keys), err)
		return make([]store.Document, len(keys))
	}
	return docs
}

func query(t *testing.T, d store.Driver, q store.Query) (docs []store.Document, more bool) {
	t.Helper()
	docs, more, err := d.Query(t.Context(), q)
	if err != nil {
		t.Errorf("query %+v: %v", q, err)
	}
	return docs, more
}

func ids(docs []store.Document) []string {
	out := []string{}
	for _, d := range docs {
		out = append(out, d.ID)
	}
	return out
}

// describe writes documents as collection/id@version and the field n.
func describe(docs []store.Document) (out []string) {
	for _, d := range docs {
		var fields struct{ N *json.Number }
		n := "-"
		if json.Unmarshal(d.Data, &fields) == nil && fields.N != nil {
			n = fields.N.String()
		}
		out = append(out, fmt.Sprintf("%s/%s@%d %s", d.Collection, d.ID, d.Version, n))
	}
	return out
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func sameJSON(t *testing.T, got json.RawMessage, want string) {
	t.Helper()
	if !reflect.DeepEqual(decode(t, string(got)), decode(t, want)) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func decode(t *testing.T, text string) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Errorf("%q: %v", text, err)
	}
	return v
}

func wantKind(t *testing.T, err error, want fault.Kind) {
	t.Helper()
	wantKindOf(t, "error", err, want)
}

func wantKindOf(t *testing.T, what string, err error, want fault.Kind) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Errorf("%s: got %v, want one of kind %q", what, err, want)
	}
}

func spoil(data []byte) {
	for i := range data {
		data[i] = '!'
	}
}
