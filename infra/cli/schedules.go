package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"
)

// recurring is a recurring schedule of a function.
type recurring struct {
	Function string    `json:"function"`
	Name     string    `json:"name"`
	Cron     string    `json:"cron"`
	TimeZone string    `json:"time_zone"`
	Missed   string    `json:"missed"`
	Next     time.Time `json:"next"`
	Last     time.Time `json:"last"`
}

func (a *app) schedulesCommand() *cobra.Command {
	var n connection
	var o output
	var limit int
	c := &cobra.Command{
		Use:     "schedules",
		Short:   "List the recurring schedules of a running system, the one due first at the top",
		Example: a.example("$ schedules\n$ schedules -o json"),
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
		return a.schedules(c.Context(), client, &o, limit)
	}
	return c
}

func (a *app) schedules(ctx context.Context, c *client, o *output, limit int) error {
	header := []string{"FUNCTION", "SCHEDULE", "CRON", "ZONE", "NEXT", "LAST"}
	if o.wide() {
		header = append(header, "MISSED")
	}
	t := a.table(header...)
	shown, err := c.pages(ctx, "/api/schedules", nil, limit, func(raw json.RawMessage) error {
		if o.structured() {
			return o.item(raw)
		}
		var s recurring
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		cells := []string{s.Function, s.Name, s.Cron, s.TimeZone, timestamp(s.Next), timestamp(s.Last)}
		if o.wide() {
			cells = append(cells, s.Missed)
		}
		t.row(cells...)
		return nil
	})
	if err != nil {
		return err
	}
	o.end(a, t, shown, "schedules")
	return nil
}
