package main

import (
	"io"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/cli"
)

// agent starts ebb mcp against the system and returns a function that calls one of its tools and reports
// whether the call failed, and one that lists them.
func (r *running) agent(vars map[string]string) (use func(string, any) (string, bool), tools func() string) {
	r.t.Helper()
	p, _, errs := process(r.dir, vars)
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	p.In, p.Out = in, out
	done := make(chan int)
	go func() {
		code := cli.Run(r.t.Context(), functions.System(), p, []string{"mcp", "--url", r.url, "--data", r.dir})
		out.Close()
		done <- code
	}()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	s, err := client.Connect(r.t.Context(), &mcp.IOTransport{Reader: fromServer, Writer: toServer}, nil)
	if err != nil {
		r.t.Fatalf("%v: %s", err, errs)
	}
	r.t.Cleanup(func() {
		s.Close()
		if code := <-done; code != 0 {
			r.t.Errorf("exit code %d: %s", code, errs)
		}
	})
	use = func(tool string, args any) (string, bool) {
		r.t.Helper()
		result, err := s.CallTool(r.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
		if err != nil {
			return err.Error(), true
		}
		return result.Content[0].(*mcp.TextContent).Text, result.IsError
	}
	return use, func() string {
		r.t.Helper()
		list, err := s.ListTools(r.t.Context(), nil)
		if err != nil {
			r.t.Fatal(err)
		}
		var names []string
		for _, tool := range list.Tools {
			names = append(names, tool.Name)
		}
		return strings.Join(names, " ")
	}
}

// An agent with the role admin sees and changes a running system; one with the role customer sees what customers see,
// and is offered no tool for operators.
func TestAgent(t *testing.T) {
	r := startDev(t, t.TempDir())
	use, tools := r.agent(nil)
	if got := tools(); !strings.Contains(got, "replay_dead_letter") || !strings.Contains(got, "skip_saga_step") {
		t.Errorf("an admin is offered %s", got)
	}
	type args = map[string]any
	must := func(want, tool string, in any) string {
		t.Helper()
		text, failed := use(tool, in)
		if failed || !strings.Contains(text, want) {
			t.Errorf("%s: %v, %s", tool, failed, text)
		}
		return text
	}
	must(`"orders":{"consumes":[`, "topology", nil)
	must(`"$ref":"#/components/schemas/`, "operation", args{"operation": "post-products"})
	must(`"name":"full"`, "event_type", args{"type": "orders.placed"})
	body := args{"name": "Green tea", "price": args{"amount": 490, "currency": "EUR"}}
	must("Green tea", "call_operation", args{"operation": "post-products", "body": body, "idempotency_key": "k1"})
	must("Green tea", "read_operation", args{"operation": "get-products"})
	r.see("Green tea", "events", "list", "--type", "catalog.product-changed", "--limit", "0", "-o", "json")
	must("Green tea", "events", args{"type": "catalog.product-changed"})
	must(`"order":{"items":[]`, "sagas", nil)
	must(`"items":[]`, "dead_letters", nil)
	must(`"lines":[`, "logs", args{"limit": 5})

	const ada, password = "ada@example.com", "correct horse battery"
	user := `{"email":"` + ada + `","password":"` + password + `","name":"Ada"}`
	if code, _, errs := ebb(t.Context(), r.dir, nil, "call", "post-users", "--data", user, "--url", r.url); code != 0 {
		t.Fatal(errs)
	}
	use, tools = r.agent(map[string]string{"EBB_ADMIN_EMAIL": ada, "EBB_ADMIN_PASSWORD": password})
	if got := tools(); strings.Contains(got, "replay_dead_letter") || strings.Contains(got, "saga_step") ||
		!strings.Contains(got, "call_operation") {
		t.Errorf("a customer is offered %s", got)
	}
	must(`"items":[]`, "read_operation", args{"operation": "get-orders"})
	for tool, in := range map[string]args{
		"events":         {},
		"dead_letters":   {},
		"read_operation": {"operation": "get-users"},
		"call_operation": {"operation": "post-products", "body": body},
	} {
		if text, failed := use(tool, in); !failed || strings.Contains(text, "Green tea") {
			t.Errorf("%s: a customer gets %s", tool, text)
		}
	}
}
