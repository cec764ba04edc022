// Package local_test runs the whole shop on the local host.
package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// shopHost is a host with every function of the shop, behind a real server.
type shopHost struct {
	testing.TB
	*local.Host
	url       string
	publisher broker.Publisher // of the host: it takes events that no function emits
}

const (
	adminEmail    = "admin@example.com"
	adminPassword = "correct horse"
)

func start(t testing.TB, dir string, idle time.Duration, spans ...sdktrace.SpanExporter) *shopHost {
	t.Helper()
	return startWith(t, func(*local.Config) {}, dir, idle, spans...)
}

// startWith starts a host whose configuration is changed first.
func startWith(
	t testing.TB, change func(*local.Config), dir string, idle time.Duration, spans ...sdktrace.SpanExporter,
) *shopHost {
	t.Helper()
	watched := telemetry.Config{
		Service: "test", Log: io.Discard, Lookup: config.Map(map[string]string{"EBB_LOG_FORMAT": "json"}),
	}
	for _, exporter := range spans {
		watched.Spans = exporter
	}
	watch, err := telemetry.Start(context.Background(), watched)
	if err != nil {
		t.Fatal(err)
	}
	s := &shopHost{TB: t}
	shop := functions.System()
	shop.Functions = append(shop.Functions, system.Definition{Name: "stranger", New: s.stranger})
	cfg := local.Config{
		Dir: dir, Idle: idle, Tick: 100 * time.Millisecond, Telemetry: watch, System: shop,
		Claims: local.Claims{Issuer: "ebb", Audience: "ebb"},
		Secrets: map[string]config.Lookup{"users": config.Map(map[string]string{
			"EBB_ADMIN_EMAIL": adminEmail, "EBB_ADMIN_PASSWORD": adminPassword,
		})},
	}
	change(&cfg)
	host, err := local.New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(host.Handler())
	s.Host, s.url = host, server.URL
	t.Cleanup(func() {
		server.Close()
		s.stop()
		_ = watch.Shutdown(context.Background())
	})
	return s
}

// stranger is a function that declares nothing and tells the test the publisher of the host.
func (s *shopHost) stranger(env function.Env) (*function.Function, error) {
	s.publisher = env.Publisher
	return function.New("stranger", env), nil
}

func (s *shopHost) stop() {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		s.Error(err)
	}
}

// call returns the status of the response and decodes the body into out.
func (s *shopHost) call(method, path, token string, in, out any) int {
	s.Helper()
	data, err := json.Marshal(in)
	if err != nil {
		s.Fatal(err)
	}
	r, err := http.NewRequest(method, s.url+path, bytes.NewReader(data))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", fmt.Sprint(time.Now().UnixNano()))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.Fatal(err)
	}
	if answer.StatusCode >= 400 {
		s.Logf("%s %s: %d %s", method, path, answer.StatusCode, body)
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			s.Fatalf("%s %s: %d %s: %v", method, path, answer.StatusCode, body, err)
		}
	}
	return answer.StatusCode
}

func (s *shopHost) must(method, path, token string, in, out any) {
	s.Helper()
	if status := s.call(method, path, token, in, out); status >= 300 {
		s.Fatalf("%s %s: %d", method, path, status)
	}
}

func (s *shopHost) signIn(email, password string) string {
	s.Helper()
	var session struct {
		Token string `json:"access_token"`
	}
	s.must("POST", "/api/sessions", "", map[string]string{"email": email, "password": password}, &session)
	return session.Token
}

// customer makes a product with some stock, and a customer who is signed in.
func (s *shopHost) customer() (product, customer string) {
	s.Helper()
	admin := s.signIn(adminEmail, adminPassword)
	var made struct {
		ID string `json:"id"`
	}
	s.must("POST", "/api/products", admin,
		map[string]any{"name": "Tide table", "price": map[string]any{"amount": 1250, "currency": "EUR"}}, &made)
	s.must("PUT", "/api/stock/"+made.ID, admin, map[string]any{"available": 10}, nil)
	return made.ID, s.register()
}

// register makes a customer and returns their token.
func (s *shopHost) register() (customer string) {
	s.Helper()
	ada := map[string]string{"name": "Ada", "email": "ada@example.com", "password": "a countess counts"}
	s.must("POST", "/api/users", "", ada, nil)
	return s.signIn("ada@example.com", "a countess counts")
}

type order struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Reason string `json:"reason"`
}

// place orders one of the product, as soon as orders has heard of it.
func (s *shopHost) place(product, customer string) order {
	s.Helper()
	return s.placeWith(product, customer, 1, "tok_ok")
}

// placeWith orders a quantity of the product, and pays with a token of the sandbox.
func (s *shopHost) placeWith(product, customer string, quantity int, token string) (o order) {
	s.Helper()
	in := map[string]any{
		"lines":   []any{map[string]any{"product_id": product, "quantity": quantity}},
		"payment": map[string]string{"token": token},
	}
	s.within(10*time.Second, "the order is taken", func() bool {
		return s.call("POST", "/api/orders", customer, in, &o) == http.StatusAccepted
	})
	return o
}

func (s *shopHost) confirmed(id, customer string) {
	s.Helper()
	var o order
	s.within(15*time.Second, "the order is confirmed", func() bool {
		s.must("GET", "/api/orders/"+id, customer, nil, &o)
		return o.Status != "pending"
	})
	if o.Status != "confirmed" {
		s.Errorf("the order is %s: %s", o.Status, o.Reason)
	}
}

func (s *shopHost) within(d time.Duration, what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not within %v: %s", d, what)
		}
	}
}

// An order is confirmed although its functions are dropped all the time, and its customer sees all of it.
func TestAnOrderIsConfirmed(t *testing.T) {
	s := start(t, t.TempDir(), 50*time.Millisecond)
	product, customer := s.customer()
	s.confirmed(s.place(product, customer).ID, customer)

	var stock struct {
		Available int `json:"available"`
	}
	s.must("GET", "/api/stock/"+product, "", nil, &stock)
	if stock.Available != 9 {
		t.Errorf("%d are available, want 9", stock.Available)
	}
	s.within(10*time.Second, "orders is at zero", func() bool { return !s.Running("orders") })
	s.within(10*time.Second, "GET /api/me has the order", func() bool {
		var me struct {
			Missing []string `json:"missing"`
			Orders  struct {
				Items []order `json:"items"`
			} `json:"orders"`
		}
		s.must("GET", "/api/me", customer, nil, &me)
		return len(me.Missing) == 0 && len(me.Orders.Items) == 1
	})
}

// What a function cannot take is found in the archive, where it can be mended and sent again.
func TestDeadLetters(t *testing.T) {
	s := start(t, t.TempDir(), 200*time.Millisecond)
	admin := s.signIn(adminEmail, adminPassword)
	e := ce.New()
	e.SetID("01920000-0000-7000-8000-00000000dead")
	e.SetSource("/functions/catalog")
	e.SetType(events.ProductChanged.Name())
	e.SetSubject("p-1")
	e.SetTime(time.Now())
	e.SetExtension("partitionkey", "p-1")
	if err := e.SetData(event.ContentType, map[string]any{"product_id": "p-1"}); err != nil {
		t.Fatal(err)
	}
	if err := s.publisher.Publish(context.Background(), e); err != nil {
		t.Fatal(err)
	}
	type letter struct {
		ID, Function, Code string
	}
	var page struct{ Items []letter }
	waiting := func() map[string]letter {
		t.Helper()
		page.Items = nil
		s.must("GET", "/api/archive/dead-letters", admin, nil, &page)
		found := map[string]letter{}
		for _, l := range page.Items {
			found[l.Function] = l
		}
		return found
	}
	s.within(10*time.Second, "orders and views have dead letters", func() bool {
		w := waiting()
		return w["orders"].ID != "" && w["views"].ID != ""
	})
	l := waiting()["orders"]
	if l.Code != "422" {
		t.Errorf("the code is %q", l.Code)
	}
	good := map[string]any{"data": map[string]any{
		"product_id": "p-1", "name": "Tide table", "version": 1,
		"price": map[string]any{"amount": 1, "currency": "EUR"},
	}}
	path := "/api/archive/dead-letters/" + l.ID
	s.must("PUT", path, admin, good, nil)
	s.must("POST", path+"/replay", admin, nil, nil)
	customer := s.register()
	s.place("p-1", customer) // which only succeeds once orders has heard of the product
	if _, again := waiting()["orders"]; again {
		t.Error("it is a dead letter again")
	}
}
