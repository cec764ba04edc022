package main

import (
	"context"
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"
	"github.com/luraproject/lura/v2/config"
	"github.com/luraproject/lura/v2/logging"
	luraproxy "github.com/luraproject/lura/v2/proxy"
	lura "github.com/luraproject/lura/v2/router/gin"
	"github.com/luraproject/lura/v2/transport/http/server"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/discovery/dns"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/proxy"
)

type role struct {
	name, addr, upstream, jwks, pem string
	check                           bool
}

// serve runs one of the contenders that are a few lines of Go. The bench starts itself with it.
func serve(args []string) error {
	var r role
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.StringVar(&r.name, "role", "", "upstream, proxy, lura or ours")
	flags.StringVar(&r.addr, "addr", "", "where to listen")
	flags.StringVar(&r.upstream, "upstream", "", "address of the upstream server")
	flags.StringVar(&r.jwks, "jwks", "", "file with the keys that verify tokens")
	flags.StringVar(&r.pem, "pem", "", "file with the same key as PEM")
	flags.BoolVar(&r.check, "check", false, "verify tokens in the proxy")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if r.name == "lura" {
		return r.lura(ctx)
	}
	h, err := r.handler()
	if err != nil {
		return err
	}
	s := &http.Server{Addr: r.addr, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { s.Close() })
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (r role) handler() (http.Handler, error) {
	switch r.name {
	case "upstream":
		body := []byte(`{"id":"0190b5a0-0000-7000-8000-000000000001","name":"somebody"}`)[:62]
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		}), nil
	case "proxy":
		return r.proxy()
	case "ours":
		return r.ours()
	}
	return nil, fmt.Errorf("unknown role %q (use upstream, proxy, lura or ours)", r.name)
}

func (r role) proxy() (http.Handler, error) {
	p := &httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second},
		Rewrite: func(q *httputil.ProxyRequest) {
			q.SetURL(&url.URL{Scheme: "http", Host: r.upstream})
			q.SetXForwarded()
		},
	}
	if !r.check {
		return p, nil
	}
	data, err := os.ReadFile(r.pem)
	if err != nil {
		return nil, err
	}
	key, err := jwt.ParseRSAPublicKeyFromPEM(data)
	if err != nil {
		return nil, err
	}
	return checkToken(key, p), nil
}

func checkToken(key *rsa.PublicKey, next http.Handler) http.Handler {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := parser.Parse(token, func(*jwt.Token) (any, error) { return key, nil }); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ours returns Ebb's gateway before one function that it reaches by its address, as on a cluster.
func (r role) ours() (http.Handler, error) {
	data, err := os.ReadFile(r.jwks)
	if err != nil {
		return nil, err
	}
	set, err := auth.ParseJWKS(data)
	if err != nil {
		return nil, err
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{
		Keys: set, Issuer: issuer, Audience: audience, Algorithms: []string{"RS256"},
	})
	if err != nil {
		return nil, err
	}
	f := function.New("bench", function.Env{})
	nothing := func(context.Context, *function.Tx, *struct{}) (*struct{}, error) { return nil, nil }
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/bench/open", Access: function.Public}, nothing)
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/bench/closed"}, nothing)
	transport := proxy.NewTransport()
	directory, err := dns.New("http://"+r.upstream+"/{function}", transport)
	if err != nil {
		return nil, err
	}
	return gateway.New(gateway.Config{
		System:    manifest.System{Functions: []*manifest.Declaration{f.Instance().Declaration()}},
		Discovery: directory, Transport: transport, Authenticator: verifier,
	})
}

func (r role) lura(ctx context.Context) error {
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	cfg := config.ServiceConfig{
		Version: config.ConfigVersion, Address: "127.0.0.1", Port: n, Timeout: 10 * time.Second,
		Endpoints: []*config.EndpointConfig{{
			Endpoint: "/bench/open", Method: http.MethodGet, OutputEncoding: "no-op",
			Backend: []*config.Backend{{Host: []string{"http://" + r.upstream}, URLPattern: "/bench/open", Encoding: "no-op"}},
		}},
	}
	if err := cfg.Init(); err != nil {
		return err
	}
	gin.SetMode(gin.ReleaseMode)
	log.SetFlags(0)
	lura.NewFactory(lura.Config{
		Engine: gin.New(), HandlerFactory: lura.EndpointHandler, ProxyFactory: luraproxy.DefaultFactory(logging.NoOp),
		Logger: logging.NoOp, RunServer: server.RunServer,
	}).NewWithContext(ctx).Run(cfg)
	return nil
}
