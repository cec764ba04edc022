package docs

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// The example of docs/timemachine.md works as it is printed.
func TestTimeMachine(t *testing.T) {
	need(t, "bash", "curl", "sed")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	page, err := Read(filepath.Join(checkout, "docs", "timemachine.md"), "docs/timemachine.md",
		"## An order, step by step")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary, err := shop.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := shop.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p := &shop.Process{Binary: binary, Addr: addr, Data: filepath.Join(dir, "data")}
	if _, err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	s, err := NewSession(ctx, dir, "EBB_URL="+p.URL(), "EBB_ADMIN_EMAIL="+shop.AdminEmail,
		"EBB_ADMIN_PASSWORD="+shop.AdminPassword, "EBB_DATA="+p.Data)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Replace = strings.NewReplacer("127.0.0.1:8080", addr, "go run ./cmd/ebb", binary)
	// The samples come by the API while the system already answers, and orders hears of them by an event.
	samples := Command{Text: "curl -s http://127.0.0.1:8080/api/products", Wants: []string{`"items":[{`}}
	if err := s.command(samples); err != nil {
		t.Fatal(err)
	}
	for _, b := range page.Blocks {
		if err := s.Block(page, b); err != nil {
			t.Fatal(err)
		}
	}
}
