package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/test/bench/load"
	"github.com/ebb-dev/ebb/test/shop"
)

const (
	idleConnections = 10_000
	manyConnections = 512                   // in an overload
	slowWorkers     = 4                     // of the upstream that is overloaded
	slowTime        = 10 * time.Millisecond // that each of its requests takes
)

// numbered returns a function that returns requests that are all different: the gateway would have requests for the
// same thing share an answer.
func numbered(addr, path string) func() []byte {
	var n atomic.Int64
	return func() []byte {
		return fmt.Appendf(nil, "GET %s%d HTTP/1.1\r\nHost: %s\r\n\r\n", path, n.Add(1), addr)
	}
}

// upstreamOf is an upstream in this process: it answers at once, and for ?slow by one of few workers.
func upstreamOf() *httptest.Server {
	workers := make(chan bool, slowWorkers)
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("slow") {
			workers <- true
			time.Sleep(slowTime)
			<-workers
		}
		_, _ = io.WriteString(w, `{"items":[]}`)
	}))
}

// gateway measures what the gateway adds to a request, what idle connections cost, and an overload.
func (b *bench) gateway(ctx context.Context) error {
	upstream := upstreamOf()
	defer upstream.Close()
	file := filepath.Join(b.dir, "gateway.yaml")
	err := os.WriteFile(file, fmt.Appendf(nil, `
upstreams: {bench: ["%s"]}
operations:
  GET /api/products: {cache: {ttl: 0s}, adaptive: true, split: [{function: bench}]}
  "GET /api/products/{id}": {cache: {ttl: 0s}, split: [{function: bench}]}
`, upstream.URL), 0o600)
	if err != nil {
		return err
	}
	p := &shop.Process{Env: []string{"EBB_GATEWAY_POLICY=" + file}}
	if _, err := b.begin(ctx, "gateway", p); err != nil {
		return err
	}
	defer p.Kill()
	if err := errors.Join(b.added(ctx, p, upstream.URL), b.overload(ctx, p), b.idle(ctx, p)); err != nil {
		return err
	}
	return p.Stop(ctx)
}

// added measures the latency that the gateway adds at half of the load that it takes.
func (b *bench) added(ctx context.Context, p *shop.Process, direct string) error {
	const path = "/api/products/a?n="
	d := b.duration / 6
	full, err := load.Hammer(ctx, p.Addr, readers, d, numbered(p.Addr, path))
	if err != nil {
		return err
	}
	rate := float64(len(full)) / d.Seconds() / 2
	through, err := load.Pace(ctx, p.Addr, readers, rate, d, numbered(p.Addr, path))
	if err != nil {
		return err
	}
	direct = strings.TrimPrefix(direct, "http://")
	without, err := load.Pace(ctx, direct, readers, rate, d, numbered(direct, path))
	if err != nil {
		return err
	}
	add := func(q float64) time.Duration {
		return load.Quantile(through[http.StatusOK], q) - load.Quantile(without[http.StatusOK], q)
	}
	b.add("gateway, added latency at half load", fmt.Sprintf("p50 %s, p99 %s", ms(add(0.5)), ms(add(0.99))),
		"p50 ≤ 0.2 ms, p99 ≤ 1 ms", fmt.Sprintf("%.0f/s for %s in an open loop, less the same without the gateway", rate, d))
	return nil
}

// overload measures three times the load that an upstream takes.
func (b *bench) overload(ctx context.Context, p *shop.Process) error {
	d := b.duration / 6
	next := numbered(p.Addr, "/api/products?slow&n=")
	full, err := load.Hammer(ctx, p.Addr, slowWorkers, d, next)
	if err != nil {
		return err
	}
	rate := float64(len(full)) / d.Seconds()
	got, err := load.Pace(ctx, p.Addr, manyConnections, 3*rate, d, next)
	if err != nil {
		return err
	}
	var refused []time.Duration
	total := 0
	for status, took := range got {
		if total += len(took); status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
			refused = append(refused, took...)
		}
	}
	slices.Sort(refused)
	accepted := got[http.StatusOK]
	b.add("gateway, 3 × overload: accepted", fmt.Sprintf("%.0f/s, p99 %s (at capacity %.0f/s, p99 %s)",
		float64(len(accepted))/d.Seconds(), ms(load.Quantile(accepted, 0.99)), rate, ms(load.Quantile(full, 0.99))),
		"p99 ≤ 2 × that at capacity", "adaptive: true, an upstream of 4 workers of 10 ms, an open loop")
	b.add("gateway, 3 × overload: refused", fmt.Sprintf("%d of %d, p99 %s; %d neither", len(refused), total,
		ms(load.Quantile(refused, 0.99)), total-len(refused)-len(accepted)), "429 or 503 within 10 ms", "the same")
	return nil
}

// idle measures the memory of connections that have had one request each and stay open, of the gateway and of a bare
// server of net/http.
func (b *bench) idle(ctx context.Context, p *shop.Process) error {
	gateway, err := memoryOfIdle(ctx, p.Pid(), p.Addr)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	addr, err := shop.FreeAddress()
	if err != nil {
		return err
	}
	bare := exec.CommandContext(ctx, program, "-bare", addr)
	if err := bare.Start(); err != nil {
		return err
	}
	defer func() {
		_ = bare.Process.Kill()
		_ = bare.Wait()
	}()
	for { // until it listens
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(time.Millisecond)
	}
	least, err := memoryOfIdle(ctx, bare.Process.Pid, addr)
	if err != nil {
		return err
	}
	b.add("gateway, memory of an idle connection", fmt.Sprintf("%.1f KB (a bare server of net/http: %.1f KB)",
		gateway/1024, least/1024), "≤ 8 KB",
		fmt.Sprintf("growth of the resident set by %d connections that have had a request each", idleConnections))
	return nil
}

// serveBare serves one answer at an address until it fails.
func serveBare(addr string) error {
	server := &http.Server{Addr: addr, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })}
	return server.ListenAndServe()
}

// memoryOfIdle returns the bytes by which a process grows for each connection that has had a request and stays open.
func memoryOfIdle(ctx context.Context, pid int, addr string) (float64, error) {
	before := memory(pid)
	conns := make([]net.Conn, 0, idleConnections)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	var dialer net.Dialer
	request, answer := []byte("GET /healthz HTTP/1.1\r\nHost: "+addr+"\r\n\r\n"), make([]byte, 4096)
	for range idleConnections {
		c, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			return 0, err
		}
		conns = append(conns, c)
		if _, err = c.Write(request); err == nil {
			_, err = c.Read(answer)
		}
		if err != nil {
			return 0, err
		}
	}
	return float64(memory(pid)-before) / idleConnections, nil
}
