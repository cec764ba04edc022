package conformance_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/conformance"
	"github.com/ebb-dev/ebb/infra/broker/front"
	"github.com/ebb-dev/ebb/infra/broker/memory"
	"github.com/ebb-dev/ebb/infra/broker/nats"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// stand puts a broker behind a front, and that behind a server.
func stand(t *testing.T, b broker.Broker, cfg front.Config, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	cfg.Logger = quiet
	f, err := front.New(t.Context(), b, cfg)
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
	return memory.New(memory.WithMaxEvent(1<<20+front.Headroom), memory.WithLogger(quiet))
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

// Our brokers hold every sentence, through the front.
func TestOurBrokersConform(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) broker.Broker{
		"memory": func(*testing.T) broker.Broker { return inMemory() },
		"nats": func(t *testing.T) broker.Broker {
			b, err := nats.Open(t.Context(), nats.Config{Dir: t.TempDir(), MaxEvent: 1<<20 + front.Headroom, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := try(t, conformance.Config{URL: stand(t, open(t), front.Config{}, nil)})
			if n := report.Count(conformance.Held); n != len(conformance.Cases()) {
				t.Errorf("%d of %d cases held:\n%s", n, len(conformance.Cases()), text(report))
			}
			t.Log(report.Took)
		})
	}
}
