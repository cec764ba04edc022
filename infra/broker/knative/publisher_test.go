package knative_test

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker/knative"
	"github.com/ebb-dev/ebb/infra/fault"
)

// sink accepts events and gives scripted answers.
type sink struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int // the statuses of the next answers; then 202
	took    []http.Header
	refused int
}

func newSink(t *testing.T, answers ...int) *sink {
	t.Helper()
	s := &sink{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) > 0 {
		status := s.answers[0]
		s.answers = s.answers[1:]
		if status != http.StatusAccepted {
			s.refused++
			http.Error(w, "scripted", status)
			return
		}
	}
	s.took = append(s.took, r.Header.Clone())
	w.WriteHeader(http.StatusAccepted)
}

func (s *sink) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, h := range s.took {
		ids = append(ids, h.Get("Ce-Id"))
	}
	return ids
}

func event(id, key string) ce.Event {
	e := ce.New()
	e.SetID(id)
	e.SetSource("/functions/test")
	e.SetType("dev.ebb.test.happened.v1")
	if key != "" {
		e.SetExtension("partitionkey", key)
	}
	_ = e.SetData(ce.ApplicationJSON, map[string]string{"id": id})
	return e
}

func publisher(t *testing.T, cfg knative.Config) *knative.Publisher {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	p, err := knative.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each event arrives once, and those of one partition key in order, also when others are refused.
func TestOrder(t *testing.T) {
	s := newSink(t, http.StatusServiceUnavailable, http.StatusAccepted, http.StatusTooManyRequests)
	var all []ce.Event
	for i := range 60 {
		all = append(all, event(fmt.Sprintf("%02d", i), fmt.Sprint("key-", i%3)))
	}
	all = append(all, event("alone-1", ""), event("alone-2", ""))
	if err := publisher(t, knative.Config{Sink: s.URL}).Publish(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	ids := s.ids()
	if len(ids) != len(all) || s.refused != 2 {
		t.Fatalf("%d events of %d arrived, %d attempts were refused", len(ids), len(all), s.refused)
	}
	for key := range 3 {
		var of []string
		for _, id := range ids {
			var n int
			if _, err := fmt.Sscanf(id, "%d", &n); err == nil && n%3 == key {
				of = append(of, id)
			}
		}
		if !slices.IsSorted(of) || len(of) != 20 {
			t.Errorf("key %d: %v", key, of)
		}
	}
}

// The answer decides the kind of the error and whether Publish tries again.
func TestAnswers(t *testing.T) {
	many := func(status int) []int { return slices.Repeat([]int{status}, 20) }
	for _, c := range []struct {
		answers []int
		kind    fault.Kind
		refused int
	}{
		{many(http.StatusBadRequest), fault.Invalid, 1},
		{many(http.StatusRequestEntityTooLarge), fault.TooLarge, 1},
		{many(http.StatusServiceUnavailable), fault.Unavailable, 5},
		{many(http.StatusNotFound), fault.Unavailable, 5},
		{many(http.StatusForbidden), fault.Unavailable, 5},
	} {
		s := newSink(t, c.answers...)
		err := publisher(t, knative.Config{Sink: s.URL}).Publish(t.Context(), event("1", "k"))
		if err == nil || fault.KindOf(err) != c.kind || s.refused != c.refused || len(s.ids()) > 0 {
			t.Errorf("%d: got %v after %d attempts", c.answers[0], err, s.refused)
		}
	}
	s := newSink(t)
	s.Close()
	err := publisher(t, knative.Config{Sink: s.URL}).Publish(t.Context(), event("1", "k"))
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("without a broker: got %v", err)
	}
	if err := publisher(t, knative.Config{Sink: s.URL}).Publish(t.Context(), ce.New()); !fault.Is(err, fault.Invalid) {
		t.Errorf("no event: got %v", err)
	}
}

// Publish adds the platform's extensions and the sender's token; a missing token file is no error.
func TestPlatform(t *testing.T) {
	s := newSink(t)
	file := filepath.Join(t.TempDir(), "token")
	overrides, err := knative.Overrides(`{"extensions":{"tenant":"a b"}}`)
	if err != nil {
		t.Fatal(err)
	}
	without := publisher(t, knative.Config{Sink: s.URL, TokenFile: file})
	if err := without.Publish(t.Context(), event("1", "k")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := event("2", "k")
	cfg := knative.Config{Sink: s.URL, TokenFile: file, Overrides: overrides}
	if err := publisher(t, cfg).Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if _, changed := e.Extensions()["tenant"]; changed {
		t.Error("the caller's event was changed")
	}
	if h := s.took[0]; h.Get("Authorization") != "" || h.Get("Ce-Tenant") != "" {
		t.Errorf("without: got %v", h)
	}
	if h := s.took[1]; h.Get("Authorization") != "Bearer secret" || h.Get("Ce-Tenant") != "a%20b" {
		t.Errorf("with: got %v", h)
	}
}

// A sink with a certificate of the cluster's own authority is trusted only with K_CA_CERTS.
func TestAuthority(t *testing.T) {
	s := &sink{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	defer s.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	trusting := publisher(t, knative.Config{Sink: s.URL, CACerts: string(ca)})
	if err := trusting.Publish(t.Context(), event("1", "k")); err != nil {
		t.Error(err)
	}
	err := publisher(t, knative.Config{Sink: s.URL}).Publish(t.Context(), event("2", "k"))
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("an unknown authority: got %v", err)
	}
	if ids := s.ids(); !slices.Equal(ids, []string{"1"}) {
		t.Errorf("got %v", ids)
	}
}

// New and Overrides refuse invalid values of the platform's variables.
func TestConfig(t *testing.T) {
	for _, sink := range []string{"", "broker", "ftp://x", "http://"} {
		if _, err := knative.New(knative.Config{Sink: sink}); err == nil || !strings.Contains(err.Error(), "sink") {
			t.Errorf("sink %q: got %v", sink, err)
		}
	}
	if _, err := knative.New(knative.Config{Sink: "http://x", CACerts: "nonsense"}); err == nil {
		t.Error("invalid certificates are accepted")
	}
	for _, text := range []string{"x", `{"extensions":{"Not Valid":"x"}}`, `{"extensions":7}`} {
		if _, err := knative.Overrides(text); err == nil {
			t.Errorf("overrides %s are accepted", text)
		}
	}
	if o, err := knative.Overrides(""); err != nil || len(o) > 0 {
		t.Errorf("none: got %v, %v", o, err)
	}
}
