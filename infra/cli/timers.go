package cli

import (
	"context"
	"encoding/json"
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
	t := a.table(header...)
	shown, err := c.pages(ctx, "/api/timers", nil, limit, func(raw json.RawMessage) error { return a.timer(t, o, raw) })
	if err != nil {
		return err
	}
	o.end(a, t, shown, "timers")
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
