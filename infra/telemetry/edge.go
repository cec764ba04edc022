package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// edge is the instruments of a gateway.
type edge struct {
	tries, shed        metric.Int64Counter
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

// Shed counts a request that a gateway has refused for the function's sake. The reason is breaker, concurrency or
// adaptive.
func (t *Telemetry) Shed(function, route, reason string) {
	if !t.off() {
		e := t.metrics.edge
		e.shed.Add(context.Background(), 1, e.labels(edgeEvent{function, route, "reason", reason}).add...)
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
