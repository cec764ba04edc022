package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// versionCases check that no version of an id is used twice.
var versionCases = map[string]func(*testing.T, Harness){
	"a deletion makes Last the stored version": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 5, `{"n":1}`))
		commit(t, d, remove(thing("a")))
		wantLast(t, d, thing("a"), 5)
		commit(t, d, remove(thing("a")), remove(thing("never was")))
		wantLast(t, d, thing("a"), 5)
		wantLast(t, d, thing("never was"), 0)
	},

	"a deletion makes Last its own version if that is larger": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 5, `{"n":1}`), put(thing("b"), 5, `{"n":1}`))
		wantKind(t, try(t, d, []store.Precondition{at(thing("a"), 4)}, removeAt(thing("a"), 9)), fault.Conflict)
		stored := []store.Precondition{at(thing("a"), 5)}
		if err := try(t, d, stored, removeAt(thing("a"), 6), removeAt(thing("b"), 7)); err != nil {
			t.Error(err)
		}
		wantLast(t, d, thing("a"), 6)
		wantLast(t, d, thing("b"), 7)
	},

	"a document is created again above Last only": func(t *testing.T, h Harness) {
		d := h.open(t)
		missing := []store.Precondition{{Key: thing("a")}}
		for last := int64(5); last < 20; last += 5 {
			commit(t, d, put(thing("a"), last, `{"n":1}`), put(other("a"), last, `{"n":1}`))
			commit(t, d, remove(thing("a")))
			for _, used := range []int64{1, last - 1, last} {
				err := try(t, d, missing, put(thing("new"), 1, `{}`), put(thing("a"), used, `{"n":2}`))
				wantKind(t, err, fault.Conflict)
			}
			if err := try(t, d, missing, put(thing("a"), last+1, `{"n":3}`)); err != nil {
				t.Error(err)
			}
			want := []string{fmt.Sprintf("things/a@%d 3", last+1), "things/new@0 -", fmt.Sprintf("others/a@%d 1", last)}
			same(t, describe(get(t, d, thing("a"), thing("new"), other("a"))), want)
		}
	},

	"a document that was deleted and created again is another one": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 1, `{"n":1}`))
		commit(t, d, remove(thing("a")))
		create(t, d, thing("a"), `{"n":2}`)
		stale := []store.Precondition{at(thing("a"), 1)}
		wantKind(t, try(t, d, stale, remove(thing("a"))), fault.Conflict)
		wantKind(t, try(t, d, stale, put(thing("a"), 2, `{"n":3}`)), fault.Conflict)
		same(t, describe(get(t, d, thing("a"))), []string{"things/a@2 2"})
	},

	"a single-use collection keeps no mark": func(t *testing.T, h Harness) {
		d, k := h.open(t), store.Key{Collection: "once", ID: "a"}
		commit(t, d, put(k, 5, `{"n":1}`))
		commit(t, d, remove(k))
		wantLast(t, d, k, 0)
		create(t, d, k, `{"n":2}`)
		same(t, describe(get(t, d, k)), []string{"once/a@1 2"})
	},

	"of many creators and deleters none makes a version twice": func(t *testing.T, h Harness) {
		handles := []store.Driver{h.open(t)}
		if h.Reopen != nil {
			handles = append(handles, h.reopen(t, Schema))
		}
		var mu sync.Mutex
		made := map[int64]int{}
		var running sync.WaitGroup
		for n := range 8 {
			d := handles[n%len(handles)]
			running.Go(func() {
				for range 6 {
					docs, err := d.Get(t.Context(), thing("a"))
					if err != nil {
						t.Error(err)
						return
					}
					now := docs[0]
					m := put(thing("a"), now.Last+1, `{}`)
					if now.Version > 0 {
						m = remove(thing("a"))
					}
					err = try(t, d, []store.Precondition{at(thing("a"), now.Version)}, m)
					if err != nil && !fault.Is(err, fault.Conflict) {
						t.Error(err)
					}
					if err == nil && m.Data != nil {
						mu.Lock()
						made[m.Version]++
						mu.Unlock()
					}
				}
			})
		}
		running.Wait()
		for version, n := range made {
			if n > 1 {
				t.Errorf("version %d was made %d times", version, n)
			}
		}
	},

	"marks survive opening again": reopening(func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 5, `{"n":1}`))
		commit(t, d, remove(thing("a")))
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		wantLast(t, h.reopen(t, Schema), thing("a"), 5)
	}),

	"old marks are removed and no version comes again": func(t *testing.T, h Harness) {
		if h.Later == nil || h.Marks == nil {
			t.Skip("the driver has no clock that a test can set")
		}
		d := h.open(t)
		const many = 600
		var puts, removes []store.Mutation
		for i := range many {
			k := thing(fmt.Sprint("old ", i))
			puts, removes = append(puts, put(k, int64(i+1), `{}`)), append(removes, remove(k))
		}
		h.commitMany(t, d, puts)
		h.commitMany(t, d, removes)
		if n := h.Marks(t, d); n != many {
			t.Errorf("%d marks of %d deleted documents", n, many)
		}
		later := closing(t, h.Later(t, Schema))
		for i := range 4 {
			commit(t, later, put(thing("young"), 1000, `{}`), put(other("young"), 1, `{}`))
			commit(t, later, remove(thing("young")), remove(other("young")))
			if n := h.Marks(t, later); n == 2 && i > 0 {
				break
			}
		}
		if n := h.Marks(t, later); n != 2 {
			t.Errorf("%d marks are left, want those of the two young ones", n)
		}
		for _, handle := range []store.Driver{d, later} {
			for k, last := range map[store.Key]int64{
				thing("old 0"): many, thing("new"): many, thing("young"): 1000, other("new"): 0, other("young"): 1,
			} {
				if got := get(t, handle, k)[0].Last; got < last {
					t.Errorf("%s/%s: Last is %d, want %d or more", k.Collection, k.ID, got, last)
				}
			}
			missing := []store.Precondition{{Key: thing("old 7")}}
			wantKind(t, try(t, handle, missing, put(thing("old 7"), 8, `{}`)), fault.Conflict)
		}
		attempts := 0
		for _, id := range []string{"x", "y", "z"} {
			err := store.Update(t.Context(), later, func(ctx context.Context, tx *store.Tx) error {
				attempts++
				return tx.Create(ctx, thing(id), []byte(`{}`))
			})
			if err != nil {
				t.Error(err)
			}
		}
		if attempts != 3 {
			t.Errorf("%d attempts to create 3 documents in a collection whose marks were removed", attempts)
		}
		if v := get(t, later, thing("x"))[0].Version; v <= many {
			t.Errorf("a new document has version %d, want more than %d", v, many)
		}
	},
}

// commitMany commits mutations in as few commits as the driver takes.
func (h Harness) commitMany(t *testing.T, d store.Driver, mutations []store.Mutation) {
	t.Helper()
	for some := range slices.Chunk(mutations, cmp.Or(h.MaxMutations, len(mutations))) {
		commit(t, d, some...)
	}
}

func removeAt(k store.Key, version int64) store.Mutation {
	return store.Mutation{Key: k, Version: version}
}

func wantLast(t *testing.T, d store.Driver, k store.Key, want int64) {
	t.Helper()
	if got := get(t, d, k)[0]; got.Version != 0 || got.Data != nil || got.Last != want {
		t.Errorf("%s/%s: got version %d, Last %d, want 0, %d", k.Collection, k.ID, got.Version, got.Last, want)
	}
}

// create writes a document that must be missing, as a unit of work does.
func create(t *testing.T, d store.Driver, k store.Key, data string) {
	t.Helper()
	last := get(t, d, k)[0].Last
	if err := try(t, d, []store.Precondition{{Key: k}}, put(k, last+1, data)); err != nil {
		t.Error(err)
	}
}
