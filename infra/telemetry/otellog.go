package telemetry

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otellog "go.opentelemetry.io/otel/log"
)

// maxLogged is the length in bytes of the longest text of an exported log line.
const maxLogged = 4096

// otelHandler exports log lines as OpenTelemetry's. The ids of the trace and the span are the record's own.
type otelHandler struct {
	logger otellog.Logger
	level  slog.Leveler
	prefix string // of the groups that are open
	attrs  []attribute.KeyValue
}

// Enabled implements slog.Handler.
func (h otelHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// Handle implements slog.Handler.
func (h otelHandler) Handle(ctx context.Context, line slog.Record) error {
	var r otellog.Record
	r.SetTimestamp(line.Time)
	r.SetSeverity(severity(line.Level))
	r.SetSeverityText(line.Level.String())
	r.SetBody(attribute.StringValue(exported(line.Message)))
	r.AddAttributes(h.attrs...)
	attrs := make([]attribute.KeyValue, 0, line.NumAttrs())
	line.Attrs(func(a slog.Attr) bool {
		attrs = appendAttr(attrs, h.prefix, a)
		return true
	})
	r.AddAttributes(attrs...)
	h.logger.Emit(ctx, r)
	return nil
}

// WithAttrs implements slog.Handler.
func (h otelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range attrs {
		h.attrs = appendAttr(h.attrs, h.prefix, a)
	}
	return h
}

// WithGroup implements slog.Handler.
func (h otelHandler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.prefix += name + "."
	}
	return h
}

// severity returns the severity of a level: 5 for debug, 9 for info, 13 for warnings and 17 for errors.
func severity(l slog.Level) otellog.Severity {
	return otellog.Severity(min(max(int(l)+int(otellog.SeverityInfo), int(otellog.SeverityTrace1)),
		int(otellog.SeverityFatal4)))
}

func appendAttr(all []attribute.KeyValue, prefix string, a slog.Attr) []attribute.KeyValue {
	value := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return all
	case value.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range value.Group() {
			all = appendAttr(all, prefix, member)
		}
		return all
	case prefix == "" && (a.Key == "trace_id" || a.Key == "span_id"):
		return all
	case prefix == "" && a.Key == "function":
		return append(all, attribute.String(faasName, exported(value.String())))
	case prefix == "" && a.Key == "error":
		return append(all, attribute.String(exceptionMessage, exported(value.String())))
	}
	key := attribute.Key(exported(prefix + a.Key))
	switch value.Kind() {
	case slog.KindBool:
		return append(all, key.Bool(value.Bool()))
	case slog.KindInt64:
		return append(all, key.Int64(value.Int64()))
	case slog.KindFloat64:
		return append(all, key.Float64(value.Float64()))
	case slog.KindTime:
		return append(all, key.String(value.Time().Format(time.RFC3339Nano)))
	}
	return append(all, key.String(exported(value.String())))
}

// exported returns the beginning of a text as valid UTF-8: collectors refuse whole batches for other bytes.
func exported(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxLogged)], "\uFFFD")
}
