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

// mendsPath is where the archive keeps mends.
const mendsPath = "/api/archive/mends"

// mendState is a mend as the archive shows it.
type mendState struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	Reason    string    `json:"reason"`
	By        string    `json:"by"`
	Why       string    `json:"why"`
	CreatedAt time.Time `json:"created_at"`
	Sent      int       `json:"sent"`
	Failed    int       `json:"failed"`
	Refused   int       `json:"refused"`
	Refusals  []refusal `json:"refusals"`
}

// refusal is a dead letter that cannot be mended.
type refusal struct {
	ID  string `json:"id"`
	Why string `json:"why"`
}

// mending holds the arguments of the command dlq mend.
type mending struct {
	where, transform, reason string
	dryRun                   bool
	watch                    time.Duration
}

func (m *mending) body() map[string]any {
	body := map[string]any{}
	for name, text := range map[string]string{"where": m.where, "transform": m.transform} {
		if text != "" {
			body[name] = text
		}
	}
	return body
}

// mendCommands returns the commands that mend many dead letters.
func (a *app) mendCommands(n *connection, o *output) []*cobra.Command {
	var m mending
	mend := &cobra.Command{
		Use: "mend FLAGS", Short: "Mend many dead letters by an expression and deliver them again",
		Long: "Change the data of the dead letters that are selected by an expression in CEL, and deliver them again in\n" +
			"batches of 1, 10, 100 and so on. The archive does it: it goes on without this command, waits after each batch,\n" +
			"and stops at the first that fails again. See https://cel.dev for the language.",
		Example: a.example(`
$ dlq mend --where 'consumer == "notifications"' --transform '{"name": data.user_name}' --dry-run
$ dlq mend --where 'code == "503"' --reason "the store was away"`),
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case m.where == "" && m.transform == "":
				return usageErrorf("mend wants --where, --transform or both; --where true selects all")
			case m.watch < 0:
				return usageErrorf("--watch must not be negative")
			}
			client, err := n.open()
			if err == nil && m.dryRun {
				return a.tryMend(c.Context(), client, &m)
			}
			if err == nil {
				err = because(m.reason)
			}
			if err != nil {
				return err
			}
			return a.runMend(c.Context(), client, &m)
		},
	}
	f := mend.Flags()
	f.StringVar(&m.where, "where", "", "the `expression` that is true for the dead letters to mend")
	f.StringVar(&m.transform, "transform", "", "the `expression` of the members of their data that change")
	f.BoolVar(&m.dryRun, "dry-run", false, "print what would change, and change nothing")
	f.StringVar(&m.reason, "reason", "", "why, for the record")
	f.DurationVar(&m.watch, "watch", 5*time.Second, "how long each batch is watched for new failures")

	var reason string
	act := func(what, short string) *cobra.Command {
		c := oneID(&cobra.Command{
			Use: what + " ID", Short: short, Example: a.example("$ dlq mends " + what + " ID --reason \"we know why\""),
			RunE: func(c *cobra.Command, args []string) error {
				if err := because(reason); err != nil {
					return err
				}
				client, err := n.open()
				if err != nil {
					return err
				}
				path := mendsPath + "/" + url.PathEscape(args[0]) + "/" + what
				return client.call(c.Context(), http.MethodPost, path, map[string]string{"reason": reason}, nil)
			},
		})
		c.Flags().StringVar(&reason, "reason", "", "why, for the record")
		return c
	}
	mends := &cobra.Command{
		Use: "mends [list] | show ID | stop ID | continue ID", Short: "Look at mends, stop one, and have one go on",
		Example: a.example("$ dlq mends\n$ dlq mends continue ID --reason \"notifications is mended\""),
	}
	list := func(c *cobra.Command, _ []string) error { return a.listMends(c.Context(), n, o) }
	mends.RunE = list
	group(mends,
		&cobra.Command{Use: "list", Short: "List mends, the newest first", Args: noArgs, RunE: list,
			Example: a.example("$ dlq mends list -o json")},
		oneID(&cobra.Command{Use: "show ID", Short: "Show a mend", Example: a.example("$ dlq mends show ID -o yaml"),
			RunE: func(c *cobra.Command, args []string) error {
				return a.showOne(c.Context(), n, o, mendsPath+"/", args[0])
			}}),
		act("stop", "Stop a mend; what it has delivered stays delivered"),
		act("continue", "Have a mend that has stopped go on"))
	return []*cobra.Command{mend, mends}
}

func (a *app) listMends(ctx context.Context, n *connection, o *output) error {
	c, err := n.open()
	if err != nil {
		return err
	}
	t := a.table("ID", "STARTED", "STATE", "SENT", "FAILED", "REFUSED", "BY", "REASON")
	shown, err := c.pages(ctx, mendsPath, url.Values{}, 0, func(raw json.RawMessage) error {
		if o.structured() {
			return o.item(raw)
		}
		var m mendState
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		t.row(m.ID, timestamp(m.CreatedAt), m.State, fmt.Sprint(m.Sent), fmt.Sprint(m.Failed), fmt.Sprint(m.Refused), m.By,
			m.Reason)
		return nil
	})
	if err == nil {
		o.end(a, t, shown, "mends")
	}
	return err
}

// tryMend prints what a mend would do.
func (a *app) tryMend(ctx context.Context, c *client, m *mending) error {
	var looked, selected, changed, refused int
	body := m.body()
	for {
		var page struct {
			Looked, Selected, Changed, Refused int
			Examples                           []struct {
				ID            string
				Before, After json.RawMessage
			}
			Refusals []refusal
			Next     string
		}
		if err := c.call(ctx, http.MethodPost, mendsPath+"/dry-run", body, &page); err != nil {
			return err
		}
		if looked == 0 {
			for _, e := range page.Examples {
				fmt.Fprintf(a.Out, "%s\n  %s\n  %s\n", e.ID, e.Before, e.After)
			}
		}
		if refused == 0 {
			a.printRefusals(page.Refusals)
		}
		looked, selected, changed = looked+page.Looked, selected+page.Selected, changed+page.Changed
		refused += page.Refused
		if page.Next == "" {
			break
		}
		body["cursor"] = page.Next
	}
	fmt.Fprintf(a.Out, "Of %d dead letters %d are selected, and %d get other data. %d cannot be mended.\n",
		looked, selected, changed, refused)
	return nil
}

func (a *app) printRefusals(all []refusal) {
	for _, r := range all {
		fmt.Fprintf(a.Out, "%s cannot be mended: %s\n", r.ID, oneLine(r.Why))
	}
}

// runMend starts a mend and prints how it gets on until it ends. When the command is interrupted, the mend goes on.
func (a *app) runMend(ctx context.Context, c *client, m *mending) error {
	body := m.body()
	body["reason"], body["watch"] = m.reason, int(m.watch.Seconds())
	var s mendState
	if err := c.call(ctx, http.MethodPost, mendsPath, body, &s); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "The mend %s goes on by itself; dlq mends stop %s stops it.\n", s.ID, s.ID)
	for sent := -1; ; {
		if s.Sent != sent && s.Sent > 0 {
			fmt.Fprintf(a.Out, "%d are on their way again.\n", s.Sent)
		}
		sent = s.Sent
		switch s.State {
		case "done":
			a.printRefusals(s.Refusals)
			fmt.Fprintf(a.Out, "Done: %d were delivered again, %d could not be mended.\n", s.Sent, s.Refused)
			return nil
		case "stopped":
			return fmt.Errorf("the mend has stopped after %d: %s", s.Sent, strings.TrimSpace(s.Why))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		s.Refusals = nil
		if err := c.call(ctx, http.MethodGet, mendsPath+"/"+url.PathEscape(s.ID), nil, &s); err != nil {
			return err
		}
	}
}
