package function_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

type boat struct {
	Text string `json:"text"`
}

var boatChanged = event.Define(example, "harbour.changed", 1, event.Fact, "A boat has changed.", boat{"x"})

// harbour returns the constructor of a function with boats, and with notes about boats under the same ids. A request
// does what its path says: put, remove or note.
func harbour(of ...store.Option) func(function.Env) (*function.Function, error) {
	return func(env function.Env) (*function.Function, error) {
		f := function.New("harbour", env)
		boats, notes := function.Collection[boat](f, "boats", of...), function.Collection[boat](f, "notes")
		function.Emits(f, boatChanged)
		function.Serve(f, function.Operation{Method: "POST", Path: "/api/boats/{id}/{what}", Access: function.Public},
			func(ctx context.Context, tx *function.Tx, in *struct {
				ID   string `path:"id"`
				What string `path:"what"`
			}) (*struct{}, error) {
				tx.Emit(boatChanged.New(in.ID, boat{in.What}))
				switch in.What {
				case "put":
					return nil, boats.Put(ctx, tx, in.ID, boat{"boat"})
				case "remove":
					return nil, boats.Delete(ctx, tx, in.ID)
				case "note":
					return nil, notes.Put(ctx, tx, in.ID, boat{"note"})
				}
				return nil, fault.New(fault.Invalid, "unknown")
			})
		return f, nil
	}
}

func sequences(t *testing.T, h *functiontest.Harness, whats ...string) (all []string) {
	t.Helper()
	for _, what := range whats {
		h.Call("POST", "/api/boats/b1/"+what, functiontest.Nobody, nil).Expect(http.StatusNoContent)
		for _, e := range h.Emitted() {
			all = append(all, event.Extension(e, event.Sequence))
		}
	}
	return all
}

// The sequence of a fact is the version of its entity, whatever else has the same id, and goes on after a deletion.
func TestSequence(t *testing.T) {
	whats := []string{"put", "note", "note", "note", "put", "remove", "put", "put"}
	h := functiontest.New(t, harbour(store.Entity))
	if got, want := sequences(t, h, whats...), []string{"1", "", "", "", "2", "3", "4", "5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	h = functiontest.New(t, harbour())
	if got := sequences(t, h, whats...); !slices.Equal(got, make([]string, len(whats))) {
		t.Errorf("got %q of a function that does not say which collection its entities are in", got)
	}
}

// One id in two collections of entities is an error.
func TestSequenceOfTwoEntities(t *testing.T) {
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("harbour", env)
		boats := function.Collection[boat](f, "boats", store.Entity)
		ships := function.Collection[boat](f, "ships", store.Entity)
		function.Emits(f, boatChanged)
		function.Serve(f, function.Operation{Method: "POST", Path: "/api/boats", Access: function.Public},
			func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
				tx.Emit(boatChanged.New("b1", boat{"x"}))
				if err := boats.Put(ctx, tx, "b1", boat{}); err != nil {
					return nil, err
				}
				return nil, ships.Put(ctx, tx, "b1", boat{})
			})
		return f, nil
	})
	h.Call("POST", "/api/boats", functiontest.Nobody, nil).Expect(http.StatusInternalServerError)
	if said := h.Emitted(); len(said) > 0 {
		t.Error(fmt.Sprint(functiontest.Types(said)))
	}
}
