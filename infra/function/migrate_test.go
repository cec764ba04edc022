package function_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// personV1 and personV2 are what two versions of a function store.
type (
	personV1 struct {
		Name string `json:"name"`
	}
	personV2 struct {
		First string `json:"first"`
		Last  string `json:"last"`
	}
	personInput struct {
		ID string `path:"id"`
	}
	personOutput struct{ Body personV2 }
)

func splitName(doc store.Fields) error {
	var name string
	if err := json.Unmarshal(doc["name"], &name); err != nil {
		return err
	}
	first, last, _ := strings.Cut(name, " ")
	delete(doc, "name")
	doc["first"], _ = json.Marshal(first)
	doc["last"], _ = json.Marshal(last)
	return nil
}

// peopleV1 makes the older version, whose people have one name.
func peopleV1(env function.Env) (*function.Function, error) {
	f := function.New("people", env)
	people := function.Collection[personV1](f, "people")
	function.Serve(f, function.Operation{Method: "PUT", Path: "/api/people/{id}", Status: 204, Idempotency: function.Off},
		func(ctx context.Context, tx *function.Tx, in *personInput) (*struct{}, error) {
			return nil, people.Put(ctx, tx, in.ID, personV1{Name: "Ada King"})
		})
	return f, nil
}

// peopleV2 makes the newer version.
func peopleV2(env function.Env) (*function.Function, error) {
	f := function.New("people", env)
	people := function.Collection[personV2](f, "people", store.Migrate(splitName))
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/people/{id}"},
		func(ctx context.Context, tx *function.Tx, in *personInput) (*personOutput, error) {
			p, err := people.Get(ctx, tx, in.ID)
			return &personOutput{p}, err
		})
	function.Serve(f, function.Operation{Method: "PUT", Path: "/api/people/{id}", Status: 204, Idempotency: function.Off},
		func(ctx context.Context, tx *function.Tx, in *personInput) (*struct{}, error) {
			p, _, err := people.Find(ctx, tx, in.ID)
			if err != nil {
				return nil, err
			}
			p.Last += "!"
			return nil, people.Put(ctx, tx, in.ID, p)
		})
	return f, nil
}

func sharing(h *functiontest.Harness) functiontest.Option {
	return func(other *functiontest.Harness) { other.Store = h.Store }
}

func put(h *functiontest.Harness, id string) *functiontest.Response {
	return h.Call("PUT", "/api/people/"+id, functiontest.As("ada"), nil)
}

// A document of an older version is migrated when it is read, and when it is written nothing of the older form is left.
// The older version, running still, is refused what the newer one has written.
func TestDocumentsAreMigrated(t *testing.T) {
	old := functiontest.New(t, peopleV1)
	put(old, "p").Expect(204)
	h := functiontest.New(t, peopleV2, sharing(old))
	var got personV2
	h.Call("GET", "/api/people/p", functiontest.As("ada"), nil).Expect(200).JSON(&got)
	if (got != personV2{"Ada", "King"}) {
		t.Errorf("got %+v", got)
	}
	put(h, "p").Expect(204)
	want := `{"_revision":1,"first":"Ada","last":"King!"}`
	if docs := documents(t, h, "people"); string(docs[0].Data) != want {
		t.Errorf("got %s, want %s", docs[0].Data, want)
	}
	put(old, "p").Expect(503) // it has no migrations yet, and would write its form over the newer one
	between := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("people", env)
		people := function.Collection[personV2](f, "people", store.Accept(1))
		function.Serve(f, function.Operation{Method: "GET", Path: "/api/people/{id}"},
			func(ctx context.Context, tx *function.Tx, in *personInput) (*personOutput, error) {
				p, err := people.Get(ctx, tx, in.ID)
				return &personOutput{p}, err
			})
		return f, nil
	}, sharing(old))
	between.Call("GET", "/api/people/p", functiontest.As("ada"), nil).Expect(200).JSON(&got)
	if (got != personV2{"Ada", "King!"}) {
		t.Errorf("a version that accepts the revision reads %+v", got)
	}
	newer := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("people", env)
		nothing := func(store.Fields) error { return nil }
		people := function.Collection[personV2](f, "people", store.Migrate(splitName), store.Migrate(nothing))
		function.Serve(f, function.Operation{Method: "PUT", Path: "/api/people/{id}", Status: 204, Idempotency: function.Off},
			func(ctx context.Context, tx *function.Tx, in *personInput) (*struct{}, error) {
				return nil, people.Put(ctx, tx, in.ID, personV2{})
			})
		return f, nil
	}, sharing(old))
	put(newer, "p").Expect(204)
	if r := h.Call("GET", "/api/people/p", functiontest.As("ada"), nil); r.Status != 503 {
		t.Errorf("what a newer version wrote is answered %d", r.Status)
	}
	put(h, "p").Expect(503)
}

// Units of work migrate all documents, portion by portion; several instances share the work, and one that stops loses
// nothing. What an older version has written meanwhile is found by the pass after that.
func TestBackfill(t *testing.T) {
	old := functiontest.New(t, peopleV1)
	for n := range 500 {
		put(old, fmt.Sprintf("p%03d", n)).Expect(204)
	}
	one, two := functiontest.New(t, peopleV2, sharing(old)), functiontest.New(t, peopleV2, sharing(old))
	left := func() (n int) {
		for _, d := range documents(t, one, "people") {
			if strings.Contains(string(d.Data), `"name"`) {
				n++
			}
		}
		return n
	}
	for n := 0; left() > 0; n++ {
		before := left()
		put(one, "x").Expect(204)
		put(two, "y").Expect(204)
		if gone := before - left(); gone > 100 || n == 8 {
			t.Fatalf("step %d: two units have migrated %d documents, %d are left", n, gone, left())
		}
		if n == 2 {
			one.Restart()
		}
		one.Clock.Advance(time.Second)
		two.Clock.Advance(time.Second)
	}
	put(old, "a-late-one").Expect(204) // behind all portions
	for range 100 {
		one.Clock.Advance(time.Minute)
		put(one, "x").Expect(204)
	}
	if n := left(); n != 0 {
		t.Errorf("%d documents are left", n)
	}
	one.Clock.Advance(5 * time.Hour)
	for range 12 {
		one.Clock.Advance(time.Second)
		put(one, "x").Expect(204)
	}
	progress := documents(t, one, "_migrations")
	if len(progress) != 1 || !strings.Contains(string(progress[0].Data), `"finished":true`) ||
		!strings.Contains(string(progress[0].Data), `"total":501`) {
		t.Errorf("got %s", progress[0].Data)
	}
}

// A document that cannot be migrated holds up no other, and is reported.
func TestBackfillGoesOn(t *testing.T) {
	old := functiontest.New(t, peopleV1)
	for n := range 60 {
		put(old, fmt.Sprintf("p%03d", n)).Expect(204)
	}
	d := old.I.Declaration()
	db, err := old.Store(t.Context(), d.Name, d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	bad := store.Mutation{Key: store.Key{Collection: "people", ID: "bad"}, Version: 1, Data: []byte(`{"name":7}`)}
	if err := db.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{bad}}); err != nil {
		t.Fatal(err)
	}
	h := functiontest.New(t, peopleV2, sharing(old))
	for range 5 {
		put(h, "x").Expect(204)
		h.Clock.Advance(time.Second)
	}
	for _, d := range documents(t, h, "people") {
		if d.ID != "bad" && !strings.Contains(string(d.Data), `"first"`) {
			t.Errorf("%s is left: %s", d.ID, d.Data)
		}
	}
	if p := documents(t, h, "_migrations"); strings.Contains(string(p[0].Data), `"finished":true`) {
		t.Errorf("the migration has ended: %s", p[0].Data)
	}
}

// Documents that together have more bytes than the store takes at once are migrated in smaller portions, and a
// collection that cannot be migrated holds up no other. A document that is too large alone is left as it is.
func TestBackfillOfLargeDocuments(t *testing.T) {
	text := strings.Repeat("x", 10<<10)
	two := func(option ...store.Option) func(function.Env) (*function.Function, error) {
		return func(env function.Env) (*function.Function, error) {
			f := function.New("people", env)
			large := function.Collection[personV1](f, "alarge", option...)
			people := function.Collection[personV1](f, "people", option...)
			function.Serve(f,
				function.Operation{Method: "PUT", Path: "/api/people/{id}", Status: 204, Idempotency: function.Off},
				func(ctx context.Context, tx *function.Tx, in *personInput) (*struct{}, error) {
					if err := large.Put(ctx, tx, in.ID, personV1{Name: text}); err != nil {
						return nil, err
					}
					return nil, people.Put(ctx, tx, in.ID, personV1{Name: "Ada King"})
				})
			return f, nil
		}
	}
	old := functiontest.New(t, two())
	for n := range 40 {
		put(old, fmt.Sprintf("p%03d", n)).Expect(204)
	}
	d := old.I.Declaration()
	db, err := old.Store(t.Context(), d.Name, d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	limit := 100 << 10
	if err := db.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{{
		Key:     store.Key{Collection: "alarge", ID: "p020, larger"},
		Version: 1, Data: []byte(`{"name":"` + strings.Repeat("x", limit) + `"}`),
	}}}); err != nil {
		t.Fatal(err)
	}
	h := functiontest.New(t, two(store.Migrate(func(store.Fields) error { return nil })), func(h *functiontest.Harness) {
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := old.Store(ctx, name, schema)
			return narrow{db, limit}, err
		}
	})
	left := func(collection string) (n int) {
		for _, d := range documents(t, old, collection) {
			if !strings.Contains(string(d.Data), `"_revision"`) {
				n++
			}
		}
		return n
	}
	for range 20 {
		put(h, "x").Expect(204)
		h.Clock.Advance(time.Second)
	}
	if n, m := left("alarge"), left("people"); n != 1 || m > 0 {
		t.Errorf("%d and %d documents are left, want 1 and none", n, m)
	}
}

// narrow is a store whose commits have a limit in bytes.
type narrow struct {
	store.Driver
	bytes int
}

func (s narrow) Commit(ctx context.Context, b store.Batch) error {
	size := 0
	for _, m := range b.Mutations {
		size += len(m.Data)
	}
	if size > s.bytes {
		return fault.New(fault.TooLarge, "a commit has %d bytes", size)
	}
	return s.Driver.Commit(ctx, b)
}
