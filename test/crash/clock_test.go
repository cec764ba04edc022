package main

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/test/shop"
)

// clock returns the time with an adjustable offset.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) set(offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset = offset
}

// While orders run, the clock is set back by one hour, to one hour ahead, and back by a day. Customers may have to log
// in again, and every order still ends.
func TestClockIsSet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, data := &clock{}, t.TempDir()
	host, err := local.New(ctx, local.Config{
		Dir: data, Idle: 100 * time.Millisecond, System: functions.System(), Now: c.Now,
		Claims: local.Claims{Issuer: "ebb", Audience: "ebb"},
		Lookup: config.Map(map[string]string{"EBB_ADMIN_EMAIL": shop.AdminEmail, "EBB_ADMIN_PASSWORD": shop.AdminPassword,
			"EBB_PAYMENTS_SLOW": "200ms", "EBB_CLOCK_SWEEP": "2s"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	closing := sync.OnceValue(func() error { return host.Close(context.WithoutCancel(ctx)) })
	defer closing()
	server := httptest.NewServer(host.Handler())
	defer server.Close()

	s, err := shop.NewSpree(ctx, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	orders := placing(ctx, s)
	const each = 40
	for n, offset := range []time.Duration{0, -time.Hour, time.Hour, -24 * time.Hour} {
		orders.add(each)
		for len(s.Acknowledged()) < n*each+each/2 && ctx.Err() == nil { // while they run
			pause(ctx, time.Millisecond)
		}
		c.set(offset)
	}
	if err := orders.wait(); err != nil {
		t.Fatal(err)
	}
	ended, err := s.AwaitEnds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Quiet(ctx, &shop.Process{Data: data}); err != nil {
		t.Error(err)
	}
	if err := closing(); err != nil {
		t.Error(err)
	}
	books, err := shop.ReadBooks(ctx, filepath.Clean(data))
	if err != nil {
		t.Fatal(err)
	}
	books.Outbox = nil // they were empty before; the next start publishes a tick that Close interrupted
	if violations := books.Audit(s.Acknowledged()); len(violations) > 0 {
		t.Errorf("%d invariants do not hold:\n%s", len(violations), strings.Join(violations, "\n"))
	}
	if books.DeadLetters > 0 || ended["confirmed"] == 0 {
		t.Errorf("got %d dead letters, ended %v", books.DeadLetters, ended)
	}
}
