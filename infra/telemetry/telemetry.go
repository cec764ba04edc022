// Package telemetry makes a function observable: OpenTelemetry traces and metrics, and slog lines with the ids of
// traces and spans.
//
// Metrics can always be scraped, by whom MetricsHandler allows. Traces, metrics and log lines are exported by OTLP/HTTP
// only if the standard OTEL_* variables configure it; without an exporter a span has ids only, which are passed on so
// that logs and events can be joined later.
//
// Recording during a request costs well under a microsecond: instruments are made once, and each set of attributes
// once. Labels are names from the code (a function, a route's pattern, an event's type), never ids and never values
// from a caller.
//
// A nil or zero *Telemetry works and does nothing. Every type of the package is safe for concurrent use.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// scope is the name of the instrumentation in exports.
const scope = "github.com/ebb-dev/ebb"

// Config is what is observed and where that is exported to.
type Config struct {
	Service string // service.name, unless OTEL_SERVICE_NAME is set
	Version string // service.version

	// Log is where log lines go; nil is standard error. EBB_LOG_LEVEL chooses the least
	// level that is logged (info), and EBB_LOG_FORMAT json or text; without it a
	// terminal gets text and all else JSON.
	Log io.Writer

	// Copy also gets the log lines, as JSON; those of level info and above even where EBB_LOG_LEVEL leaves them out of
	// Log. Nil: there is no copy. A write that fails is ignored.
	Copy io.Writer

	// Lookup looks up EBB_LOG_*, EBB_METRICS_TOKEN, NO_COLOR and the standard OTEL_* variables; nil: none is set. The
	// exporters read their own tuning (OTEL_BSP_*, client certificates) from the environment of the process.
	Lookup func(key string) (string, bool)

	// Spans gets every span when it ends, in addition to the exporters that the variables configure. It is for tests.
	Spans sdktrace.SpanExporter
}

// Telemetry records logs, metrics and spans. Start makes one and Shutdown ends it.
type Telemetry struct {
	tracer   trace.Tracer // nil: no span is exported, only ids are made
	spans    *sdktrace.TracerProvider
	tail     *tail                  // nil: the sampler decides alone
	inherits bool                   // a span whose parent is not sampled is left out
	byID     bool                   // every span is sampled by the id of its trace
	lines    *sdklog.LoggerProvider // nil: log lines are not exported
	failures *failures
	meters   *sdkmetric.MeterProvider
	registry *prometheus.Registry // with classic histograms
	native   *prometheus.Registry // with native histograms
	metrics  *instruments
	log      slog.Handler
	level    *slog.LevelVar
	token    scrapeToken

	shutdown sync.Once
	ended    error
}

// Discard records nothing, at no cost.
func Discard() *Telemetry { return nil }

// off reports whether t is nil, zero, or otherwise not from Start.
func (t *Telemetry) off() bool { return t == nil || t.metrics == nil }

// Start returns a Telemetry. It fails only for variables that are not valid, and names them all; it does not fail when
// the collector cannot be reached.
func Start(ctx context.Context, c Config) (*Telemetry, error) {
	env := environment(c.Lookup)
	t := &Telemetry{level: &slog.LevelVar{}}
	log, logErr := newLogHandler(c.Log, c.Copy, env, t.level)
	export, exportErr := env.exports()
	token, tokenErr := env.scrapeToken()
	if err := errors.Join(logErr, exportErr, tokenErr); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	t.log, t.token = log, token
	// The errors of exporters are in this log only: exported, each would cause the next.
	t.failures = &failures{logger: t.Logger("")}
	t.registry, t.native = prometheus.NewRegistry(), prometheus.NewRegistry()
	about := env.resource(c.Service, c.Version)
	if err := t.startSpans(ctx, about, export, c.Spans); err != nil {
		return nil, fmt.Errorf("telemetry: traces: %w", err)
	}
	if err := t.startMetrics(ctx, about, export); err != nil {
		return nil, errors.Join(fmt.Errorf("telemetry: metrics: %w", err), t.Shutdown(ctx))
	}
	if err := t.startLogs(ctx, about, export); err != nil {
		return nil, errors.Join(fmt.Errorf("telemetry: logs: %w", err), t.Shutdown(ctx))
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
	native, err := newNativeReader(t.native)
	if err != nil {
		return err
	}
	options := []sdkmetric.Option{
		sdkmetric.WithReader(scrape),
		sdkmetric.WithReader(native), // after the other: see withNative
		sdkmetric.WithResource(about),
		sdkmetric.WithExemplarFilter(t.exemplars()),
	}
	if export.metrics != nil {
		push, err := export.metrics.reader(ctx, export.exponential, t.failures)
		if err != nil {
			return err
		}
		options = append(options, sdkmetric.WithReader(push))
	}
	t.meters = sdkmetric.NewMeterProvider(options...)
	t.metrics, err = newInstruments(t.meters.Meter(scope))
	return err
}

func (t *Telemetry) startSpans(
	ctx context.Context, about *resource.Resource, export exports, also sdktrace.SpanExporter,
) error {
	if export.traces == nil && also == nil {
		return nil
	}
	var processors []sdktrace.SpanProcessor
	if also != nil {
		processors = append(processors, sdktrace.NewSimpleSpanProcessor(also))
	}
	if export.traces != nil {
		exporter, err := export.traces.spans(ctx)
		if err != nil {
			return err
		}
		processors = append(processors, sdktrace.NewBatchSpanProcessor(spanExporter{exporter, t.failures}))
	}
	sampler := sdktrace.Sampler(edgeSampler{export.sampler})
	named := export.sampler.Description()
	t.inherits = strings.HasPrefix(named, "ParentBased") && export.keep == 0
	t.byID = strings.HasPrefix(named, "TraceIDRatioBased")
	if export.keep > 0 {
		t.tail = newTail(export.keep, processors...)
		sampler, processors = recorder{sampler, t.tail}, []sdktrace.SpanProcessor{t.tail}
	}
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(about), sdktrace.WithSampler(sampler), sdktrace.WithIDGenerator(ids{}),
	}
	for _, p := range processors {
		options = append(options, sdktrace.WithSpanProcessor(p))
	}
	t.spans = sdktrace.NewTracerProvider(options...)
	t.tracer = t.spans.Tracer(scope)
	return nil
}

// exemplars returns the filter of the measurements that become exemplars: those of spans that are exported.
func (t *Telemetry) exemplars() exemplar.Filter {
	switch {
	case t.tracer == nil:
		return exemplar.AlwaysOffFilter
	case t.tail != nil:
		return t.tail.exemplars
	}
	return exemplar.TraceBasedFilter
}

// startLogs exports log lines too, if that is configured.
func (t *Telemetry) startLogs(ctx context.Context, about *resource.Resource, export exports) error {
	if export.logs == nil {
		return nil
	}
	exporter, err := export.logs.logs(ctx)
	if err != nil {
		return err
	}
	t.lines = sdklog.NewLoggerProvider(sdklog.WithResource(about),
		sdklog.WithProcessor(sdklog.NewBatchProcessor(logExporter{exporter, t.failures})))
	t.log = slog.NewMultiHandler(t.log, otelHandler{logger: t.lines.Logger(scope), level: t.level})
	return nil
}

// Flush exports what is not exported yet. A host that may be frozen after a request calls it before the response.
func (t *Telemetry) Flush(ctx context.Context) error {
	if t.off() {
		return nil
	}
	err := t.meters.ForceFlush(ctx)
	if t.spans != nil {
		err = errors.Join(t.spans.ForceFlush(ctx), err)
	}
	if t.lines != nil {
		err = errors.Join(t.lines.ForceFlush(ctx), err)
	}
	return t.failures.take(err)
}

// Shutdown exports what is not exported yet and stops. Calls after the first do nothing; what is recorded later is
// lost.
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
		if t.lines != nil {
			t.ended = errors.Join(t.ended, t.lines.Shutdown(ctx))
		}
		if t.failures != nil {
			t.ended = t.failures.take(t.ended)
		}
	})
	return t.ended
}

// Tracer returns a tracer for libraries that make their own spans. Without an exporter its spans have ids only.
func (t *Telemetry) Tracer() trace.Tracer {
	switch {
	case t.off():
		return tracenoop.NewTracerProvider().Tracer(scope)
	case t.tracer == nil:
		return idTracer{}
	}
	return t.tracer
}

// Meter returns a meter for the instruments of one function. Make them once, at its start, and name them ebb.*.
func (t *Telemetry) Meter() metric.Meter {
	if t.off() {
		return metricnoop.NewMeterProvider().Meter(scope)
	}
	return t.meters.Meter(scope)
}

func orStderr(w io.Writer) io.Writer {
	if w == nil {
		return os.Stderr
	}
	return w
}
