package generate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/generate"
)

type none struct{}

func serving[T any](name, path string, says ...*events.Info) *function.Function {
	f := function.New(name, function.Env{})
	type out struct{ Body T }
	function.Serve(f, function.Operation{Method: "GET", Path: path}, func(context.Context, *function.Tx, *none) (*out, error) { return nil, nil })
	function.Says(f, says...)
	return f
}

// Two functions may name two things alike; the document keeps them apart, and what refers to them too.
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
	raw, err := generate.OpenAPI([]*function.Function{b, a})
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
	if _, err := generate.OpenAPI([]*function.Function{serving[none]("a", "/api/x"), serving[none]("b", "/api/x")}); err == nil {
		t.Error("it was accepted")
	}
}

// The order of the functions does not show, and every type of event has its channel.
func TestTheSameDeclarationsGiveTheSameBytes(t *testing.T) {
	a, b := serving[none]("a", "/api/a", events.UserDeleted.Info()), serving[none]("b", "/api/b")
	one, err := generate.AsyncAPI([]*function.Function{a, b})
	if err != nil {
		t.Fatal(err)
	}
	two, err := generate.AsyncAPI([]*function.Function{b, a})
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
	if got, want := len(doc.Channels), len(events.Catalogue()); got != want {
		t.Errorf("%d channels, want %d", got, want)
	}
	if doc.Operations["a_says_users_deleted_v1"] == nil {
		t.Errorf("operations are %v", doc.Operations)
	}
}
