package docs

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// serve starts the shop with more environment variables, and a shell in dir that knows its address, its admin and its
// data; both end with the test, or after a time. The shell calls the process where a page prints 127.0.0.1:8080, the
// built command where it prints go run ./cmd/ebb, and replaces more pairs of texts.
func serve(
	t *testing.T, limit time.Duration, dir string, env []string, replace ...string,
) (*Session, *shop.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit) // Close needs it after the test
	t.Cleanup(cancel)
	binary, err := shop.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := shop.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p := &shop.Process{Binary: binary, Addr: addr, Data: filepath.Join(dir, "data"), Env: env}
	if _, err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill() })
	s, err := NewSession(ctx, dir, "EBB_URL="+p.URL(), "EBB_ADMIN_EMAIL="+shop.AdminEmail,
		"EBB_ADMIN_PASSWORD="+shop.AdminPassword, "EBB_DATA="+p.Data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.Replace = strings.NewReplacer(append([]string{"127.0.0.1:8080", addr, "go run ./cmd/ebb", binary}, replace...)...)
	// The samples come by the API while the system already answers, and other functions learn of them by events.
	samples := Command{Text: "curl -s http://127.0.0.1:8080/api/products", Wants: []string{`"items":[{`}}
	if err := s.command(samples); err != nil {
		t.Fatal(err)
	}
	return s, p
}
