package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/httpapi"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

// The suite in infra/broker/conformance tests what a Handler does with events. These tests cover the rest.

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func open(t *testing.T, log *memory.Log, cfg httpapi.Config) (*httpapi.Handler, broker.Broker) {
	t.Helper()
	b := memory.Open(log, memory.WithLogger(quiet))
	cfg.Logger = quiet
	f, err := httpapi.New(t.Context(), b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, f, b) })
	return f, b
}

func shut(t *testing.T, f *httpapi.Handler, b broker.Broker) {
	t.Helper()
	if err := f.Close(context.Background()); err != nil {
		t.Error(err)
	}
	b.Close(context.Background())
}

func call(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const anEvent = `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`

const structured = "application/cloudevents+json"

// With a token, a request without it is refused.
func TestToken(t *testing.T) {
	f, _ := open(t, memory.NewLog(), httpapi.Config{Token: "sesame-sesame-sesame"})
	for name, c := range map[string]struct {
		header []string
		want   int
	}{
		"none":         {nil, 401},
		"another":      {[]string{"Authorization", "Bearer sesame"}, 401},
		"another kind": {[]string{"Authorization", "Basic sesame-sesame-sesame"}, 401},
		"the right":    {[]string{"Authorization", "Bearer sesame-sesame-sesame"}, 200},
	} {
		w := call(f, "GET", "/subscriptions", "", c.header...)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
	}
	if w := call(f, "POST", "/", anEvent, "Content-Type", structured); w.Code != 401 ||
		w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("an event without a token: %d %s", w.Code, w.Header())
	}
}

// A web page in a browser cannot use a broker on loopback.
func TestOtherOriginsAreRefused(t *testing.T) {
	f, _ := open(t, memory.NewLog(), httpapi.Config{})
	sub := `{"sink":"http://127.0.0.1:1/","protocol":"HTTP"}`
	if w := call(f, "POST", "/subscriptions", sub, "Sec-Fetch-Site", "cross-site"); w.Code != 403 {
		t.Errorf("a cross-site request: %d, want 403", w.Code)
	}
	if w := call(f, "POST", "/subscriptions", sub, "Content-Type", "text/plain"); w.Code != 415 {
		t.Errorf("a request that needs no preflight: %d, want 415", w.Code)
	}
}

// A page whose own host name resolves to loopback (DNS rebinding) can neither read nor subscribe.
func TestOtherHostsAreRefused(t *testing.T) {
	plain, _ := open(t, memory.NewLog(), httpapi.Config{Loopback: true})
	named, _ := open(t, memory.NewLog(), httpapi.Config{Loopback: true, Hosts: []string{"broker.example"}})
	for _, c := range []struct {
		f    *httpapi.Handler
		host string
		want int
	}{
		{plain, "127.0.0.1:8081", 201}, {plain, "localhost:8081", 201}, {plain, "evil.example:8081", 421},
		{plain, "broker.example", 421},
		{named, "broker.example", 201}, {named, "evil.example", 421},
	} {
		r := httptest.NewRequest("POST", "/subscriptions",
			strings.NewReader(`{"sink":"http://127.0.0.1:1/","protocol":"HTTP"}`))
		r.Host = c.host
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		if c.f.ServeHTTP(w, r); w.Code != c.want || c.want == 421 &&
			w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %d %s, want %d", c.host, w.Code, w.Body, c.want)
		}
	}
}

// A subscription survives a restart, and the events published meanwhile are delivered.
func TestSubscriptionsSurviveRestart(t *testing.T) {
	got := make(chan string, 10)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		got <- r.Header.Get("Ce-Id")
	}))
	defer sink.Close()
	log, file := memory.NewLog(), filepath.Join(t.TempDir(), "subscriptions.json")
	f, b := open(t, log, httpapi.Config{File: file})
	w := call(f, "POST", "/subscriptions",
		`{"sink":"`+sink.URL+`","protocol":"HTTP","filters":[{"sql":"id = '1'"}],`+
			`"config":{"retry":3,"backoffDelay":"PT0.1S"}}`)
	if w.Code != 201 {
		t.Fatal(w.Code, w.Body)
	}
	before := call(f, "GET", w.Header().Get("Location"), "").Body.String()
	shut(t, f, b)
	f, _ = open(t, log, httpapi.Config{File: file})
	if after := call(f, "GET", w.Header().Get("Location"), "").Body.String(); after != before ||
		!strings.Contains(after, `"sql"`) {
		t.Errorf("after the restart\n%s, before\n%s", after, before)
	}
	if w := call(f, "POST", "/", anEvent, "Content-Type", structured); w.Code != 202 {
		t.Fatal(w.Code, w.Body)
	}
	select {
	case <-got:
	case <-time.After(10 * time.Second):
		t.Fatal("no delivery after the restart")
	}
	if w := call(f, "DELETE", w.Header().Get("Location"), ""); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	if text, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(text)) != "[]" {
		t.Errorf("a deleted subscription is still stored: %s, %v", text, err)
	}
}

// New returns an error when the file of subscriptions is invalid.
func TestInvalidFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subscriptions.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := memory.New(memory.WithLogger(quiet))
	defer b.Close(context.Background())
	if _, err := httpapi.New(t.Context(), b, httpapi.Config{File: file}); err == nil {
		t.Error("New accepted the file")
	}
}

// The answer names every mistake of a subscription.
func TestBadSubscription(t *testing.T) {
	f, _ := open(t, memory.NewLog(), httpapi.Config{})
	w := call(f, "POST", "/subscriptions",
		`{"sink":"here","protocol":"AMQP","filters":[{"regex":{}}],"config":{"retry":-1,"backoffPolicy":"x",`+
			`"deadLetterSink":{"uri":""}}}`)
	for _, want := range []string{"sink", "protocol", "filters[0]", "config.retry", "config.backoffPolicy",
		"config.deadLetterSink.uri"} {
		if !strings.Contains(w.Body.String(), `"location":"`+want+`"`) {
			t.Errorf("%s is not in %s", want, w.Body)
		}
	}
	for _, text := range []string{``, `{`, `{} {}`, `{"unknown":1}`, `{"config":{"timeout":"1s"}}`,
		`{"config":{"timeout":1}}`} {
		if w := call(f, "POST", "/subscriptions", text); w.Code != 400 {
			t.Errorf("%s: %d, want 400", text, w.Code)
		}
	}
}

// A sink that never answers does not delay the deletion of its subscription.
func TestHangingSink(t *testing.T) {
	called, release := make(chan struct{}), make(chan struct{})
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(called); <-release }))
	defer sink.Close()
	defer close(release)
	f, _ := open(t, memory.NewLog(), httpapi.Config{})
	w := call(f, "POST", "/subscriptions", `{"sink":"`+sink.URL+`","protocol":"HTTP"}`)
	call(f, "POST", "/", anEvent, "Content-Type", structured)
	<-called
	began := time.Now()
	if w := call(f, "DELETE", w.Header().Get("Location"), ""); w.Code != 200 {
		t.Error(w.Code, w.Body)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("deleting took %v", took)
	}
}

// Durations are those of ISO 8601 without years and months.
func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT0S": 0, "PT1S": time.Second, "PT0.25S": 250 * time.Millisecond, "PT0,5S": 500 * time.Millisecond,
		"PT1M30S": 90 * time.Second,
		"PT2H":    2 * time.Hour, "P1D": 24 * time.Hour, "P1W": 7 * 24 * time.Hour, "P1DT1S": 24*time.Hour + time.Second,
	} {
		got, err := httpapi.ParseDuration(text)
		if err != nil || time.Duration(got) != want {
			t.Errorf("%s: %v, %v, want %v", text, time.Duration(got), err, want)
		}
		var again httpapi.Duration
		written, _ := json.Marshal(got)
		if err := json.Unmarshal(written, &again); err != nil || again != got {
			t.Errorf("%s is encoded as %s and decoded as %v, %v", text, written, time.Duration(again), err)
		}
	}
	for _, text := range []string{"", "P", "PT", "1S", "PT1", "P1Y", "P1M", "-PT1S", "PT-1S", "PT1S ", "PT1H1D", "P1DT",
		"PT9999999999H"} {
		if got, err := httpapi.ParseDuration(text); err == nil {
			t.Errorf("%q: %v, want an error", text, time.Duration(got))
		}
	}
}
