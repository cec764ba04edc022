package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// outboxPath begins the paths of the operations on outboxes.
const outboxPath = "/api/outbox/"

// quarantined is a quarantined entry of an outbox.
type quarantined struct {
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
	Unread bool      `json:"unread"`
	Events []struct {
		ID      string `json:"id"`
		Type    string `json:"type"`
		Subject string `json:"subject"`
	} `json:"events"`
}

// outboxes holds the arguments of the command outbox.
type outboxes struct {
	app *app
	connection
	output
	function, reason string
	limit            int
}

func (a *app) outboxCommand() *cobra.Command {
	s := &outboxes{app: a}
	root := &cobra.Command{
		Use:   "outbox [list] | show ID | retry ID | drop ID",
		Short: "Look at the quarantined outbox entries of a running system, and publish or drop them",
		Long: "Look at the quarantined entries of outboxes: those with an event that the broker refuses for good, or that\n" +
			"cannot be read. No function publishes them by itself.",
		Example: a.example(`
$ outbox                                   those of all functions
$ outbox show ID
$ outbox retry ID                          publish it, as the broker has been mended
$ outbox drop ID --reason "a test"`),
	}
	s.connection.define(a, root.PersistentFlags())
	s.output.define(a, root.PersistentFlags())
	completeFormats(root)
	root.PersistentFlags().StringVar(&s.function, "function", "", "the `name` of the function; without it all")
	list := func(c *cobra.Command, _ []string) error { return s.list(c.Context()) }
	listed := &cobra.Command{
		Use: "list", Short: "List quarantined entries, the oldest of each function first", Args: noArgs, RunE: list,
		Example: a.example("$ outbox list --function users -o json"),
	}
	root.RunE = list
	for _, c := range []*cobra.Command{root, listed} {
		c.Flags().IntVar(&s.limit, "limit", 50, "show at most this many of each function; 0 for all")
	}
	show := oneID(&cobra.Command{
		Use: "show ID", Short: "Show a quarantined entry with its events", Example: a.example("$ outbox show ID"),
		RunE: func(c *cobra.Command, args []string) error { return s.show(c.Context(), args[0]) },
	})
	retry := oneID(&cobra.Command{
		Use: "retry ID", Short: "Publish a quarantined entry", Example: a.example("$ outbox retry ID"),
		RunE: func(c *cobra.Command, args []string) error { return s.act(c.Context(), args[0], "retry", nil) },
	})
	drop := oneID(&cobra.Command{
		Use: "drop ID", Short: "Drop a quarantined entry: its events are never published",
		Example: a.example("$ outbox drop ID --reason \"a test\""),
		RunE: func(c *cobra.Command, args []string) error {
			if err := because(s.reason); err != nil {
				return err
			}
			return s.act(c.Context(), args[0], "drop", map[string]string{"reason": s.reason})
		},
	})
	drop.Flags().StringVar(&s.reason, "reason", "", "why, for the record")
	return group(root, listed, show, retry, drop)
}

func (s *outboxes) list(ctx context.Context) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	paths, err := c.lists(ctx, "function", outboxPath, s.function)
	if err != nil {
		return err
	}
	t, all := s.app.table("ID", "FUNCTION", "EMITTED", "EVENTS", "REASON"), 0
	for _, path := range paths {
		shown, err := c.pages(ctx, path, nil, s.limit, func(raw json.RawMessage) error {
			return s.row(t, strings.TrimPrefix(path, outboxPath), raw)
		})
		if err != nil {
			return err
		}
		all += shown
	}
	s.output.end(s.app, t, all, "quarantined entries")
	return nil
}

func (s *outboxes) row(t *table, function string, raw json.RawMessage) error {
	if s.structured() {
		return s.item(raw)
	}
	var one quarantined
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	t.row(one.ID, function, timestamp(one.At), one.what(), one.Reason)
	return nil
}

// what names the events of the entry.
func (q quarantined) what() string {
	if q.Unread {
		return "cannot be read"
	}
	var types []string
	for _, e := range q.Events {
		types = append(types, e.Type)
	}
	return strings.Join(types, ", ")
}

// find returns the path of the entry, and the entry.
func (s *outboxes) find(ctx context.Context, c *client, id string) (path string, raw json.RawMessage, err error) {
	paths, err := c.lists(ctx, "function", outboxPath, s.function)
	if err != nil {
		return "", nil, err
	}
	path, raw, err = c.first(ctx, paths, url.PathEscape(id))
	if err == nil && path == "" {
		err = fmt.Errorf("there is no quarantined entry %s", id)
	}
	return path, raw, err
}

func (s *outboxes) show(ctx context.Context, id string) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	_, raw, err := s.find(ctx, c, id)
	if err != nil {
		return err
	}
	return s.one(raw)
}

func (s *outboxes) act(ctx context.Context, id, what string, body any) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	path, _, err := s.find(ctx, c, id)
	if err != nil {
		return err
	}
	if err := c.call(ctx, http.MethodPost, path+"/"+what, body, nil); err != nil {
		return err
	}
	if !s.structured() {
		fmt.Fprintln(s.app.Out, id, map[string]string{"retry": "is released to be published", "drop": "is dropped"}[what])
	}
	return nil
}
