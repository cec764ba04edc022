package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/term"
)

type (
	correlationKey struct{}
	functionKey    struct{}
)

// WithCorrelation returns a context that carries a correlation id: the one of all events that follow from one request.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, id)
}

// Correlation returns the correlation id of ctx, or "".
func Correlation(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey{}).(string)
	return id
}

// Scope is what telemetry knows of a call: its span and its correlation id. It is a value to keep for later, when the
// call has another context. The zero value is of no call.
type Scope struct {
	span        trace.Span
	correlation string
}

// ScopeOf returns the scope of ctx.
func ScopeOf(ctx context.Context) Scope { return Scope{trace.SpanFromContext(ctx), Correlation(ctx)} }

// IsZero reports whether it is the scope of no call.
func (s Scope) IsZero() bool { return s.span == nil }

// In returns a copy of ctx with the scope; the zero value returns ctx.
func (s Scope) In(ctx context.Context) context.Context {
	if s.IsZero() {
		return ctx
	}
	return WithCorrelation(trace.ContextWithSpan(ctx, s.span), s.correlation)
}

// WithFunction returns a context that carries the name of the function that is called, for loggers that belong to no
// function.
func WithFunction(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, functionKey{}, name)
}

// Function returns the name of the function that is called in ctx, or "".
func Function(ctx context.Context) string {
	name, _ := ctx.Value(functionKey{}).(string)
	return name
}

// Logger returns a logger whose lines have the function's name and the trace_id, span_id and correlation_id of the
// context that they are logged with. With "" the function is taken from the context too.
func (t *Telemetry) Logger(function string) *slog.Logger {
	if t == nil || t.log == nil {
		return slog.New(slog.DiscardHandler)
	}
	if function == "" {
		return slog.New(contextHandler{base: t.log})
	}
	bound := t.log.WithAttrs([]slog.Attr{slog.String("function", function)})
	return slog.New(contextHandler{base: bound, named: true})
}

// newLogHandler returns what writes to w, and to also if it is not nil.
func newLogHandler(w, also io.Writer, env environment, level *slog.LevelVar) (slog.Handler, error) {
	w = orStderr(w)
	if err := setLevel(level, env.get(LevelVariable)); err != nil {
		return nil, err
	}
	terminal := isTerminal(w)
	switch format := env.get("EBB_LOG_FORMAT"); {
	case format == "text", format == "" && terminal:
		return copied(newTextHandler(w, level, terminal && env.get("NO_COLOR") == ""), also, level), nil
	case format == "json", format == "":
		return copied(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}), also, level), nil
	default:
		return nil, fmt.Errorf("EBB_LOG_FORMAT is %q; expected json or text", format)
	}
}

// LevelVariable is the setting with the least level that is logged.
const LevelVariable = "EBB_LOG_LEVEL"

// ParseLevel returns the level of a name; "" is info. The error does not name the setting.
func ParseLevel(name string) (level slog.Level, err error) {
	if name != "" && level.UnmarshalText([]byte(name)) != nil {
		return 0, fmt.Errorf("is %q; expected debug, info, warn or error", name)
	}
	return level, nil
}

// setLevel sets a level by its name.
func setLevel(level *slog.LevelVar, name string) error {
	next, err := ParseLevel(name)
	if err != nil {
		return fmt.Errorf("%s %w", LevelVariable, err)
	}
	level.Set(next)
	return nil
}

// SetLevel changes the least level that is logged: debug, info, warn or error; "" is info. It may be called
// concurrently. An unknown one is an error, and changes nothing.
func (t *Telemetry) SetLevel(name string) error {
	if t.off() {
		return nil
	}
	return setLevel(t.level, name)
}

// copied adds a second writer, of JSON at level info or a lesser one that was asked for.
func copied(h slog.Handler, also io.Writer, level slog.Leveler) slog.Handler {
	if also == nil {
		return h
	}
	return slog.NewMultiHandler(h, slog.NewJSONHandler(also, &slog.HandlerOptions{Level: atMostInfo{level}}))
}

// atMostInfo is a level, or info if that is less.
type atMostInfo struct{ slog.Leveler }

func (l atMostInfo) Level() slog.Level { return min(l.Leveler.Level(), slog.LevelInfo) }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// contextHandler adds the ids of a context to each line, always at the top level: a group that a caller opened is
// opened after them.
type contextHandler struct {
	base  slog.Handler
	named bool                              // the function is known already
	then  []func(slog.Handler) slog.Handler // from the first group on
}

func (h contextHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.base.Enabled(ctx, level)
}

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	var room [4]slog.Attr
	attrs := h.of(ctx, room[:0])
	if len(h.then) == 0 {
		r = r.Clone()
		r.AddAttrs(attrs...)
		return h.base.Handle(ctx, r)
	}
	base := h.base.WithAttrs(attrs)
	for _, then := range h.then {
		base = then(base)
	}
	return base.Handle(ctx, r)
}

func (h contextHandler) of(ctx context.Context, attrs []slog.Attr) []slog.Attr {
	if ctx == nil {
		return attrs
	}
	if name := Function(ctx); name != "" && !h.named {
		attrs = append(attrs, slog.String("function", name))
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		attrs = append(attrs, slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	if id := Correlation(ctx); id != "" {
		attrs = append(attrs, slog.String("correlation_id", id))
	}
	return attrs
}

func (h contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(h.then) == 0 {
		h.base = h.base.WithAttrs(attrs)
		return h
	}
	return h.and(func(base slog.Handler) slog.Handler { return base.WithAttrs(attrs) })
}

func (h contextHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.and(func(base slog.Handler) slog.Handler { return base.WithGroup(name) })
}

func (h contextHandler) and(then func(slog.Handler) slog.Handler) slog.Handler {
	h.then = append(h.then[:len(h.then):len(h.then)], then)
	return h
}

// LogLine is a line of the log that the host keeps.
type LogLine struct {
	Time       time.Time
	Level      slog.Level
	Function   string // that has logged it; "": none
	Message    string
	Attributes string // the others, as name=value
}
