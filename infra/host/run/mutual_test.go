package run_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/auth/authtest"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/run"
	"github.com/ebb-dev/ebb/infra/mtls"
	"github.com/ebb-dev/ebb/infra/system"
)

// counter is a product with a function that tells who calls it, and a gateway.
func counter() system.System {
	type output struct{ Body map[string]string }
	return system.System{Name: "counter", Functions: []system.Definition{
		{Name: "counter", New: func(env function.Env) (*function.Function, error) {
			f := function.New("counter", env)
			for path, access := range map[string]function.Access{
				"/api/counter": function.Public, "/api/counter/admin": function.Only("admin"),
			} {
				op := function.Operation{Method: "GET", Path: path, Access: access}
				function.Serve(f, op, func(context.Context, *function.Tx, *struct{}) (*output, error) {
					return &output{map[string]string{"text": "hello"}}, nil
				})
			}
			return f, nil
		}},
		{Name: "edge", New: func(env function.Env) (*function.Function, error) {
			f := function.New("edge", env)
			function.Handler(f, http.NotFoundHandler(),
				[]byte(`{"openapi":"3.1.0","info":{"title":"x","version":"1"},"paths":{}}`))
			return f, nil
		}},
	}}
}

// Under mutual TLS a function answers the system's gateway, the callers and the machines of its settings, and nobody
// else: neither another function nor a client without a certificate, except for the probes. Only the broker delivers.
func TestMutualTLS(t *testing.T) {
	a, err := mtls.OpenAuthority(filepath.Join(t.TempDir(), "authority"))
	if err != nil {
		t.Fatal(err)
	}
	identity := func(name string) *mtls.Identity {
		i, err := a.Identity(name, []string{"127.0.0.1"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, keys := authtest.Keys(t)
	vars := config.Map(map[string]string{
		"FUNCTION": "counter", "EBB_VERIFICATION_KEYS": keys, "EBB_TLS_MACHINES": "spiffe://ebb.local/report=admin",
	})
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- run.ServeOn(ctx, counter(), vars, io.Discard, run.Machine{Listener: l, Identity: identity("counter")})
	}()
	defer func() {
		end()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	get := func(client *mtls.Identity, path string) int {
		config := client.Client("counter", nil)
		if client.ID() == "spiffe://ebb.local/nobody" {
			config.GetClientCertificate = nil
		}
		tr := &http.Transport{TLSClientConfig: config}
		defer tr.CloseIdleConnections()
		w, err := (&http.Client{Transport: tr}).Get("https://" + l.Addr().String() + path)
		if err != nil {
			t.Errorf("%s %s: %v", client.ID(), path, err)
			return 0
		}
		defer w.Body.Close()
		return w.StatusCode
	}
	eventually(t, "it is ready", func() bool { return get(identity("nobody"), "/health/readiness") == 200 })
	for _, c := range []struct {
		client, path string
		status       int
	}{
		{"edge", "/api/counter", 200},
		{"edge", "/api/counter/admin", 401}, // the gateway is nobody: it carries the requests of others
		{"report", "/api/counter", 200},
		{"report", "/api/counter/admin", 200},
		{"orders", "/api/counter", 403},
		{"counter", "/api/counter", 403},
		{"broker", "/api/counter", 403},
		{"nobody", "/api/counter", 401},
		{"nobody", "/api/counter/admin", 401},
		{"nobody", "/health/liveness", 200},
	} {
		if got := get(identity(c.client), c.path); got != c.status {
			t.Errorf("%s at %s: got %d, want %d", c.client, c.path, got, c.status)
		}
	}
}

// Settings that would leave a function open, or that name nobody, are refused.
func TestMutualSettings(t *testing.T) {
	_, keys := authtest.Keys(t)
	for want, vars := range map[string]map[string]string{
		"EBB_TLS_CA needs EBB_TLS_CERT":           {"EBB_TLS_CA": "ca.crt"},
		"EBB_TLS_CLIENT_CERT needs EBB_TLS_CA":    {"EBB_TLS_CLIENT_CERT": "a", "EBB_TLS_CLIENT_KEY": "b"},
		"EBB_TLS_CLIENT_CERT and EBB_TLS_CLIENT_": {"EBB_TLS_CLIENT_CERT": "a"},
		"EBB_TLS_CALLERS: invalid peer":           {"EBB_TLS_CALLERS": "spiffe://example*"},
		"EBB_TLS_SENDERS: invalid peer":           {"EBB_TLS_SENDERS": "broker"},
		"EBB_TLS_MACHINES: invalid machine":       {"EBB_TLS_MACHINES": "spiffe://example.org/a"},
		"EBB_TLS_CA": {
			"EBB_TLS_CA": "/nowhere/ca.crt", "EBB_TLS_CERT": "/nowhere/tls.crt", "EBB_TLS_KEY": "/nowhere/tls.key",
		},
	} {
		vars["FUNCTION"], vars["EBB_VERIFICATION_KEYS"] = "counter", keys
		err := run.Serve(t.Context(), counter(), config.Map(vars), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
