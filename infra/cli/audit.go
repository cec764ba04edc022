package cli

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/event"
)

// auditPath begins the paths of the operations that list acts of staff.
const auditPath = "/api/audit/"

// acts holds the arguments of the command audit.
type acts struct {
	app *app
	connection
	output
	function, by string
	limit        int
}

func (a *app) auditCommand() *cobra.Command {
	s := &acts{app: a}
	c := &cobra.Command{
		Use:   "audit",
		Short: "List the acts of staff of a running system",
		Long: "List the acts of staff of a running system: what was changed by a user with a role beyond customer, the\n" +
			"latest of each function first. Functions keep them for 400 days, and the archive as events for longer:\n" +
			"events list --type dev.ebb.audit.act-recorded.v1.",
		Example: a.example(`
$ audit
$ audit --function users --by ID -o json`),
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return s.list(c.Context()) },
	}
	s.connection.define(a, c.Flags())
	s.output.define(a, c.Flags())
	completeFormats(c)
	c.Flags().StringVar(&s.function, "function", "", "the `name` of the function; without it all")
	c.Flags().StringVar(&s.by, "by", "", "the `id` of the user whose acts to list; without it those of all")
	c.Flags().IntVar(&s.limit, "limit", 50, "show at most this many of each function; 0 for all")
	return c
}

func (s *acts) list(ctx context.Context) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	paths, err := c.lists(ctx, "function", auditPath, s.function)
	if err != nil {
		return err
	}
	query := url.Values{}
	if s.by != "" {
		query.Set("by", s.by)
	}
	t, all := s.app.table("AT", "BY", "FROM", "WHAT", "STATUS", "REASON"), 0
	for _, path := range paths {
		shown, err := c.pages(ctx, path, query, s.limit, func(raw json.RawMessage) error { return s.row(t, raw) })
		if err != nil {
			return err
		}
		all += shown
	}
	s.output.end(s.app, t, all, "acts of staff")
	return nil
}

func (s *acts) row(t *table, raw json.RawMessage) error {
	if s.structured() {
		return s.item(raw)
	}
	var act event.RecordedAct
	if err := json.Unmarshal(raw, &act); err != nil {
		return err
	}
	method, _, _ := strings.Cut(act.Operation, " ")
	what := method + " " + act.Target
	if act.Made != "" {
		what += " → " + act.Made
	}
	by := act.By
	if act.KeyID != "" {
		by += " by key " + act.KeyID
	}
	t.row(timestamp(act.At), by, act.From, what, strconv.Itoa(act.Status), act.Reason)
	return nil
}
