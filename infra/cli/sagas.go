package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/saga"
)

// shownSaga is a saga as the function that runs it shows it.
type shownSaga struct {
	ID        string              `json:"id"`
	Saga      string              `json:"saga"`
	Version   int                 `json:"version"`
	Status    string              `json:"status"`
	Step      string              `json:"step"`
	Due       time.Time           `json:"due"`
	Again     int                 `json:"again"`
	Reason    string              `json:"reason"`
	Stuck     *saga.Stuck         `json:"stuck"`
	Assignee  string              `json:"assignee"`
	StartedAt time.Time           `json:"started_at"`
	EndedAt   time.Time           `json:"ended_at"`
	Steps     []saga.StepProgress `json:"steps"`
}

// sagas holds the arguments of the command sagas.
type sagas struct {
	app *app
	connection
	output
	saga, status         string
	limit                int
	step, reason, ending string
	to                   string
	nobody               bool
}

func (a *app) sagasCommand() *cobra.Command {
	s := &sagas{app: a}
	root := &cobra.Command{
		Use:   "sagas [list] | show ID | retry ID | skip ID | cancel ID | end ID | hand-over ID",
		Short: "Look at the sagas of a running system, and mend those that do not get on",
		Example: a.example(`
$ sagas                                    those that have not ended
$ sagas list --status stuck                those that do not get on by themselves
$ sagas show ID
$ sagas retry ID                           send the commands without an answer again
$ sagas skip ID --reason "released by hand"
$ sagas cancel ID --reason "a mistake"     undo it
$ sagas end ID --reason "lost"             end it and undo nothing
$ sagas hand-over ID --to PERSON --reason "knows the warehouse"`),
	}
	s.connection.define(a, root.PersistentFlags())
	s.output.define(a, root.PersistentFlags())
	completeFormats(root)
	root.PersistentFlags().StringVar(&s.saga, "saga", "", "the `name` of the saga, such as order; without it all")
	list := func(c *cobra.Command, _ []string) error { return s.list(c.Context()) }
	listed := &cobra.Command{
		Use: "list", Short: "List sagas, those that are being undone first", Args: noArgs, RunE: list,
		Example: a.example("$ sagas list --status completed --limit 10 -o json"),
	}
	root.RunE = list
	for _, c := range []*cobra.Command{root, listed} {
		c.Flags().StringVar(&s.status, "status", "open", "open, running, undoing, stuck, completed or undone")
		c.Flags().IntVar(&s.limit, "limit", 50, "show at most this many of each name; 0 for all")
		_ = c.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(
			[]string{"open", "running", "undoing", "stuck", "completed", "undone"}, cobra.ShellCompDirectiveNoFileComp))
	}
	show := oneID(&cobra.Command{
		Use: "show ID", Short: "Show a saga with its steps, those to come included",
		Example: a.example("$ sagas show ID -o yaml"),
		RunE:    func(c *cobra.Command, args []string) error { return s.show(c.Context(), args[0]) },
	})
	retry := oneID(&cobra.Command{
		Use: "retry ID", Short: "Send the commands of a saga that are not answered again",
		Example: a.example("$ sagas retry ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.act(c.Context(), args[0], "retry", func(shownSaga) (any, error) { return nil, nil })
		},
	})
	skip := oneID(&cobra.Command{
		Use: "skip ID", Short: "Take a step for done, or for undone, without an answer",
		Example: a.example("$ sagas skip ID --reason \"released by hand\"\n" +
			"$ sagas skip ID --step note --reason \"notes are not used\""),
		RunE: func(c *cobra.Command, args []string) error {
			return s.act(c.Context(), args[0], "skip", func(shown shownSaga) (any, error) {
				stuck := cmp.Or(shown.Stuck, &saga.Stuck{})
				return map[string]string{"step": cmp.Or(s.step, stuck.Step, shown.Step), "reason": s.reason}, s.because()
			})
		},
	})
	skip.Flags().StringVar(&s.step, "step", "", "the `name` of the step; without it the one that the saga waits for")
	cancel := oneID(&cobra.Command{
		Use: "cancel ID", Short: "Undo a saga", Example: a.example("$ sagas cancel ID --reason \"a mistake\""),
		RunE: func(c *cobra.Command, args []string) error {
			return s.act(c.Context(), args[0], "cancel", func(shownSaga) (any, error) {
				return map[string]string{"reason": s.reason}, s.because()
			})
		},
	})
	end := oneID(&cobra.Command{
		Use: "end ID", Short: "End a saga at once and undo nothing",
		Long: "End a saga at once and undo nothing. What it holds elsewhere is for you to mend.",
		Example: a.example("$ sagas end ID --reason \"the warehouse is closed for good\"\n" +
			"$ sagas end ID --as completed --reason \"done by hand\""),
		RunE: func(c *cobra.Command, args []string) error {
			return s.act(c.Context(), args[0], "end", func(shownSaga) (any, error) {
				return map[string]string{"as": s.ending, "reason": s.reason}, s.because()
			})
		},
	})
	end.Flags().StringVar(&s.ending, "as", "undone", "how it ends: undone or completed")
	handOver := oneID(&cobra.Command{
		Use: "hand-over ID", Short: "Tell others which person looks after a saga",
		Long: "Tell others which person looks after a saga. It goes on as before.",
		Example: a.example("$ sagas hand-over ID --to PERSON --reason \"knows the warehouse\"\n" +
			"$ sagas hand-over ID --nobody --reason \"on holiday\""),
		RunE: func(c *cobra.Command, args []string) error {
			if (s.to == "") != s.nobody {
				return usageErrorf("needs --to with the id of a person, or --nobody")
			}
			return s.act(c.Context(), args[0], "hand-over", func(shown shownSaga) (any, error) {
				return map[string]string{"to": s.to, "from": shown.Assignee, "reason": s.reason}, s.because()
			})
		},
	})
	handOver.Flags().StringVar(&s.to, "to", "", "the `id` of the person who looks after it from now on")
	handOver.Flags().BoolVar(&s.nobody, "nobody", false, "no one looks after it any more")
	for _, c := range []*cobra.Command{skip, cancel, end, handOver} {
		c.Flags().StringVar(&s.reason, "reason", "", "why, for the record")
	}
	return group(root, listed, show, retry, skip, cancel, end, handOver)
}

func (s *sagas) because() error { return because(s.reason) }

func (s *sagas) list(ctx context.Context) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	paths, err := c.lists(ctx, "saga", saga.PathPrefix, s.saga)
	if err != nil {
		return err
	}
	header := []string{"ID", "SAGA", "STATUS", "STEP", "AGAIN", "DUE", "REASON"}
	if s.wide() {
		header = append(header, "VERSION", "STARTED", "ENDED", "LOOKED AFTER BY")
	}
	t, all := s.app.table(header...), 0
	for _, path := range paths {
		shown, err := s.listOne(ctx, c, t, path)
		if err != nil {
			return err
		}
		all += shown
	}
	s.output.end(s.app, t, all, "sagas")
	return nil
}

// listOne adds the sagas of one name to the table.
func (s *sagas) listOne(ctx context.Context, c *client, t *table, path string) (shown int, err error) {
	return c.pages(ctx, path, url.Values{"status": {s.status}}, s.limit, func(raw json.RawMessage) error {
		return s.row(t, raw)
	})
}

func (s *sagas) row(t *table, raw json.RawMessage) error {
	if s.structured() {
		return s.item(raw)
	}
	var one shownSaga
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	cells := []string{one.ID, one.Saga, one.state(), one.Step, again(one.Again), timestamp(one.Due), one.why()}
	if s.wide() {
		cells = append(cells, fmt.Sprint(one.Version), timestamp(one.StartedAt), timestamp(one.EndedAt), one.Assignee)
	}
	t.row(cells...)
	return nil
}

// state returns the status, and whether the saga is stuck.
func (s shownSaga) state() string {
	if s.Stuck != nil {
		return s.Status + ", stuck"
	}
	return s.Status
}

// why returns why the saga is stuck, or why it is undone.
func (s shownSaga) why() string {
	if s.Stuck != nil {
		return s.Stuck.Step + ": " + s.Stuck.Reason
	}
	return s.Reason
}

func again(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// find returns the path of the saga with the id, and the saga.
func (s *sagas) find(ctx context.Context, c *client, id string) (path string, raw json.RawMessage, err error) {
	paths, err := c.lists(ctx, "saga", saga.PathPrefix, s.saga)
	if err != nil {
		return "", nil, err
	}
	path, raw, err = c.first(ctx, paths, url.PathEscape(id))
	if err == nil && path == "" {
		err = fmt.Errorf("there is no saga %s", id)
	}
	return path, raw, err
}

func (s *sagas) show(ctx context.Context, id string) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	_, raw, err := s.find(ctx, c, id)
	if err != nil {
		return err
	}
	return s.print(raw)
}

// print writes a saga with its steps.
func (s *sagas) print(raw json.RawMessage) error {
	if s.structured() {
		return s.one(raw)
	}
	var one shownSaga
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	fmt.Fprintf(s.app.Out, "%s %s is %s", one.Saga, one.ID, one.state())
	if why := one.why(); why != "" {
		fmt.Fprintf(s.app.Out, ": %s", oneLine(why))
	}
	fmt.Fprintln(s.app.Out)
	if one.Assignee != "" {
		fmt.Fprintf(s.app.Out, "looked after by %s\n", oneLine(one.Assignee))
	}
	header := []string{"STEP", "STATE", "AGAIN", "DUE", "BEGAN", "ENDED"}
	if s.wide() {
		header = append(header, "UNDOING", "UNDONE", "AFTER")
	}
	t := s.app.table(append(header, "SKIPPED")...)
	for _, step := range one.Steps {
		cells := []string{
			step.Name, string(step.State), again(step.Again), timestamp(step.Due), timestamp(step.StartedAt),
			timestamp(step.EndedAt),
		}
		if s.wide() {
			cells = append(cells, timestamp(step.UndoingAt), timestamp(step.UndoneAt), strings.Join(step.After, ", "))
		}
		t.row(append(cells, step.Skipped)...)
	}
	t.flush()
	return nil
}

// act does what an operator may do to a saga, and shows what has become of it.
func (s *sagas) act(ctx context.Context, id, what string, body func(shownSaga) (any, error)) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	if _, err := body(shownSaga{}); err != nil {
		return err // nothing is asked of the system in vain
	}
	path, raw, err := s.find(ctx, c, id)
	if err != nil {
		return err
	}
	var before shownSaga
	if err := json.Unmarshal(raw, &before); err != nil {
		return err
	}
	in, err := body(before)
	if err != nil {
		return err
	}
	var after json.RawMessage
	if err := c.call(ctx, http.MethodPost, path+"/"+what, in, &after); err != nil {
		return err
	}
	return s.print(after)
}
