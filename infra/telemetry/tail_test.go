package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// none has the sampler leave out every trace, so that only what the tail keeps is exported.
func none(more ...string) func(string) (string, bool) {
	all := []string{"OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0",
		"EBB_TRACES_KEEP", "1s"}
	return vars(append(all, more...)...)
}

func exportedNames(out *tracetest.InMemoryExporter) []string {
	var names []string
	for _, s := range out.GetSpans() {
		names = append(names, s.Name)
		if !s.SpanContext.IsSampled() {
			names = append(names, "which is not sampled")
		}
	}
	return names
}

// A trace with a failure or a slow span is exported whole, although the sampler has left it out; others are not.
func TestTailKeepsErrorsAndSlowSpans(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		took time.Duration
		want []string
	}{
		"fine":   {nil, 0, nil},
		"failed": {errors.New("x"), 0, []string{"first", "inner", "outer", "later"}},
		"slow":   {nil, time.Second, []string{"first", "inner", "outer", "later"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			out := tracetest.NewInMemoryExporter()
			tel := start(t, Config{Spans: out, Lookup: none()})
			ctx, outer := tel.Span(t.Context(), "outer")
			if strings.HasSuffix(Traceparent(ctx), "-01") {
				t.Error("the sampler has taken the trace")
			}
			_, first := tel.Span(ctx, "first")
			first(nil)
			_, inner := tel.Span(ctx, "inner")
			time.Sleep(c.took)
			inner(c.err)
			outer(nil)
			next, later := tel.Span(WithTraceparent(context.Background(), Traceparent(ctx)), "later")
			later(nil)
			if got := strings.HasSuffix(Traceparent(next), "-01"); got != (c.want != nil) {
				t.Errorf("%s: what follows is told that the trace is sampled: %t", name, got)
			}
			_, another := tel.Span(t.Context(), "another trace")
			another(nil)
			if got := exportedNames(out); !slices.Equal(got, c.want) {
				t.Errorf("%s: exported %q, want %q", name, got, c.want)
			}
		})
	}
}

// What the sampler takes is exported as without a tail; and off turns the tail off.
func TestTailOff(t *testing.T) {
	for _, c := range []struct {
		vars []string
		want int
	}{
		{[]string{"OTEL_TRACES_SAMPLER_ARG", "1"}, 1},
		{[]string{"EBB_TRACES_KEEP", "off"}, 0},
		{[]string{"EBB_TRACES_KEEP", ""}, 0},
		{[]string{"OTEL_TRACES_SAMPLER", "always_off"}, 0},
		{nil, 1},
	} {
		out := tracetest.NewInMemoryExporter()
		tel := start(t, Config{Spans: out, Lookup: none(c.vars...)})
		_, end := tel.Span(t.Context(), "x")
		end(errors.New("x"))
		if got := len(exportedNames(out)); got != c.want {
			t.Errorf("%v: %d exported, want %d", c.vars, got, c.want)
		}
	}
	for _, wrong := range []string{"1", "-1s", "0s", "x"} {
		if _, err := Start(t.Context(), Config{Lookup: none("EBB_TRACES_KEEP", wrong)}); err == nil ||
			!strings.Contains(err.Error(), "EBB_TRACES_KEEP") {
			t.Errorf("%s: got %v", wrong, err)
		}
	}
}

// held returns how many spans and traces a tail holds, by its counts and by what is there.
func (t *tail) counts() (held, spans, traces, queued int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.traces {
		spans += len(h.spans)
	}
	return t.held, spans, len(t.traces), t.queue.Len()
}

// What a tail holds is bounded in number and time, whatever comes: traces of one span, one trace of many, failures.
func TestTailIsBounded(t *testing.T) {
	const one = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	for name, do := range map[string]func(tel *Telemetry){
		"many traces": func(tel *Telemetry) {
			_, end := tel.Span(context.Background(), "x")
			end(nil)
		},
		"one trace": func(tel *Telemetry) {
			_, end := tel.Span(WithTraceparent(context.Background(), one), "x")
			end(nil)
		},
		"failures": func(tel *Telemetry) {
			ctx, end := tel.Span(context.Background(), "x")
			_, inner := tel.Span(ctx, "y")
			inner(nil)
			end(errors.New("x"))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			tel := start(t, Config{Spans: tracetest.NewNoopExporter(), Lookup: none()})
			for range 2 * maxHeld {
				do(tel)
				held, spans, traces, queued := tel.tail.counts()
				if held != spans || traces != queued || held > maxHeld || traces > maxHeld ||
					len(tel.tail.kept) > maxKept || len(tel.tail.ring) != len(tel.tail.kept) {
					t.Fatalf("%s: holds %d spans (%d), %d traces (%d), %d kept", name, held, spans, traces, queued,
						len(tel.tail.kept))
				}
			}
			time.Sleep(maxWait)
			_, end := tel.Span(context.Background(), "after a while")
			end(nil)
			if held, _, _, _ := tel.tail.counts(); held != 1 {
				t.Errorf("%s: %d spans are held after a while, want 1", name, held)
			}
		})
	}
}

// The trace that was kept first is forgotten first.
func TestTailForgetsTheOldestKeptTrace(t *testing.T) {
	tl := newTail(time.Second)
	id := func(n int) (id trace.TraceID) {
		copy(id[:], fmt.Sprintf("%016d", n))
		return id
	}
	for n := range maxKept + 2 {
		tl.keepTrace(id(n))
	}
	if tl.keeps(id(0)) || tl.keeps(id(1)) || !tl.keeps(id(2)) || !tl.keeps(id(maxKept+1)) {
		t.Error("another trace was forgotten")
	}
}

// A measurement in a trace that the tail keeps is an exemplar.
func TestTailExemplars(t *testing.T) {
	tel := start(t, Config{Spans: tracetest.NewInMemoryExporter(), Lookup: none()})
	for route, err := range map[string]error{"/fine": nil, "/failed": errors.New("x")} {
		ctx, end := tel.Span(t.Context(), route)
		end(err)
		tel.HTTP(ctx, Request{Function: "f", Route: route, Method: "GET"}, time.Millisecond)
	}
	page := scrapeAs(t, tel, "application/openmetrics-text;version=1.0.0").Body.String()
	for line := range strings.Lines(page) {
		exemplar := strings.Contains(line, "trace_id=")
		if exemplar && strings.Contains(line, "/fine") {
			t.Errorf("a trace that is not exported is an exemplar: %s", line)
		}
	}
	if !strings.Contains(page, "trace_id=") {
		t.Errorf("the failure is no exemplar:\n%s", page)
	}
}

// Where everything fails, so many traces a second are kept and no more.
func TestTailKeepsSomeOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := tracetest.NewInMemoryExporter()
		tel := start(t, Config{Spans: out, Lookup: none()})
		fail := func() {
			for range 100 {
				ctx, end := tel.Span(t.Context(), "outer")
				_, inner := tel.Span(ctx, "inner")
				inner(errors.New("x"))
				end(errors.New("x"))
			}
		}
		fail()
		if got := len(out.GetSpans()); got != 2*maxKeptRate {
			t.Errorf("%d spans at once, want %d", got, 2*maxKeptRate)
		}
		time.Sleep(time.Hour)
		out.Reset()
		fail()
		if got := len(out.GetSpans()); got != 2*maxKeptRate {
			t.Errorf("%d spans after an hour, want %d", got, 2*maxKeptRate)
		}
	})
}

func TestTailConcurrently(t *testing.T) {
	out := tracetest.NewInMemoryExporter()
	tel := start(t, Config{Spans: out, Lookup: none()})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for n := range 400 {
				ctx, end := tel.Span(context.Background(), "outer")
				_, inner := tel.Span(ctx, "inner")
				inner(nil)
				if n%4 == 0 {
					end(errors.New("x"))
				} else {
					end(nil)
				}
			}
		})
	}
	all.Wait()
	for _, s := range out.GetSpans() {
		if s.Name == "inner" {
			continue
		}
		if s.Status.Code != codes.Error {
			t.Errorf("exported %v", s)
		}
	}
	if held, spans, traces, queued := tel.tail.counts(); held != spans || traces != queued || held > maxHeld {
		t.Errorf("holds %d spans (%d), %d traces (%d)", held, spans, traces, queued)
	}
}
