package storetest_test

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

// broken names the environment variable with the defect of a child process's driver.
const broken = "EBB_TEST_BROKEN_DRIVER"

// driver is the memory driver with any of its methods replaced.
type driver struct {
	store.Driver
	unmarked bool // the collections are opened as if each were SingleUse

	get    func(context.Context, ...store.Key) ([]store.Document, error)
	query  func(context.Context, store.Query) ([]store.Document, bool, error)
	commit func(context.Context, store.Batch) error
}

func (d *driver) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	if d.get != nil {
		return d.get(ctx, keys...)
	}
	return d.Driver.Get(ctx, keys...)
}

func (d *driver) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	if d.query != nil {
		return d.query(ctx, q)
	}
	return d.Driver.Query(ctx, q)
}

func (d *driver) Commit(ctx context.Context, b store.Batch) error {
	if d.commit != nil {
		return d.commit(ctx, b)
	}
	return d.Driver.Commit(ctx, b)
}

const (
	sequences = "property/any_sequence"
	together  = "property/calls_at_the_same_time"
)

// breakages maps each defect of a driver to the property that must detect it. Defects of concurrent calls are for the
// second property; a driver that is correct in sequential calls passes the first.
var breakages = map[string]struct {
	noticed string
	breaks  func(*driver)
}{
	"keeps no marks of deleted documents": {sequences, func(d *driver) { d.unmarked = true }},
	"does not tell what is marked": {sequences, func(d *driver) {
		d.get = func(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
			docs, err := d.Driver.Get(ctx, keys...)
			for i := range docs {
				docs[i].Last = 0
			}
			return docs, err
		}
	}},
	"ignores the last precondition": {sequences, func(d *driver) {
		d.commit = func(ctx context.Context, b store.Batch) error {
			if n := len(b.Preconditions); n > 0 {
				b.Preconditions = b.Preconditions[:n-1]
			}
			return d.Driver.Commit(ctx, b)
		}
	}},
	"drops a mutation of a large batch": {sequences, func(d *driver) {
		d.commit = func(ctx context.Context, b store.Batch) error {
			if len(b.Mutations) > 3 {
				b.Mutations = b.Mutations[:3]
			}
			return d.Driver.Commit(ctx, b)
		}
	}},
	"applies half a batch that conflicts": {sequences, func(d *driver) {
		d.commit = func(ctx context.Context, b store.Batch) error {
			err := d.Driver.Commit(ctx, b)
			if fault.Is(err, fault.Conflict) && len(b.Mutations) > 1 {
				_ = d.Driver.Commit(ctx, store.Batch{Mutations: b.Mutations[:1]})
			}
			return err
		}
	}},
	"numbers versions itself": {sequences, func(d *driver) {
		d.commit = func(ctx context.Context, b store.Batch) error {
			for i := range b.Mutations {
				if b.Mutations[i].Data != nil {
					b.Mutations[i].Version = max(1, b.Mutations[i].Version-1)
				}
			}
			return d.Driver.Commit(ctx, b)
		}
	}},
	"begins a page with the document the last one ended with": {sequences, func(d *driver) {
		d.query = func(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
			after := q.After
			q.After = nil
			docs, more, err := d.Driver.Query(ctx, q)
			for after != nil && len(docs) > 0 && store.Compare(store.PositionOf(docs[0], q.Order), *after, q.Order) < 0 {
				docs = docs[1:]
			}
			return docs, more, err
		}
	}},
	"orders ties by id whatever the direction": {sequences, func(d *driver) {
		d.query = func(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
			docs, more, err := d.Driver.Query(ctx, q)
			if n := len(docs); n > 1 && len(q.Order) > 0 && q.Order[0].Desc && sameValues(docs[n-1], docs[n-2], q.Order) {
				docs[n-1], docs[n-2] = docs[n-2], docs[n-1]
			}
			return docs, more, err
		}
	}},
	"forgets the last of several filters": {sequences, func(d *driver) {
		d.query = func(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
			if n := len(q.Where); n > 1 {
				q.Where = q.Where[:n-1]
			}
			return d.Driver.Query(ctx, q)
		}
	}},
	"reads what was there before the last commit": {together, func(d *driver) {
		var mu sync.Mutex
		before := map[store.Key]store.Document{}
		d.commit = func(ctx context.Context, b store.Batch) error {
			for _, m := range b.Mutations {
				if docs, err := d.Driver.Get(ctx, m.Key); err == nil {
					mu.Lock()
					before[m.Key] = docs[0]
					mu.Unlock()
				}
			}
			return d.Driver.Commit(ctx, b)
		}
		reads := 0
		d.get = func(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
			docs, err := d.Driver.Get(ctx, keys...)
			mu.Lock()
			defer mu.Unlock()
			if reads++; reads%5 == 0 && len(docs) > 0 {
				if old, ok := before[docs[0].Key]; ok {
					docs[0] = old
				}
			}
			return docs, err
		}
	}},
	"checks first and writes later": {together, func(d *driver) {
		d.commit = func(ctx context.Context, b store.Batch) error {
			if err := d.Driver.Commit(ctx, store.Batch{Preconditions: b.Preconditions}); err != nil {
				return err
			}
			runtime.Gosched()
			return d.Driver.Commit(ctx, store.Batch{Mutations: b.Mutations})
		}
	}},
	"writes one document after the other": {together, func(d *driver) {
		d.commit = func(ctx context.Context, b store.Batch) error {
			err := d.Driver.Commit(
				ctx, store.Batch{Preconditions: b.Preconditions, Mutations: b.Mutations[:min(1, len(b.Mutations))]},
			)
			if err != nil || len(b.Mutations) < 2 {
				return err
			}
			runtime.Gosched()
			return d.Driver.Commit(ctx, store.Batch{Mutations: b.Mutations[1:]})
		}
	}},
	"reads one document after the other": {together, func(d *driver) {
		d.get = func(ctx context.Context, keys ...store.Key) (docs []store.Document, err error) {
			for _, k := range keys {
				one, err := d.Driver.Get(ctx, k)
				if err != nil {
					return nil, err
				}
				docs = append(docs, one...)
				runtime.Gosched()
			}
			return docs, nil
		}
	}},
}

func sameValues(a, b store.Document, order []store.Order) bool {
	p, q := store.PositionOf(a, order), store.PositionOf(b, order)
	q.ID = p.ID
	return store.Compare(p, q, order) == 0
}

// TestBroken runs in the child processes of TestSuiteDetectsDefects.
func TestBroken(t *testing.T) {
	name := os.Getenv(broken)
	if name == "" {
		t.Skip("it is run by TestSuiteDetectsDefects")
	}
	opener := memory.Opener()
	open := func(t *testing.T, schema store.Schema) store.Driver {
		d := &driver{}
		if b, ok := breakages[name]; ok {
			b.breaks(d)
		}
		schema = slices.Clone(schema)
		for i := range schema {
			schema[i].SingleUse = schema[i].SingleUse || d.unmarked
		}
		opened, err := opener(t.Context(), t.Name(), schema)
		if err != nil {
			t.Fatal(err)
		}
		d.Driver = opened
		return d
	}
	storetest.Run(t, storetest.Harness{New: open, Reopen: open})
}

// A driver with any of these defects fails the property for it, and a driver without defects passes.
func TestSuiteDetectsDefects(t *testing.T) {
	t.Run("nothing is wrong", func(t *testing.T) {
		for _, property := range []string{sequences, together} {
			if out, err := runBroken("nothing", property); err != nil {
				t.Errorf("%s: %v\n%s", property, err, out)
			}
		}
	})
	for name, b := range breakages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out, err := runBroken(name, b.noticed); err == nil || !strings.Contains(out, "--- FAIL: TestBroken/property") {
				t.Errorf("%s passes: %v\n%s", b.noticed, err, out)
			}
		})
	}
}

func runBroken(name, property string) (string, error) {
	c := exec.Command(
		os.Args[0], "-test.run=^TestBroken$/"+property, "-test.timeout=60s", "-rapid.nofailfile", "-rapid.shrinktime=1ms",
		"-rapid.checks=300",
	)
	c.Env = append(os.Environ(), broken+"="+name)
	out, err := c.CombinedOutput()
	return string(out), err
}
