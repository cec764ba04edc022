package ebb

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/auth/authtest"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/host/run"
	"github.com/ebb-dev/ebb/infra/personal"
)

// variables are those that every capability has on a cluster.
func variables(t testing.TB, name string) map[string]string {
	t.Helper()
	private, public := authtest.Keys(t)
	return map[string]string{
		"FUNCTION": name, "EBB_STORE": "memory:", "K_SINK": "http://broker.example/shop/default",
		"EBB_VERIFICATION_KEYS": public, "EBB_SIGNING_KEYS": private, "EBB_LOG_LEVEL": "error",
		personal.Variable: personal.NewKey(),
	}
}

// Every capability can be hosted, becomes ready, and answers.
func TestEveryCapability(t *testing.T) {
	for _, c := range functions.System().Functions {
		t.Run(c.Name, func(t *testing.T) {
			f := New()
			if ok, err := f.Ready(t.Context()); ok || err == nil {
				t.Error("it is ready before its start")
			}
			if err := f.Start(t.Context(), variables(t, c.Name)); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := f.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			for until := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
				ok, err := f.Ready(t.Context())
				if ok {
					break
				}
				if time.Now().After(until) {
					t.Fatal(err)
				}
			}
			if ok, err := f.Alive(t.Context()); !ok || err != nil {
				t.Errorf("alive: %v, %v", ok, err)
			}
			w := httptest.NewRecorder()
			f.Handle(w, httptest.NewRequest(http.MethodGet, "/nothing/here", nil))
			if w.Code != http.StatusNotFound || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			if err := f.Start(t.Context(), variables(t, c.Name)); err == nil {
				t.Error("it starts twice")
			}
		})
	}
}

// What is wrong is said before anything is served, all of it at once, a line each, and without secrets.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		change map[string]string
		want   []string
	}{
		"nothing named": {map[string]string{"FUNCTION": ""}, []string{"FUNCTION is set but empty"}},
		"a name that is none": {map[string]string{"FUNCTION": "ordres"},
			[]string{`FUNCTION is "ordres", but the functions are users, notifications,`}},
		"no sink": {map[string]string{"K_SINK": ""},
			[]string{"K_SINK is required but not set; users emits events"}},
		"a sink that is none": {map[string]string{"K_SINK": "broker"}, []string{`K_SINK invalid sink "broker"`}},
		"a store with a typo": {map[string]string{"EBB_STORE": "postgre://shop:hunter2@db/shop"}, []string{"EBB_STORE"}},
		"no store": {map[string]string{"EBB_STORE": ""},
			[]string{"EBB_STORE is required but not set; users stores documents"}},
		"keys that are none": {map[string]string{"EBB_VERIFICATION_KEYS": "{}"}, []string{"EBB_VERIFICATION_KEYS"}},
		"half a sender": {map[string]string{"EBB_SENDER_AUDIENCE": "x"},
			[]string{"EBB_SENDER_AUDIENCE and EBB_SENDERS go together"}},
		"half a certificate": {map[string]string{"EBB_TLS_CERT": "tls.crt"},
			[]string{"EBB_TLS_CERT and EBB_TLS_KEY go together"}},
		"a certificate that is none": {map[string]string{"EBB_TLS_CERT": "func.yaml", "EBB_TLS_KEY": "func.yaml"},
			[]string{"EBB_TLS_CERT invalid certificate func.yaml"}},
		"a proxy that is none": {map[string]string{"EBB_PROXY_PROTOCOL": "10.0.0.0/8,edge"},
			[]string{`EBB_PROXY_PROTOCOL: invalid network "edge"`}},
		"overrides that are none": {map[string]string{"K_CE_OVERRIDES": "x"}, []string{"K_CE_OVERRIDES"}},
		"a port that is none":     {map[string]string{"PORT": "0"}, []string{"PORT is 0"}},
		"several at once": {map[string]string{"K_SINK": "", "EBB_STORE": "", "EBB_ACCESS_TTL": "soon"},
			[]string{"EBB_ACCESS_TTL"}},
	} {
		t.Run(name, func(t *testing.T) {
			vars := variables(t, "users")
			for k, v := range c.change {
				vars[k] = v
			}
			var log bytes.Buffer
			err := run.Serve(t.Context(), functions.System(), config.Map(vars), &log)
			var wrong *config.Error
			if !errors.As(err, &wrong) {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is shown: %v", err)
			}
		})
	}
}

// A function that was told to end ends, and says nothing.
func TestServe(t *testing.T) {
	vars := variables(t, "users")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, vars["PORT"], _ = net.SplitHostPort(addr)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run.Serve(ctx, functions.System(), config.Map(vars), io.Discard) }()
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		w, err := http.Get("http://" + addr + "/health/readiness")
		if err == nil {
			w.Body.Close()
			if w.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(until) {
			t.Fatal("it did not become ready")
		}
	}
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
