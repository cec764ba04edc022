package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/test/bench/load"
)

const (
	connections = 64
	issuer      = "peers"
	audience    = "peers"
)

// keys holds the keys that every gateway verifies tokens with, and the token.
type keys struct {
	pem, jwks string // files
	token     string // RS256
}

func newKeys(dir string) (keys, error) {
	k := keys{pem: filepath.Join(dir, "public.pem"), jwks: filepath.Join(dir, "jwks.json")}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return k, err
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return k, err
	}
	if err := os.WriteFile(k.pem, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
		return k, err
	}
	jwk, err := auth.NewJWK("peers", &private.PublicKey)
	if err != nil {
		return k, err
	}
	set, err := json.Marshal(auth.JWKS{Keys: []auth.JWK{jwk}})
	if err != nil {
		return k, err
	}
	if err := os.WriteFile(k.jwks, set, 0o644); err != nil {
		return k, err
	}
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": "somebody", "iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(),
	})
	t.Header["kid"] = jwk.Kid
	k.token, err = t.SignedString(private)
	return k, err
}

func get(addr, path, token string) string {
	head := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n", path, addr)
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	return head + "\r\n"
}

// hammered returns a contender that gets the same HTTP request repeatedly.
func hammered(addr, request string, end func()) *opened {
	return &opened{close: end, run: func(ctx context.Context, d time.Duration) (sample, error) {
		begin := time.Now()
		l, err := load.Hammer(ctx, addr, connections, d, load.Same(request))
		return sampleOf(l, time.Since(begin)), err
	}}
}

// role returns a function that starts this command with one of the roles of serve.
func (b *bench) role(name, upstream, path, token string, more ...string) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		a, err := addresses(1)
		if err != nil {
			return nil, err
		}
		args := append([]string{"serve", "-role", name, "-addr", a[0], "-upstream", upstream, "-jwks", b.keys.jwks, "-pem",
			b.keys.pem}, more...)
		p, err := start(ctx, nil, a, b.self, args...)
		if err != nil {
			return nil, err
		}
		return b.checked(ctx, a[0], path, token, p.stop)
	}
}

// checked sends one request with the token, and one without it that must be refused, before the address is measured.
func (b *bench) checked(ctx context.Context, addr, path, token string, end func()) (*opened, error) {
	err := answers(ctx, "http://"+addr+path, token, 200)
	if err == nil && token != "" {
		err = answers(ctx, "http://"+addr+path, "", 401)
	}
	if err != nil {
		end()
		return nil, err
	}
	return hammered(addr, get(addr, path, token), end), nil
}

type frontends struct{ Dir, Upstream, Plain, Limited, Token, PublicKey, Issuer string }

// outside returns a function that starts a gateway that is a separate program.
func (b *bench) outside(file, program string, args func(path string) []string, upstream string,
	at func(frontends) string, path, token string) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		a, err := addresses(3)
		if err != nil {
			return nil, err
		}
		f := frontends{b.dir, upstream, a[0], a[1], a[2], b.keys.pem, issuer}
		config, err := b.render(file, f)
		if err != nil {
			return nil, err
		}
		p, err := start(ctx, []string{"HOME=" + b.dir, "XDG_DATA_HOME=" + b.dir, "XDG_CONFIG_HOME=" + b.dir}, []string{at(f)},
			program, args(config)...)
		if err != nil {
			return nil, err
		}
		return b.checked(ctx, at(f), path, token, p.stop)
	}
}

func plain(f frontends) string   { return f.Plain }
func limited(f frontends) string { return f.Limited }
func tokens(f frontends) string  { return f.Token }

func (b *bench) gateways(ctx context.Context) ([]comparison, error) {
	a, err := addresses(1)
	if err != nil {
		return nil, err
	}
	upstream := a[0]
	p, err := start(ctx, nil, a, b.self, "serve", "-role", "upstream", "-addr", upstream)
	if err != nil {
		return nil, err
	}
	b.after(p.stop)

	nginx, haproxy, caddy := find("nginx"), find("haproxy"), find(b.caddy)
	peer := func(name, note, program, missing, version, file string, args func(string) []string, at func(frontends) string,
		path, token string) contender {
		c := contender{name: name, note: note, version: version}
		if program == "" {
			c.absent = missing
			return c
		}
		c.open = b.outside(file, program, args, upstream, at, path, token)
		return c
	}
	nginxArgs := func(path string) []string { return []string{"-c", path} }
	haproxyArgs := func(path string) []string { return []string{"-db", "-f", path} }
	caddyArgs := func(path string) []string { return []string{"run", "--config", path, "--adapter", "caddyfile"} }
	const noNginx, noHAProxy = "not installed: apt-get install nginx-light", "not installed: apt-get install haproxy"
	const noCaddy = "not installed: make peers-tools, and $CADDY or -caddy says where it is"
	var nginxVersion, haproxyVersion, caddyVersion string
	if nginx != "" {
		nginxVersion = strings.TrimPrefix(field(2, told(nginx, "-v")), "nginx/")
	}
	if haproxy != "" {
		haproxyVersion = field(2, told(haproxy, "-v"))
	}
	if caddy != "" {
		caddyVersion = built(caddy)
	}
	bare := contender{name: "no gateway: the upstream itself", version: "net/http", note: "the limit",
		open: func(ctx context.Context) (*opened, error) {
			return b.checked(ctx, upstream, "/bench/open", "", func() {})
		}}
	how := fmt.Sprintf("GET of 62 bytes of JSON from one bare net/http handler, %d connections, each gateway a process "+
		"of its own.", connections)
	lura := module("github.com/luraproject/lura/v2")
	const key = "/bench/closed"
	return []comparison{{
		title: "Gateway, no check", how: how,
		contenders: []contender{
			{name: "ebb gateway", version: "this tree", note: "routes by manifest, request ids, metrics; a public route",
				open: b.role("ours", upstream, "/bench/open", "")},
			peer("nginx", "", nginx, noNginx, nginxVersion, "nginx.conf", nginxArgs, plain, "/bench/open", ""),
			peer("HAProxy", "", haproxy, noHAProxy, haproxyVersion, "haproxy.cfg", haproxyArgs, plain, "/bench/open", ""),
			peer("Caddy", "", caddy, noCaddy, caddyVersion, "Caddyfile", caddyArgs, plain, "/bench/open", ""),
			{name: "Lura", version: lura, note: "KrakenD's engine, gin router, no-op encoding",
				open: b.role("lura", upstream, "/bench/open", "")},
			{name: "httputil.ReverseProxy", version: "net/http", open: b.role("proxy", upstream, "/bench/open", "")},
			bare,
		},
	}, {
		title: "Gateway, token check (RS256, expiry, issuer)", how: how + " One token, sent again and again.",
		contenders: []contender{
			{name: "ebb gateway", version: "this tree", note: "audience too; caches verified tokens",
				open: b.role("ours", upstream, key, b.keys.token)},
			peer("HAProxy", "verifies at each request", haproxy, noHAProxy, haproxyVersion, "haproxy.cfg", haproxyArgs, tokens,
				key, b.keys.token),
			{name: "httputil.ReverseProxy, golang-jwt", version: module("github.com/golang-jwt/jwt/v5"),
				note: "audience too; verifies at each request", open: b.role("proxy", upstream, key, b.keys.token, "-check")},
			{name: "nginx", version: nginxVersion, absent: "auth_jwt is in the commercial build only"},
			{name: "Caddy", version: caddyVersion, absent: "no JWT module on the module proxy"},
			{name: "Lura", version: lura, absent: "token checks are KrakenD's, not the engine's"},
		},
	}, {
		title: "Gateway, rate limit that is never reached", how: how,
		contenders: []contender{
			{name: "ebb gateway, without one", version: "this tree", note: "has no rate limit; the base of the ratios",
				open: b.role("ours", upstream, "/bench/open", "")},
			peer("nginx", "limit_req by address", nginx, noNginx, nginxVersion, "nginx.conf", nginxArgs, limited, "/bench/open",
				""),
			peer("HAProxy", "stick table by address", haproxy, noHAProxy, haproxyVersion, "haproxy.cfg", haproxyArgs, limited,
				"/bench/open", ""),
			{name: "Caddy", version: caddyVersion, absent: "needs a special build with mholt/caddy-ratelimit"},
			{name: "Lura", version: lura, absent: "rate limits are KrakenD's, not the engine's"},
		},
	}}, nil
}
