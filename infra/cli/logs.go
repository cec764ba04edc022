package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// logReader shows the log of dev.
type logReader struct {
	*app
	output

	path     string
	function string
	level    slog.Level
	since    string
	limit    int
	follow   bool
	table    *table
}

func (a *app) logsCommand() *cobra.Command {
	r := logReader{app: a, level: slog.LevelDebug}
	data := fallback(a.Lookup, "EBB_DATA", a.dataDir())
	c := &cobra.Command{
		Use:   "logs",
		Short: "Show the log of dev",
		Long:  "Show the log of dev, which keeps the latest 40 MB in the data directory.",
		Example: a.example(`
$ logs --level warn
$ logs --function users --follow
$ logs --since 10m -o json`),
		Args: noArgs,
	}
	f := c.Flags()
	r.output.define(a, f)
	completeFormats(c)
	f.StringVar(&data, "data", data, "directory of the data")
	f.StringVar(&r.function, "function", "", "only lines of this function")
	f.Func("level", "only lines of this `level` and worse: debug, info, warn or error", r.setLevel)
	f.VarPF(timeValue{&r.since}, "since", "",
		"only lines from this `time` on (RFC 3339), or how long ago, such as 10m")
	f.IntVar(&r.limit, "limit", 200, "show at most this many, the latest ones; 0 for all")
	f.BoolVarP(&r.follow, "follow", "f", false, "keep printing new lines")
	_ = c.RegisterFlagCompletionFunc("level", cobra.FixedCompletions(levels, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(c *cobra.Command, _ []string) error {
		r.path = filepath.Join(data, logDir, logName)
		return r.run(c.Context())
	}
	return c
}

var levels = []string{"debug", "info", "warn", "error"}

func (r *logReader) setLevel(name string) error {
	if !slices.Contains(levels, strings.ToLower(name)) {
		if near := editdistance.Nearest(name, levels); near != "" {
			return fmt.Errorf("unknown level; did you mean %s?", near)
		}
		return fmt.Errorf("unknown level (use %s)", strings.Join(levels, ", "))
	}
	return r.level.UnmarshalText([]byte(name))
}

// logLine is one line of the log. raw holds all its members.
type logLine struct {
	Time        time.Time  `json:"time"`
	Level       slog.Level `json:"level"`
	Message     string     `json:"msg"`
	Function    string     `json:"function"`
	Correlation string     `json:"correlation_id"`
	raw         json.RawMessage
}

// parseLog parses a line. It returns false for an incomplete line, which a crash may leave.
func parseLog(raw []byte) (l logLine, ok bool) {
	if err := json.Unmarshal(raw, &l); err != nil {
		return l, false
	}
	l.raw = slices.Clone(raw)
	return l, true
}

func (r *logReader) wanted(l logLine) bool {
	if r.since != "" {
		since, err := time.Parse(time.RFC3339Nano, r.since)
		if err == nil && l.Time.Before(since) {
			return false
		}
	}
	return l.Level >= r.level && (r.function == "" || l.Function == r.function)
}

func (r *logReader) run(ctx context.Context) error {
	header := []string{"TIME", "LEVEL", "FUNCTION", "MESSAGE"}
	if r.wide() {
		header = append(header, "CORRELATION")
	}
	r.table = r.app.table(header...)
	var lines []logLine
	for n := oldLogs; n > 0; n-- {
		if _, err := readLog(oldLog(r.path, n), 0, r.keep(&lines)); err != nil {
			return err
		}
	}
	at, err := readLog(r.path, 0, r.keep(&lines))
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(r.path)); err != nil && !r.follow {
		return fmt.Errorf("nothing was logged in %s; is --data the directory of a system that dev runs?",
			filepath.Dir(r.path))
	}
	if err := r.show(lines); err != nil || !r.follow {
		return err
	}
	return r.followed(ctx, at)
}

// keep returns a function that appends wanted lines and drops the oldest beyond the limit.
func (r *logReader) keep(lines *[]logLine) func(logLine) {
	return func(l logLine) {
		if !r.wanted(l) {
			return
		}
		*lines = append(*lines, l)
		if r.limit > 0 && len(*lines) > 2*r.limit {
			*lines = slices.Delete(*lines, 0, len(*lines)-r.limit)
		}
	}
}

// readLog calls take with each complete line of a file from an offset on, and returns the offset after the last one. A
// missing file has no lines.
func readLog(path string, from int64, take func(logLine)) (int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return from, nil
	}
	if err != nil {
		return from, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return from, err
	}
	for r := bufio.NewReader(f); ; {
		raw, err := r.ReadBytes('\n')
		if err != nil { // the end, perhaps in the middle of a line that is being written
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return from, err
		}
		from += int64(len(raw))
		if l, ok := parseLog(raw); ok {
			take(l)
		}
	}
}

func (r *logReader) show(lines []logLine) error {
	if r.limit > 0 && len(lines) > r.limit {
		lines = lines[len(lines)-r.limit:]
	}
	for _, l := range lines {
		if r.structured() {
			if err := r.item(l.raw); err != nil {
				return err
			}
			continue
		}
		cells := []string{timestamp(l.Time), l.Level.String(), l.Function, l.Message + l.attributes()}
		if r.wide() {
			cells = append(cells, l.Correlation)
		}
		r.table.row(cells...)
	}
	if !r.structured() && len(lines) > 0 {
		r.table.flush()
	}
	return nil
}

// attributes returns the other members of a line as name=value.
func (l logLine) attributes() string {
	var all map[string]any
	if err := json.Unmarshal(l.raw, &all); err != nil {
		return ""
	}
	for _, name := range []string{"time", "level", "msg", "function", "correlation_id", "trace_id", "span_id"} {
		delete(all, name)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "  %s=%v", name, all[name])
	}
	return b.String()
}

// followed shows new lines until ctx ends. When the file was rotated, it first shows the end of the old one.
func (r *logReader) followed(ctx context.Context, at int64) error {
	before, _ := os.Stat(r.path)
	r.limit = 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		var lines []logLine
		now, err := os.Stat(r.path)
		if err != nil {
			continue // it is being rotated, or nothing was logged yet
		}
		if before != nil && !os.SameFile(before, now) {
			if _, err := readLog(oldLog(r.path, 1), at, r.keep(&lines)); err != nil {
				return err
			}
			at = 0
		}
		before = now
		if at, err = readLog(r.path, at, r.keep(&lines)); err != nil {
			return err
		}
		if err := r.show(lines); err != nil {
			return err
		}
	}
}
