package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/test/bench/load"
	"github.com/ebb-dev/ebb/test/shop"
)

// sink is an OTLP receiver that counts the bytes it gets and stores nothing.
type sink struct {
	*httptest.Server
	traces, metrics, logs atomic.Int64
}

func newSink() *sink {
	s := &sink{}
	receive := func(count *atomic.Int64) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			count.Add(n)
			w.Header().Set("Content-Type", "application/x-protobuf") // an empty message: everything was taken
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/traces", receive(&s.traces))
	mux.Handle("/v1/metrics", receive(&s.metrics))
	mux.Handle("/v1/logs", receive(&s.logs))
	s.Server = httptest.NewServer(mux)
	return s
}

// telemetryRounds is how often the load is run with telemetry and without it, in turns.
const telemetryRounds = 3

// telemetry measures what it costs to observe orders: traces at 10 %, metrics pushed and scraped, and log lines
// exported, against none of these.
func (b *bench) telemetry(ctx context.Context) error {
	type figures struct{ rate, cost []float64 }
	var off, on figures
	receiver := newSink()
	defer receiver.Close()
	kinds := []struct {
		into *figures
		env  []string
	}{
		{&off, []string{"EBB_LOG_LEVEL=warn"}},
		{&on, []string{
			"EBB_LOG_LEVEL=info", "OTEL_EXPORTER_OTLP_ENDPOINT=" + receiver.URL, "OTEL_METRIC_EXPORT_INTERVAL=5000",
			"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.1",
		}},
	}
	for round := range telemetryRounds {
		if round%2 == 1 {
			slices.Reverse(kinds) // so that neither always has the warmer machine
		}
		for n, kind := range kinds {
			rate, cost, err := b.observed(ctx, fmt.Sprintf("telemetry %d %d", round, n), kind.env, kind.into == &on)
			if err != nil {
				return err
			}
			kind.into.rate, kind.into.cost = append(kind.into.rate, rate), append(kind.into.cost, cost)
		}
	}
	run := fmt.Sprintf("%d customers in a closed loop for %s, %d rounds in turns, the median",
		b.customers, b.duration/4, telemetryRounds)
	b.add("orders to confirmed, telemetry off", fmt.Sprintf("%.0f/s, %.2f ms of processor", median(off.rate),
		median(off.cost)), "", run)
	b.add("orders to confirmed, telemetry on", fmt.Sprintf("%.0f/s, %.2f ms of processor", median(on.rate),
		median(on.cost)), "", fmt.Sprintf("traces at 10 %% (%d KB), metrics pushed and scraped every 5 s (%d KB), "+
		"log lines of level info (%d KB)", receiver.traces.Load()>>10, receiver.metrics.Load()>>10, receiver.logs.Load()>>10))
	b.add("cost of telemetry", fmt.Sprintf("%.1f %% of orders a second, %.1f %% of processor time an order",
		100*(1-median(on.rate)/median(off.rate)), 100*(median(on.cost)/median(off.cost)-1)), "≤ 5 %", "")
	return nil
}

func median[T time.Duration | float64](all []T) T {
	return load.Quantile(slices.Sorted(slices.Values(all)), 0.5)
}

// observed returns orders a second and milliseconds of processor time an order of a fresh shop.
func (b *bench) observed(ctx context.Context, name string, env []string, scraped bool) (rate, cost float64, err error) {
	p := &shop.Process{Env: env}
	if _, err := b.begin(ctx, name, p); err != nil {
		return 0, 0, err
	}
	defer p.Kill()
	c, err := b.crowd(ctx, p, b.customers)
	if err != nil {
		return 0, 0, err
	}
	if _, _, err := c.closed(ctx, b.customers, 3*time.Second, 0); err != nil {
		return 0, 0, err
	}
	scraping, stop := context.WithCancel(ctx)
	defer stop()
	if scraped {
		go scrape(scraping, p.URL()+"/metrics")
	}
	before := cpu(p.Pid())
	n, took, err := c.closed(ctx, b.customers, b.duration/4, 0)
	if err != nil {
		return 0, 0, err
	}
	return float64(n) / took.Seconds(), float64((cpu(p.Pid()) - before).Microseconds()) / 1000 / float64(n), nil
}

// scrape reads metrics as Prometheus does, every five seconds.
func scrape(ctx context.Context, url string) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return
		}
		r.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
		if w, err := http.DefaultClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, w.Body)
			_ = w.Body.Close()
		}
	}
}
