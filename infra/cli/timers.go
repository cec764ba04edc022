package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// timer is an event that the clock will publish.
type timer struct {
	ID      string    `json:"id"`
	Due     time.Time `json:"due"`
	Type    string    `json:"type"`
	Source  string    `json:"source"`
	Subject string    `json:"subject"`
}

func (a *app) timersCommand() *cobra.Command {
	var n connection
	var o output
	var limit int
	c := &cobra.Command{
		Use:     "timers",
		Short:   "List the pending timers of a running system, the earliest first",
		Example: a.example("$ timers\n$ timers --limit 0 -o json"),
		Args:    noArgs,
	}
	n.define(a, c.Flags())
	o.define(a, c.Flags())
	completeFormats(c)
	c.Flags().IntVar(&limit, "limit", 50, "show at most this many; 0 for all")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := n.open()
		if err != nil {
			return err
		}
		return a.timers(c.Context(), client, &o, limit)
	}
	return c
}

func (a *app) timers(ctx context.Context, c *client, o *output, limit int) error {
	header := []string{"DUE", "IN", "TYPE", "SUBJECT"}
	if o.wide() {
		header = append(header, "SOURCE", "ID")
	}
	t, shown := a.table(header...), 0
	for cursor := ""; ; {
		size := 100
		if limit > 0 {
			size = min(size, limit-shown)
		}
		q := url.Values{"limit": {strconv.Itoa(size)}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if err := c.call(ctx, http.MethodGet, "/api/timers?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, raw := range page.Items {
			shown++
			if err := a.timer(t, o, raw); err != nil {
				return err
			}
		}
		if cursor = page.Next; cursor == "" || limit > 0 && shown >= limit {
			break
		}
	}
	switch {
	case o.structured():
	case shown == 0:
		fmt.Fprintln(a.Out, "No timers.")
	default:
		t.flush()
	}
	return nil
}

func (a *app) timer(t *table, o *output, raw json.RawMessage) error {
	if o.structured() {
		return o.item(raw)
	}
	var one timer
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	cells := []string{timestamp(one.Due), time.Until(one.Due).Round(time.Second).String(), shortType(one.Type),
		one.Subject}
	if o.wide() {
		cells = append(cells, one.Source, one.ID)
	}
	t.row(cells...)
	return nil
}
