package store_test

import (
	"context"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// counted is a driver that counts its calls.
type counted struct {
	store.Driver
	gets, queries, commits int
}

func (d *counted) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	d.gets++
	return d.Driver.Get(ctx, keys...)
}

func (d *counted) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	d.queries++
	return d.Driver.Query(ctx, q)
}

func (d *counted) Commit(ctx context.Context, b store.Batch) error {
	d.commits++
	return d.Driver.Commit(ctx, b)
}

var uneven = fault.New(fault.Invalid, "a and b differ")

// A refusal that was decided on two reads around the commit of another unit does not stand: the unit is run again. a
// and b are equal in every state that is committed.
func TestRefusalsAreConfirmed(t *testing.T) {
	byKey := func(id string) func(*store.Tx) int {
		return func(tx *store.Tx) int {
			v, _, err := items.Find(ctx, tx, id)
			must(t, err)
			return v.N
		}
	}
	byQuery := func(tx *store.Tx) int {
		page, err := items.Query(ctx, tx, store.Find{Where: []store.Filter{{"shelf", store.Equal, "b"}}})
		must(t, err)
		if len(page.Items) == 0 {
			return 0
		}
		return page.Items[0].Value.N
	}
	refuse := func(same bool) error {
		if same {
			return nil
		}
		return uneven
	}
	for name, c := range map[string]struct{ first, second func(*store.Tx) int }{
		"two documents":          {byKey("a"), byKey("b")},
		"a document and a query": {byKey("a"), byQuery},
		"a query and a document": {byQuery, byKey("a")},
	} {
		t.Run(name, func(t *testing.T) {
			for from := range 2 { // 0: the documents are missing at first
				d, runs := open(), 0
				set := func(n int) {
					must(t, update(t, d, func(tx *store.Tx) error {
						must(t, items.Put(ctx, tx, "a", item{"a", n}))
						return items.Put(ctx, tx, "b", item{"b", n})
					}))
				}
				if from > 0 {
					set(from)
				}
				err := update(t, d, func(tx *store.Tx) error {
					runs++
					first := c.first(tx)
					if runs == 1 {
						set(from + 1)
					}
					return refuse(first == c.second(tx))
				})
				if err != nil || runs != 2 {
					t.Errorf("got %v after %d runs, want none after 2", err, runs)
				}
			}
		})
	}
}

// A refusal that is right is given at the first run, without a further call of the driver if all was read in one.
func TestRefusalsAreCheap(t *testing.T) {
	d := &counted{Driver: open()}
	must(t, update(t, d, func(tx *store.Tx) error { return items.Put(ctx, tx, "a", item{N: 1}) }))
	for name, c := range map[string]struct {
		read func(tx *store.Tx) error
		gets int
	}{
		"one call": {func(tx *store.Tx) error {
			_, err := items.GetMany(ctx, tx, "a", "b")
			return err
		}, 1},
		"two calls": {func(tx *store.Tx) error {
			_, err := items.GetMany(ctx, tx, "a", "b")
			must(t, err)
			_, _, err = items.Find(ctx, tx, "c")
			return err
		}, 3},
	} {
		d.gets, d.commits = 0, 0
		runs := 0
		err := update(t, d, func(tx *store.Tx) error {
			runs++
			must(t, c.read(tx))
			return uneven
		})
		if err != error(uneven) || runs != 1 || d.gets != c.gets || d.commits != 0 {
			t.Errorf("%s: got %v after %d runs, %d reads and %d commits", name, err, runs, d.gets, d.commits)
		}
	}
}

// While it is not known whether a refusal is right, the error is that of the driver.
func TestUnconfirmedRefusal(t *testing.T) {
	d := open()
	err := update(t, d, func(tx *store.Tx) error {
		_, _, err := items.Find(ctx, tx, "a")
		must(t, err)
		_, _, err = items.Find(ctx, tx, "b")
		must(t, err)
		must(t, d.Close())
		return uneven
	})
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// A unit that writes nothing, since it has found nothing to do, is run again too.
func TestNothingToDoIsConfirmed(t *testing.T) {
	d, runs := open(), 0
	must(t, update(t, d, func(tx *store.Tx) error {
		runs++
		a, _, err := items.Find(ctx, tx, "a")
		must(t, err)
		if runs == 1 {
			must(t, update(t, d, func(tx *store.Tx) error {
				must(t, items.Put(ctx, tx, "a", item{N: 1}))
				return items.Put(ctx, tx, "b", item{N: 1})
			}))
		}
		b, _, err := items.Find(ctx, tx, "b")
		must(t, err)
		if a.N == b.N {
			return items.Put(ctx, tx, "same", item{N: 1})
		}
		return nil
	}))
	if _, version := read(t, d, "same"); version != 1 || runs != 2 {
		t.Errorf("got version %d after %d runs, want 1 after 2", version, runs)
	}
}

// The reads of a nested transaction whose writes are dropped are preconditions of the outer one.
func TestMergeReads(t *testing.T) {
	for name, after := range map[string]func(tx *store.Tx){
		"the commit finds out":         func(tx *store.Tx) { must(t, items.Create(ctx, tx, "b", item{})) },
		"the outer one has read it":    func(tx *store.Tx) { _, _, err := items.Find(ctx, tx, "a"); must(t, err) },
		"a later one has changed it":   func(tx *store.Tx) { must(t, items.Put(ctx, tx, "a", item{N: 7})) },
		"the outer one writes nothing": func(*store.Tx) {},
	} {
		t.Run(name, func(t *testing.T) {
			d, runs := open(), 0
			must(t, update(t, d, func(tx *store.Tx) error {
				runs++
				_, _, err := items.Find(ctx, tx, "other")
				must(t, err)
				refused := tx.Nest()
				v, _, err := items.Find(ctx, refused, "a")
				must(t, err)
				must(t, items.Put(ctx, refused, "a", item{N: 99}))
				refused.MergeReads()
				if runs == 1 {
					must(t, update(t, d, func(tx *store.Tx) error { return items.Put(ctx, tx, "a", item{N: 5}) }))
				}
				after(tx)
				if runs == 2 && v.N != 5 {
					t.Errorf("got %d in the second run", v.N)
				}
				return nil
			}))
			if v, _ := read(t, d, "a"); runs != 2 || v.N == 99 {
				t.Errorf("got %d after %d runs, want 2 runs and no write of the nested transaction", v.N, runs)
			}
		})
	}
}
