package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// table writes rows below a header. Its columns never become narrower, so flush may be called before the last row.
type table struct {
	app    *app
	header []string
	widths []int
	rows   [][]string
	begun  bool
}

func (a *app) table(header ...string) *table {
	return &table{app: a, header: header, widths: make([]int, len(header))}
}

// row adds a line. Control characters are escaped.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = oneLine(cell)
	}
	t.rows = append(t.rows, cells)
}

// flush writes the rows since the last flush, the first time with the header.
func (t *table) flush() {
	lines := t.rows
	if !t.begun {
		lines = append([][]string{t.header}, lines...)
	}
	for _, cells := range lines {
		for i, cell := range cells {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, cells := range lines {
		line := t.line(cells)
		if !t.begun {
			line, t.begun = t.app.paint(t.app.Out, bold, line), true
		}
		fmt.Fprintln(t.app.Out, line)
	}
	t.rows = nil
}

func (t *table) line(cells []string) string {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+2))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// timestamp returns a time in the local zone, or "" for the zero time.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02T15:04:05.000Z07:00")
}

// plain escapes the control characters of a text except line breaks and tabs, so that text from elsewhere cannot
// control the terminal.
func plain(s string) string {
	return escape(s, func(r rune) bool { return r == '\n' || r == '\t' })
}

// oneLine escapes all control characters of a text.
func oneLine(s string) string { return escape(s, func(rune) bool { return false }) }

func escape(s string, allowed func(rune) bool) string {
	if strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && !allowed(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) && !allowed(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// The colours of a terminal, by their SGR parameter.
const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint colours a text for a terminal, unless NO_COLOR is set (no-color.org).
func (a *app) paint(w io.Writer, colour, text string) string {
	if off, _ := a.Lookup("NO_COLOR"); off != "" || !a.terminal(w) {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
