package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/functions/orders"
	"github.com/ebb-dev/ebb/infra/cli"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/timemachine"
)

// stepDeadline is the deadline of each step of an order, and of its undo. A payment with tok_slow ends between the two,
// far from both: what comes at the same moment may come in another order when it is run again.
const (
	stepDeadline = "2s"
	slowPayment  = "3s"
)

// travels is a shop whose past is run again.
type travels struct {
	*shopHost
	dir, product, ada, admin string
}

func newTravels(t *testing.T) *travels {
	s := startWith(t, func(c *local.Config) {
		c.Lookup = config.Map(map[string]string{
			"EBB_ORDERS_STEP_DEADLINE": stepDeadline, "EBB_PAYMENTS_SLOW": slowPayment,
		})
	}, t.TempDir(), time.Minute)
	v := &travels{shopHost: s, dir: t.TempDir()}
	v.product, v.ada = s.customer()
	v.admin = s.signIn(adminEmail, adminPassword)
	return v
}

// order places an order with a token of the sandbox, and waits until its stock is reserved: which of several orders has
// its stock first when they come at once is another matter.
func (v *travels) order(token string) order {
	v.Helper()
	o := v.placeWith(v.product, v.ada, 2, token)
	v.reserved(o.ID)
	return o
}

// reserved waits until the archive has the event that tells of the stock of an order, and returns it.
func (v *travels) reserved(id string) json.RawMessage {
	v.Helper()
	var page struct {
		Items []struct{ Event json.RawMessage }
	}
	v.within(15*time.Second, "the stock is reserved", func() bool {
		v.must("GET", "/api/archive/events?type=dev.ebb.inventory.reserved.v1&subject="+id, v.admin, nil, &page)
		return len(page.Items) > 0
	})
	return page.Items[0].Event
}

// archived returns the archive's events of the correlations of an order, by their types without namespace and version.
func (v *travels) archived(id string) map[string]int {
	v.Helper()
	type node struct {
		Type   string
		Caused []json.RawMessage
	}
	var graph struct{ Roots []json.RawMessage }
	types := map[string]int{}
	if v.call("GET", "/api/archive/causality/"+id, v.admin, nil, &graph) != 200 {
		return types
	}
	for rest := graph.Roots; len(rest) > 0; rest = rest[1:] {
		var n node
		if err := json.Unmarshal(rest[0], &n); err != nil {
			v.Fatal(err)
		}
		types[strings.TrimSuffix(strings.TrimPrefix(n.Type, "dev.ebb."), ".v1")]++
		rest = append(rest, n.Caused...)
	}
	return types
}

// ended waits until the archive has all of an order, and returns whether it was confirmed.
func (v *travels) ended(id string) (confirmed bool) {
	v.Helper()
	v.within(30*time.Second, "the archive has all of the order", func() bool {
		have := v.archived(id)
		confirmed = have["orders.confirmed"] > 0
		end := have["orders.cancelled"] > 0 || confirmed && have["inventory.shipped"] > 0
		return end && have["notifications.sent"] > 0
	})
	return confirmed
}

// travel calls the time machine of a build.
func (v *travels) travel(sys system.System, args ...string) (code int, out, errs string) {
	v.Helper()
	var o, e bytes.Buffer
	p := cli.Process{
		In: strings.NewReader(""), Out: &o, Err: &e, Dir: v.dir, ConfigDir: v.dir, CacheDir: v.dir,
		Lookup: config.Map(map[string]string{
			"EBB_URL": v.url, "EBB_ADMIN_EMAIL": adminEmail, "EBB_ADMIN_PASSWORD": adminPassword,
		}),
	}
	args = append([]string{"timemachine", "--setting", "EBB_ORDERS_STEP_DEADLINE=" + stepDeadline}, args...)
	code = cli.Run(v.Context(), sys, p, args)
	return code, o.String(), e.String()
}

// Past orders run again with the same build are the same: confirmed, declined, cancelled by the customer, by a deadline
// that passed before the payment, and with an event that came twice.
func TestThePastIsTheSame(t *testing.T) {
	v := newTravels(t)
	declined, late, cancelled := v.order("tok_declined"), v.order("tok_slow"), v.order("tok_slow")
	v.must("POST", "/api/orders/"+cancelled.ID+"/cancellation", v.ada, map[string]string{"reason": "too dear"}, nil)
	twice := v.order("tok_ok")
	v.twice(twice.ID)
	for name, id := range map[string]string{
		"declined": declined.ID, "late": late.ID, "cancelled": cancelled.ID, "twice": twice.ID,
	} {
		v.ended(id)
		code, out, errs := v.travel(functions.System(), id)
		if code != 0 || !strings.Contains(out, "The run is the same as the past.") || errs != "" {
			t.Errorf("%s: %v: got %d\n%s%s", name, v.archived(id), code, out, errs)
		}
	}
}

// Two recorded orders, each of which was decided by the milliseconds between a step and its deadline: the timer of the
// step before it came when the deadline had just passed, or was just ahead. A run, in which each delivery takes a
// little longer, decides as the past did.
func TestDeadlinesByMilliseconds(t *testing.T) {
	for file, id := range map[string]string{
		"deadline-passed.json": "01a22de9-4859-7d08-b311-0a42a3dae450",
		"deadline-ahead.json":  "01a22de9-7b41-7d35-a45f-501ef4620d9c",
	} {
		v := &travels{shopHost: &shopHost{TB: t}, dir: t.TempDir()}
		code, out, errs := v.travel(functions.System(), id, "--from", filepath.Join("testdata", file))
		if code != 0 || errs != "" {
			t.Errorf("%s: got %d\n%s%s", file, code, out, errs)
		}
	}
}

// twice publishes the event again that tells of the stock of an order, as a broker may.
func (v *travels) twice(id string) {
	v.Helper()
	e, err := event.FromJSON(v.reserved(id))
	if err == nil {
		err = v.publisher.Publish(v.Context(), e, e)
	}
	if err != nil {
		v.Fatal(err)
	}
}

// changed returns the product with another constructor of orders.
func changed(made func(function.Env) (*function.Function, error)) system.System {
	sys := functions.System()
	sys.Functions = slices.Clone(sys.Functions)
	for i, d := range sys.Functions {
		if d.Name == "orders" {
			sys.Functions[i].New = made
		}
	}
	return sys
}

// withoutCapture declares orders whose saga never captures the payment.
func withoutCapture(env function.Env) (*function.Function, error) {
	return orders.NewVersion(env, 1, func(own []saga.Step[orders.State]) []saga.Step[orders.State] { return own[:2] })
}

// dearer declares orders that sells everything at twice its price.
func dearer(env function.Env) (*function.Function, error) {
	open := env.Store
	env.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
		db, err := open(ctx, name, schema)
		return doubled{db}, err
	}
	return orders.New(env)
}

type doubled struct{ store.Driver }

func (d doubled) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	found, err := d.Driver.Get(ctx, keys...)
	for i, doc := range found {
		if doc.Collection == "products" && doc.Data != nil {
			found[i].Data = bytes.ReplaceAll(doc.Data, []byte(`"amount":1250`), []byte(`"amount":2500`))
		}
	}
	return found, err
}

// differences returns the lines of an output that begin with a mark of a difference, without what follows the type.
func differences(out string) (lines []string) {
	for line := range strings.Lines(out) {
		if line = strings.TrimRight(line, "\n"); line != "" && strings.Contains("~-+", line[:1]) {
			lines = append(lines, strings.Join(strings.Fields(line)[:2], " "))
		}
	}
	return lines
}

// A past order run again with a changed build shows what the change does, and nothing else.
func TestTheDifferenceIsFound(t *testing.T) {
	v := newTravels(t)
	o := v.order("tok_ok")
	for !v.ended(o.ID) {
		o = v.order("tok_ok") // a step took longer than its deadline
	}
	file := filepath.Join(v.dir, "order.json")
	if code, out, errs := v.travel(functions.System(), o.ID, "--save", file); code != 0 {
		t.Fatalf("got %d\n%s%s", code, out, errs)
	}
	code, out, errs := v.travel(changed(withoutCapture), o.ID, "--from", file)
	want := []string{"- payments.capture.v1", "- payments.captured.v1", "~ payments"}
	if got := differences(out); code != 1 || !slices.Equal(got, want) {
		t.Errorf("without a capture: got %d, %q, want %q\n%s%s", code, got, want, out, errs)
	}
	code, out, errs = v.travel(changed(dearer), o.ID, "--from", file, "-o", "json")
	var report timemachine.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 {
		t.Fatalf("got %d: %v\n%s%s", code, err, out, errs)
	}
	var got []string
	for _, e := range report.Events {
		if e.Change != timemachine.Same {
			for _, f := range e.Fields {
				got = append(got, fmt.Sprint(e.Change, " ", strings.TrimPrefix(e.Type, "dev.ebb."), " ", f.Path, " ", f.Now))
			}
		}
	}
	want = []string{
		"different orders.placed.v1 lines[0].unit_price.amount 2500", "different orders.placed.v1 total.amount 5000",
		"different payments.authorize.v1 amount.amount 5000", "different payments.authorized.v1 amount.amount 5000",
		"different payments.captured.v1 amount.amount 5000", "different orders.confirmed.v1 total.amount 5000",
	}
	if !slices.Equal(got, want) {
		t.Errorf("dearer: got %q, want %q", got, want)
	}
}

// What cannot be run is told, with the exit code of trouble.
func TestNoPast(t *testing.T) {
	v := newTravels(t)
	write := func(name, text string) string {
		path := filepath.Join(v.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for want, args := range map[string][]string{
		"no event was recorded about nothing": {"nothing"},
		"no event was recorded about other":   {"other", "--from", write("empty.json", "[]")},
		"not CloudEvents in JSON":             {"x", "--from", write("garbage.json", "\x00[")},
		"event 1 of 1 is not valid":           {"x", "--from", write("object.json", `{"a":1}`)},
		"event 1 of 2 is not valid":           {"x", "--from", write("numbers.json", "[1,2]")},
		"no such file":                        {"x", "--from", filepath.Join(v.dir, "nowhere")},
		"unknown setting":                     {"x", "--from", write("one.json", one), "--setting", "EBB_NONE=1"},
		"it is secret":                        {"x", "--from", write("one.json", one), "--setting", "STRIPE_SECRET_KEY=sk"},
	} {
		if code, out, errs := v.travel(functions.System(), args...); code != 2 || !strings.Contains(errs, want) || out != "" {
			t.Errorf("%v: got %d, %s%s, want %q", args, code, out, errs, want)
		}
	}
}

const one = `{"specversion":"1.0","id":"1","source":"/x","type":"x","subject":"x","time":"2026-01-02T03:04:05Z"}`
