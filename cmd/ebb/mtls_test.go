package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/auth/authtest"
	"github.com/ebb-dev/ebb/infra/cli"
	"github.com/ebb-dev/ebb/infra/discovery/consul/consultest"
	"github.com/ebb-dev/ebb/infra/mtls"
)

// start runs a command until the test ends, and returns the address that the pattern finds in what it says.
func start(t testing.TB, dir string, vars map[string]string, pattern string, args ...string) string {
	t.Helper()
	p, out, errs := process(dir, vars)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- cli.Run(ctx, functions.System(), p, args) }()
	t.Cleanup(func() { end(); <-ended })
	return listening(t, pattern, ended, out, errs)
}

// With --tls a gateway, a function and a broker know each other by certificates of the development authority: requests
// go from a stranger through the gateway to the function, events from the function through the broker to a function,
// and nobody else gets in.
func TestServeByMutualTLS(t *testing.T) {
	dir := t.TempDir()
	_, keys := authtest.Keys(t)
	agent := httptest.NewServer(&consultest.Agent{})
	t.Cleanup(agent.Close) // after the commands
	u, err := url.Parse(agent.URL)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := mtls.OpenAuthority(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	identity := func(a *mtls.Authority, name string) *mtls.Identity {
		i, err := a.Identity(name, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	client := func(config *tls.Config) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	}
	operator := client(identity(authority, "operator").Client("", nil))

	broker := start(t, dir, map[string]string{
		"EBB_DATA": dir, "EBB_TLS_CALLERS": "spiffe://ebb.local/inventory,spiffe://ebb.local/operator",
	}, `broker is at (https://\S+),`, "broker", "--addr", "127.0.0.1:0", "--tls")
	vars := map[string]string{
		"EBB_DATA": dir, "EBB_TLS": "true", "EBB_DISCOVERY": "consul://" + u.Host, "EBB_VERIFICATION_KEYS": keys,
		"EBB_STORE": "memory:", "K_SINK": broker,
	}
	inventory := start(t, dir, vars, `inventory listens on (https://\S+)`, "serve", "inventory", "--addr", "127.0.0.1:0")
	gateway := start(t, dir, vars, `gateway listens on (https://\S+)`, "serve", "gateway", "--addr", "127.0.0.1:0")

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM())
	stranger := client(&tls.Config{RootCAs: roots})
	status := func(c *http.Client, url string) (int, error) {
		answer, err := c.Get(url)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		return answer.StatusCode, nil
	}
	const path = "/api/stock/none"
	var got int
	for until := time.Now().Add(time.Minute); got != http.StatusNotFound; time.Sleep(10 * time.Millisecond) {
		if got, err = status(stranger, gateway+path); err != nil || time.Now().After(until) {
			t.Fatalf("through the gateway: got %d, %v", got, err)
		}
	}
	for name, c := range map[string]struct {
		client *http.Client
		status int // 0: the handshake fails
	}{
		"no certificate":    {stranger, 401},
		"another function":  {client(identity(authority, "orders").Client("inventory", nil)), 403},
		"another authority": {client(trusting(identity(other(t), "gateway"))), 0},
	} {
		for what, url := range map[string]string{"function": inventory + path, "broker": broker + "/subscriptions"} {
			got, err := status(c.client, url)
			if name == "another function" && what == "broker" { // whose name is another one
				continue
			}
			if got != c.status || (err != nil) != (c.status == 0) {
				t.Errorf("%s at the %s: got %d, %v, want %d", name, what, got, err, c.status)
			}
		}
	}

	// An event of the operator reaches the function by the broker, and what the function emits about it the broker.
	emitted := make(chan string, 16)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		emitted <- r.Header.Get("Ce-Type")
	}))
	defer sink.Close()
	post := func(url, contentType, body string, want int) {
		t.Helper()
		answer, err := operator.Post(url, contentType, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if text, _ := io.ReadAll(answer.Body); answer.StatusCode != want {
			t.Fatalf("%s: got %s %s", url, answer.Status, text)
		}
	}
	const subscription = `{"types":[%q],"sink":%q,"protocol":"HTTP","config":{"retry":10,"backoffDelay":"PT0.01S"}}`
	post(broker+"/subscriptions", "application/json",
		fmt.Sprintf(subscription, "dev.ebb.inventory.reserve.v1", inventory+"/events"), http.StatusCreated)
	post(broker+"/subscriptions", "application/json",
		fmt.Sprintf(subscription, "dev.ebb.inventory.refused.v1", sink.URL), http.StatusCreated)
	reserve, err := os.ReadFile("../../events/testdata/dev.ebb.inventory.reserve.v1/full.json")
	if err != nil {
		t.Fatal(err)
	}
	post(broker, "application/cloudevents+json", string(reserve), http.StatusAccepted)
	select {
	case got := <-emitted:
		if got != "dev.ebb.inventory.refused.v1" {
			t.Errorf("got %s", got)
		}
	case <-time.After(time.Minute):
		t.Error("the function emitted nothing")
	}
}

// dev --tls speaks TLS, the commands trust its authority, and nobody else's clients do.
func TestDevByTLS(t *testing.T) {
	dir := t.TempDir()
	vars := map[string]string{"EBB_DATA": filepath.Join(dir, "data"), "EBB_ADDR": "127.0.0.1:0"}
	url := start(t, dir, vars, `is running at (https://\S+)`, "dev", "--tls")
	code, out, errs := ebb(t.Context(), dir, vars, "call", "get-products", "--url", url)
	if code != 0 || !strings.Contains(out.String(), `"items"`) {
		t.Errorf("got %d %s %s", code, out, errs)
	}
	if answer, err := http.Get(url + "/healthz"); err == nil {
		answer.Body.Close()
		t.Error("a client that does not know the authority trusts it")
	}
	elsewhere := map[string]string{"EBB_DATA": t.TempDir()}
	if code, out, _ := ebb(t.Context(), dir, elsewhere, "call", "get-products", "--url", url); code != 1 {
		t.Errorf("a command with another data directory: got %d %s", code, out)
	}
	if code, _, errs := ebb(t.Context(), dir, vars, "dev", "--tls", "--watch"); code != 2 {
		t.Errorf("with --watch: got %d %s", code, errs)
	}
}

func other(t testing.TB) *mtls.Authority {
	t.Helper()
	a, err := mtls.OpenAuthority(filepath.Join(t.TempDir(), "authority"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// trusting accepts any server: what a client gets is the server's decision then.
func trusting(i *mtls.Identity) *tls.Config {
	c := i.Client("", nil)
	c.VerifyConnection = nil
	return c
}
