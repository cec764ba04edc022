package conformance_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/conformance"
	"github.com/ebb-dev/ebb/infra/broker/httpapi"
	"github.com/ebb-dev/ebb/infra/broker/memory"
	"github.com/ebb-dev/ebb/infra/broker/nats"
	_ "github.com/ebb-dev/ebb/infra/broker/nats/embedded"
	"github.com/ebb-dev/ebb/infra/fault"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// startBroker serves a broker over HTTP and returns its URL.
func startBroker(t *testing.T, b broker.Broker, cfg httpapi.Config, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	cfg.Logger = quiet
	f, err := httpapi.New(t.Context(), b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = f
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		f.Close(context.Background())
		s.Close()
		b.Close(context.Background())
	})
	return s.URL
}

func inMemory() broker.Broker {
	return memory.New(memory.WithMaxEvent(1<<20+httpapi.Headroom), memory.WithLogger(quiet))
}

func try(t *testing.T, cfg conformance.Config) *conformance.Report {
	t.Helper()
	if cfg.Triggers == nil {
		cfg.Triggers = &conformance.SubscriptionsAPI{URL: cfg.URL + "/subscriptions", Header: cfg.Header}
	}
	report, err := conformance.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func text(r *conformance.Report) string {
	var b strings.Builder
	r.WriteText(&b)
	return b.String()
}

// Ebb's brokers pass every case, through httpapi.
func TestOurBrokersConform(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) broker.Broker{
		"memory": func(*testing.T) broker.Broker { return inMemory() },
		"nats": func(t *testing.T) broker.Broker {
			b, err := nats.Open(t.Context(), nats.Config{Dir: t.TempDir(), MaxEvent: 1<<20 + httpapi.Headroom, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := try(t, conformance.Config{URL: startBroker(t, open(t), httpapi.Config{}, nil)})
			if n := report.Count(conformance.Held); n != len(conformance.Cases()) {
				t.Errorf("%d of %d cases held:\n%s", n, len(conformance.Cases()), text(report))
			}
			t.Log(report.Took)
		})
	}
}

// An interrupted run returns the results so far and counts no unfinished case as failed.
func TestInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	url := startBroker(t, inMemory(), httpapi.Config{}, nil)
	report, err := conformance.Run(ctx, conformance.Config{
		URL: url, Triggers: &conformance.SubscriptionsAPI{URL: url +
			"/subscriptions"}, Parallel: 2, Only: regexp.MustCompile("^(ingress|retry)-"),
		Observe: func(r conformance.Result) {
			if strings.HasPrefix(r.ID, "ingress-") && r.Outcome == conformance.Held {
				interrupt()
			}
		},
	})
	if !errors.Is(err, context.Canceled) || report == nil {
		t.Fatalf("got %v, %v", report, err)
	}
	held, skipped := report.Count(conformance.Held), report.Count(conformance.Skipped)
	if held == 0 || skipped == 0 || held+skipped != len(report.Results) ||
		!strings.Contains(text(report), "the run ended before it") {
		t.Errorf("got %s", text(report))
	}
}

// A case that needs a missing feature is skipped, and the report gives the reason. No other case is skipped.
func TestSkippedCasesAreReported(t *testing.T) {
	seen := 0
	report := try(t, conformance.Config{
		URL: startBroker(t, inMemory(), httpapi.Config{},
			nil), Only: regexp.MustCompile("^(batch|reply-prefer|retry-after-429|cesql-equal)"),
		Without: map[conformance.Feature]string{conformance.Batch: "too small", conformance.RetryAfter: "too fast"},
		With:    []conformance.Feature{conformance.RetryAfter},
		Observe: func(conformance.Result) { seen++ },
	})
	got := text(report)
	for _, want := range []string{
		"skip  a batch is accepted", "needs batch: too small", "ok    429 with Retry-After", "6 cases, 4 held, 0 failed, 2 " +
			"skipped",
		"CESQL 1.0\n", "[should]",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if seen != len(report.Results) || !report.OK() {
		t.Errorf("%d of %d results were observed, ok %v", seen, len(report.Results), report.OK())
	}
}

// The report shows for a failure what was expected and what was seen, in text and in JSON.
func TestFailuresAreReported(t *testing.T) {
	m := mutants["takes GET for a good request"]
	report := try(t, conformance.Config{URL: startBroker(t, inMemory(), httpapi.Config{}, m.wrap),
		Only: regexp.MustCompile("^ingress-methods$")})
	if got := text(report); report.OK() || !strings.Contains(got, "FAIL  a produce request") ||
		!strings.Contains(got, "expected: GET answers 405") || !strings.Contains(got, "seen:     200") {
		t.Errorf("the report is\n%s", got)
	}
	var b strings.Builder
	if err := report.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var out struct {
		Failed  int
		Results []struct {
			ID      string
			Outcome string
			Faults  []conformance.Failure
		}
	}
	if err := json.Unmarshal([]byte(b.String()), &out); err != nil || out.Failed != 1 ||
		out.Results[0].Outcome != "FAIL" || len(out.Results[0].Faults) != 1 {
		t.Errorf("%v: %s", err, &b)
	}
}

// Requests to the ingress and to the Subscriptions API carry the token.
func TestToken(t *testing.T) {
	const token = "sesame-sesame-sesame"
	report := try(t, conformance.Config{
		URL: startBroker(t, inMemory(), httpapi.Config{Token: token}, nil), Header: http.Header{"Authorization": {"Bearer " +
			token}},
		Only: regexp.MustCompile("^(ingress-binary|api-)"),
	})
	if !report.OK() {
		t.Error(text(report))
	}
}

// When nothing can be tested, Run returns an error and no report.
func TestNothingToTest(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	api := &conformance.SubscriptionsAPI{}
	for name, c := range map[string]struct {
		cfg  conformance.Config
		want fault.Kind
	}{
		"no server":   {conformance.Config{URL: s.URL, Triggers: api}, fault.Unavailable},
		"no URL":      {conformance.Config{Triggers: api}, fault.Invalid},
		"no HTTP":     {conformance.Config{URL: "amqp://x", Triggers: api}, fault.Invalid},
		"no triggers": {conformance.Config{URL: s.URL}, fault.Invalid},
		"no address":  {conformance.Config{URL: s.URL, Triggers: api, Listen: "nowhere:x"}, fault.Unavailable},
	} {
		if _, err := conformance.Run(t.Context(), c.cfg); !fault.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Ids are unique and short enough for names, and every case has a section, a level and a sentence.
func TestCases(t *testing.T) {
	ids := map[string]bool{}
	for _, c := range conformance.Cases() {
		if ids[c.ID] || !regexp.MustCompile(`^[a-z0-9-]{3,45}$`).MatchString(c.ID) || c.Section == "" || c.Sentence == "" ||
			c.Level == "" {
			t.Errorf("%+v", c)
		}
		ids[c.ID] = true
	}
}
