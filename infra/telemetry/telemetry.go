// Package telemetry lets a function be watched: OpenTelemetry traces and
// metrics, and slog lines that carry the ids of both.
//
// Metrics are always there to be scraped. Traces and metrics leave the process by
// OTLP/HTTP only if the standard OTEL_* variables ask for it; until then a span is
// nothing but its ids, made and passed on so that logs and events can be joined later.
//
// What is recorded on the way of a request costs well under a microsecond: instruments are made
// once, and each set of attributes once. Labels are names that the code gives (a
// function, a route's pattern, an event's type), never ids and never what a caller sent.
//
// A nil or zero *Telemetry works and does nothing. All of it is safe for concurrent use.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// scope names the instrumentation in what is exported.
const scope = "github.com/ebb-dev/ebb"

// Config says what is watched and where the watching goes.
type Config struct {
	Service string // service.name, unless OTEL_SERVICE_NAME says otherwise
	Version string // service.version

	// Log is where log lines go; nil is standard error. EBB_LOG_LEVEL chooses the least
	// level that is logged (info), and EBB_LOG_FORMAT json or text; without it a
	// terminal gets text and all else JSON.
	Log io.Writer

	// Copy also gets the log lines, as JSON, those of level info and worse even where EBB_LOG_LEVEL leaves them out of
	// Log; nil: nothing does. A write that fails is not told.
	Copy io.Writer

	// Lookup finds EBB_LOG_*, NO_COLOR and the standard OTEL_* variables; nil finds none.
	// Tuning that only the exporters understand (OTEL_BSP_*, client certificates) they read
	// from the environment of the process themselves.
	Lookup func(key string) (string, bool)

	// Spans takes every span at once, beside whatever the variables ask for. It is meant for tests.
	Spans sdktrace.SpanExporter
}

// Telemetry is made by Start and ended by Shutdown.
type Telemetry struct {
	tracer   trace.Tracer // nil: no span is exported, only ids are made
	spans    *sdktrace.TracerProvider
	meters   *sdkmetric.MeterProvider
	registry *prometheus.Registry
	metrics  *instruments
	log      slog.Handler

	shutdown sync.Once
	ended    error
}

// Discard does nothing, at no cost.
func Discard() *Telemetry { return nil }

// off reports whether t is nil, zero, or otherwise not from Start.
func (t *Telemetry) off() bool { return t == nil || t.metrics == nil }

// Start sets telemetry up. It fails only for variables that make no sense, and names
// them all; a collector that cannot be reached is no reason for a function not to start.
func Start(ctx context.Context, c Config) (*Telemetry, error) {
	env := environment(c.Lookup)
	log, logErr := newLogHandler(c.Log, c.Copy, env)
	export, exportErr := env.exports()
	if err := errors.Join(logErr, exportErr); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	t := &Telemetry{log: log, registry: prometheus.NewRegistry()}
	about := env.resource(c.Service, c.Version)
	if err := t.startMetrics(ctx, about, export); err != nil {
		return nil, fmt.Errorf("telemetry: metrics: %w", err)
	}
	if err := t.startSpans(ctx, about, export, c.Spans); err != nil {
		return nil, errors.Join(fmt.Errorf("telemetry: traces: %w", err), t.Shutdown(ctx))
	}
	if export.traces != nil || export.metrics != nil {
		t.logExportErrors()
	}
	return t, nil
}

func (t *Telemetry) startMetrics(ctx context.Context, about *resource.Resource, export exports) error {
	t.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	scrape, err := otelprom.New(otelprom.WithRegisterer(t.registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return err
	}
	options := []sdkmetric.Option{
		sdkmetric.WithReader(scrape),
		sdkmetric.WithResource(about),
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter),
	}
	if export.metrics != nil {
		push, err := export.metrics.reader(ctx)
		if err != nil {
			return err
		}
		options = append(options, sdkmetric.WithReader(push))
	}
	t.meters = sdkmetric.NewMeterProvider(options...)
	t.metrics, err = newInstruments(t.meters.Meter(scope))
	return err
}

func (t *Telemetry) startSpans(ctx context.Context, about *resource.Resource, export exports, also sdktrace.SpanExporter) error {
	if export.traces == nil && also == nil {
		return nil
	}
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(about),
		sdktrace.WithSampler(export.sampler),
	}
	if also != nil {
		options = append(options, sdktrace.WithSyncer(also))
	}
	if export.traces != nil {
		exporter, err := export.traces.spans(ctx)
		if err != nil {
			return err
		}
		options = append(options, sdktrace.WithBatcher(exporter))
	}
	t.spans = sdktrace.NewTracerProvider(options...)
	t.tracer = t.spans.Tracer(scope)
	return nil
}

// logExportErrors sends what the exporters complain of to the log. OpenTelemetry has one
// handler per process for that, so the last Telemetry that exports gets the complaints of all.
func (t *Telemetry) logExportErrors() {
	logger := t.Logger("")
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.Warn("telemetry is not exported", "error", err)
	}))
}

// Flush exports what is waiting. A host that may be frozen after a request calls it before it answers.
func (t *Telemetry) Flush(ctx context.Context) error {
	if t.off() {
		return nil
	}
	err := t.meters.ForceFlush(ctx)
	if t.spans != nil {
		err = errors.Join(t.spans.ForceFlush(ctx), err)
	}
	return err
}

// Shutdown exports what is waiting and stops. Only its first call does anything; what is
// recorded afterwards is lost.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.shutdown.Do(func() {
		if t.spans != nil {
			t.ended = t.spans.Shutdown(ctx)
		}
		if t.meters != nil {
			t.ended = errors.Join(t.ended, t.meters.Shutdown(ctx))
		}
	})
	return t.ended
}

// Tracer is for libraries that make their own spans. Without an exporter its spans are ids only.
func (t *Telemetry) Tracer() trace.Tracer {
	switch {
	case t.off():
		return tracenoop.NewTracerProvider().Tracer(scope)
	case t.tracer == nil:
		return idTracer{}
	}
	return t.tracer
}

// Meter is for instruments that only one function needs. Make them once, at its start, and
// name them ebb.*.
func (t *Telemetry) Meter() metric.Meter {
	if t.off() {
		return metricnoop.NewMeterProvider().Meter(scope)
	}
	return t.meters.Meter(scope)
}

// MetricsHandler answers a Prometheus scrape with our metrics, Go's and the process's.
func (t *Telemetry) MetricsHandler() http.Handler {
	if t.off() {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{})
}

func orStderr(w io.Writer) io.Writer {
	if w == nil {
		return os.Stderr
	}
	return w
}
