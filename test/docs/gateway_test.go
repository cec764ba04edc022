package docs

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery/consul/consultest"
	"github.com/ebb-dev/ebb/infra/gateway/greetertest"
	"github.com/ebb-dev/ebb/test/shop"
)

// The examples of docs/gateway.md work as they are printed.
func TestGateway(t *testing.T) {
	need(t, "bash", "curl", "sed", "openssl")
	page, err := Read(filepath.Join(checkout, "docs", "gateway.md"), "docs/gateway.md", "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var addresses []string
	for _, printed := range []string{"9001", "9002", "9003", "9004", "8443"} {
		free, err := shop.FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, "127.0.0.1:"+printed, free)
	}
	agent := httptest.NewServer(&consultest.Agent{})
	defer agent.Close()
	addresses = append(addresses, "127.0.0.1:8500", agent.Listener.Addr().String())
	greeter, err := greetertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer greeter.Close()
	addresses = append(addresses, "127.0.0.1:9005", greeter.Address)
	if err := os.WriteFile(filepath.Join(dir, "greet.binpb"), greeter.Schema, 0o600); err != nil {
		t.Fatal(err)
	}
	policies := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(policies, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"EBB_GATEWAY_POLICY=" + policies, "EBB_CORS_ORIGINS=https://shop.example"}
	s, p := serve(t, 5*time.Minute, dir, env, addresses...)
	for _, b := range page.Blocks {
		if err := s.Block(page, b); err != nil {
			t.Fatal(fmt.Errorf("%w\nthe process printed:\n%s", err, p.Output()))
		}
	}
}
