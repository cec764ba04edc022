package docs

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// The examples of docs/grpc.md work as they are printed; those of grpcurl where it is installed.
func TestGRPC(t *testing.T) {
	need(t, "bash", "curl", "sed")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	page, err := Read(filepath.Join(checkout, "docs", "grpc.md"), "docs/grpc.md", "")
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
	s, err := NewSession(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Replace = strings.NewReplacer("127.0.0.1:8080", addr)
	samples := Command{Text: "curl -s http://127.0.0.1:8080/api/products", Wants: []string{`"items":[{`}}
	if err := s.command(samples); err != nil {
		t.Fatal(err)
	}
	run := func(t *testing.T, tool string) {
		for _, b := range page.Blocks {
			if b.Lang != "sh" || !strings.HasPrefix(b.Text, tool+" ") {
				continue
			}
			if err := s.Block(page, b); err != nil {
				t.Fatal(fmt.Errorf("%w\nthe process printed:\n%s", err, p.Output()))
			}
		}
	}
	run(t, "curl")
	t.Run("grpcurl", func(t *testing.T) {
		if _, err := exec.LookPath("grpcurl"); err != nil {
			t.Skip("grpcurl is not installed: go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4")
		}
		run(t, "grpcurl")
	})
}
