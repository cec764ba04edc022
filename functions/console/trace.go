package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// node is an event and those that it caused.
type node struct {
	ID, Position, Type, Source, Subject string
	Time                                time.Time
	Caused                              []*node
}

// row is an event in the picture of a trace. The bar goes from its cause to itself, in thousandths of the whole.
type row struct {
	*node
	Depth, From, Width int
	Function           string
	After              time.Duration // its cause
}

func (c *console) findTrace(w http.ResponseWriter, r *http.Request, p person) error {
	if id := strings.TrimSpace(r.URL.Query().Get("id")); id != "" {
		http.Redirect(w, r, base+"/trace/"+url.PathEscape(id), http.StatusSeeOther)
		return nil
	}
	c.show(w, r, p, http.StatusOK, "trace", view{Title: "Trace", Data: traced{}})
	return nil
}

type traced struct {
	ID           string
	Correlations []string
	Count        int
	Truncated    bool
	Rows         []row
	Start        time.Time
	Length       time.Duration
	Now          time.Time
	Again        string // the command that runs it again
	Sagas        []saga // those that the events are of
	Unasked      bool   // a function did not tell whether one of its sagas is
	Logs         []logLine
	LogsKept     bool // the host keeps log lines
	LogsFailed   bool // and cannot read them
}

// logLine is a line of the log in a trace.
type logLine struct {
	telemetry.LogLine
	After time.Duration // the first event; negative: before it
}

// maxLogged is how many correlations of a trace the page looks for in the log.
const maxLogged = 20

// findLogs finds the log lines of the trace, where the host keeps them. They are for those who may act: a line may say
// more than the API shows.
func (t *traced) findLogs(c *console, r *http.Request, p person) {
	if t.LogsKept = c.logs != nil; !t.LogsKept || !p.Acts() || len(t.Correlations) == 0 {
		return
	}
	lines, err := c.logs(r.Context(), t.Correlations[:min(maxLogged, len(t.Correlations))]...)
	if err != nil {
		c.log.WarnContext(r.Context(), "the log cannot be read", "error", err)
		t.LogsFailed = true
	}
	for _, l := range lines {
		t.Logs = append(t.Logs, logLine{l, l.Time.Sub(t.Start).Round(10 * time.Microsecond)})
	}
}

// ToCome returns the steps that are not over, those to come included; none of a saga that has ended.
func (s saga) ToCome() []step {
	if !s.Open() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.Steps), func(s step) bool {
		switch s.State {
		case "todo", "running", "undoing":
			return false
		}
		return true
	})
}

// maxAskedSagas is how many sagas one page of a trace asks for at most.
const maxAskedSagas = 10

// findSagas finds the sagas that the events are of: a function with sagas emits their events about the saga's id. It
// asks only functions of the trace, because a host starts a stopped function for the request.
func (t *traced) findSagas(c *console, r *http.Request, p person) error {
	asked := 0
	for _, d := range c.system().Sorted() {
		names := pathsBelow(manifest.System{Functions: []*manifest.Declaration{d}}, "/api/sagas/")
		if len(names) == 0 {
			continue
		}
		var ids []string
		for _, row := range t.Rows {
			if row.Function == d.Name && row.Subject != "" && !slices.Contains(ids, row.Subject) {
				ids = append(ids, row.Subject)
			}
		}
		for _, id := range ids {
			for _, name := range names {
				if asked++; asked > maxAskedSagas {
					t.Unasked = true
					return nil
				}
				var s saga
				path := "/api/sagas/" + url.PathEscape(name) + "/" + url.PathEscape(id)
				_, err := c.api.call(r, p.token, http.MethodGet, path, nil, &s)
				switch status := statusOf(err); {
				case status == http.StatusUnauthorized:
					return err
				case status == http.StatusNotFound:
				case err != nil:
					t.Unasked = true // the events are worth more than what is to come
				default:
					t.Sagas = append(t.Sagas, s)
				}
			}
		}
	}
	return nil
}

func (c *console) trace(w http.ResponseWriter, r *http.Request, p person) error {
	var found struct {
		Correlations []string
		Count        int
		Truncated    bool
		Roots        []*node
	}
	id := r.PathValue("id")
	path := "/api/archive/causality/" + url.PathEscape(id)
	_, err := c.api.call(r, p.token, http.MethodGet, path, nil, &found)
	if statusOf(err) == http.StatusNotFound {
		c.show(w, r, p, http.StatusNotFound, "trace", view{
			Title: "Trace", Problem: "No event has this correlation, or is about this entity.", Data: traced{ID: id},
		})
		return nil
	}
	if err != nil {
		return err
	}
	t := traced{
		ID: id, Correlations: found.Correlations, Count: found.Count, Truncated: found.Truncated, Now: c.now(),
		Again: runAgain(r, id),
	}
	t.draw(found.Roots)
	if err := t.findSagas(c, r, p); err != nil {
		return err
	}
	t.findLogs(c, r, p)
	c.show(w, r, p, http.StatusOK, "trace", view{Title: "Trace", Data: t})
	return nil
}

// runAgain returns the command that runs the past of an entity or a correlation again, with the code of the checkout in
// which it is called.
func runAgain(r *http.Request, id string) string {
	return "ebb timemachine " + shellQuoted(id) + " --url " + shellQuoted(origin(r))
}

// draw lays the events out in the order of their causes.
func (t *traced) draw(roots []*node) {
	var end time.Time
	var visit func(n *node, each func(n, cause *node, depth int), cause *node, depth int)
	visit = func(n *node, each func(n, cause *node, depth int), cause *node, depth int) {
		each(n, cause, depth)
		for _, next := range n.Caused {
			visit(next, each, n, depth+1)
		}
	}
	for _, n := range roots {
		visit(n, func(n, _ *node, _ int) {
			if t.Start.IsZero() || n.Time.Before(t.Start) {
				t.Start = n.Time
			}
			if n.Time.After(end) {
				end = n.Time
			}
		}, nil, 0)
	}
	t.Length = end.Sub(t.Start).Round(10 * time.Microsecond)
	at := func(when time.Time) int {
		if t.Length <= 0 {
			return 0
		}
		return min(990, int(990*(float64(when.Sub(t.Start))/float64(t.Length)))) // the length is rounded
	}
	for _, n := range roots {
		visit(n, func(n, cause *node, depth int) {
			row := row{node: n, Depth: min(depth, 12), From: at(n.Time), Width: 10}
			row.Function = n.Source[strings.LastIndex(n.Source, "/")+1:]
			if cause != nil {
				row.From = min(at(cause.Time), row.From)
				row.Width = at(n.Time) - row.From + 10
				row.After = n.Time.Sub(cause.Time).Round(10 * time.Microsecond)
			}
			t.Rows = append(t.Rows, row)
		}, nil, 0)
	}
}

// Prefix returns what stands before the event, so that it stands below its cause.
func (r row) Prefix() string {
	if r.Depth == 0 {
		return ""
	}
	return strings.Repeat("   ", r.Depth-1) + "└─ "
}
