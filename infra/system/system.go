// Package system says what a product is: its functions, and what its command and its documents are named after.
package system

import (
	"context"
	"net/http"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/function"
)

// Definition is one function by its name, and how to make it.
type Definition struct {
	Name string
	New  func(function.Env) (*function.Function, error)
}

// Caller calls an operation of the running system as its admin. It sends in as JSON and reads the answer into out; nil
// stands for neither. An answer that is no success is an error with the kind that package fault has for its status.
type Caller func(ctx context.Context, method, path string, in, out any) error

// System is a product.
type System struct {
	Name      string       // lower-case label: "ebb"; of the image, the services, the data directory
	Title     string       // of OpenAPI and AsyncAPI: "Ebb"
	Functions []Definition // every function, the gateway included

	// Seed fills a new system through its API; nil: nothing. It is called at each start and does nothing to a system
	// that has been filled.
	Seed func(ctx context.Context, call Caller) error

	// What follows stands in until declarations are data.

	Gateway  string // the name of the gateway among the functions
	Describe func(lookup config.Lookup) ([]*function.Function, error)
	Front    func(env function.Env, described []*function.Function, directory discovery.Discovery) (http.Handler, error)
	OpenAPI  func([]*function.Function) ([]byte, error)
}
