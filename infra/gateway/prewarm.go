package gateway

import (
	"slices"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// prewarm starts the functions that will have work when the function of the request has done its own, so that they
// start at the same time.
func (g *Gateway) prewarm(next Handler) Handler {
	if g.prewarmer == nil {
		return next
	}
	return func(x *Exchange) {
		if len(x.Route.prewarm) > 0 {
			g.prewarmer.Prewarm(x.Route.prewarm...)
		}
		next(x)
	}
}

// partners returns the functions that consume an event of this one and emit one that it consumes, as the orchestrator
// of a saga and those that do its steps. The clock's sweep does not count, because every function consumes it.
func partners(m manifest.Function, system manifest.System) (names []string) {
	swept := event.ClockSwept.Name()
	reaches := func(from, to manifest.Function) bool {
		return slices.ContainsFunc(to.Consumes, func(t string) bool { return t != swept && slices.Contains(from.Emits, t) })
	}
	for _, d := range system.Functions {
		if d.Name != m.Name && reaches(m, d.Function) && reaches(d.Function, m) {
			names = append(names, d.Name)
		}
	}
	return names
}
