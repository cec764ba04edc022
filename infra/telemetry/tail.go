package telemetry

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// keepVariable is the variable of how long a span takes that is exported although the sampler has left it out.
const keepVariable = "EBB_TRACES_KEEP"

// The limits of what a tail holds. A span has some two kilobytes, so that the spans have some four megabytes.
const (
	maxHeld = 2048             // spans that are not decided about
	maxKept = 1024             // ids of traces that are exported
	maxWait = 30 * time.Second // how long after its first span a trace is decided about

	// Traces that are kept a second. Where everything fails or is slow, some are enough to tell why, and to export all
	// would make it worse.
	maxKeptRate = 10
)

// keep returns how long a span takes that is exported whatever the sampler says; 0: none is. It applies to samplers
// that leave out a share of the traces. Where it is not set it is 0: to keep some, every span is recorded, and that
// costs more than a tenth of the processor time of an order.
func (e environment) keep(samples bool) (time.Duration, error) {
	text := e.get(keepVariable)
	if text == "" || text == "off" || !samples {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("invalid %s %q: want a duration such as 500ms, or off", keepVariable, text)
	}
	return d, nil
}

// tail exports the spans that the sampler has left out of traces in which something failed or was slow. It holds such
// spans in memory for a while: when a span of their trace ends with an error, or took long, they are exported, and so
// is what follows in that trace. The limits bound what is held, the oldest trace is given up first, and how many traces
// are kept a second.
//
// It knows the spans of its process only. In another process the trace is exported from there on where it is told that
// the trace is sampled, which is so for what is sent after the decision; for what was sent before that, the process
// decides by its own spans.
type tail struct {
	next []sdktrace.SpanProcessor
	slow time.Duration
	now  func() time.Time

	mu     sync.Mutex
	traces map[trace.TraceID]*heldTrace
	queue  list.List // of *heldTrace, the oldest first
	held   int       // spans

	kept map[trace.TraceID]struct{}
	left float64   // how many traces may be kept now
	asOf time.Time // when left was counted

	ring []trace.TraceID // those of kept; when it is full, the oldest is at old
	old  int
}

// heldTrace is the spans of a trace that is not decided about.
type heldTrace struct {
	id    trace.TraceID
	since time.Time
	place *list.Element // in the queue
	spans []sdktrace.ReadOnlySpan
}

func newTail(slow time.Duration, next ...sdktrace.SpanProcessor) *tail {
	return &tail{
		next: next, slow: slow, now: time.Now, left: maxKeptRate, asOf: time.Now(),
		traces: map[trace.TraceID]*heldTrace{}, kept: map[trace.TraceID]struct{}{},
	}
}

// OnStart implements sdktrace.SpanProcessor.
func (t *tail) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	for _, p := range t.next {
		p.OnStart(ctx, s)
	}
}

// OnEnd implements sdktrace.SpanProcessor.
func (t *tail) OnEnd(s sdktrace.ReadOnlySpan) {
	if s.SpanContext().IsSampled() {
		t.export(s)
		return
	}
	for _, s := range t.decide(s) {
		t.export(kept{s})
	}
}

func (t *tail) export(s sdktrace.ReadOnlySpan) {
	for _, p := range t.next {
		p.OnEnd(s)
	}
}

// decide returns the spans that are exported now; else it holds the span.
func (t *tail) decide(s sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	id, now := s.SpanContext().TraceID(), t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
	if _, ok := t.kept[id]; ok {
		return []sdktrace.ReadOnlySpan{s}
	}
	worth := s.Status().Code == codes.Error || s.EndTime().Sub(s.StartTime()) >= t.slow
	if worth && t.mayKeep(now) {
		t.keepTrace(id)
		return append(t.take(id), s)
	}
	h := t.traces[id]
	if h == nil {
		h = &heldTrace{id: id, since: now}
		h.place = t.queue.PushBack(h)
		t.traces[id] = h
	}
	h.spans = append(h.spans, s)
	t.held++
	for t.held > maxHeld {
		t.take(t.queue.Front().Value.(*heldTrace).id)
	}
	return nil
}

// mayKeep reports whether one more trace is kept now.
func (t *tail) mayKeep(now time.Time) bool {
	t.left = min(maxKeptRate, t.left+max(0, now.Sub(t.asOf).Seconds())*maxKeptRate)
	t.asOf = now
	if t.left < 1 {
		return false
	}
	t.left--
	return true
}

// take removes the spans that are held of a trace, and returns them.
func (t *tail) take(id trace.TraceID) []sdktrace.ReadOnlySpan {
	h := t.traces[id]
	if h == nil {
		return nil
	}
	delete(t.traces, id)
	t.queue.Remove(h.place)
	t.held -= len(h.spans)
	return h.spans
}

// expire gives up traces that have waited for long.
func (t *tail) expire(now time.Time) {
	for e := t.queue.Front(); e != nil; e = t.queue.Front() {
		h := e.Value.(*heldTrace)
		if now.Sub(h.since) < maxWait {
			return
		}
		t.take(h.id)
	}
}

// keepTrace notes that a trace is exported. The one that was noted first is forgotten when there are too many.
func (t *tail) keepTrace(id trace.TraceID) {
	if len(t.ring) < maxKept {
		t.ring = append(t.ring, id)
	} else {
		delete(t.kept, t.ring[t.old])
		t.ring[t.old] = id
		t.old = (t.old + 1) % maxKept
	}
	t.kept[id] = struct{}{}
}

// keeps reports whether a trace is exported although the sampler has left it out.
func (t *tail) keeps(id trace.TraceID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.kept[id]
	return ok
}

// ForceFlush implements sdktrace.SpanProcessor. Spans that are not decided about stay.
func (t *tail) ForceFlush(ctx context.Context) error {
	return t.each(func(p sdktrace.SpanProcessor) error { return p.ForceFlush(ctx) })
}

// Shutdown implements sdktrace.SpanProcessor. Spans that are not decided about are lost.
func (t *tail) Shutdown(ctx context.Context) error {
	return t.each(func(p sdktrace.SpanProcessor) error { return p.Shutdown(ctx) })
}

func (t *tail) each(do func(sdktrace.SpanProcessor) error) (err error) {
	for _, p := range t.next {
		if failed := do(p); err == nil {
			err = failed
		}
	}
	return err
}

// kept is a span that the sampler has left out and that is exported all the same.
type kept struct{ sdktrace.ReadOnlySpan }

// SpanContext returns the span's, flagged as sampled: exporters leave out others.
func (k kept) SpanContext() trace.SpanContext {
	sc := k.ReadOnlySpan.SpanContext()
	return sc.WithTraceFlags(sc.TraceFlags().WithSampled(true))
}

// recorder is a sampler that has the spans recorded for a tail that another sampler leaves out.
type recorder struct {
	sdktrace.Sampler
	tail *tail
}

// ShouldSample implements sdktrace.Sampler.
func (r recorder) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := r.Sampler.ShouldSample(p)
	if result.Decision == sdktrace.Drop {
		result.Decision = sdktrace.RecordOnly
		if r.tail.keeps(p.TraceID) {
			result.Decision = sdktrace.RecordAndSample
		}
	}
	return result
}

// exemplars returns whether a measurement becomes an exemplar: if its trace is exported.
func (t *tail) exemplars(ctx context.Context) bool {
	sc := trace.SpanContextFromContext(ctx)
	return sc.IsSampled() || sc.IsValid() && t.keeps(sc.TraceID())
}
