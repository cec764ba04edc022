package knative_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/knative"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/internal/testcert"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// orderRef is the data of the events in these tests.
type orderRef struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

var orderShip = event.Define(event.NewNamespace("com.example", "https://example.com/schemas/"),
	"inventory.ship", 1, event.Command, "Ship an order.", orderRef{OrderID: "o1"})

// count is the stored document of the function under test.
type count struct {
	N int `json:"n"`
}

// shop is a function that counts shipped orders, and fails with a given error.
type shop struct {
	fail    atomic.Pointer[error]
	ticks   atomic.Int64
	down    atomic.Bool
	block   chan struct{} // not nil: an operation waits for it
	entered chan struct{}

	telemetry *telemetry.Telemetry
}

func (s *shop) function(t *testing.T) *function.Function {
	t.Helper()
	opener := memory.Opener()
	f := function.New("inventory", function.Env{
		Store: func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			if s.down.Load() {
				return nil, fault.New(fault.Unavailable, "the database does not answer")
			}
			d, err := opener(ctx, name, schema)
			return committing{d}, err
		},
		Publisher: nowhere{}, Logger: slog.New(slog.DiscardHandler), Telemetry: s.telemetry,
	})
	counts := function.Collection[count](f, "counts")
	function.On(f, orderShip, func(ctx context.Context, tx *function.Tx, cmd orderRef) error {
		if err := s.fail.Load(); err != nil && *err != nil {
			return *err
		}
		c, _, err := counts.Find(ctx, tx, "all")
		if err != nil {
			return err
		}
		c.N++
		return counts.Put(ctx, tx, "all", c)
	})
	function.OnTick(f, func(context.Context, *function.Tx, time.Time) error {
		s.ticks.Add(1)
		return nil
	})
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/count", Summary: "How many", Access: function.Public,
	},
		func(ctx context.Context, tx *function.Tx, _ *struct{}) (*countOutput, error) {
			if s.block != nil {
				s.entered <- struct{}{}
				<-s.block
			}
			c, _, err := counts.Find(ctx, tx, "all")
			return &countOutput{Body: c}, err
		})
	return f
}

type countOutput struct{ Body count }

type nowhere struct{}

func (nowhere) Publish(context.Context, ...ce.Event) error { return nil }

// committing delays each commit, so that deliveries are concurrent.
type committing struct{ store.Driver }

func (c committing) Commit(ctx context.Context, b store.Batch) error {
	time.Sleep(5 * time.Millisecond)
	return c.Driver.Commit(ctx, b)
}

func ship(t *testing.T) ce.Event {
	t.Helper()
	d := orderShip.New(uuid.NewString(), orderRef{OrderID: uuid.NewString()})
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e := ce.New()
	e.SetID(uuid.NewString())
	e.SetSource("/functions/orders")
	e.SetType(d.Info.Name)
	e.SetTime(time.Now())
	if err := e.SetData(ce.ApplicationJSON, data); err != nil {
		t.Fatal(err)
	}
	return e
}

// binary returns a delivery as Knative's dispatcher sends it.
func binary(e ce.Event) *http.Request {
	r := httptest.NewRequest(http.MethodPost, knative.EventsPath, bytes.NewReader(e.Data()))
	r.Header.Set("Content-Type", e.DataContentType())
	r.Header.Set("Ce-Specversion", "1.0")
	r.Header.Set("Ce-Id", e.ID())
	r.Header.Set("Ce-Source", e.Source())
	r.Header.Set("Ce-Type", e.Type())
	r.Header.Set("Ce-Time", e.Time().Format(time.RFC3339Nano))
	return r
}

func send(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// eventually waits until ok reports true, for at most a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// ready waits until the host is ready.
func ready(t *testing.T, h *knative.Host) {
	t.Helper()
	eventually(t, "the host is ready", func() bool { return h.Ready() == nil })
}

func started(t *testing.T, s *shop, cfg knative.Config) *knative.Host {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	h := knative.New(s.function(t).Instance(), cfg)
	h.Start()
	t.Cleanup(func() {
		if err := h.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ready(t, h)
	return h
}

func counted(t *testing.T, h http.Handler, want int) {
	t.Helper()
	w := send(h, httptest.NewRequest(http.MethodGet, "/api/count", nil))
	if got, want := strings.TrimSpace(w.Body.String()), fmt.Sprintf(`{"n":%d}`, want); w.Code != http.StatusOK ||
		got != want {
		t.Errorf("got %d %s, want %s", w.Code, got, want)
	}
}

// All three modes of the HTTP binding are accepted, an event that comes twice counts once, and the response to a
// success has no body.
func TestModes(t *testing.T) {
	h := started(t, &shop{}, knative.Config{})
	e := ship(t)
	structured := func(media string, v any) *http.Request {
		data, err := marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, knative.EventsPath, bytes.NewReader(data))
		r.Header.Set("Content-Type", media)
		return r
	}
	for _, r := range []*http.Request{
		binary(e), binary(e),
		structured(ce.ApplicationCloudEventsJSON, ship(t)),
		structured(ce.ApplicationCloudEventsBatchJSON, []ce.Event{ship(t), e, ship(t)}),
	} {
		if w := send(h, r); w.Code != http.StatusOK || w.Body.Len() > 0 {
			t.Errorf("%s: got %d %s", r.Header.Get("Content-Type"), w.Code, w.Body)
		}
	}
	counted(t, h, 4)
}

// An invalid event, or one that the function does not consume, is refused for good and changes nothing.
func TestRefused(t *testing.T) {
	h := started(t, &shop{}, knative.Config{MaxBody: 4096})
	strange := ship(t)
	strange.SetType("com.example.inventory.vanish.v1")
	wrong := ship(t)
	_ = wrong.SetData(ce.ApplicationJSON, map[string]any{"order_id": 7})
	missing := binary(ship(t))
	missing.Header.Del("Ce-Id")
	large := binary(ship(t))
	large.Body, large.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 5000))), 5000
	get := binary(ship(t))
	get.Method = http.MethodGet
	for name, c := range map[string]struct {
		r    *http.Request
		want int
	}{
		"a type that nobody knows":   {binary(strange), http.StatusUnprocessableEntity},
		"data that fails its schema": {binary(wrong), http.StatusUnprocessableEntity},
		"an event without id":        {missing, http.StatusUnprocessableEntity},
		"a body over the limit":      {large, http.StatusRequestEntityTooLarge},
		"a GET":                      {get, http.StatusMethodNotAllowed},
		"no event at all": {
			httptest.NewRequest(http.MethodPost, knative.EventsPath, strings.NewReader("hello")),
			http.StatusUnsupportedMediaType,
		},
	} {
		if w := send(h, c.r); w.Code != c.want || fault.RetryableStatus(w.Code) {
			t.Errorf("%s: got %d %s, want %d", name, w.Code, w.Body, c.want)
		}
	}
	counted(t, h, 0)
}

// The kind of a failure decides the status, by the table of package fault, and a failed event is handled when it comes
// again.
func TestFailures(t *testing.T) {
	s := &shop{}
	h := started(t, s, knative.Config{})
	e := ship(t)
	for _, c := range []struct {
		err   error
		want  int
		after string
	}{
		{fault.New(fault.Invalid, "no"), http.StatusUnprocessableEntity, ""},
		{fault.New(fault.NotFound, "no"), http.StatusUnprocessableEntity, ""},
		{fault.New(fault.NotYet, "no").After(1500 * time.Millisecond), http.StatusServiceUnavailable, "2"},
		{fault.New(fault.Conflict, "no"), http.StatusConflict, ""},
		{fault.New(fault.Exhausted, "no"), http.StatusTooManyRequests, ""},
		{fault.New(fault.Unavailable, "no"), http.StatusServiceUnavailable, ""},
		{errors.New("secret"), http.StatusInternalServerError, ""},
		{nil, http.StatusOK, ""},
	} {
		s.fail.Store(&c.err)
		w := send(h, binary(e))
		if w.Code != c.want || w.Header().Get("Retry-After") != c.after || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v: got %d, Retry-After %q, %s", c.err, w.Code, w.Header().Get("Retry-After"), w.Body)
		}
	}
	counted(t, h, 1)
}

// When one of several events must be retried all of them come again, and the inbox drops the others.
func TestBatchFails(t *testing.T) {
	s := &shop{}
	h := started(t, s, knative.Config{})
	bad := ship(t)
	bad.SetType("com.example.inventory.vanish.v1")
	batch := func() *httptest.ResponseRecorder {
		data, err := marshal([]ce.Event{bad, ship(t)})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, knative.EventsPath, bytes.NewReader(data))
		r.Header.Set("Content-Type", ce.ApplicationCloudEventsBatchJSON)
		return send(h, r)
	}
	if w := batch(); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("one refused for good: got %d", w.Code)
	}
	var busy error = fault.New(fault.Unavailable, "busy")
	s.fail.Store(&busy)
	if w := batch(); w.Code != http.StatusServiceUnavailable {
		t.Errorf("one refused for good, one for now: got %d", w.Code)
	}
	counted(t, h, 1)
}

// A PingSource's event calls the tick handler.
func TestTick(t *testing.T) {
	s := &shop{}
	h := started(t, s, knative.Config{})
	e := ship(t)
	e.SetType("dev.knative.sources.ping")
	if w := send(h, binary(e)); w.Code != http.StatusOK || s.ticks.Load() != 1 {
		t.Errorf("got %d and %d ticks: %s", w.Code, s.ticks.Load(), w.Body)
	}
}

// Concurrent deliveries that change one document all count once. TestUnits shows that they share units of work.
func TestConcurrentDeliveries(t *testing.T) {
	h := started(t, &shop{}, knative.Config{})
	var all sync.WaitGroup
	for range 100 {
		r := binary(ship(t))
		all.Go(func() {
			if w := send(h, r); w.Code != http.StatusOK {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
	all.Wait()
	counted(t, h, 100)
}

// A delivery whose sender disconnects is handled completely or not at all, and does not end those of others.
func TestSenderDisconnects(t *testing.T) {
	h := started(t, &shop{}, knative.Config{})
	var all sync.WaitGroup
	for i := range 40 {
		r := binary(ship(t))
		if i%2 == 0 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond/2)
			defer cancel()
			r = r.WithContext(ctx)
		}
		all.Go(func() {
			if w := send(h, r); i%2 == 1 && w.Code != http.StatusOK {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
	all.Wait()
	w := send(h, httptest.NewRequest(http.MethodGet, "/api/count", nil))
	var n int
	if _, err := fmt.Sscanf(w.Body.String(), `{"n":%d}`, &n); err != nil || n < 20 {
		t.Errorf("got %s", w.Body)
	}
}

// A function whose store is down is alive, not ready, and refuses events; it becomes ready when the store is up.
func TestStoreDown(t *testing.T) {
	s := &shop{}
	s.down.Store(true)
	h := knative.New(s.function(t).Instance(), knative.Config{})
	h.Start()
	defer func() { _ = h.Stop(context.Background()) }()
	eventually(t, "it says why it is not ready", func() bool {
		return !strings.Contains(h.Ready().Error(), "it is starting")
	})
	status := func(path string) int { return send(h, httptest.NewRequest(http.MethodGet, path, nil)).Code }
	if live, ready := status(knative.LivenessPath), status(knative.ReadinessPath); live != http.StatusOK ||
		ready != http.StatusServiceUnavailable {
		t.Errorf("alive %d, ready %d", live, ready)
	}
	if err := h.Ready(); err == nil || !strings.Contains(err.Error(), "the database does not answer") {
		t.Errorf("got %v", err)
	}
	if w := send(h, binary(ship(t))); w.Code != http.StatusServiceUnavailable {
		t.Errorf("an event: got %d", w.Code)
	}
	s.down.Store(false)
	eventually(t, "the probe finds it ready", func() bool { return status(knative.ReadinessPath) == http.StatusOK })
}

// An image whose declaration differs from the deployed manifest never becomes ready.
func TestManifest(t *testing.T) {
	s := &shop{}
	right := s.function(t).Instance().Declaration().Function.Hash()
	started(t, s, knative.Config{Manifest: right})
	h := knative.New(s.function(t).Instance(), knative.Config{Manifest: "0123456789abcdef"})
	h.Start()
	defer func() { _ = h.Stop(context.Background()) }()
	if err := h.Ready(); err == nil || !strings.Contains(err.Error(), right) {
		t.Errorf("got %v", err)
	}
}

// At the end of Serve's context probes fail, running requests get responses, and then the store is closed.
func TestDrain(t *testing.T) {
	s := &shop{block: make(chan struct{}), entered: make(chan struct{}, 1)}
	h := knative.New(s.function(t).Instance(), knative.Config{Quiet: 50 * time.Millisecond})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	ready(t, h)
	slow := make(chan int, 1)
	go func() {
		w, err := http.Get("http://" + l.Addr().String() + "/api/count")
		if err != nil {
			t.Error(err)
			slow <- 0
			return
		}
		w.Body.Close()
		slow <- w.StatusCode
	}()
	<-s.entered
	end()
	probe := func() int {
		r := httptest.NewRequest(http.MethodGet, knative.ReadinessPath, nil)
		r.Header.Set("User-Agent", "kube-probe/1.34")
		return send(h, r).Code
	}
	eventually(t, "it is not ready while it drains", func() bool { return probe() == http.StatusServiceUnavailable })
	select {
	case err := <-served:
		t.Fatalf("it ended before its request did: %v", err)
	case <-time.After(150 * time.Millisecond):
	}
	close(s.block)
	if got := <-slow; got != http.StatusOK {
		t.Errorf("the request that ran was answered %d", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if h.Ready() == nil {
		t.Error("it is ready after its end")
	}
}

// The server supports HTTP/2 without TLS, for a port that is named h2c.
func TestH2C(t *testing.T) {
	h := knative.New((&shop{}).function(t).Instance(), knative.Config{Quiet: time.Millisecond})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	c := http.Client{Transport: &http.Transport{Protocols: &protocols}}
	w, err := c.Get("http://" + l.Addr().String() + knative.LivenessPath)
	if err != nil {
		t.Fatal(err)
	}
	w.Body.Close()
	c.CloseIdleConnections()
	if w.StatusCode != http.StatusOK || w.ProtoMajor != 2 {
		t.Errorf("got %s over %s", w.Status, w.Proto)
	}
	end()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// With a certificate the server speaks TLS, with HTTP/1.1 or HTTP/2 as the client chooses (ALPN).
func TestTLS(t *testing.T) {
	cert, key, err := testcert.Pair("shop.example", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	files := [2]string{filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")}
	for i, content := range [2][]byte{cert, key} {
		if err := os.WriteFile(files[i], content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shown, err := httpserver.OpenCertificate(files[0], files[1], slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	h := knative.New((&shop{}).function(t).Instance(), knative.Config{Quiet: time.Millisecond, Certificate: shown})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	for major, set := range map[int]func(*http.Protocols, bool){
		1: (*http.Protocols).SetHTTP1, 2: (*http.Protocols).SetHTTP2,
	} {
		var protocols http.Protocols
		set(&protocols, true)
		c := http.Client{Transport: &http.Transport{
			Protocols: &protocols, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "shop.example"},
		}}
		w, err := c.Get("https://" + l.Addr().String() + knative.LivenessPath)
		if err != nil {
			t.Errorf("HTTP/%d: %v", major, err)
			continue
		}
		w.Body.Close()
		c.CloseIdleConnections()
		if w.StatusCode != http.StatusOK || w.ProtoMajor != major {
			t.Errorf("HTTP/%d: got %s over %s", major, w.Status, w.Proto)
		}
	}
	end()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// An event type that the function does not consume has no label of its own in the metrics, and a function without a
// trigger has no path for events.
func TestUnknownEvents(t *testing.T) {
	watch, err := telemetry.Start(t.Context(), telemetry.Config{Service: "test", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{telemetry: watch}
	h := started(t, s, knative.Config{Telemetry: watch})
	strange := ship(t)
	strange.SetType("made.up.by.a.stranger")
	if got := send(h, binary(strange)).Code; got != http.StatusUnprocessableEntity {
		t.Errorf("got %d", got)
	}
	scrape := httptest.NewRequest(http.MethodGet, "http://localhost"+knative.MetricsPath, nil)
	scrape.RemoteAddr = "127.0.0.1:40000"
	metrics := send(h, scrape).Body.String()
	if !strings.Contains(metrics, "_OTHER") || strings.Contains(metrics, "stranger") {
		t.Errorf("got %s", metrics)
	}
	deaf := knative.New(
		function.New("deaf", function.Env{}).Instance(), knative.Config{Logger: slog.New(slog.DiscardHandler)},
	)
	deaf.Start()
	t.Cleanup(func() { _ = deaf.Stop(context.Background()) })
	if got := send(deaf, binary(ship(t))).Code; got != http.StatusNotFound {
		t.Errorf("deaf: got %d", got)
	}
}

// A client that sends a large request completely before it reads the response gets the refusal.
func TestRefusalCanBeRead(t *testing.T) {
	h := knative.New((&shop{}).function(t).Instance(), knative.Config{Quiet: time.Millisecond})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 8<<20)
	fmt.Fprintf(c, "POST /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", len(body))
	if n, err := c.Write(body); err != nil {
		t.Errorf("sending stopped after %d bytes: %v", n, err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 404") {
		t.Errorf("got %q, %v", answer, err)
	}
	c.Close()
	end()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
