package manifest

import (
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/store"
)

// Declaration is a function's manifest with the documents behind it: what a database is made of, the schemas of its
// events and the description of its operations. It is data: nothing runs, and it must not be changed.
type Declaration struct {
	Function
	Schema       store.Schema   // of the database, with the kit's own collections
	Types        []*event.Info  // that it consumes, emits or is started by, sorted by name
	Subscription broker.Trigger // of a function that consumes events; without a dead-letter handler

	// CheckSettings reports every setting that is missing or not valid, as a *config.Error.
	CheckSettings func(config.Lookup) error

	// OpenAPI returns the description of the operations, an OpenAPI 3.1 document. Each call makes it anew.
	OpenAPI func() ([]byte, error)
}

// deliveryVariable changes how events are delivered to every function, and with the function's name to one of them.
const deliveryVariable = "EBB_DELIVERY"

// Tuned returns the subscription as the environment wants it: changed by EBB_DELIVERY and then by EBB_DELIVERY_ORDERS,
// of the function orders, in the form of broker.ParseTuning. An error is a *config.Error.
func (d *Declaration) Tuned(lookup config.Lookup) (broker.Trigger, error) {
	t := d.Subscription
	if lookup == nil {
		return t, nil
	}
	own := deliveryVariable + "_" + strings.ToUpper(strings.ReplaceAll(d.Name, "-", "_"))
	for _, variable := range []string{deliveryVariable, own} {
		text, _ := lookup(variable)
		u, err := broker.ParseTuning(text)
		if err != nil {
			return t, &config.Error{Violations: []config.Violation{
				{Variable: variable, Problem: "is not accepted: " + err.Error()},
			}}
		}
		t = u.Apply(t)
	}
	return t, nil
}

// System is the functions that are deployed together.
type System struct{ Functions []*Declaration }

// Manifests returns the manifest of every function, by name.
func (s System) Manifests() map[string]Function {
	all := make(map[string]Function, len(s.Functions))
	for _, d := range s.Functions {
		all[d.Name] = d.Function
	}
	return all
}

// Sorted returns the declarations sorted by name. The slice belongs to the caller.
func (s System) Sorted() []*Declaration {
	byName := func(a, b *Declaration) int { return strings.Compare(a.Name, b.Name) }
	return slices.SortedFunc(slices.Values(s.Functions), byName)
}

// CheckSettings reports every setting of every function that is missing or not valid, as a *config.Error.
func (s System) CheckSettings(lookup config.Lookup) error {
	var errs []error
	for _, d := range s.Functions {
		errs = append(errs, d.CheckSettings(lookup))
	}
	return config.Join(errs...)
}

// Types returns every event type that a function of the system consumes or emits.
func (s System) Types() event.Catalogue {
	var all []*event.Info
	for _, d := range s.Functions {
		all = append(all, d.Types...)
	}
	return event.NewCatalogue(all...)
}
