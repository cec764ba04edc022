package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

type item struct {
	Shelf string `json:"shelf"`
	N     int    `json:"n"`
}

var (
	items = store.NewCollection[item]("items", store.On("shelf", "n"))
	ctx   = context.Background()
)

func open() store.Driver { return memory.New(store.Schema{items.Spec()}) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func update(t *testing.T, d store.Driver, fn func(tx *store.Tx) error) error {
	t.Helper()
	return store.Update(ctx, d, func(_ context.Context, tx *store.Tx) error { return fn(tx) })
}

func read(t *testing.T, d store.Driver, id string) (item, int64) {
	t.Helper()
	v, version, err := items.Read(ctx, store.Begin(d), id)
	must(t, err)
	return v, version
}

// A transaction reads its own writes, others read them only after the commit, and a failed one writes nothing.
func TestUpdateIsAtomic(t *testing.T) {
	d := open()
	broken := errors.New("broken")
	err := update(t, d, func(tx *store.Tx) error {
		must(t, items.Put(ctx, tx, "a", item{N: 1}))
		v, err := items.Get(ctx, tx, "a")
		must(t, err)
		if _, version := read(t, d, "a"); v.N != 1 || version != 0 {
			t.Errorf("got %v inside and version %d outside", v, version)
		}
		return broken
	})
	if _, version := read(t, d, "a"); !errors.Is(err, broken) || version != 0 {
		t.Errorf("got %v, version %d", err, version)
	}
}

// Twenty writers on one document: every increment survives, and each write makes the next version.
func TestConcurrentIncrements(t *testing.T) {
	d := open()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 10 {
				for {
					err := update(t, d, func(tx *store.Tx) error {
						v, _, err := items.Find(ctx, tx, "a")
						must(t, err)
						v.N++
						return items.Put(ctx, tx, "a", v)
					})
					if err == nil {
						break
					}
					if !fault.Is(err, fault.Conflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if v, version := read(t, d, "a"); v.N != 200 || version != 200 {
		t.Errorf("got %d at version %d, want 200 at 200", v.N, version)
	}
}

// A nested transaction is part of the outer one after Merge and dropped otherwise, and continues its versions.
func TestNest(t *testing.T) {
	d := open()
	must(t, update(t, d, func(tx *store.Tx) error {
		must(t, items.Put(ctx, tx, "a", item{N: 1}))
		kept, lost := tx.Nest(), tx.Nest()
		must(t, items.Put(ctx, lost, "a", item{N: 99}))
		must(t, items.Create(ctx, lost, "b", item{}))
		v, err := items.Get(ctx, kept, "a")
		must(t, err)
		must(t, items.Put(ctx, kept, "a", item{N: v.N + 1}))
		kept.Merge()
		if got := tx.Written(items.Key("a")); got != 2 {
			t.Errorf("got version %d for a, want 2", got)
		}
		return nil
	}))
	if v, version := read(t, d, "a"); v.N != 2 || version != 2 {
		t.Errorf("got %v at %d", v, version)
	}
	if _, version := read(t, d, "b"); version != 0 {
		t.Error("what was not merged is there")
	}
}

// A query returns the transaction's own writes in order, on every page.
func TestQuerySeesOwnWrites(t *testing.T) {
	d := open()
	for n := range 10 {
		must(t, update(t, d, func(tx *store.Tx) error { return items.Put(ctx, tx, fmt.Sprint("i", n), item{"s", n * 10}) }))
	}
	must(t, update(t, d, func(tx *store.Tx) error {
		must(t, items.Put(ctx, tx, "new", item{"s", 35}))
		must(t, items.Put(ctx, tx, "i1", item{"elsewhere", 10}))
		must(t, items.Put(ctx, tx, "i8", item{"s", 5}))
		must(t, items.Delete(ctx, tx, "i4"))
		inner := tx.Nest()
		must(t, items.Create(ctx, inner, "inner", item{"s", 36}))
		var got []int
		for f := (store.Find{
			Where: []store.Filter{{Field: "shelf", Op: store.Equal, Value: "s"}}, Order: []store.Order{{Field: "n"}}, Limit: 3,
		}); ; {
			page, err := items.Query(ctx, inner, f)
			must(t, err)
			for _, i := range page.Items {
				got = append(got, i.Value.N)
			}
			if page.Next == "" {
				break
			}
			f.Cursor = page.Next
		}
		if want := []int{0, 5, 20, 30, 35, 36, 50, 60, 70, 90}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		return nil
	}))
}

// Creating an existing document is refused, whether the transaction has read it or only the database has it.
func TestCreate(t *testing.T) {
	d := open()
	for range 2 {
		create := func(tx *store.Tx) error { return items.Create(ctx, tx, "a", item{N: 1}) }
		first := update(t, d, create)
		if err := update(t, d, create); first != nil && !fault.Is(first, fault.Conflict) || !fault.Is(err, fault.Conflict) {
			t.Errorf("got %v, then %v", first, err)
		}
	}
	if v, version := read(t, d, "a"); v.N != 1 || version != 1 {
		t.Errorf("got %v at %d", v, version)
	}
}

// A unit of work is run again when a document that it read has changed.
func TestConflictRunsAgain(t *testing.T) {
	d := open()
	runs := 0
	must(t, update(t, d, func(tx *store.Tx) error {
		runs++
		v, _, err := items.Find(ctx, tx, "a")
		must(t, err)
		if runs == 1 {
			must(t, update(t, d, func(tx *store.Tx) error { return items.Put(ctx, tx, "a", item{N: 5}) }))
		}
		return items.Put(ctx, tx, "b", item{N: v.N})
	}))
	if v, _ := read(t, d, "b"); runs != 2 || v.N != 5 {
		t.Errorf("got %v after %d runs, want 5 after 2", v.N, runs)
	}
}

// What a query returned is a precondition of writing it: of an increment by 1 and one by 10 none is lost, whether the
// document is put at once or read by its key before.
func TestQueryThenWrite(t *testing.T) {
	for name, write := range map[string]func(tx *store.Tx, i store.Item[item]) error{
		"put": func(tx *store.Tx, i store.Item[item]) error {
			i.Value.N++
			return items.Put(ctx, tx, i.ID, i.Value)
		},
		"get and put": func(tx *store.Tx, i store.Item[item]) error {
			v, err := items.Get(ctx, tx, i.ID)
			must(t, err)
			if v != i.Value {
				t.Errorf("the query returned %v, and then Get returned %v", i.Value, v)
			}
			i.Value.N++
			return items.Put(ctx, tx, i.ID, i.Value)
		},
		"in a nested transaction": func(tx *store.Tx, i store.Item[item]) error {
			nested := tx.Nest()
			i.Value.N++
			must(t, items.Put(ctx, nested, i.ID, i.Value))
			nested.Merge()
			return nil
		},
		"delete": func(tx *store.Tx, i store.Item[item]) error {
			must(t, items.Delete(ctx, tx, i.ID))
			i.Value.N++
			return items.Put(ctx, tx, "b", i.Value)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, runs := open(), 0
			must(t, update(t, d, func(tx *store.Tx) error { return items.Put(ctx, tx, "a", item{"s", 1}) }))
			must(t, update(t, d, func(tx *store.Tx) error {
				page, err := items.Query(ctx, tx, store.Find{Where: []store.Filter{{"shelf", store.Equal, "s"}}})
				must(t, err)
				if runs++; runs == 1 {
					must(t, update(t, d, func(tx *store.Tx) error {
						v, err := items.Get(ctx, tx, "a")
						must(t, err)
						v.N += 10
						return items.Put(ctx, tx, "a", v)
					}))
				}
				return write(tx, page.Items[0])
			}))
			a, _ := read(t, d, "a")
			b, _ := read(t, d, "b")
			if got := max(a.N, b.N); got != 12 || runs != 2 {
				t.Errorf("got %d after %d runs, want 12 after 2", got, runs)
			}
		})
	}
}

// A document that a query returned, and that is neither read by its key nor written, may change.
func TestQueryAlone(t *testing.T) {
	d, runs := open(), 0
	must(t, update(t, d, func(tx *store.Tx) error { return items.Put(ctx, tx, "a", item{"s", 1}) }))
	must(t, update(t, d, func(tx *store.Tx) error {
		runs++
		_, err := items.Query(ctx, tx, store.Find{})
		must(t, err)
		must(t, update(t, d, func(tx *store.Tx) error { return items.Put(ctx, tx, "a", item{"s", 2}) }))
		return items.Create(ctx, tx, "b", item{N: 1})
	}))
	if runs != 1 {
		t.Errorf("%d runs, want 1", runs)
	}
}

// A transaction that deletes every page of a query, until there is no next one, deletes all documents, whether it goes
// on with the cursor or begins again.
func TestDeleteUntilNextIsEmpty(t *testing.T) {
	const all = 2500
	for _, limit := range []int{700, 1000} {
		for _, cursor := range []bool{true, false} {
			d := open()
			must(t, update(t, d, func(tx *store.Tx) error {
				for n := range all {
					must(t, items.Create(ctx, tx, fmt.Sprint("i", n), item{"s", n}))
				}
				return nil
			}))
			must(t, update(t, d, func(tx *store.Tx) error {
				f := store.Find{
					Where: []store.Filter{{"shelf", store.Equal, "s"}}, Order: []store.Order{{Field: "n"}}, Limit: limit,
				}
				for more := true; more; {
					page, err := items.Query(ctx, tx, f)
					must(t, err)
					for _, i := range page.Items {
						must(t, items.Delete(ctx, tx, i.ID))
					}
					if more = page.Next != ""; cursor {
						f.Cursor = page.Next
					}
				}
				return nil
			}))
			page, err := items.Query(ctx, store.Begin(d), store.Find{Limit: store.MaxLimit})
			must(t, err)
			if len(page.Items) > 0 {
				t.Errorf("pages of %d, by cursor %v: %d or more of %d documents are left", limit, cursor, len(page.Items), all)
			}
		}
	}
}

// A member whose name has changed in case only is one member: what is written takes effect, for both versions.
func TestPutAfterAChangeOfCase(t *testing.T) {
	type before struct {
		Note string `json:"Note"`
		Kind string `json:"kınd"`
	}
	type after struct {
		Note string `json:"note"`
		Kind string `json:"KıND"`
	}
	old, renamed := store.NewCollection[before]("items"), store.NewCollection[after]("items")
	d := open()
	for n := range 4 {
		text := fmt.Sprint("text ", n)
		must(t, update(t, d, func(tx *store.Tx) error {
			if n%2 == 0 {
				return old.Put(ctx, tx, "a", before{text, text})
			}
			return renamed.Put(ctx, tx, "a", after{text, text})
		}))
		one, err := old.Get(ctx, store.Begin(d), "a")
		must(t, err)
		other, err := renamed.Get(ctx, store.Begin(d), "a")
		must(t, err)
		if one != (before{text, text}) || other != (after{text, text}) {
			t.Errorf("after %q: got %q and %q", text, one, other)
		}
	}
}

// Replace drops what another version has stored, and is a write like any other.
func TestReplace(t *testing.T) {
	type next struct {
		N     int    `json:"n"`
		Phone string `json:"phone,omitempty"`
	}
	others := store.NewCollection[next]("items")
	d := open()
	must(t, update(t, d, func(tx *store.Tx) error { return others.Put(ctx, tx, "a", next{1, "555"}) }))
	must(t, update(t, d, func(tx *store.Tx) error { return items.Put(ctx, tx, "a", item{N: 2}) }))
	if v, err := others.Get(ctx, store.Begin(d), "a"); err != nil || v != (next{2, "555"}) {
		t.Errorf("after Put: got %v, %v", v, err)
	}
	runs := 0
	must(t, update(t, d, func(tx *store.Tx) error {
		if runs++; runs == 1 {
			_, _, err := items.Find(ctx, tx, "a")
			must(t, err)
			must(t, update(t, d, func(tx *store.Tx) error { return others.Put(ctx, tx, "a", next{3, "556"}) }))
		}
		return items.Replace(ctx, tx, "a", item{N: 4})
	}))
	v, version, err := others.Read(ctx, store.Begin(d), "a")
	if err != nil || v != (next{N: 4}) || version != 4 || runs != 2 {
		t.Errorf("after Replace: got %v at %d, %v, after %d runs", v, version, err, runs)
	}
}

// Only texts that EncodeCursor has written are decoded.
func TestCursor(t *testing.T) {
	p := store.Position{ID: "ü/1", Values: []any{"a", 1.5, nil, true}}
	got, err := store.DecodeCursor(store.EncodeCursor(p))
	must(t, err)
	if fmt.Sprint(got) != fmt.Sprint(p) {
		t.Errorf("got %v, want %v", got, p)
	}
	for _, bad := range []string{"!", "e30", "W10", "WzFd", "W3t9XQ", "WyJhIix7fV0"} {
		if _, err := store.DecodeCursor(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func FuzzDecodeCursor(f *testing.F) {
	f.Add("WyJhIl0")
	f.Fuzz(func(t *testing.T, cursor string) {
		if p, err := store.DecodeCursor(cursor); err == nil {
			if again, err := store.DecodeCursor(store.EncodeCursor(p)); err != nil || fmt.Sprint(again) != fmt.Sprint(p) {
				t.Errorf("%q: got %v, then %v, %v", cursor, p, again, err)
			}
		}
	})
}

// Two versions of a function run concurrently while traffic moves from one to the other: members that the next version
// adds to a document are preserved by a write of the version before.
func TestPutKeepsMembersOfAnotherVersion(t *testing.T) {
	type base struct {
		Shelf string `json:"shelf"`
	}
	type next struct {
		base
		N     int            `json:"n"`
		Color string         `json:"color,omitempty"`
		Notes map[string]int `json:"notes,omitempty"`
		Quote string         `json:"a<&>b,omitempty"`
	}
	others := store.NewCollection[next]("items")
	d := open()
	put := func(do func(tx *store.Tx) error) { t.Helper(); must(t, update(t, d, do)) }
	put(func(tx *store.Tx) error {
		return others.Put(ctx, tx, "a", next{base{"top"}, 1, "red", map[string]int{"x": 7}, "q"})
	})
	put(func(tx *store.Tx) error { return items.Put(ctx, tx, "a", item{"low", 2}) })
	get := func() next {
		t.Helper()
		v, err := others.Get(ctx, store.Begin(d), "a")
		must(t, err)
		return v
	}
	if got, want := get(), (next{base{"low"}, 2, "red", map[string]int{"x": 7}, "q"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// A version can omit its own members.
	put(func(tx *store.Tx) error { return others.Put(ctx, tx, "a", next{N: 3}) })
	if got, want := get(), (next{N: 3}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// A document that is removed and created again has no members of the one before.
	put(func(tx *store.Tx) error { return others.Put(ctx, tx, "a", next{Color: "red"}) })
	put(func(tx *store.Tx) error {
		must(t, items.Delete(ctx, tx, "a"))
		return items.Put(ctx, tx, "a", item{N: 4})
	})
	if got, want := get(), (next{N: 4}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
