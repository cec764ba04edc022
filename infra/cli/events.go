package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// archived is an event of the archive with its position.
type archived struct {
	Position string          `json:"position"`
	Event    json.RawMessage `json:"event"`
}

// envelope holds the attributes of an event that a row shows.
type envelope struct {
	ID          string    `json:"id"`
	Type        string    `json:"type"`
	Source      string    `json:"source"`
	Subject     string    `json:"subject"`
	Time        time.Time `json:"time"`
	Correlation string    `json:"correlationid"`
}

func (a *app) eventsCommand() *cobra.Command {
	var n connection
	var o output
	l := lister{app: a, output: &o, connection: &n}
	root := &cobra.Command{
		Use:   "events [list] | show ID | tree ORDER",
		Short: "Look at the events of a running system",
		Example: a.example(`
$ events                                  the last 50
$ events list --type users.registered --since 10m
$ events --text overdue --field reason    whose data has a text
$ events list --follow -o json
$ events tree ID                          what caused what`),
	}
	n.define(a, root.PersistentFlags())
	o.define(a, root.PersistentFlags())
	completeFormats(root)
	list := func(c *cobra.Command, _ []string) (err error) {
		if l.field != "" && l.text == "" {
			return usageErrorf("--field needs --text, which is searched for in it")
		}
		if l.client, err = n.open(); err != nil {
			return err
		}
		return l.run(c.Context())
	}
	root.RunE = list
	l.define(root)
	listed := &cobra.Command{Use: "list", Short: "List events, or follow them", Args: noArgs, RunE: list,
		Example: a.example("$ events list --order ID --since 2026-01-02T15:04:05Z\n$ events list --follow")}
	l.define(listed)
	show := oneID(
		&cobra.Command{
			Use:     "show ID",
			Short:   "Show one event, by its id or its position",
			Example: a.example("$ events show 0000000000000002"),
			RunE: func(c *cobra.Command, args []string) error {
				return a.showOne(c.Context(), &n, &o, "/api/archive/events/", args[0])
			},
		},
	)
	tree := oneID(
		&cobra.Command{
			Use:     "tree ORDER",
			Short:   "Show what caused what, by a correlation or an entity such as an order",
			Example: a.example("$ events tree ORDER"),
			RunE: func(c *cobra.Command, args []string) error {
				client, err := n.open()
				if err != nil {
					return err
				}
				return a.tree(c.Context(), client, args[0], &o)
			},
		},
	)
	return group(root, listed, show, tree)
}

// lister lists events.
type lister struct {
	*app
	connection *connection
	client     *client
	output     *output

	order, correlation, eventType, text, field, since, until string

	limit  int
	follow bool
	table  *table
}

// define adds the flags of the list.
func (l *lister) define(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&l.order, "order", "", "only events about this entity, such as an order")
	f.StringVar(&l.correlation, "correlation", "", "only events of this correlation")
	f.StringVar(&l.eventType, "type", "",
		"only events of this type; users.registered stands for the full name with its latest version")
	f.StringVar(&l.text, "text", "",
		"only events whose data has this text, in any case; personal fields are not searched")
	f.StringVar(&l.field, "field", "",
		"the `name` of the field that has the text, such as lines.product_id; without it any")
	timeFlag(f, &l.since, "since", "only events from this time on", "10m")
	timeFlag(f, &l.until, "until", "only events before this time", "10m")
	f.IntVar(&l.limit, "limit", 50, "show at most this many, the latest ones; 0 for all")
	f.BoolVarP(&l.follow, "follow", "f", false, "keep printing new events")
	_ = c.RegisterFlagCompletionFunc("type", l.connection.completeTypes)
}

// timeFlag defines a flag with a time, which is stored as timeValue does. ago is an example of how long ago it was.
func timeFlag(f *pflag.FlagSet, at *string, name, usage, ago string) {
	f.VarPF(timeValue{at}, name, "", usage+": a `time` (RFC 3339) or how long ago, such as "+ago)
}

// timeValue is a flag with a time, or a duration before now. It stores the time in the API's format.
type timeValue struct{ at *string }

func (v timeValue) String() string {
	if v.at == nil {
		return ""
	}
	return *v.at
}

func (timeValue) Type() string { return "time" }

func (v timeValue) Set(s string) error {
	if ago, err := time.ParseDuration(s); err == nil {
		*v.at = time.Now().Add(-ago).UTC().Format(time.RFC3339Nano)
		return nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return errors.New("want a time such as 2026-01-02T03:04:05Z or how long ago, such as 10m")
	}
	*v.at = at.UTC().Format(time.RFC3339Nano)
	return nil
}

var _ pflag.Value = timeValue{}

func (l *lister) run(ctx context.Context) error {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	if l.eventType != "" {
		name, err := l.client.typeName(ctx, l.eventType)
		if err != nil {
			return err
		}
		set("type", name)
	}
	set("subject", l.order)
	set("correlation", l.correlation)
	set("text", l.text)
	set("field", l.field)
	set("since", l.since)
	set("until", l.until)
	header := []string{"TIME", "TYPE", "SUBJECT", "ID"}
	if l.output.wide() {
		header = append(header, "SOURCE", "CORRELATION", "POSITION")
	}
	l.table = l.app.table(header...)
	if l.follow {
		return l.followed(ctx, q)
	}
	return l.latest(ctx, q)
}

type pageOfEvents struct {
	Items []archived `json:"items"`
	Next  string     `json:"next"`
}

func (l *lister) page(ctx context.Context, q url.Values, cursor, order string, limit int) (p pageOfEvents, err error) {
	q.Set("order", order)
	q.Set("limit", strconv.Itoa(limit))
	q.Del("cursor")
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return p, l.client.call(ctx, http.MethodGet, "/api/archive/events?"+q.Encode(), nil, &p)
}

const mostPerPage = 500

// latest shows the last events, oldest first.
func (l *lister) latest(ctx context.Context, q url.Values) error {
	var all []archived
	for cursor := ""; ; {
		size := mostPerPage
		if l.limit > 0 {
			size = min(size, l.limit-len(all))
		}
		p, err := l.page(ctx, q, cursor, "desc", size)
		if err != nil {
			return err
		}
		all = append(all, p.Items...)
		if cursor = p.Next; cursor == "" || l.limit > 0 && len(all) >= l.limit {
			break
		}
	}
	slices.Reverse(all)
	return l.print(all)
}

// followed shows new events until ctx ends.
func (l *lister) followed(ctx context.Context, q url.Values) error {
	if l.since == "" {
		q.Set("since", time.Now().UTC().Format(time.RFC3339Nano))
	}
	from, seen, passed := "", seenPositions{}, uint64(0)
	for ctx.Err() == nil {
		p, err := l.page(ctx, q, from, "asc", mostPerPage)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		fresh := seen.fresh(p.Items)
		if err := l.print(fresh); err != nil {
			return err
		}
		if from = p.Next; from != "" {
			passed = max(passed, timeOfPosition(from))
			continue
		}
		from = cursorBefore(max(seen.latest(), passed))
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

// lateness is for how long a follower looks for events that the archive has stored at an earlier position than the last
// one. Positions begin with a time, and instances of the archive store at the same time.
const lateness = 5 * time.Second

// seenPositions remembers the positions of the last events, with their times in nanoseconds.
type seenPositions map[string]uint64

// fresh returns the items that were not seen, which count as seen from then on.
func (s seenPositions) fresh(items []archived) (fresh []archived) {
	for _, item := range items {
		if _, seen := s[item.Position]; seen {
			continue
		}
		s[item.Position], fresh = timeOfPosition(item.Position), append(fresh, item)
	}
	latest := s.latest()
	for position, at := range s {
		if at+uint64(lateness) < latest {
			delete(s, position)
		}
	}
	return fresh
}

func (s seenPositions) latest() (latest uint64) {
	for _, at := range s {
		latest = max(latest, at)
	}
	return latest
}

// timeOfPosition returns the time with which a position begins, in nanoseconds; 0 for one that begins with none.
func timeOfPosition(position string) uint64 {
	at, err := strconv.ParseUint(position[:min(16, len(position))], 16, 64)
	if err != nil {
		return 0
	}
	return at
}

// cursorBefore returns the cursor from which the follower goes on that has come to a time; "" for one that has seen
// nothing.
func cursorBefore(latest uint64) string {
	if latest < uint64(lateness) {
		return ""
	}
	return fmt.Sprintf("%016x", latest-uint64(lateness))
}

func (l *lister) print(items []archived) error {
	for _, item := range items {
		if l.output.structured() {
			if err := l.output.item(item.Event); err != nil {
				return err
			}
			continue
		}
		var e envelope
		if err := json.Unmarshal(item.Event, &e); err != nil {
			return err
		}
		cells := []string{timestamp(e.Time), shortType(e.Type), e.Subject, e.ID}
		if l.output.wide() {
			cells = append(cells, e.Source, e.Correlation, item.Position)
		}
		l.table.row(cells...)
	}
	if !l.output.structured() {
		l.table.flush()
	}
	return nil
}

func (a *app) showOne(ctx context.Context, n *connection, o *output, path, id string) error {
	c, err := n.open()
	if err != nil {
		return err
	}
	var one json.RawMessage
	if err := c.call(ctx, http.MethodGet, path+url.PathEscape(id), nil, &one); err != nil {
		return err
	}
	return o.one(one)
}

// caused is an event with the events that it caused.
type caused struct {
	ID      string    `json:"id"`
	Type    string    `json:"type"`
	Source  string    `json:"source"`
	Subject string    `json:"subject"`
	Time    time.Time `json:"time"`
	Caused  []caused  `json:"caused"`
}

// tree shows which event caused which, with the time since the first of them.
func (a *app) tree(ctx context.Context, c *client, id string, o *output) error {
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, "/api/archive/causality/"+url.PathEscape(id), nil, &raw); err != nil {
		return err
	}
	if o.structured() {
		return o.one(raw)
	}
	var graph struct {
		Roots     []caused `json:"roots"`
		Truncated bool     `json:"truncated"`
	}
	if err := json.Unmarshal(raw, &graph); err != nil {
		return err
	}
	for _, root := range graph.Roots {
		a.branch(root, "", "", root.Time, o.wide())
	}
	if graph.Truncated {
		fmt.Fprintln(a.Out, "… and more")
	}
	return nil
}

func (a *app) branch(n caused, first, below string, begin time.Time, wide bool) {
	who := strings.TrimPrefix(n.Source, "/functions/")
	line := fmt.Sprintf("%s  +%s  by %s", shortType(n.Type), n.Time.Sub(begin).Round(time.Millisecond/10), who)
	if wide {
		line += fmt.Sprintf("  %s  %s", n.Subject, n.ID)
	}
	fmt.Fprintln(a.Out, first+oneLine(line))
	for i, child := range n.Caused {
		if i == len(n.Caused)-1 {
			a.branch(child, below+"└─ ", below+"   ", begin, wide)
		} else {
			a.branch(child, below+"├─ ", below+"│  ", begin, wide)
		}
	}
}
