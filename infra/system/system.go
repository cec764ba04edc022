// Package system describes a product: the functions that it is made of and what they are named after. Hosts, generators
// and the product's command are made from it.
//
//	func System() system.System {
//		return system.System{Name: "helpdesk", Events: events.Types(), Functions: []system.Definition{
//			{Name: "tickets", New: tickets.New},
//			{Name: "clock", New: clock.New},
//		}}
//	}
package system

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/rerun"
)

// Definition is one function: its name and its constructor.
type Definition struct {
	Name  string
	New   func(function.Env) (*function.Function, error)
	Rerun *rerun.Recipe // how its past is run again; nil: as far as its events tell
}

// System is a product.
type System struct {
	Name      string           // a DNS label such as helpdesk: of the image, the command and the data directory
	Documents generate.Product // how OpenAPI and AsyncAPI name the product
	Functions []Definition
	Events    []*event.Info // the types that the product defines, whose golden files are in events/testdata

	// Seed fills a new system through its API, as the administrator; nil: with nothing. ebb dev calls it at each start, so
	// it must do nothing when it has been done.
	Seed func(ctx context.Context, call Caller) error
}

// Caller calls an operation of a running system. It sends in as JSON and decodes the answer into out; nil for neither.
// An answer that is no success is an error; see StatusOf.
type Caller func(ctx context.Context, method, path string, in, out any) error

// StatusError is an answer that is no success.
type StatusError struct {
	Status int
	Text   string
}

func (e *StatusError) Error() string { return e.Text }

// StatusOf returns the status of the answer that a Caller's error is about; 0 when there was no answer.
func StatusOf(err error) int {
	var e *StatusError
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// Lookup returns the definition of a function.
func (s System) Lookup(name string) (Definition, bool) {
	for _, d := range s.Functions {
		if d.Name == name {
			return d, true
		}
	}
	return Definition{}, false
}

// Names returns the names of the functions, in the order in which they are listed.
func (s System) Names() []string {
	names := make([]string, len(s.Functions))
	for i, d := range s.Functions {
		names[i] = d.Name
	}
	return names
}

// Declare returns what every function declares. No function gets a store, a broker or a setting. The error names every
// function whose declaration is not valid.
func (s System) Declare() (manifest.System, error) {
	var declared manifest.System
	var errs []error
	for _, d := range s.Functions {
		declaration, err := function.Declare(d.New)
		if err == nil && declaration.Name != d.Name {
			err = fmt.Errorf("it declares itself as %q", declaration.Name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("function %s: %w", d.Name, err))
			continue
		}
		declared.Functions = append(declared.Functions, declaration)
	}
	return declared, errors.Join(errs...)
}

// Declared returns a function that declares the system when it is first called, for function.Env. What cannot be
// declared is left out: a host that runs the function names the error.
func (s System) Declared() func() manifest.System {
	return sync.OnceValue(func() manifest.System {
		declared, _ := s.Declare()
		return declared
	})
}
