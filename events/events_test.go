package events_test

import (
	"testing"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/event/eventtest"
)

var catalogue = event.NewCatalogue(events.Types()...)

// Today's types read what was emitted earlier, and have golden files themselves.
func TestGolden(t *testing.T) { eventtest.Golden(t, "testdata", events.Types()) }

// Examples are unchanged by encoding and decoding, and show every field.
func TestExamples(t *testing.T) { eventtest.Examples(t, events.Types()) }

// The catalogue keeps to the naming rules that triggers and dead letters rely on.
func TestCatalogueIsWellNamed(t *testing.T) {
	all := events.Types()
	if len(all) == 0 {
		t.Fatal("there are no types")
	}
	for i, info := range all {
		want := "dev.ebb." + info.Function + "." + info.What + ".v1"
		if info.Version == 1 && info.Name != want {
			t.Errorf("got %s, want %s", info.Name, want)
		}
		if i > 0 && all[i-1].Name >= info.Name {
			t.Errorf("%s is out of order", info.Name)
		}
		if found, ok := catalogue.Lookup(info.Name); !ok || found != info {
			t.Errorf("%s cannot be looked up", info.Name)
		}
		if info.Kind != event.Fact && info.Kind != event.Command {
			t.Errorf("%s is of kind %q", info.Name, info.Kind)
		}
	}
	if _, ok := catalogue.Lookup("dev.ebb.orders.placed"); ok {
		t.Error("a name without a version was found")
	}
}
