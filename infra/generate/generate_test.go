package generate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/ebb-dev/ebb/infra/manifest"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
)

type none struct{}

func serving[T any](name, path string, says ...event.Typed) *function.Function {
	f := function.New(name, function.Env{})
	type out struct{ Body T }
	function.Serve(
		f,
		function.Operation{Method: "GET", Path: path},
		func(context.Context, *function.Tx, *none) (*out, error) { return nil, nil },
	)
	function.Emits(f, says...)
	return f
}

func declared(functions ...*function.Function) (s manifest.System) {
	for _, f := range functions {
		s.Functions = append(s.Functions, f.Instance().Declaration())
	}
	return s
}

// Two functions may have schemas of the same name; the document has both, and references to the right one.
func TestSchemasOfOneName(t *testing.T) {
	a := func() *function.Function {
		type Thing struct {
			Size int `json:"size"`
		}
		return serving[Thing]("apples", "/api/apples")
	}()
	b := func() *function.Function {
		type Thing struct {
			Colour string `json:"colour"`
		}
		return serving[Thing]("boats", "/api/boats")
	}()
	raw, err := generate.OpenAPI(generate.Product{}, declared(b, a))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if s := doc.Components.Schemas; s["Thing"].Properties["size"] == nil || s["BoatsThing"].Properties["colour"] == nil {
		t.Errorf("got %s", raw)
	}
	if !bytes.Contains(raw, []byte(`"#/components/schemas/BoatsThing"`)) {
		t.Errorf("nothing refers to the renamed schema: %s", raw)
	}
}

func TestAPathOfTwoFunctionsIsRefused(t *testing.T) {
	twice := declared(serving[none]("a", "/api/x"), serving[none]("b", "/api/x"))
	if _, err := generate.OpenAPI(generate.Product{}, twice); err == nil {
		t.Error("it was accepted")
	}
}

// The order of the functions makes no difference, and only the types that they emit and consume have a channel.
func TestTheSameDeclarationsGiveTheSameBytes(t *testing.T) {
	a, b := serving[none]("a", "/api/a", event.ArchiveReplayed), serving[none]("b", "/api/b")
	one, err := generate.AsyncAPI(generate.Product{}, declared(a, b))
	if err != nil {
		t.Fatal(err)
	}
	two, err := generate.AsyncAPI(generate.Product{}, declared(b, a))
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("they differ, %v", err)
	}
	var doc struct {
		Channels   map[string]any `json:"channels"`
		Operations map[string]any `json:"operations"`
	}
	if err := json.Unmarshal(one, &doc); err != nil {
		t.Fatal(err)
	}
	if got, want := len(doc.Channels), 6; got != want {
		t.Errorf("%d channels, want %d", got, want)
	}
	if doc.Operations["a_says_archive_replayed_v1"] == nil {
		t.Errorf("operations are %v", doc.Operations)
	}
}

// Terraform reads which composite indexes a Firestore database needs, by the names that the driver gives to fields, and
// which fields need none.
func TestFirestoreIndexes(t *testing.T) {
	f := function.New("boats", function.Env{})
	function.Collection[struct{}](f, "boats", store.On("owner.id", "built"))
	raw, err := generate.Terraform(declared(f))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Functions map[string]struct {
			Collections []struct{ Name string }
			Indexes     []layout.Index     `json:"firestore_indexes"`
			Unindexed   []layout.Unindexed `json:"firestore_unindexed"`
		}
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	got := doc.Functions["boats"]
	want := layout.Index{
		Collection: "boats",
		Fields: []layout.OrderedField{
			{Path: "keys.`owner.id`", Order: "DESCENDING"},
			{Path: "keys.built", Order: "DESCENDING"},
		},
	}
	if len(got.Indexes) != 2 || !reflect.DeepEqual(got.Indexes[1], want) {
		t.Errorf("got %+v", got.Indexes)
	}
	if len(got.Unindexed) != 2*len(got.Collections) ||
		!slices.Contains(got.Unindexed, layout.Unindexed{Collection: "boats", Field: "data"}) {
		t.Errorf("got %+v for %+v", got.Unindexed, got.Collections)
	}
}
