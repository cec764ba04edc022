package memory_test

import (
	"context"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

func TestConformance(t *testing.T) {
	opener := memory.Opener()
	open := func(t *testing.T, schema store.Schema) store.Driver {
		d, err := opener(context.Background(), t.Name(), schema)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	later := func(t *testing.T, schema store.Schema) store.Driver {
		d := open(t, schema).(*memory.Store)
		memory.Clock(func() time.Time { return time.Now().Add(store.MarkRetention + time.Hour) })(d)
		return d
	}
	marks := func(_ *testing.T, d store.Driver) int { return d.(*memory.Store).Marks() }
	storetest.Run(t, storetest.Harness{New: open, Reopen: open, Later: later, Marks: marks})
}

// A database of its own shares nothing with another one.
func TestNewIsEmpty(t *testing.T) {
	key := store.Key{Collection: "things", ID: "a"}
	a, b := memory.New(storetest.Schema), memory.New(storetest.Schema)
	if err := a.Commit(
		t.Context(), store.Batch{Mutations: []store.Mutation{{Key: key, Version: 1, Data: []byte(`{}`)}}},
	); err != nil {
		t.Fatal(err)
	}
	if docs, err := b.Get(t.Context(), key); err != nil || docs[0].Version != 0 {
		t.Errorf("got %v, %v", docs, err)
	}
}

// The functions of one Opener have databases of their own.
func TestOpenerKeepsFunctionsApart(t *testing.T) {
	opener, key := memory.Opener(), store.Key{Collection: "things", ID: "a"}
	a, _ := opener(t.Context(), "orders", storetest.Schema)
	b, _ := opener(t.Context(), "users", storetest.Schema)
	if err := a.Commit(
		t.Context(), store.Batch{Mutations: []store.Mutation{{Key: key, Version: 1, Data: []byte(`{}`)}}},
	); err != nil {
		t.Fatal(err)
	}
	if docs, err := b.Get(t.Context(), key); err != nil || docs[0].Version != 0 {
		t.Errorf("got %v, %v", docs, err)
	}
}

func TestTwice(t *testing.T) {
	opened, err := memory.Opener(memory.Twice())(t.Context(), "orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[bool]store.Driver{false: memory.New(nil), true: opened} {
		if got := s.(interface{ RunTwice() bool }).RunTwice(); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}
