package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// textHandler writes lines for people, each on one line whatever is in it:
//
//	15:04:05.123 WRN orders         no stock  order=0198… trace=4bf92f35
//
// Of a trace the first eight digits are shown, which is enough to search for.
type textHandler struct {
	out      *output
	level    slog.Leveler
	colour   bool
	function string
	prefix   string // of the groups that are open
	attrs    []byte // those already bound, as they are written
}

// output is shared by all handlers of one writer, so that lines are not interleaved.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

func newTextHandler(w io.Writer, level slog.Leveler, colour bool) textHandler {
	return textHandler{out: &output{w: w}, level: level, colour: colour}
}

func (h textHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h textHandler) Handle(_ context.Context, r slog.Record) error {
	var attrs bytes.Buffer
	attrs.Write(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		h.attr(&attrs, h.prefix, a)
		return true
	})
	var line bytes.Buffer
	if !r.Time.IsZero() {
		line.WriteString(h.paint(faint, r.Time.Format("15:04:05.000")) + " ")
	}
	name, colour := levelName(r.Level)
	line.WriteString(h.paint(colour, name) + " ")
	line.WriteString(h.paint(bold, pad(h.function, 14)) + " ")
	line.WriteString(oneLine(r.Message))
	line.WriteString(" ")
	line.Write(attrs.Bytes())
	line.WriteByte('\n')

	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := h.out.w.Write(line.Bytes())
	return err
}

func (h textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b bytes.Buffer
	b.Write(h.attrs)
	for _, a := range attrs {
		h.attr(&b, h.prefix, a)
	}
	h.attrs = b.Bytes()
	return h
}

func (h textHandler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.prefix += name + "."
	}
	return h
}

// attr writes one attribute. The function goes into its column instead: h is a copy, made for
// this line or for this handler.
func (h *textHandler) attr(b *bytes.Buffer, prefix string, a slog.Attr) {
	a.Value = a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
	case a.Value.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range a.Value.Group() {
			h.attr(b, prefix, member)
		}
	case prefix == "" && a.Key == "function":
		h.function = a.Value.String()
	case prefix == "" && a.Key == "span_id":
	case prefix == "" && a.Key == "trace_id":
		h.pair(b, "trace", a.Value.String()[:min(8, len(a.Value.String()))])
	default:
		h.pair(b, prefix+a.Key, text(a.Value))
	}
}

func (h *textHandler) pair(b *bytes.Buffer, key, value string) {
	b.WriteString(" " + h.paint(faint, quote(key)+"=") + quote(value))
}

func text(v slog.Value) string {
	if v.Kind() == slog.KindTime {
		return v.Time().Format(time.RFC3339Nano)
	}
	return v.String()
}

func levelName(l slog.Level) (name, colour string) {
	switch {
	case l < slog.LevelInfo:
		return "DBG", faint
	case l < slog.LevelWarn:
		return "INF", green
	case l < slog.LevelError:
		return "WRN", yellow
	}
	return "ERR", red
}

// The colours of ECMA-48 that every terminal supports.
const (
	bold   = "\x1b[1m"
	faint  = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

func (h *textHandler) paint(colour, s string) string {
	if !h.colour {
		return s
	}
	return colour + s + reset
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-len(s)))
}

// quote returns a plain word unchanged and all else in quotes with its control characters escaped, so that a logged
// value cannot start a line or colour the terminal.
func quote(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return r == '"' || r == '=' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}) {
		return strconv.Quote(s)
	}
	return s
}

// oneLine escapes the control characters of a message and changes nothing else.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
