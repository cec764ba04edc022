package functions

import (
	"net/http"

	"github.com/ebb-dev/ebb/functions/gateway"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/system"
)

// System is the shop.
func System() system.System {
	var all []system.Definition
	for _, c := range All() {
		all = append(all, system.Definition(c))
	}
	return system.System{
		Name: "ebb", Title: "Ebb", Functions: all, Seed: seed,
		Gateway: gateway.Name, Describe: Describe, Front: front, OpenAPI: gateway.OpenAPI,
	}
}

func front(env function.Env, described []*function.Function, directory discovery.Discovery) (http.Handler, error) {
	return gateway.New(env, gateway.Config{Functions: described, Directory: directory})
}
