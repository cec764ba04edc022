package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// failures logs the errors of exporters, and keeps them for Flush. Those that an exporter returns go to OpenTelemetry's
// error handler, of which a process has one. Its methods may be called concurrently.
type failures struct {
	logger *slog.Logger

	mu  sync.Mutex
	err error // since the last call of take
}

// note logs an error and returns nil.
func (f *failures) note(err error) error {
	if err != nil {
		f.logger.Warn("telemetry is not exported", "error", err)
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
	}
	return nil
}

// take returns the last error since the call before, and err.
func (f *failures) take(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err, f.err = errors.Join(f.err, err), nil
	return err
}

type spanExporter struct {
	sdktrace.SpanExporter
	*failures
}

func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return e.note(e.SpanExporter.ExportSpans(ctx, spans))
}

type metricExporter struct {
	sdkmetric.Exporter
	*failures
}

func (e metricExporter) Export(ctx context.Context, metrics *metricdata.ResourceMetrics) error {
	return e.note(e.Exporter.Export(ctx, metrics))
}

type logExporter struct {
	sdklog.Exporter
	*failures
}

func (e logExporter) Export(ctx context.Context, records []sdklog.Record) error {
	return e.note(e.Exporter.Export(ctx, records))
}
