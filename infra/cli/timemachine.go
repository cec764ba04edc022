package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/timemachine"
)

// The exit codes of the time machine are those of diff.
const (
	exitDiffers = 1
	exitTrouble = 2
)

func (a *app) timeMachineCommand() *cobra.Command {
	t := travel{app: a}
	c := &cobra.Command{
		Use:   "timemachine [ORDER]",
		Short: "Run a past order, or a day, with the code of this command, and show what differs",
		Long: "timemachine takes the events of an order, or of a span of time, from the archive of a running system " +
			"or from a file, runs the functions that this command is built of in simulated time with the same requests, " +
			"and shows which events and which state differ. Nothing outside of this process is changed or called. To try " +
			"a change, run the command of the changed checkout.\n\nThe exit code is 0 when nothing differs, 1 when " +
			"something does, and 2 when the run could not be made.",
		Example: a.example(`
$ timemachine ORDER                                   with an archive of a running system
$ timemachine ORDER --save order.json                 record it, and run it
$ timemachine ORDER --from order.json                 run it again, with nothing else running
$ timemachine --since 2026-01-02T00:00:00Z --until 2026-01-03T00:00:00Z
$ timemachine ORDER --setting EBB_ORDERS_STEP_DEADLINE=5s
go run ./cmd/` + a.Name + ` timemachine ORDER --from order.json   with the code of a checkout`),
		RunE: func(c *cobra.Command, args []string) error {
			differs, err := t.run(c.Context(), args)
			var usage usageError
			switch {
			case errors.As(err, &usage):
				return err
			case err != nil:
				a.complain(err)
				return exitCode(exitTrouble)
			case differs:
				return exitCode(exitDiffers)
			}
			return nil
		},
	}
	c.Annotations = map[string]string{idArgument: "yes"}
	c.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return usageErrorf("timemachine wants one id, got %q too", args[1])
		case len(args) == 0 && t.since == "" && t.until == "" && t.from == "":
			return usageErrorf("timemachine wants the id of an order, or a time with --since and --until")
		case len(args) == 1 && (t.since != "" || t.until != ""):
			return usageErrorf("timemachine wants an id or a time, not both")
		}
		return nil
	}
	f := c.Flags()
	t.connection.define(a, f)
	t.output.define(a, f)
	completeFormats(c)
	f.StringVar(&t.from, "from", "",
		"read the events from a `file` that --save or events list -o json has written; -: standard input")
	f.StringVar(&t.save, "save", "", "write the events to a `file`, a batch of CloudEvents in JSON")
	timeFlag(f, &t.since, "since", "what began from this time on", "24h")
	timeFlag(f, &t.until, "until", "what began before this time", "24h")
	f.StringArrayVar(&t.set, "setting", nil, "a setting of the functions, `NAME=VALUE`; others have their defaults")
	return c
}

// travel is one call of the time machine.
type travel struct {
	*app
	connection connection
	output     output

	from, save, since, until string

	set []string
}

// run makes the run and shows its report. It reports whether something differs.
func (t *travel) run(ctx context.Context, args []string) (differs bool, err error) {
	options, err := t.options()
	if err != nil {
		return false, err
	}
	var about timemachine.Selection
	if len(args) > 0 {
		about.About = args[0]
	}
	about.Since, about.Until = parsedTime(t.since), parsedTime(t.until)
	recorded, err := t.recording(ctx, about)
	if err != nil {
		return false, err
	}
	if t.save != "" {
		if err := t.write(recorded); err != nil {
			return false, err
		}
	}
	report, err := timemachine.Run(ctx, t.system, recorded, options)
	if err != nil {
		return false, err
	}
	if t.output.structured() {
		return !report.Same, t.output.one(report)
	}
	t.show(report)
	return !report.Same, nil
}

// parsedTime returns the time that a timeValue has stored; zero when it has none.
func parsedTime(stored string) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, stored) // it has written it in this format
	return at
}

func (t *travel) options() (o timemachine.Options, err error) {
	o.Settings = map[string]string{}
	for _, s := range t.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return o, usageErrorf("invalid setting %q: want NAME=VALUE", s)
		}
		o.Settings[name] = value
	}
	return o, nil
}

// recording reads what was recorded, from the file or from the archive.
func (t *travel) recording(ctx context.Context, s timemachine.Selection) (*timemachine.Recording, error) {
	if t.from == "" {
		client, err := t.connection.open()
		if err != nil {
			return nil, err
		}
		return timemachine.Read(ctx, archiveOf{client}, s, t.system)
	}
	in := t.In
	if t.from != "-" {
		f, err := os.Open(t.from)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	events, err := timemachine.Parse(in)
	if err == nil {
		var recorded *timemachine.Recording
		if recorded, err = timemachine.Select(events, s); err == nil {
			return recorded, nil
		}
	}
	return nil, fmt.Errorf("invalid recording %s: %w", t.from, err)
}

// write writes the recording to the file of --save: all of it, or nothing.
func (t *travel) write(r *timemachine.Recording) error {
	f, err := os.CreateTemp(filepath.Dir(t.save), ".timemachine-*")
	if err != nil {
		return err
	}
	err = r.Write(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), t.save)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// archiveOf reads the archive of a running system through its gateway.
type archiveOf struct{ client *client }

// Events implements timemachine.Archive.
func (a archiveOf) Events(ctx context.Context, q timemachine.Query) (page []ce.Event, next string, err error) {
	query := url.Values{"limit": {strconv.Itoa(min(max(q.Limit, 1), mostPerPage))}, "order": {"asc"}}
	for name, value := range map[string]string{
		"subject": q.Subject, "correlation": q.Correlation, "type": q.Type, "cursor": q.Cursor,
		"since": timeOf(q.Since), "until": timeOf(q.Until),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if q.Newest {
		query.Set("order", "desc")
	}
	var found pageOfEvents
	if err := a.client.call(ctx, http.MethodGet, "/api/archive/events?"+query.Encode(), nil, &found); err != nil {
		return nil, "", err
	}
	for _, item := range found.Items {
		e, err := event.FromJSON(item.Event)
		if err != nil {
			return nil, "", fmt.Errorf("the event at %s is not valid: %w", item.Position, err)
		}
		page = append(page, e)
	}
	return page, found.Next, nil
}

func timeOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// The marks of the lines, as diff has them, and their colours.
var marks = map[timemachine.Change][2]string{
	timemachine.Same: {" ", faint}, timemachine.Different: {"~", yellow}, timemachine.Missing: {"-", red},
	timemachine.New: {"+", green},
}

// manySame is how many lines about what is the same are shown one by one.
const manySame = 40

// show writes a report as a table like a diff.
func (t *travel) show(r *timemachine.Report) {
	about := r.About
	if about == "" {
		about = "What began in that time"
	}
	fmt.Fprintf(t.Out, "%s, from %s to %s: %s and %s of others, run again by this build\n\n",
		oneLine(about), timestamp(r.Since), timestamp(r.Until), count(r.Recorded, "event"), count(r.Others, "fact"))
	t.showInputs(r)
	t.showEvents(r)
	t.showState(r)
	t.list("Problems of the run:", red, r.Problems)
	t.list("The run could not make again:", yellow, r.Notes)
	t.list("Not compared:", faint, r.NotCompared)
	verdict := "The run is the same as the past."
	if !r.Same {
		verdict = "The run differs from the past."
	}
	fmt.Fprintf(t.Out, "%s %d the same, %d different, %d missing, %d new.\n", t.paint(t.Out, bold, verdict),
		r.Count(timemachine.Same), r.Count(timemachine.Different), r.Count(timemachine.Missing), r.Count(timemachine.New))
}

// brief reports whether a part of so many lines leaves some out.
func (t *travel) brief(lines int) bool { return lines > manySame && !t.output.wide() }

func (t *travel) showInputs(r *timemachine.Report) {
	table := t.table("INPUT", "AT", "BY", "ANSWER")
	shown := r.Inputs
	if t.brief(len(shown)) {
		shown = shown[:manySame]
	}
	for _, in := range shown {
		answer, by := "", in.By
		if in.Status > 0 {
			answer = strconv.Itoa(in.Status)
		}
		what := in.What
		if in.Given {
			what, by = shortType(what), "as recorded"
		}
		table.row(what, timestamp(in.At), by, answer)
	}
	table.flush()
	if rest := len(r.Inputs) - len(shown); rest > 0 {
		fmt.Fprintf(t.Out, "… and %d more\n", rest)
	}
	fmt.Fprintln(t.Out)
}

// showEvents writes a line for each event, and the members that differ below it. Of many, those that are the same are
// left out.
func (t *travel) showEvents(r *timemachine.Report) {
	t.heading("EVENTS")
	left, width := 0, 0
	for _, e := range r.Events {
		width = max(width, len(shortType(e.Type)))
	}
	for _, e := range r.Events {
		if e.Change == timemachine.Same && t.brief(len(r.Events)) {
			left++
			continue
		}
		t.line(e.Change, fmt.Sprintf("%-*s  %s", width, shortType(e.Type), e.Subject))
		t.fields(e.Fields)
	}
	t.left(left)
}

func (t *travel) showState(r *timemachine.Report) {
	t.heading("STATE")
	left, widest := 0, 0
	for _, s := range r.State {
		widest = max(widest, len(s.Function))
	}
	for _, s := range r.State {
		if s.Change == timemachine.Same && t.brief(len(r.State)) {
			left++
			continue
		}
		t.line(s.Change, fmt.Sprintf("%-*s  %s  %s", widest, s.Function, s.Entity, ended(s)))
		t.fields(s.Fields)
	}
	if left == 0 {
		t.showSagas(r.Sagas, widest)
	}
	t.left(left)
}

// showSagas writes a line for each saga, with the names of functions in a column of this width.
func (t *travel) showSagas(sagas []timemachine.Saga, width int) {
	for _, s := range sagas {
		steps := make([]string, len(s.Progress.Steps))
		for i, step := range s.Progress.Steps {
			steps[i] = step.Name + " " + string(step.State)
		}
		fmt.Fprintf(t.Out, "  %s\n", oneLine(fmt.Sprintf("%-*s  %s  saga %s: %s", width, s.Function, s.ID, s.Progress.Status,
			strings.Join(steps, ", "))))
	}
}

// ended tells the last facts about an entity; "" for a document.
func ended(s timemachine.StateChange) string {
	was, is := shortType(s.Recorded), shortType(s.Now)
	switch {
	case s.Recorded == "":
		return is
	case s.Now == "" || s.Recorded == s.Now:
		return was
	}
	return was + " → " + is
}

func (t *travel) heading(text string) { fmt.Fprintln(t.Out, t.paint(t.Out, bold, text)) }

func (t *travel) line(c timemachine.Change, text string) {
	mark := marks[c]
	fmt.Fprintln(t.Out, t.paint(t.Out, mark[1], strings.TrimRight(mark[0]+" "+oneLine(text), " ")))
}

func (t *travel) fields(fields []timemachine.Field) {
	for _, f := range fields {
		text := fmt.Sprintf("%s: %s → %s", f.Path, orNone(f.Recorded), orNone(f.Now))
		fmt.Fprintln(t.Out, "      "+t.paint(t.Out, yellow, oneLine(text)))
	}
}

func orNone(value string) string {
	if value == "" {
		return "(none)"
	}
	return value
}

func (t *travel) left(n int) {
	if n > 0 {
		fmt.Fprintf(t.Out, "  … %d that are the same\n", n)
	}
	fmt.Fprintln(t.Out)
}

func (t *travel) list(heading, colour string, texts []string) {
	if len(texts) == 0 {
		return
	}
	fmt.Fprintln(t.Out, t.paint(t.Out, colour, heading))
	for _, text := range texts {
		fmt.Fprintln(t.Out, t.paint(t.Out, colour, "  "+oneLine(text)))
	}
	fmt.Fprintln(t.Out)
}

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
