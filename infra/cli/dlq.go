package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// deadLettersPath is where the archive keeps dead letters.
const deadLettersPath = "/api/archive/dead-letters"

// deadLetter is an event that a function failed to handle.
type deadLetter struct {
	ID       string          `json:"id"`
	State    string          `json:"state"`
	At       time.Time       `json:"at"`
	Times    int             `json:"times"`
	Function string          `json:"function"`
	Code     string          `json:"code"`
	Reason   string          `json:"reason"`
	Event    json.RawMessage `json:"event"`
}

func (a *app) dlqCommand() *cobra.Command {
	var n connection
	var o output
	state := "waiting"
	root := &cobra.Command{
		Use:   "dlq [list] | show ID | mend FLAGS | replay ID | drop ID | mends",
		Short: "Look at, mend, replay and drop dead letters of a running system",
		Example: a.example(`
$ dlq                                     those that wait for a decision
$ dlq show ID
$ dlq replay ID                           deliver it again to the function that failed
$ dlq replay --since 2h --code 502,503    all that an outage has made
$ dlq mend --where 'consumer == "notifications"' --transform '{"name": data.user_name}' --dry-run`),
	}
	n.define(a, root.PersistentFlags())
	o.define(a, root.PersistentFlags())
	completeFormats(root)
	list := func(c *cobra.Command, _ []string) error {
		client, err := n.open()
		if err != nil {
			return err
		}
		return a.listDead(c.Context(), client, state, &o)
	}
	define := func(c *cobra.Command) {
		c.Flags().StringVar(&state, "state", "waiting", "list dead letters that are waiting or replayed")
		_ = c.RegisterFlagCompletionFunc("state",
			cobra.FixedCompletions([]string{"waiting", "replayed"}, cobra.ShellCompDirectiveNoFileComp))
	}
	root.RunE = list
	define(root)
	listed := &cobra.Command{
		Use:     "list",
		Short:   "List dead letters, the newest first",
		Args:    noArgs,
		RunE:    list,
		Example: a.example("$ dlq list --state replayed"),
	}
	define(listed)
	path := func(id string) string { return deadLettersPath + "/" + url.PathEscape(id) }
	show := oneID(
		&cobra.Command{Use: "show ID", Short: "Show one dead letter", Example: a.example("$ dlq show ID -o yaml"),
			RunE: func(c *cobra.Command, args []string) error {
				return a.showOne(c.Context(), &n, &o, deadLettersPath+"/", args[0])
			}},
	)
	var chosen replayFilter
	replay := oneID(
		&cobra.Command{Use: "replay ID | FLAGS", Short: "Deliver dead letters again", Example: a.example(`
$ dlq replay ID
$ dlq replay --since 2h --code 502,503    those of an outage, in batches of 1, 10, 100 ...
$ dlq replay --function notifications --cause "not available"
$ dlq replay --all`),
			Long: "Deliver a dead letter again to the function that failed, or all that the flags select: the oldest\n" +
				"first, in batches of 1, 10, 100 and so on. It stops at the first that fails again.",
			RunE: func(c *cobra.Command, args []string) error {
				if err := chosen.parse(time.Now()); err != nil {
					return err
				}
				client, err := n.open()
				if err == nil && len(args) == 0 {
					return a.replayAll(c.Context(), client, &chosen)
				}
				if err == nil {
					err = client.call(c.Context(), http.MethodPost, path(args[0])+"/replay", nil, nil)
				}
				if err == nil {
					fmt.Fprintln(a.Out, "It is on its way again. If it fails again it comes back here.")
				}
				return err
			}},
	)
	chosen.define(replay)
	replay.Args = func(c *cobra.Command, args []string) error {
		switch {
		case len(args) > 1 || len(args) == 0 && !chosen.some():
			return usageErrorf("%s wants one id, or flags that select dead letters", c.Name())
		case len(args) == 1 && chosen.some():
			return usageErrorf("an id and flags that select dead letters exclude each other")
		}
		return nil
	}
	drop := oneID(
		&cobra.Command{Use: "drop ID", Short: "Drop a dead letter for good", Example: a.example("$ dlq drop ID"),
			RunE: func(c *cobra.Command, args []string) error {
				client, err := n.open()
				if err != nil {
					return err
				}
				return client.call(c.Context(), http.MethodDelete, path(args[0]), nil, nil)
			}},
	)
	return group(root, append(a.mendCommands(&n, &o), listed, show, replay, drop)...)
}

func (a *app) listDead(ctx context.Context, c *client, state string, o *output) error {
	header := []string{"ID", "AT", "FUNCTION", "TYPE", "SUBJECT", "TIMES", "REASON"}
	if o.wide() {
		header = append(header, "STATE", "EVENT")
	}
	t := a.table(header...)
	shown, err := c.pages(ctx, deadLettersPath, url.Values{"state": {state}}, 0,
		func(raw json.RawMessage) error { return a.dead(t, o, raw) })
	if err != nil {
		return err
	}
	o.end(a, t, shown, "dead letters")
	return nil
}

func (a *app) dead(t *table, o *output, raw json.RawMessage) error {
	if o.structured() {
		return o.item(raw)
	}
	var d deadLetter
	var e envelope
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	if err := json.Unmarshal(d.Event, &e); err != nil {
		return err
	}
	cells := []string{d.ID, timestamp(d.At), d.Function, shortType(e.Type), e.Subject, fmt.Sprint(d.Times),
		d.Code + " " + d.Reason}
	if o.wide() {
		cells = append(cells, d.State, e.ID)
	}
	t.row(cells...)
	return nil
}
