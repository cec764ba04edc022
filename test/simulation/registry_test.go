package simulation_test

import (
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/test/simulation"
)

// unextended returns a change of an event that takes an extension from those of the registry's older type.
func unextended(name string) func(ce.Event) {
	return func(e ce.Event) {
		if e.Type() == "com.example.registry.named.v1" {
			e.SetExtension(name, nil)
		}
	}
}

var brokenRegistries = []struct {
	name   string
	broken simulation.BrokenRegistry
}{
	{"reads documents of an older version without migrating them", simulation.BrokenRegistry{Unmigrated: true}},
	{"overwrites documents of a newer version", simulation.BrokenRegistry{Accepting: true}},
	{"leaves out events of an older version", simulation.BrokenRegistry{Deaf: true}},
	{"handles twice what is sent in two versions", simulation.BrokenRegistry{Event: unextended(event.SentAs)}},
	{"does not decrypt what an older version has encrypted", simulation.BrokenRegistry{
		Event: unextended(event.PersonalKey),
	}},
}

// Two versions of documents and events run beside each other, and nothing is lost or told twice, for as long as both
// read what the other writes, or refuse it. Each promise that this rests on is needed.
func TestRegistry(t *testing.T) {
	const within = 200
	holds(t, simulate.Runner{System: simulation.Registry(simulation.BrokenRegistry{}), First: 1, Seeds: within})
	for _, b := range brokenRegistries {
		t.Run(b.name, func(t *testing.T) {
			if search(t, simulate.Runner{System: simulation.Registry(b.broken), Seeds: within}, nil) == nil {
				t.Errorf("%d seeds find no violation in a registry that %s", within, b.name)
			}
		})
	}
}
