package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/events"
)

// kept is an event as the archive shows it.
type kept struct {
	Position string          `json:"position"`
	Event    json.RawMessage `json:"event"`
}

// envelope is what a line says of an event.
type envelope struct {
	ID          string    `json:"id"`
	Type        string    `json:"type"`
	Source      string    `json:"source"`
	Subject     string    `json:"subject"`
	Time        time.Time `json:"time"`
	Correlation string    `json:"correlationid"`
}

func eventsCommand(ctx context.Context, t *tool, args []string) error {
	f := t.flags("events", "[list] | show ID | tree ORDER")
	open := clientFlags(t, f)
	q := url.Values{}
	for flag, parameter := range map[string][2]string{
		"order":       {"subject", "only events about this entity, such as an order"},
		"correlation": {"correlation", "only events of this correlation"},
	} {
		f.Func(flag, parameter[1], func(v string) error { q.Set(parameter[0], v); return nil })
	}
	f.Func("type", "only events of this type; orders.placed is short for dev.ebb.orders.placed.v1", func(v string) error {
		q.Set("type", typeName(v))
		return nil
	})
	for _, name := range []string{"since", "until"} {
		f.Func(name, "a time (RFC 3339) or how long ago, such as 10m", func(v string) error { return setTime(q, name, v) })
	}
	limit := f.Int("limit", 50, "show at most so many, the latest ones; 0 for all")
	follow := f.Bool("follow", false, "go on as events come")
	asJSON := f.Bool("json", false, "as JSON, one event per line")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	what, id, err := verb(rest, "list", "show", "tree")
	if err != nil {
		return err
	}
	c, err := open()
	if err != nil {
		return err
	}
	switch what {
	case "show":
		return t.showOne(ctx, c, "/api/archive/events/"+url.PathEscape(id))
	case "tree":
		return t.tree(ctx, c, id, *asJSON)
	}
	l := lister{tool: t, client: c, query: q, json: *asJSON}
	if *follow {
		return l.follow(ctx)
	}
	return l.latest(ctx, *limit)
}

// typeName is the whole name of a type in the catalogue that was named in short, at its latest version; what is
// not in the catalogue stays as it is.
func typeName(short string) string {
	name := short
	for _, info := range events.Catalogue() { // sorted, so that later versions come later
		if info.Capability+"."+info.What == short || info.Name == "dev.ebb."+short {
			name = info.Name
		}
	}
	return name
}

// verb takes a command's words apart: the first of the verbs stands alone and is meant when there is none, the others want an id.
func verb(args []string, verbs ...string) (what, id string, err error) {
	if len(args) == 0 {
		return verbs[0], "", nil
	}
	what = args[0]
	switch {
	case !slices.Contains(verbs, what):
		return "", "", wrong("there is no %q here; it is one of %s", what, strings.Join(verbs, ", "))
	case what == verbs[0] && len(args) > 1:
		return "", "", wrong("%s takes no arguments", what)
	case what != verbs[0] && len(args) != 2:
		return "", "", wrong("%s wants one id", what)
	case len(args) == 2:
		id = args[1]
	}
	return what, id, nil
}

func setTime(q url.Values, name, v string) error {
	if ago, err := time.ParseDuration(v); err == nil {
		q.Set(name, time.Now().Add(-ago).UTC().Format(time.RFC3339Nano))
		return nil
	}
	at, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return fmt.Errorf("%q is neither a time such as 2026-01-02T03:04:05Z nor how long ago, such as 10m", v)
	}
	q.Set(name, at.UTC().Format(time.RFC3339Nano))
	return nil
}

type lister struct {
	*tool
	client *client
	query  url.Values
	json   bool
}

type pageOfEvents struct {
	Items []kept `json:"items"`
	Next  string `json:"next"`
}

func (l lister) page(ctx context.Context, cursor, order string, limit int) (p pageOfEvents, err error) {
	q := url.Values{}
	for name, values := range l.query {
		q[name] = values
	}
	q.Set("order", order)
	q.Set("limit", strconv.Itoa(limit))
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return p, l.client.call(ctx, http.MethodGet, "/api/archive/events?"+q.Encode(), nil, &p)
}

const mostPerPage = 500

// latest shows the last few events in the order in which they came.
func (l lister) latest(ctx context.Context, limit int) error {
	var all []kept
	for cursor := ""; ; {
		size := mostPerPage
		if limit > 0 {
			size = min(size, limit-len(all))
		}
		p, err := l.page(ctx, cursor, "desc", size)
		if err != nil {
			return err
		}
		all = append(all, p.Items...)
		if cursor = p.Next; cursor == "" || limit > 0 && len(all) >= limit {
			break
		}
	}
	slices.Reverse(all)
	return l.print(all)
}

// follow shows events as they come until it is interrupted.
func (l lister) follow(ctx context.Context) error {
	if l.query.Get("since") == "" {
		l.query.Set("since", time.Now().UTC().Format(time.RFC3339Nano))
	}
	from := ""
	for ctx.Err() == nil {
		p, err := l.page(ctx, from, "asc", mostPerPage)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		if err := l.print(p.Items); err != nil {
			return err
		}
		if n := len(p.Items); n > 0 {
			from = after(p.Items[n-1].Position)
		}
		if p.Next != "" {
			from = p.Next
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

// after is the place behind a position; both are in hexadecimal.
func after(position string) string {
	n, err := strconv.ParseUint(position, 16, 64)
	if err != nil {
		return position
	}
	return fmt.Sprintf("%016x", n+1)
}

func (l lister) print(items []kept) error {
	for _, item := range items {
		if l.json {
			var line bytes.Buffer
			if err := json.Compact(&line, item.Event); err != nil {
				return err
			}
			fmt.Fprintln(l.out, line.String())
			continue
		}
		var e envelope
		if err := json.Unmarshal(item.Event, &e); err != nil {
			return err
		}
		fmt.Fprintf(l.out, "%s  %-34s  %-36s  %s\n", e.Time.Local().Format("15:04:05.000"), short(e.Type), e.Subject, e.ID)
	}
	return nil
}

// short leaves out what all types have in common.
func short(eventType string) string { return strings.TrimPrefix(eventType, "dev.ebb.") }

func (t *tool) showOne(ctx context.Context, c *client, path string) error {
	var one json.RawMessage
	if err := c.call(ctx, http.MethodGet, path, nil, &one); err != nil {
		return err
	}
	return t.indented(one)
}

func (t *tool) indented(raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	fmt.Fprintln(t.out, b.String())
	return nil
}

// caused is an event and what it caused.
type caused struct {
	ID      string    `json:"id"`
	Type    string    `json:"type"`
	Source  string    `json:"source"`
	Subject string    `json:"subject"`
	Time    time.Time `json:"time"`
	Caused  []caused  `json:"caused"`
}

// tree shows what came of what in the story of an order, with the time since the story began.
func (t *tool) tree(ctx context.Context, c *client, id string, asJSON bool) error {
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, "/api/archive/causality/"+url.PathEscape(id), nil, &raw); err != nil {
		return err
	}
	if asJSON {
		return t.indented(raw)
	}
	var graph struct {
		Roots     []caused `json:"roots"`
		Truncated bool     `json:"truncated"`
	}
	if err := json.Unmarshal(raw, &graph); err != nil {
		return err
	}
	for _, root := range graph.Roots {
		t.branch(root, "", "", root.Time)
	}
	if graph.Truncated {
		fmt.Fprintln(t.out, "… and more")
	}
	return nil
}

func (t *tool) branch(n caused, first, below string, begin time.Time) {
	who := strings.TrimPrefix(n.Source, "/functions/")
	fmt.Fprintf(t.out, "%s%s  +%s  by %s\n", first, short(n.Type), n.Time.Sub(begin).Round(time.Millisecond/10), who)
	for i, child := range n.Caused {
		if i == len(n.Caused)-1 {
			t.branch(child, below+"└─ ", below+"   ", begin)
		} else {
			t.branch(child, below+"├─ ", below+"│  ", begin)
		}
	}
}
