package telemetry

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Durations and ages have different buckets, in seconds: a handler takes milliseconds, an order may take a day.
var (
	workBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	ageBuckets  = []float64{.01, .05, .1, .5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}
)

// instruments are the instruments of a Telemetry, made once.
type instruments struct {
	meter metric.Meter
	edge  *edge

	http, handled, coldStart, outboxAge                                  metric.Float64Histogram
	outboxOldest, outboxQuarantined                                      metric.Float64Gauge
	coldStarts, stops, retries, deadLetters, duplicates, conflicts, sent metric.Int64Counter
	running, paused                                                      metric.Int64UpDownCounter

	requests  cache[Request]
	handlings cache[handling]
	functions cache[string]
	senders   cache[string]
	triggers  cache[string]
	outcomes  cache[string]

	mu   sync.Mutex // held while a new age is made
	ages atomic.Pointer[map[string]metric.Float64Histogram]
}

// Request is what metrics show of an HTTP request. All of it but the method is from the code, not from a caller.
type Request struct {
	Function string
	Route    string // the path of the pattern, such as "/api/orders/{id}"; "": no operation is declared for it
	Method   string // one that HTTP does not define counts as _OTHER
	TLS      bool   // it came by https
	Status   int    // of the response; 0: 200, which the server sends where a handler names none
}

type handling struct{ function, event, outcome string }

// The names of metrics that OpenTelemetry's conventions define. Others begin with "ebb.".
const (
	metricHTTP       = "http.server.request.duration"
	metricProcess    = "messaging.process.duration"
	metricSent       = "messaging.client.sent.messages"
	metricInit       = "faas.init_duration"
	metricColdStarts = "faas.coldstarts"
)

// The units are those of UCUM, as in OpenTelemetry: in Prometheus faas.coldstarts in {coldstart} is
// faas_coldstarts_total, and messaging.process.duration in s is messaging_process_duration_seconds.
func newInstruments(m metric.Meter) (*instruments, error) {
	i := &instruments{meter: m}
	i.ages.Store(&map[string]metric.Float64Histogram{})
	b := builder{meter: m}
	i.http = b.histogram(metricHTTP, "How long HTTP requests took.", workBuckets)
	i.handled = b.histogram(metricProcess,
		"How long deliveries of events took; error.type is the kind of fault of those that failed.", workBuckets)
	i.coldStart = b.histogram(metricInit, "How long functions took to start.", workBuckets)
	i.outboxAge = b.histogram("ebb.outbox.age",
		"Age of the oldest event that was found unpublished at a wake-up.", ageBuckets)
	i.outboxOldest = b.gauge("ebb.outbox.oldest_age", "s", "Age of the oldest unpublished event, as of the last look.")
	i.outboxQuarantined = b.gauge("ebb.outbox.quarantined", "{entry}",
		"Outbox entries that wait for an operator, as of the last look.")
	i.coldStarts = b.counter(metricColdStarts, "{coldstart}", "Functions started because something came for them.")
	i.stops = b.counter("ebb.stops", "{stop}", "Functions stopped.")
	i.running = b.upDown("ebb.functions.running", "{function}", "Functions that are running in this process.")
	i.paused = b.upDown("ebb.triggers.paused", "{trigger}", "Triggers that are paused, as their function is away.")
	i.retries = b.counter("ebb.retries", "{delivery}", "Deliveries tried again.")
	i.deadLetters = b.counter("ebb.dead_letters", "{event}", "Events given up on.")
	i.duplicates = b.counter("ebb.duplicates", "{event}", "Events that had been handled before and were dropped.")
	i.conflicts = b.counter("ebb.conflicts", "{commit}", "Commits that lost a race.")
	i.sent = b.counter(metricSent, "{message}", "Events published.")
	var err error
	i.edge, err = newEdge(m)
	return i, errors.Join(append(b.errs, err)...)
}

// builder makes instruments and collects the errors.
type builder struct {
	meter metric.Meter
	errs  []error
}

func (b *builder) histogram(name, about string, buckets []float64) metric.Float64Histogram {
	h, err := b.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(about),
		metric.WithExplicitBucketBoundaries(buckets...))
	b.errs = append(b.errs, err)
	return h
}

func (b *builder) gauge(name, unit, about string) metric.Float64Gauge {
	g, err := b.meter.Float64Gauge(name, metric.WithUnit(unit), metric.WithDescription(about))
	b.errs = append(b.errs, err)
	return g
}

func (b *builder) counter(name, unit, about string) metric.Int64Counter {
	c, err := b.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(about))
	b.errs = append(b.errs, err)
	return c
}

func (b *builder) upDown(name, unit, about string) metric.Int64UpDownCounter {
	c, err := b.meter.Int64UpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
	b.errs = append(b.errs, err)
	return c
}

// HTTP records a request and how long it took. A span in ctx that is exported becomes an exemplar.
func (t *Telemetry) HTTP(ctx context.Context, r Request, d time.Duration) {
	if t.off() {
		return
	}
	r.Method, r.Status = known(r.Method), cmp.Or(r.Status, http.StatusOK)
	l := t.metrics.requests.get(r, func(r Request) []attribute.KeyValue {
		attrs := append(make([]attribute.KeyValue, 0, 6),
			attribute.String("function", r.Function), attribute.String(httpMethod, r.Method),
			attribute.Int(httpStatus, r.Status), attribute.String(urlScheme, schemeOf(r.TLS)))
		if r.Route != "" {
			attrs = append(attrs, attribute.String(httpRoute, r.Route))
		}
		if r.Status >= http.StatusInternalServerError {
			attrs = append(attrs, attribute.String(errorType, strconv.Itoa(r.Status)))
		}
		return attrs
	})
	t.metrics.http.Record(ctx, d.Seconds(), l.record...)
}

func schemeOf(tls bool) string {
	if tls {
		return "https"
	}
	return "http"
}

func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return other
}

// ok is the outcome of a delivery that did not fail.
const ok = "ok"

// Handled records the delivery of an event. The outcome is "ok" or the name of a fault.Kind. A span that is exported in
// ctx becomes an exemplar.
func (t *Telemetry) Handled(ctx context.Context, function, eventType, outcome string, d time.Duration) {
	if t.off() {
		return
	}
	l := t.metrics.handlings.get(handling{function, eventType, outcome}, func(h handling) []attribute.KeyValue {
		attrs := append(make([]attribute.KeyValue, 0, 5),
			attribute.String("function", h.function), attribute.String(msgSystem, messageSystem),
			attribute.String(msgOperation, opProcess), attribute.String(msgDestination, h.event))
		if h.outcome != ok {
			attrs = append(attrs, attribute.String(errorType, h.outcome))
		}
		return attrs
	})
	t.metrics.handled.Record(ctx, d.Seconds(), l.record...)
}

// ColdStart records that a function was started and how long the start took.
func (t *Telemetry) ColdStart(function string, d time.Duration) {
	if t.off() {
		return
	}
	l := t.metrics.function(function)
	t.metrics.coldStarts.Add(context.Background(), 1, l.add...)
	t.metrics.running.Add(context.Background(), 1, l.add...)
	t.metrics.coldStart.Record(context.Background(), d.Seconds(), l.record...)
}

// Stopped records that a function which ColdStart was called for has stopped.
func (t *Telemetry) Stopped(function string) {
	if t.off() {
		return
	}
	l := t.metrics.function(function)
	t.metrics.stops.Add(context.Background(), 1, l.add...)
	t.metrics.running.Add(context.Background(), -1, l.add...)
}

// Retried counts a delivery that a trigger will try again.
func (t *Telemetry) Retried(trigger string) {
	if !t.off() {
		t.metrics.retries.Add(context.Background(), 1, t.metrics.trigger(trigger).add...)
	}
}

// DeadLettered counts an event that a trigger has sent to the dead letters.
func (t *Telemetry) DeadLettered(trigger string) {
	if !t.off() {
		t.metrics.deadLetters.Add(context.Background(), 1, t.metrics.trigger(trigger).add...)
	}
}

// Paused records that the delivery of a trigger is paused or goes on.
func (t *Telemetry) Paused(trigger string, paused bool) {
	if t.off() {
		return
	}
	n := int64(1)
	if !paused {
		n = -1
	}
	t.metrics.paused.Add(context.Background(), n, t.metrics.trigger(trigger).add...)
}

// Duplicate counts an event that was in the inbox of a function already.
func (t *Telemetry) Duplicate(function string) {
	if !t.off() {
		t.metrics.duplicates.Add(context.Background(), 1, t.metrics.function(function).add...)
	}
}

// Conflict counts a commit of a function that lost a race.
func (t *Telemetry) Conflict(function string) {
	if !t.off() {
		t.metrics.conflicts.Add(context.Background(), 1, t.metrics.function(function).add...)
	}
}

// Published counts n events that a function published.
func (t *Telemetry) Published(function string, n int) {
	if !t.off() && n > 0 {
		t.metrics.sent.Add(context.Background(), int64(n), t.metrics.sender(function).add...)
	}
}

// OutboxAge records the age of the oldest unpublished event that a function found at its start; 0 means that there was
// none, and resets the gauge.
func (t *Telemetry) OutboxAge(function string, d time.Duration) {
	if t.off() {
		return
	}
	l := t.metrics.function(function)
	t.metrics.outboxOldest.Record(context.Background(), d.Seconds(), l.record...)
	if d > 0 {
		t.metrics.outboxAge.Record(context.Background(), d.Seconds(), l.record...)
	}
}

// OutboxQuarantined records how many entries of a function's outbox are quarantined: they cannot be decoded, or the
// broker refuses one of their events for good.
func (t *Telemetry) OutboxQuarantined(function string, n int) {
	if !t.off() {
		t.metrics.outboxQuarantined.Record(context.Background(), float64(n), t.metrics.function(function).record...)
	}
}

// Age records the age of an entity at its end, such as an order that was confirmed: Age("order", "confirmed", d) is
// ebb_order_age_seconds{outcome="confirmed"}. The entity must be a constant; characters that a metric's name cannot
// have become "_".
func (t *Telemetry) Age(entity, outcome string, d time.Duration) {
	if t.off() {
		return
	}
	l := t.metrics.outcomes.get(outcome, func(o string) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("outcome", o)}
	})
	t.metrics.age(entity).Record(context.Background(), d.Seconds(), l.record...)
}

func (i *instruments) age(entity string) metric.Float64Histogram {
	if h, ok := (*i.ages.Load())[entity]; ok {
		return h
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	ages := *i.ages.Load()
	if h, ok := ages[entity]; ok {
		return h
	}
	b := builder{meter: i.meter} // its only error is a name that is too long; h works nevertheless
	h := b.histogram("ebb."+word(entity)+".age", "Age of a "+entity+" at its end, by outcome.", ageBuckets)
	ages = maps.Clone(ages)
	ages[entity] = h
	i.ages.Store(&ages)
	return h
}

func word(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(s))
}

func (i *instruments) function(name string) *labels {
	return i.functions.get(name, func(n string) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("function", n)}
	})
}

func (i *instruments) sender(name string) *labels {
	return i.senders.get(name, func(n string) []attribute.KeyValue {
		return []attribute.KeyValue{
			attribute.String("function", n), attribute.String(msgSystem, messageSystem),
			attribute.String(msgOperation, opPublish),
		}
	})
}

func (i *instruments) trigger(name string) *labels {
	return i.triggers.get(name, func(n string) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("trigger", n)}
	})
}

// labels is one set of attributes, for every instrument.
type labels struct {
	record []metric.RecordOption
	add    []metric.AddOption
}

func newLabels(attrs []attribute.KeyValue) *labels {
	for i, a := range attrs { // exporters refuse other bytes, and with them more than this label
		if a.Value.Type() == attribute.STRING {
			attrs[i].Value = attribute.StringValue(strings.ToValidUTF8(a.Value.AsString(), "\uFFFD"))
		}
	}
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	return &labels{record: []metric.RecordOption{set}, add: []metric.AddOption{set}}
}

// maxLabels limits the size of a cache, in case a caller uses an id as a label. OpenTelemetry folds what exceeds its
// own limit into one series; here it only costs time.
const maxLabels = 4096

// cache stores labels by the values that they are made of. A reader takes no lock; a writer copies the map.
type cache[K comparable] struct {
	mu  sync.Mutex
	all atomic.Pointer[map[K]*labels]
}

func (c *cache[K]) get(key K, attributes func(K) []attribute.KeyValue) *labels {
	if all := c.all.Load(); all != nil {
		if l, ok := (*all)[key]; ok {
			return l
		}
	}
	return c.add(key, newLabels(attributes(key)))
}

func (c *cache[K]) add(key K, l *labels) *labels {
	c.mu.Lock()
	defer c.mu.Unlock()
	grown := map[K]*labels{}
	if all := c.all.Load(); all != nil {
		if len(*all) >= maxLabels {
			return l
		}
		grown = maps.Clone(*all)
	}
	grown[key] = l
	c.all.Store(&grown)
	return l
}
