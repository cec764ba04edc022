// Package inprocess runs the shop in the process of a test, behind the server that ebb dev has.
package inprocess

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/telemetry"
	"github.com/ebb-dev/ebb/test/shop"
)

// The administrator of the shop.
const (
	AdminEmail    = shop.AdminEmail
	AdminPassword = shop.AdminPassword
)

// Shop is a running shop.
type Shop struct {
	Host      *local.Host
	Address   string           // HOST:PORT
	Origin    string           // of the pages that use passkeys
	Dir       string           // of its data
	Publisher broker.Publisher // takes events that no function emits
}

// Start runs the shop, with further functions, until the test ends. It fails the test when the shop does not start or
// does not stop.
func Start(t *testing.T, further ...system.Definition) *Shop {
	t.Helper()
	watch, err := telemetry.Start(t.Context(), telemetry.Config{
		Service: "test", Log: io.Discard, Lookup: config.Map(map[string]string{"EBB_LOG_FORMAT": "json"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &Shop{Dir: t.TempDir()}
	product := functions.System()
	product.Functions = append(product.Functions, further...)
	product.Functions = append(product.Functions, system.Definition{Name: "stranger", New: s.stranger})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String()) // it has one
	s.Origin = "http://localhost:" + port
	host, err := local.New(t.Context(), local.Config{
		Dir: s.Dir, Tick: 100 * time.Millisecond, Telemetry: watch, System: product,
		Claims: local.Claims{Issuer: "ebb", Audience: "ebb"},
		Lookup: config.Map(map[string]string{"EBB_STRIPE_WEBHOOK_SECRET": "", "EBB_MAIL_DIR": s.Mail()}),
		Secrets: map[string]config.Lookup{"users": config.Map(map[string]string{
			"EBB_ADMIN_EMAIL": AdminEmail, "EBB_ADMIN_PASSWORD": AdminPassword,
			"EBB_PASSKEY_RP_ID": "localhost", "EBB_PASSKEY_ORIGINS": s.Origin,
		})},
	})
	if err != nil {
		_ = listener.Close()
		t.Fatal(err)
	}
	s.Host, s.Address = host, listener.Addr().String()
	server, served := httpserver.New(host.Handler()), make(chan error, 1)
	go func() { served <- server.Serve(httpserver.Listener(listener)) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if err := host.Close(ctx); err != nil {
			t.Error(err)
		}
		_ = watch.Shutdown(ctx)
	})
	return s
}

// Mail is the folder in which each letter is a file.
func (s *Shop) Mail() string { return filepath.Join(s.Dir, "mail") }

// stranger is a function that declares nothing and tells the publisher of the host.
func (s *Shop) stranger(env function.Env) (*function.Function, error) {
	s.Publisher = env.Publisher
	return function.New("stranger", env), nil
}
