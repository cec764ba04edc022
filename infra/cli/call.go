package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

// caller holds the arguments of call.
type caller struct {
	*app
	connection
	output

	data                string // the value of --data
	path, query, header []string
	anonymous, include  bool
}

func (a *app) callCommand() *cobra.Command {
	r := caller{app: a}
	c := &cobra.Command{
		Use:   "call [OPERATION]",
		Short: "Call an operation of a running system by its name in OpenAPI",
		Long: `Call an operation of a running system by its name in OpenAPI, as the admin. Without an operation it
lists them.

The response goes to standard output. A response that is no success is an error, with exit code 1.`,
		Example: a.example(`
$ call                                        the operations
$ call get-users-id --path id=0192…
$ call get-users --query limit=5 -o yaml
$ call patch-users-id --path id=0192… --data '{"name":"Ada Lovelace"}'
$ call post-users --data @ada.json --header Idempotency-Key:first`),
		Args: atMostOne("operation"),
	}
	f := c.Flags()
	r.defineAddress(a, f)
	r.output.define(a, f)
	completeFormats(c)
	f.StringVarP(&r.data, "data", "d", "", "the body: `JSON`, @FILE, or - for standard input")
	f.StringArrayVar(&r.path, "path", nil, "a parameter of the path, `name=value`")
	f.StringArrayVar(&r.query, "query", nil, "a parameter of the query, `name=value`")
	f.StringArrayVar(&r.header, "header", nil, "a header, `name:value`")
	f.BoolVar(&r.anonymous, "anonymous", false, "do not sign in")
	f.BoolVarP(&r.include, "include", "i", false, "show the status and the headers too, on standard error")
	c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return r.complete(c.Context()), cobra.ShellCompDirectiveNoFileComp
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := r.open()
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return r.list(c.Context(), client)
		}
		return r.run(c.Context(), client, args[0])
	}
	return c
}

func (r *caller) complete(ctx context.Context) (ids []string) {
	client, err := r.open()
	if err != nil {
		return nil
	}
	all, _ := client.operations(ctx) // a shell that completes shows no errors
	for _, op := range all {
		ids = append(ids, op.ID+"\t"+op.Summary)
	}
	return ids
}

// list shows the operations.
func (r *caller) list(ctx context.Context, c *client) error {
	all, err := c.operations(ctx)
	if err != nil {
		return err
	}
	header := []string{"OPERATION", "METHOD", "PATH", "SUMMARY"}
	if r.wide() {
		header = append(header, "FUNCTION", "ACCESS")
	}
	t := r.app.table(header...)
	for _, op := range all {
		if r.structured() {
			if err := r.item(op); err != nil {
				return err
			}
			continue
		}
		cells := []string{op.ID, op.Method, op.Path, op.Summary}
		if r.wide() {
			access := "token"
			if op.Public {
				access = "public"
			}
			cells = append(cells, strings.Join(op.Tags, ","), access)
		}
		t.row(cells...)
	}
	if !r.structured() {
		t.flush()
	}
	return nil
}

// run calls one operation and shows its response.
func (r *caller) run(ctx context.Context, c *client, id string) error {
	op, err := c.operation(ctx, id)
	if err != nil {
		return err
	}
	target, err := op.target(r.path, r.query)
	if err != nil {
		return err
	}
	header, err := headerOf(r.header)
	if err != nil {
		return err
	}
	body, err := r.body(op, header)
	if err != nil {
		return err
	}
	if !op.Public && !r.anonymous && header.Get("Authorization") == "" {
		if err := c.signIn(ctx); err != nil {
			return err
		}
	}
	response, err := c.do(ctx, op.Method, target, header, body)
	if err != nil {
		return err
	}
	if r.include {
		fmt.Fprintf(r.app.Err, "%d %s\n", response.status, http.StatusText(response.status))
		for name, values := range response.header {
			fmt.Fprintf(r.app.Err, "%s: %s\n", name, oneLine(strings.Join(values, ", ")))
		}
	}
	if response.status >= 300 {
		return response.failure(op.Method, target)
	}
	return r.show(response)
}

// body returns the JSON to send.
func (r *caller) body(op operation, header http.Header) ([]byte, error) {
	switch {
	case r.data == "" && op.needsBody:
		return nil, usageErrorf("%s needs a body: --data JSON, --data @FILE, or --data - for standard input", op.ID)
	case r.data == "":
		return nil, nil
	case !op.hasBody:
		return nil, usageErrorf("%s takes no body", op.ID)
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	return r.payload(r.data)
}

func headerOf(lines []string) (http.Header, error) {
	header := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, usageErrorf("--header %s: want NAME:VALUE", line)
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return header, nil
}

// show writes JSON in the chosen format, and any other body unchanged.
func (r *caller) show(a response) error {
	if len(a.body) == 0 {
		return nil
	}
	media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if media == "application/json" || strings.HasSuffix(media, "+json") {
		return r.one(json.RawMessage(a.body))
	}
	_, err := r.app.Out.Write(a.body)
	return err
}
