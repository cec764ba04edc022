package event_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

type (
	nameV1 struct {
		ID   string `json:"id" minLength:"1"`
		Name string `json:"name"`
	}
	nameV2 struct {
		ID    string `json:"id" minLength:"1"`
		First string `json:"first"`
		Last  string `json:"last" minLength:"1"`
	}
	nameV3 struct {
		ID    string   `json:"id" minLength:"1"`
		Names []string `json:"names"`
	}
)

var (
	evolving = event.NewNamespace("com.example.evolving", "https://example.com/schemas/")

	namedV1 = event.Define(evolving, "people.named", 1, event.Fact, "Somebody has a name.", nameV1{"1", "Ada King"})
	namedV2 = event.Define(evolving, "people.named", 2, event.Fact, "Somebody has a name.", nameV2{"1", "Ada", "King"})
	namedV3 = event.Define(evolving, "people.named", 3, event.Fact, "Somebody has a name.",
		nameV3{"1", []string{"Ada", "King"}})

	_ = event.Upcast(namedV1, namedV2, func(old nameV1) (nameV2, error) {
		first, last, ok := strings.Cut(old.Name, " ")
		if !ok && first == "nobody" {
			return nameV2{}, errors.New("nobody has no name")
		}
		return nameV2{old.ID, first, last}, nil
	})
	_ = event.Upcast(namedV2, namedV3, func(old nameV2) (nameV3, error) {
		return nameV3{old.ID, []string{old.First, old.Last}}, nil
	})
)

func named(t *testing.T, d event.Draft) ce.Event {
	t.Helper()
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e := ce.New()
	e.SetType(d.Info.Name)
	if err := e.SetData(ce.ApplicationJSON, data); err != nil {
		t.Fatal(err)
	}
	return e
}

// A newer version reads the older ones, over several steps too. What an upcaster makes is held to the schema.
func TestUpcast(t *testing.T) {
	for _, d := range []event.Draft{
		namedV1.New("1", nameV1{"1", "Ada King"}), namedV2.New("1", nameV2{"1", "Ada", "King"}),
		namedV3.New("1", nameV3{"1", []string{"Ada", "King"}}),
	} {
		got, err := namedV3.Decode(named(t, d))
		if err != nil || got.ID != "1" || !slices.Equal(got.Names, []string{"Ada", "King"}) {
			t.Errorf("%s: got %v, %v", d.Info.Short, got, err)
		}
	}
	for want, e := range map[string]ce.Event{
		"nobody has no name":       named(t, namedV1.New("1", nameV1{"1", "nobody"})),
		"$.last must have at":      named(t, namedV1.New("1", nameV1{"1", "Ada"})),
		"event is of type":         named(t, stockShip.New("1", shipStock{OrderID: "1"})),
		"people.named.v1: $.id mu": retyped(namedV1.Name(), named(t, namedV2.New("1", nameV2{"1", "a", "b"})), `{"id":""}`),
	} {
		if _, err := namedV2.Decode(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := namedV1.Decode(named(t, namedV2.New("1", nameV2{"1", "Ada", "King"}))); err == nil {
		t.Error("an older version reads a newer one")
	}
	var older []string
	for _, i := range namedV3.Info().Older() {
		older = append(older, i.Short)
	}
	if want := []string{"people.named.v2", "people.named.v1"}; !slices.Equal(older, want) {
		t.Errorf("got %v, want %v", older, want)
	}
}

func retyped(name string, e ce.Event, data string) ce.Event {
	e.SetType(name)
	e.DataEncoded = []byte(data)
	return e
}

// Only an older version of the same type is read, and each by one upcaster.
func TestUpcastIsDeclaredWell(t *testing.T) {
	for name, declare := range map[string]func(){
		"backwards": func() { event.Upcast(namedV2, namedV1, func(nameV2) (nameV1, error) { return nameV1{}, nil }) },
		"twice":     func() { event.Upcast(namedV1, namedV2, func(nameV1) (nameV2, error) { return nameV2{}, nil }) },
		"of another type": func() {
			event.Upcast(stockShip, namedV2, func(shipStock) (nameV2, error) { return nameV2{}, nil })
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was taken", name)
				}
			}()
			declare()
		}()
	}
}

// An integer that gets narrower refuses numbers that were emitted before: its schema says so.
func TestNarrowedIntegerIsIncompatible(t *testing.T) {
	type wide struct {
		N int64 `json:"n"`
	}
	type narrow struct {
		N int32 `json:"n"`
	}
	type bounded struct {
		N int32 `json:"n" min:"1" max:"100"`
	}
	type boundedWide struct {
		N int64 `json:"n" min:"1" max:"100"`
	}
	if got := event.Compatible(event.SchemaOf[wide](), event.SchemaOf[narrow]()); len(got) != 2 ||
		!strings.Contains(got[1], "narrower maximum (none, now 2147483647)") {
		t.Errorf("got %v", got)
	}
	if got := event.Compatible(event.SchemaOf[boundedWide](), event.SchemaOf[bounded]()); len(got) != 0 {
		t.Errorf("within the limits that both have: got %v", got)
	}
}
