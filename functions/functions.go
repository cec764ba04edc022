// Package functions lists the functions of the product. Only what composes a system imports it: the commands, the root
// package and the tests that span functions.
package functions

import (
	"context"
	"slices"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/functions/flags"
	"github.com/ebb-dev/ebb/functions/gateway"
	"github.com/ebb-dev/ebb/functions/notifications"
	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/system"
)

// addition is what a product has beside the functions that any product can take.
type addition struct {
	functions []system.Definition
	parts     []gateway.Part // of GET /api/me
	letters   []notifications.Letter
	seed      func(context.Context, system.Caller) error
}

// shop is set by shop.go.
var shop addition

// documents is how OpenAPI and AsyncAPI name the product.
var documents = generate.Product{Title: "Ebb", License: "Apache-2.0"}

// System returns the product: the functions below, which any product can take, and what shop.go adds.
func System() system.System {
	return system.System{
		Name:      "ebb",
		Documents: documents,
		Functions: slices.Concat([]system.Definition{
			{Name: "users", New: users.New},
			{Name: "notifications", New: notifications.Config{From: "Ebb <shop@ebb.example>", Letters: shop.letters}.New},
			{Name: "archive", New: archive.New},
			{Name: "clock", New: clock.New},
			{Name: "flags", New: flags.New},
			{Name: "gateway", New: gateway.Config{Documents: documents, Parts: shop.parts}.New},
		}, shop.functions),
		Events: events.Types(),
		Seed:   shop.seed,
	}
}
