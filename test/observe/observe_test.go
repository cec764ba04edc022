// Package observe_test reads what a shop tells Jaeger and Prometheus.
package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// checkout is the folder of the repository.
const checkout = "../.."

// need skips the test when a tool is neither in bin/ nor on the PATH.
func need(t *testing.T, name, how string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(checkout, "bin", name)); err == nil {
		return
	}
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("this needs %s: %s", name, how)
	}
}

// observed is what make observe has started.
type observed struct {
	*testing.T
	shop, jaeger, prometheus string // addresses

	mu  sync.Mutex
	out bytes.Buffer
}

// Write collects what is printed.
func (o *observed) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out.Write(b)
}

func (o *observed) address() string {
	o.Helper()
	addr, err := shop.FreeAddress()
	if err != nil {
		o.Fatal(err)
	}
	return addr
}

// start runs the script of make observe at free addresses, until the test ends.
func start(t *testing.T, more ...string) *observed {
	t.Helper()
	need(t, "jaeger", "make jaeger")
	need(t, "prometheus", "install prometheus")
	dir := t.TempDir()
	binary, err := shop.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := &observed{T: t}
	o.shop, o.jaeger, o.prometheus = o.address(), o.address(), o.address()
	script := exec.Command(filepath.Join(checkout, ".ci", "observe"), "--data", filepath.Join(dir, "data"))
	script.Env = append(os.Environ(), "EBB="+binary, "EBB_ADDR="+o.shop, "OBSERVE_JAEGER="+o.jaeger,
		"OBSERVE_PROMETHEUS="+o.prometheus, "OBSERVE_OTLP="+o.address(), "OBSERVE_DATA="+filepath.Join(dir, "observe"),
		"OBSERVE_INTERVAL=1s", "OTEL_BSP_SCHEDULE_DELAY=100",
		"EBB_ADMIN_EMAIL="+shop.AdminEmail, "EBB_ADMIN_PASSWORD="+shop.AdminPassword)
	script.Env = append(script.Env, more...)
	script.Stdout, script.Stderr = o, o
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = script.Process.Signal(syscall.SIGTERM)
		if err := script.Wait(); err != nil {
			t.Errorf("the script ended with %v", err)
		}
		if t.Failed() {
			o.mu.Lock()
			defer o.mu.Unlock()
			t.Logf("it printed:\n%s", &o.out)
		}
	})
	o.until("the shop is ready", func() bool { return o.get(o.shop, "/readyz", nil) })
	return o
}

// until calls a condition until it holds.
func (o *observed) until(what string, holds func() bool) {
	o.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			o.Fatalf("it did not come to this: %s", what)
		}
	}
}

// get decodes an answer into out, and reports whether there is one with status 200.
func (o *observed) get(addr, path string, out any) bool {
	o.Helper()
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		return false
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return false
	}
	if out != nil {
		if err := json.NewDecoder(r.Body).Decode(out); err != nil {
			o.Fatalf("%s: %v", path, err)
		}
	}
	return true
}

// query returns the values of a query to Prometheus by the labels that are named.
func (o *observed) query(q string, labels ...string) map[string]string {
	o.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	o.get(o.prometheus, "/api/v1/query?query="+url.QueryEscape(q), &answer)
	values := map[string]string{}
	for _, r := range answer.Data.Result {
		var key []string
		for _, name := range labels {
			key = append(key, r.Metric[name])
		}
		values[strings.Join(key, " ")] = fmt.Sprint(r.Value[1])
	}
	return values
}

// span is a span in Jaeger's API.
type span struct {
	SpanID        string
	OperationName string
	References    []struct{ RefType, SpanID string }
	Tags          []struct {
		Key   string
		Value any
	}
}

func (s span) tag(name string) string {
	for _, t := range s.Tags {
		if t.Key == name {
			return fmt.Sprint(t.Value)
		}
	}
	return ""
}

// order places an order in a trace, and waits until it is confirmed.
func (o *observed) order(ctx context.Context, traceID string) {
	o.Helper()
	c := shop.NewClient("http://"+o.shop, 4)
	admin, err := c.Login(ctx, shop.AdminEmail, shop.AdminPassword)
	if err != nil {
		o.Fatal(err)
	}
	product, err := c.AddProduct(ctx, admin, "observed", 100, 10)
	if err != nil {
		o.Fatal(err)
	}
	customer, err := c.Register(ctx, "observer")
	if err != nil {
		o.Fatal(err)
	}
	var placed shop.Order
	in := map[string]any{
		"lines": []shop.Line{{ProductID: product, Quantity: 1}}, "payment": map[string]string{"token": "tok_ok"},
	}
	o.until("the order is accepted", func() bool {
		return c.Do(ctx, "POST", "/api/orders", customer.Token, in, &placed, "Idempotency-Key", "observed",
			"Traceparent", "00-"+traceID+"-00f067aa0ba902b7-01") == nil
	})
	if placed, err = c.AwaitOrder(ctx, customer, placed.ID); err != nil || placed.Status != "confirmed" {
		o.Fatalf("the order is %+v: %v", placed, err)
	}
}

// An order is one trace in Jaeger, over all functions, and its requests and events are in Prometheus.
func TestObserve(t *testing.T) {
	o := start(t)
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	o.order(t.Context(), traceID)

	want := []string{
		"POST /api/orders", "publish dev.ebb.orders.placed.v1", "process dev.ebb.orders.placed.v1",
		"process dev.ebb.inventory.reserve.v1", "process dev.ebb.payments.capture.v1", "call capture",
		"publish dev.ebb.orders.confirmed.v1", "process dev.ebb.orders.confirmed.v1",
	}
	var spans []span
	o.until("the trace is whole", func() bool {
		var answer struct{ Data []struct{ Spans []span } }
		if !o.get(o.jaeger, "/api/traces/"+traceID, &answer) || len(answer.Data) != 1 {
			return false
		}
		spans = answer.Data[0].Spans
		for _, name := range want {
			if !slices.ContainsFunc(spans, func(s span) bool { return s.OperationName == name }) {
				return false
			}
		}
		return true
	})
	byID := map[string]span{}
	for _, s := range spans {
		byID[s.SpanID] = s
	}
	for _, s := range spans {
		eventType, delivered := strings.CutPrefix(s.OperationName, "process ")
		if !delivered {
			continue
		}
		for _, r := range s.References {
			if from, ok := byID[r.SpanID]; ok && from.OperationName != "publish "+eventType {
				t.Errorf("%s refers to %s", s.OperationName, from.OperationName)
			}
		}
		for name, want := range map[string]string{
			"span.kind": "consumer", "cloudevents.event_type": eventType, "messaging.operation.type": "process",
			"faas.trigger": "pubsub",
		} {
			if got := s.tag(name); got != want {
				t.Errorf("%s has %s = %q, want %q", s.OperationName, name, got, want)
			}
		}
	}

	o.until("the request is in Prometheus", func() bool {
		got := o.query(`http_server_request_duration_seconds_count{http_route="/api/orders",http_request_method="POST",`+
			`http_response_status_code="202"}`, "function")
		return got["gateway"] != "" && got["orders"] != ""
	})
	o.until("the deliveries are in Prometheus", func() bool {
		got := o.query(`messaging_process_duration_seconds_count{messaging_destination_name="dev.ebb.orders.confirmed.v1"}`,
			"function")
		return got["views"] != "" && got["notifications"] != ""
	})
	o.until("the order's age is in Prometheus", func() bool {
		return o.query(`ebb_order_age_seconds_count{outcome="confirmed"}`, "outcome")["confirmed"] == "1"
	})
	o.until("exemplars are in Prometheus", func() bool {
		var answer struct {
			Data []struct {
				Exemplars []struct{ Labels map[string]string }
			}
		}
		q := url.Values{"query": {"http_server_request_duration_seconds_bucket"}}
		q.Set("start", fmt.Sprint(time.Now().Add(-time.Hour).Unix()))
		q.Set("end", fmt.Sprint(time.Now().Add(time.Hour).Unix()))
		if !o.get(o.prometheus, "/api/v1/query_exemplars?"+q.Encode(), &answer) {
			return false
		}
		for _, series := range answer.Data {
			for _, e := range series.Exemplars {
				if e.Labels["trace_id"] == traceID {
					return true
				}
			}
		}
		return false
	})
}
