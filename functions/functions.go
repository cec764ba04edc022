// Package functions is the list of all capabilities. Only what composes a system imports it:
// the hosts' mains, the developer's command and the tests that span functions.
package functions

import (
	"errors"
	"fmt"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/functions/catalog"
	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/functions/gateway"
	"github.com/ebb-dev/ebb/functions/inventory"
	"github.com/ebb-dev/ebb/functions/notifications"
	"github.com/ebb-dev/ebb/functions/orders"
	"github.com/ebb-dev/ebb/functions/payments"
	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/functions/views"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/function"
)

// Capability is one function by its name, and how to make it.
type Capability struct {
	Name string
	New  func(function.Env) (*function.Function, error)
}

// All is every capability. The gateway is the last, as it is derived from the others.
func All() []Capability {
	return append(Behind(), Capability{gateway.Name, newGateway})
}

// Behind is every capability behind the gateway.
func Behind() []Capability {
	return []Capability{
		{"users", users.New},
		{"catalog", catalog.New},
		{"inventory", inventory.New},
		{"orders", orders.New},
		{"payments", payments.New},
		{"notifications", notifications.New},
		{"views", views.New},
		{"archive", archive.New},
		{"clock", clock.New},
	}
}

// Describe makes instances of all functions behind the gateway that only tell what they are. They have no
// store, no broker and no secrets, and must not be started.
func Describe(lookup config.Lookup) ([]*function.Function, error) {
	keys, err := auth.GenerateKeyRing()
	if err != nil {
		return nil, err
	}
	private, err := keys.Marshal()
	if err != nil {
		return nil, err
	}
	// Users insists on a key. This one never signs anything.
	env := function.Env{Lookup: config.Overlay(lookup, config.Map(map[string]string{"EBB_SIGNING_KEYS": string(private)}))}
	var described []*function.Function
	var faults []error
	for _, c := range Behind() {
		f, err := c.New(env)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", c.Name, err))
			continue
		}
		described = append(described, f)
	}
	return described, errors.Join(faults...)
}

// settings of the gateway where every function has an address.
type settings struct {
	Address string `envconfig:"EBB_FUNCTION_URL" default:"http://{function}.default.svc.cluster.local" desc:"where the gateway finds a function, with {function} for its name"`
}

func newGateway(env function.Env) (*function.Function, error) {
	set, err := function.Config[settings](env)
	if err != nil {
		return nil, err
	}
	directory, err := discovery.NewAddresses(set.Address, nil, gateway.Problem)
	if err != nil {
		return nil, fmt.Errorf("EBB_FUNCTION_URL: %w", err)
	}
	described, err := Describe(env.Lookup)
	if err != nil {
		return nil, err
	}
	f, err := gateway.New(env, gateway.Config{Functions: described, Directory: directory})
	if err != nil {
		return nil, err
	}
	_, err = function.Configure[settings](f) // declares them; that they are well is known by now
	return f, err
}
