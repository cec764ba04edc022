package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// edge is the instruments of a gateway.
type edge struct {
	tries, shed, limited, cached, bytes metric.Int64Counter

	running            metric.Int64UpDownCounter
	breaker, instances metric.Float64Gauge

	events cache[edgeEvent]
}

// edgeEvent is the labels of a gateway's metrics.
type edgeEvent struct{ function, route, name, value string }

func newEdge(m metric.Meter) (*edge, error) {
	b := builder{meter: m}
	e := &edge{
		tries: b.counter("ebb.gateway.tries", "{try}",
			"Requests that were sent to another instance, by kind: retry or hedge."),
		shed: b.counter("ebb.gateway.shed", "{request}",
			"Requests that were refused for a function's sake, by reason: breaker, concurrency or adaptive."),
		limited: b.counter("ebb.gateway.limited", "{request}", "Requests over a rate limit, by the name of the limit."),
		cached: b.counter("ebb.gateway.cached", "{request}",
			"Requests of operations with a cache, by what it did: hit, stale or miss."),
		bytes:   b.counter("ebb.gateway.carried", "By", "Bytes of bodies, by direction: request or response."),
		running: b.upDown("ebb.gateway.running", "{request}", "Requests that are being served."),
		breaker: b.gauge("ebb.gateway.breaker", "{state}", "The breaker of an operation: 0 closed, 1 half open, 2 open."),
		instances: b.gauge("ebb.gateway.instances", "{instance}",
			"Instances of a function, as of the last change, by state: all or healthy."),
	}
	return e, errors.Join(b.errs...)
}

// labels returns the labels of an event. The function and the route are left out where they are "".
func (e *edge) labels(event edgeEvent) *labels {
	return e.events.get(event, func(v edgeEvent) []attribute.KeyValue {
		var all []attribute.KeyValue
		for _, a := range [][2]string{{"function", v.function}, {"route", v.route}, {v.name, v.value}} {
			if a[1] != "" {
				all = append(all, attribute.String(a[0], a[1]))
			}
		}
		return all
	})
}

// TriedAgain counts a request that a gateway has sent to another instance. The kind is retry or hedge.
func (t *Telemetry) TriedAgain(function, route, kind string) {
	if !t.off() {
		e := t.metrics.edge
		e.tries.Add(context.Background(), 1, e.labels(edgeEvent{function, route, "kind", kind}).add...)
	}
}

// Shed counts a request that a gateway has refused for the function's sake. The reason is breaker, concurrency,
// adaptive or doubt.
func (t *Telemetry) Shed(function, route, reason string) {
	if !t.off() {
		e := t.metrics.edge
		e.shed.Add(context.Background(), 1, e.labels(edgeEvent{function, route, "reason", reason}).add...)
	}
}

// Limited counts a request that a gateway has refused because it was over the rate limit of this name.
func (t *Telemetry) Limited(function, route, limit string) {
	if !t.off() {
		e := t.metrics.edge
		e.limited.Add(context.Background(), 1, e.labels(edgeEvent{function, route, "limit", limit}).add...)
	}
}

// Cached counts a request of an operation whose answers a gateway stores. The result is hit, stale or miss.
func (t *Telemetry) Cached(function, route, result string) {
	if !t.off() {
		e := t.metrics.edge
		e.cached.Add(context.Background(), 1, e.labels(edgeEvent{function, route, "result", result}).add...)
	}
}

// Carried counts bytes of the bodies that a gateway has carried. The direction is request or response.
func (t *Telemetry) Carried(function, route, direction string, n int64) {
	if !t.off() && n > 0 {
		e := t.metrics.edge
		e.bytes.Add(context.Background(), n, e.labels(edgeEvent{function, route, "direction", direction}).add...)
	}
}

// Running adds n to the number of requests that a gateway is serving.
func (t *Telemetry) Running(function, route string, n int64) {
	if !t.off() {
		e := t.metrics.edge
		e.running.Add(context.Background(), n, e.labels(edgeEvent{function: function, route: route}).add...)
	}
}

// Breaker records the state of an operation's breaker: closed, half-open or open.
func (t *Telemetry) Breaker(function, operation, state string) {
	if t.off() {
		return
	}
	e := t.metrics.edge
	value := map[string]float64{"closed": 0, "half-open": 1, "open": 2}[state]
	l := e.labels(edgeEvent{function: function, name: "operation", value: operation})
	e.breaker.Record(context.Background(), value, l.record...)
}

// Instances records how many instances of a function a gateway knows, and how many of them are healthy.
func (t *Telemetry) Instances(function string, all, healthy int) {
	if t.off() {
		return
	}
	e := t.metrics.edge
	for state, n := range map[string]int{"all": all, "healthy": healthy} {
		l := e.labels(edgeEvent{function: function, name: "state", value: state})
		e.instances.Record(context.Background(), float64(n), l.record...)
	}
}
