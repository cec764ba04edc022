package test

import (
	"context"
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

var (
	orderCount = flag.Int("orders", 1000, "orders that are placed while the process is killed")
	killCount  = flag.Int("kills", 2, "how often the process is killed while they are placed")
)

// A thousand orders with good, declined, failing and slow cards and too little stock, with functions dropped after
// 100 ms and the process killed in the middle: every acknowledged order ends, and summed over the stores every
// invariant holds. test/crash does the same with hundreds of kills.
func TestOrdersSurviveKills(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	p := process(t)
	if _, err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	s, err := shop.NewSpree(ctx, p.URL())
	if err != nil {
		t.Fatal(err)
	}
	err = s.PlaceAll(ctx, *orderCount, 32, func(n int) (err error) {
		if *killCount > 0 && n > 0 && n%(*orderCount/(*killCount+1)) == 0 {
			p.Kill()
			_, err = p.Start(ctx)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	ended, err := s.AwaitEnds(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Output())
	}
	books, violations, err := s.StopAndAudit(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(violations) > 0 {
		t.Errorf("%d violations:\n%s", len(violations), strings.Join(violations, "\n"))
	}
	if n := len(s.Acknowledged()); n != *orderCount || ended["confirmed"] == 0 || ended["cancelled"] == 0 {
		t.Errorf("got %d acknowledged of %d, ended %v", n, *orderCount, ended)
	}
	if books.DeadLetters > 0 {
		t.Errorf("got %d dead letters, want none", books.DeadLetters)
	}
	t.Logf("%d orders, %d kills, ended %v", *orderCount, *killCount, ended)
}

// process builds the command and returns a process that is not started.
func process(t *testing.T) *shop.Process {
	t.Helper()
	binary, err := shop.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	addr, err := shop.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return &shop.Process{Binary: binary, Addr: addr, Data: filepath.Join(t.TempDir(), "data"),
		Args: []string{"--idle", "100ms"},
		// A crash may leave entries in an outbox that no message names: the sweep publishes them when they are old enough.
		Env: []string{"EBB_PAYMENTS_SLOW=200ms", "EBB_CLOCK_SWEEP=2s"}}
}
