package docs

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// The README's tour works as it is printed: the commands succeed, and each answer holds what the comment behind it
// says.
func TestTour(t *testing.T) {
	need(t, "bash", "curl", "sed")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	page, err := Read(filepath.Join(checkout, "README.md"), "README.md", "## A five-minute tour")
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
	// The samples come by the API while the system already answers.
	samples := Command{Text: "curl -s http://127.0.0.1:8080/api/products", Wants: []string{`"items":[{`}}
	if err := s.command(samples); err != nil {
		t.Fatal(err)
	}
	promises := 0
	for _, b := range page.Blocks {
		for _, c := range b.Commands() {
			promises += len(c.Wants)
		}
		if err := s.Block(page, b); err != nil {
			t.Fatal(err)
		}
	}
	if promises < 5 {
		t.Errorf("the tour promises %d things only", promises)
	}
}
