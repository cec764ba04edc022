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

	"github.com/ebb-dev/ebb/infra/outside"
)

// shownCall is an outside call as the function that makes it shows it.
type shownCall struct {
	Call       string    `json:"call"`
	ID         string    `json:"id"`
	Key        string    `json:"key"`
	StartedAt  time.Time `json:"started_at"`
	Due        time.Time `json:"due"`
	Attempts   int       `json:"attempts"`
	Error      string    `json:"error"`
	Ending     string    `json:"ending"`
	Undeclared bool      `json:"undeclared"`
}

// outsideCalls holds the arguments of the command calls.
type outsideCalls struct {
	app *app
	connection
	output
	function, reason string
	failing, forget  bool
	limit            int
}

func (a *app) callsCommand() *cobra.Command {
	s := &outsideCalls{app: a}
	root := &cobra.Command{
		Use:   "calls [list] | show CALL/ID | retry CALL/ID | end CALL/ID",
		Short: "Look at the outside calls of a running system that have no result, and mend those that fail",
		Example: a.example(`
$ calls                                    those that have no result yet
$ calls list --failing                     those that have failed
$ calls show refund/ID
$ calls retry refund/ID                    make it now
$ calls end mail/ID --reason "the relay is gone"`),
	}
	s.connection.define(a, root.PersistentFlags())
	s.output.define(a, root.PersistentFlags())
	completeFormats(root)
	root.PersistentFlags().StringVar(&s.function, "function", "", "the `name` of the function; without it all")
	list := func(c *cobra.Command, _ []string) error { return s.list(c.Context()) }
	listed := &cobra.Command{
		Use: "list", Short: "List outside calls without a result, the one that is due first at the top", Args: noArgs,
		RunE: list, Example: a.example("$ calls list --failing -o json"),
	}
	root.RunE = list
	for _, c := range []*cobra.Command{root, listed} {
		c.Flags().BoolVar(&s.failing, "failing", false, "only those that have failed at least once")
		c.Flags().IntVar(&s.limit, "limit", 50, "show at most this many of each function; 0 for all")
	}
	show := oneID(&cobra.Command{
		Use: "show CALL/ID", Short: "Show an outside call", Example: a.example("$ calls show refund/ID -o yaml"),
		RunE: func(c *cobra.Command, args []string) error { return s.show(c.Context(), args[0]) },
	})
	retry := oneID(&cobra.Command{
		Use: "retry CALL/ID", Short: "Make an outside call now, under its key",
		Example: a.example("$ calls retry refund/ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.act(c.Context(), args[0], "retry", nil)
		},
	})
	end := oneID(&cobra.Command{
		Use: "end CALL/ID", Short: "Give up an outside call",
		Long: "Give up an outside call: the function gets a failure with the reason as its result. A function that cannot\n" +
			"take that goes on with the call. With --forget it never gets a result, and what waits for that is for you to\n" +
			"mend.",
		Example: a.example("$ calls end mail/ID --reason \"the relay is gone\"\n" +
			"$ calls end refund/ID --forget --reason \"paid back by hand\""),
		RunE: func(c *cobra.Command, args []string) error {
			if err := because(s.reason); err != nil {
				return err
			}
			return s.act(c.Context(), args[0], "end", map[string]any{"reason": s.reason, "forget": s.forget})
		},
	})
	end.Flags().StringVar(&s.reason, "reason", "", "why, for the record")
	end.Flags().BoolVar(&s.forget, "forget", false, "forget the call: the function never gets a result")
	return group(root, listed, show, retry, end)
}

func (s *outsideCalls) list(ctx context.Context) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	paths, err := c.lists(ctx, "function", outside.PathPrefix, s.function)
	if err != nil {
		return err
	}
	header := []string{"FUNCTION", "CALL", "STARTED", "DUE", "FAILED", "ERROR"}
	if s.wide() {
		header = append(header, "KEY")
	}
	t, all, query := s.app.table(header...), 0, url.Values{}
	if s.failing {
		query.Set("failing", "true")
	}
	for _, path := range paths {
		shown, err := c.pages(ctx, path, query, s.limit, func(raw json.RawMessage) error {
			return s.row(t, strings.TrimPrefix(path, outside.PathPrefix), raw)
		})
		if err != nil {
			return err
		}
		all += shown
	}
	s.output.end(s.app, t, all, "outside calls without a result")
	return nil
}

func (s *outsideCalls) row(t *table, function string, raw json.RawMessage) error {
	if s.structured() {
		return s.item(raw)
	}
	var one shownCall
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	cells := []string{
		function, one.Call + "/" + one.ID, timestamp(one.StartedAt), timestamp(one.Due), again(one.Attempts), one.state(),
	}
	if s.wide() {
		cells = append(cells, one.Key)
	}
	t.row(cells...)
	return nil
}

func (c shownCall) state() string {
	switch {
	case c.Undeclared:
		return "not declared by this version of the function"
	case c.Ending != "":
		return "is ended: " + c.Ending
	}
	return c.Error
}

// find returns the path of the call.
func (s *outsideCalls) find(ctx context.Context, c *client, call string) (string, json.RawMessage, error) {
	name, id, ok := strings.Cut(call, "/")
	if !ok {
		return "", nil, usageErrorf("invalid call %q: want CALL/ID, as the list shows it", call)
	}
	paths, err := c.lists(ctx, "function", outside.PathPrefix, s.function)
	if err != nil {
		return "", nil, err
	}
	path, raw, err := c.first(ctx, paths, url.PathEscape(name)+"/"+url.PathEscape(id))
	if err == nil && path == "" {
		err = fmt.Errorf("there is no call %s without a result", call)
	}
	return path, raw, err
}

func (s *outsideCalls) show(ctx context.Context, call string) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	_, raw, err := s.find(ctx, c, call)
	if err != nil {
		return err
	}
	return s.print(raw)
}

func (s *outsideCalls) print(raw json.RawMessage) error {
	if s.structured() {
		return s.one(raw)
	}
	var one shownCall
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	fmt.Fprintf(s.app.Out, "%s/%s began at %s and is due at %s\n", one.Call, one.ID, timestamp(one.StartedAt),
		timestamp(one.Due))
	fmt.Fprintln(s.app.Out, "key:", one.Key)
	if one.Attempts > 0 {
		fmt.Fprintln(s.app.Out, "failed:", one.Attempts)
	}
	if state := one.state(); state != "" {
		fmt.Fprintln(s.app.Out, oneLine(state))
	}
	return nil
}

func (s *outsideCalls) act(ctx context.Context, call, what string, body any) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	path, _, err := s.find(ctx, c, call)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodPost, path+"/"+what, body, &raw); err != nil {
		return err
	}
	var after struct {
		Ended bool            `json:"ended"`
		Call  json.RawMessage `json:"call"`
	}
	switch err := json.Unmarshal(raw, &after); {
	case err != nil:
		return err
	case s.structured():
		return s.one(raw)
	case after.Ended:
		fmt.Fprintln(s.app.Out, call, "has ended")
		return nil
	}
	return s.print(after.Call)
}
