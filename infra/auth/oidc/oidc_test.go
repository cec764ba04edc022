package oidc_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/oidc"
	"github.com/ebb-dev/ebb/infra/fault"
)

// provider is an OpenID Connect provider, served over TLS.
type provider struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	issuer  string // that the configuration names
	keys    auth.JWKS
	down    bool
	fetched int // how often the keys were
	now     time.Time
}

func newProvider(t *testing.T) *provider {
	p := &provider{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	p.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		var document any
		switch {
		case p.down:
			w.WriteHeader(http.StatusBadGateway)
			return
		case r.URL.Path == "/realm/.well-known/openid-configuration":
			document = map[string]any{"issuer": p.issuer, "jwks_uri": p.server.URL + "/keys", "other": []int{1}}
		case r.URL.Path == "/keys":
			p.fetched++
			document = p.keys
		}
		_ = json.NewEncoder(w).Encode(document)
	}))
	t.Cleanup(p.server.Close)
	p.issuer = p.server.URL + "/realm"
	return p
}

// key is a signing key of the provider.
type key struct {
	kid     string
	private *ecdsa.PrivateKey
}

// rotate publishes a new key in front of the others.
func (p *provider) rotate() key {
	p.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	k, err := auth.NewJWK("", &private.PublicKey)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys.Keys = append([]auth.JWK{k}, p.keys.Keys...)
	return key{k.Kid, private}
}

func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// token returns a token that the key signs; change makes another of its valid claims.
func (p *provider) token(k key, change func(jwt.MapClaims)) string {
	p.t.Helper()
	claims := jwt.MapClaims{
		"iss": p.server.URL + "/realm", "aud": []string{"shop", "other"}, "sub": "4711",
		"iat": p.now.Unix(), "exp": p.now.Add(24 * time.Hour).Unix(),
		"realm_access": map[string]any{"roles": []string{"shop-admins", "unknown", "admin", "*"}}, "roles": 7,
	}
	if change != nil {
		change(claims)
	}
	return p.sign(jwt.SigningMethodES256, k.kid, k.private, claims)
}

func (p *provider) sign(m jwt.SigningMethod, kid string, private any, claims jwt.MapClaims) string {
	p.t.Helper()
	t := jwt.NewWithClaims(m, claims)
	t.Header["kid"] = kid
	signed, err := t.SignedString(private)
	if err != nil {
		p.t.Fatal(err)
	}
	return signed
}

func (p *provider) open() *oidc.Issuer {
	p.t.Helper()
	i, err := oidc.New(oidc.Config{
		Issuer: p.server.URL + "/realm", Audience: "shop", RolesClaim: "realm_access.roles",
		Roles:  map[string]string{"*": "customer", "shop-admins": "admin"},
		Client: p.server.Client(), Now: func() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now },
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return i
}

func ask(a auth.Authenticator, token string) (auth.Principal, error) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return a.Authenticate(r)
}

// A subject that is longer than events have space for is named by its hash, and so are no two.
func TestLongSubject(t *testing.T) {
	p := newProvider(t)
	k := p.rotate()
	i := p.open()
	subject := func(sub string) string {
		who, err := ask(i, p.token(k, func(c jwt.MapClaims) { c["sub"] = sub }))
		if err != nil {
			t.Error(err)
		}
		return who.Subject
	}
	longest := strings.Repeat("a", 123)
	if got := subject(longest); got != "oidc-"+longest {
		t.Errorf("got %q", got)
	}
	hashed := subject(longest + "a")
	if len(hashed) > 128 || !strings.HasPrefix(hashed, "sha256-") || hashed != subject(longest+"a") ||
		hashed == subject(longest+"b") || subject(hashed) == hashed || len(subject(strings.Repeat("a", 255))) > 128 {
		t.Errorf("got %q", hashed)
	}
}

// A token of the issuer is accepted. Its subject cannot be one of another issuer, and its claims give the roles that
// the settings say, and no others.
func TestToken(t *testing.T) {
	p := newProvider(t)
	k := p.rotate()
	i := p.open()
	who, err := ask(i, p.token(k, nil))
	if err != nil || who.Subject != "oidc-4711" || !slices.Equal(who.Roles, []string{"admin", "customer"}) {
		t.Errorf("got %+v, %v", who, err)
	}
	who, err = ask(i, p.token(k, func(c jwt.MapClaims) { delete(c, "realm_access"); c["roles"] = []string{"admin"} }))
	if err != nil || !slices.Equal(who.Roles, []string{"customer"}) {
		t.Errorf("without the claim: got %+v, %v", who, err)
	}
	if who, err := i.Authenticate(httptest.NewRequest("GET", "/", nil)); err != nil || !who.Anonymous() {
		t.Errorf("without a token: got %+v, %v", who, err)
	}
}

// What is not a valid access token of the issuer for this system is refused.
func TestRefused(t *testing.T) {
	p := newProvider(t)
	k := p.rotate()
	i := p.open()
	public, err := x509.MarshalPKIXPublicKey(crypto.PublicKey(&k.private.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	valid := jwt.MapClaims{
		"iss": p.issuer, "aud": "shop", "sub": "4711", "iat": p.now.Unix(), "exp": p.now.Add(time.Hour).Unix(),
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"another issuer":             p.token(k, func(c jwt.MapClaims) { c["iss"] = "https://login.example/realm" }),
		"a longer issuer":            p.token(k, func(c jwt.MapClaims) { c["iss"] = p.issuer + "/" }),
		"another audience":           p.token(k, func(c jwt.MapClaims) { c["aud"] = "other" }),
		"no audience":                p.token(k, func(c jwt.MapClaims) { delete(c, "aud") }),
		"expired":                    p.token(k, func(c jwt.MapClaims) { c["exp"] = p.now.Add(-6 * time.Second).Unix() }),
		"no expiry":                  p.token(k, func(c jwt.MapClaims) { delete(c, "exp") }),
		"not yet valid":              p.token(k, func(c jwt.MapClaims) { c["nbf"] = p.now.Add(time.Minute).Unix() }),
		"of the future":              p.token(k, func(c jwt.MapClaims) { c["iat"] = p.now.Add(time.Minute).Unix() }),
		"an ID token":                p.token(k, func(c jwt.MapClaims) { c["at_hash"] = "77QmUPtjPfzWtF2AnpK9RQ" }),
		"an ID token with a code":    p.token(k, func(c jwt.MapClaims) { c["c_hash"] = "LDktKdoQak3Pk0cnXxCltA" }),
		"an ID token of Keycloak":    p.token(k, func(c jwt.MapClaims) { c["typ"] = "ID" }),
		"a logout token":             p.token(k, func(c jwt.MapClaims) { c["events"] = map[string]any{"logout": nil} }),
		"no subject":                 p.token(k, func(c jwt.MapClaims) { delete(c, "sub") }),
		"the public key as a secret": p.sign(jwt.SigningMethodHS256, k.kid, asPEM, valid),
		"no signature":               p.sign(jwt.SigningMethodNone, k.kid, jwt.UnsafeAllowNoneSignatureType, valid),
		"another key, the same kid":  p.sign(jwt.SigningMethodES256, k.kid, other, valid),
		"no kid":                     p.sign(jwt.SigningMethodES256, "", k.private, valid),
		"junk":                       "junk",
	} {
		if who, err := ask(i, token); !fault.Is(err, fault.Unauthenticated) || !who.Anonymous() {
			t.Errorf("%s: got %+v, %v", name, who, err)
		}
	}
	inTime := p.token(k, func(c jwt.MapClaims) { c["exp"] = p.now.Add(-4 * time.Second).Unix() })
	if _, err := ask(i, inTime); err != nil {
		t.Errorf("clocks that are 4 s apart: %v", err)
	}
}

// A key that is not known has the keys fetched again, but not for every token that a stranger makes up. Keys that the
// issuer takes back end.
func TestRotation(t *testing.T) {
	p := newProvider(t)
	first := p.rotate()
	i := p.open()
	old := p.token(first, nil)
	if _, err := ask(i, old); err != nil {
		t.Fatal(err)
	}
	second := p.rotate()
	p.set(func() { p.now = p.now.Add(10 * time.Second) })
	for name, token := range map[string]string{"the new key": p.token(second, nil), "the old one": old} {
		if _, err := ask(i, token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger := key{"made up", first.private}
	for range 100 {
		if _, err := ask(i, p.token(stranger, nil)); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("a key that is made up: %v", err)
		}
	}
	if p.fetched != 2 {
		t.Errorf("the keys were fetched %d times, want 2", p.fetched)
	}
	p.set(func() { p.keys.Keys = p.keys.Keys[:1]; p.now = p.now.Add(16 * time.Minute) })
	if _, err := ask(i, old); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a key that was taken back: %v", err)
	}
}

// While the issuer is away its known keys count. Before they are known a token is not refused for good.
func TestIssuerIsAway(t *testing.T) {
	p := newProvider(t)
	k := p.rotate()
	p.set(func() { p.down = true })
	i, token := p.open(), p.token(k, nil)
	for range 2 { // the second does not ask the issuer
		if _, err := ask(i, token); !fault.Is(err, fault.Unavailable) || fault.RetryAfter(err) == 0 {
			t.Errorf("without keys: %v", err)
		}
	}
	p.set(func() { p.down = false; p.now = p.now.Add(time.Second) })
	if _, err := ask(i, token); err != nil {
		t.Fatal(err)
	}
	p.set(func() { p.down = true; p.now = p.now.Add(20 * time.Minute) })
	if _, err := ask(i, token); err != nil {
		t.Errorf("with known keys: %v", err)
	}
	if _, err := ask(i, p.token(key{"made up", k.private}, nil)); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a key that is made up: %v", err)
	}
}

// A configuration of another issuer, or keys at an address that others can change on the way, are not taken.
func TestDiscovery(t *testing.T) {
	p := newProvider(t)
	k := p.rotate()
	p.set(func() { p.issuer = "https://login.example/realm" })
	if _, err := ask(p.open(), p.token(k, nil)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("another issuer: %v", err)
	}
	for name, c := range map[string]oidc.Config{
		"http":        {Issuer: "http://login.example", Audience: "shop"},
		"no URL":      {Issuer: "login.example", Audience: "shop"},
		"a password":  {Issuer: "https://a:b@login.example", Audience: "shop"},
		"no audience": {Issuer: "https://login.example"},
	} {
		if _, err := oidc.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// own accepts every token as that of a user.
type own struct{}

func (own) Authenticate(*http.Request) (auth.Principal, error) {
	return auth.Principal{Subject: "user"}, nil
}

// The iss claim chooses who checks a token. Without the settings nothing changes.
func TestBeside(t *testing.T) {
	p := newProvider(t)
	k := p.rotate()
	vars := map[string]string{}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	if a, err := oidc.Beside(own{}, lookup, nil); err != nil || a != (own{}) {
		t.Errorf("without settings: %v, %v", a, err)
	}
	vars["EBB_OIDC_ISSUER"] = p.issuer
	if _, err := oidc.Beside(own{}, lookup, nil); err == nil {
		t.Error("accepted without an audience")
	}
	vars["EBB_OIDC_AUDIENCE"] = "shop"
	for _, roles := range []string{"admin", "=admin", "x=", "x=admin,x=customer"} {
		vars["EBB_OIDC_ROLES"] = roles
		if _, err := oidc.Beside(own{}, lookup, nil); err == nil {
			t.Errorf("accepted the roles %q", roles)
		}
	}
	vars["EBB_OIDC_ROLES"] = "x=admin"
	a, err := oidc.Beside(own{}, lookup, nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign := p.token(k, func(c jwt.MapClaims) { c["iss"] = "https://login.example" })
	for name, token := range map[string]string{"another issuer": foreign, "junk": "junk", "dots": "a.b.c"} {
		if who, err := ask(a, token); err != nil || who.Subject != "user" {
			t.Errorf("%s: got %+v, %v", name, who, err)
		}
	}
	// The system does not trust the certificate of the provider, so that it is away.
	if _, err := ask(a, p.token(k, nil)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the issuer: %v", err)
	}
}

// With a claim for scopes a token may do what its claim names, and without the claim nothing. Without the setting
// scopes mean nothing.
func TestScopes(t *testing.T) {
	p := newProvider(t)
	k := p.rotate()
	config := oidc.Config{
		Issuer: p.issuer, Audience: "shop", Client: p.server.Client(), Now: func() time.Time { return p.now },
	}
	for _, c := range []struct {
		setting string
		scope   any
		scoped  bool
		want    []string
	}{
		{"scope", "orders:read  flags:read", true, []string{"orders:read", "flags:read"}},
		{"scope", []string{"orders:read", "x"}, true, []string{"orders:read", "x"}},
		{"scope", 7, true, nil},
		{"scp", "orders:read", true, nil},
		{"", "orders:read", false, nil},
	} {
		config.ScopesClaim = c.setting
		i, err := oidc.New(config)
		if err != nil {
			t.Fatal(err)
		}
		token := p.token(k, func(claims jwt.MapClaims) { claims["scope"] = c.scope })
		for range 2 { // the second time it is known
			who, err := ask(i, token)
			if err != nil || who.Scoped != c.scoped || !slices.Equal(who.Scopes, c.want) {
				t.Errorf("%q, %v: got %v %v, %v", c.setting, c.scope, who.Scoped, who.Scopes, err)
			}
		}
	}
}

// With the setting, the roles of staff count only in a token of a sign-in that was strong enough.
func TestStaffACR(t *testing.T) {
	p := newProvider(t)
	k := p.rotate()
	i, err := oidc.New(oidc.Config{
		Issuer: p.issuer, Audience: "shop", Client: p.server.Client(), Now: func() time.Time { return p.now },
		Roles: map[string]string{"*": "customer", "a": "admin"}, StaffACR: []string{"phr", "gold"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for acr, want := range map[any]string{
		"gold": "[admin customer]", "phr": "[admin customer]", "silver": "[customer]", "": "[customer]", 3: "[customer]",
	} {
		who, err := ask(i, p.token(k, func(c jwt.MapClaims) { c["roles"], c["acr"] = "a", acr }))
		if got := fmt.Sprint(who.Roles); err != nil || got != want {
			t.Errorf("acr %v: got %s, %v", acr, got, err)
		}
	}
}

// slowly fails after the whole time of a fetch has passed.
type slowly struct {
	p     *provider
	tried int
}

func (s *slowly) RoundTrip(*http.Request) (*http.Response, error) {
	s.p.set(func() { s.tried++; s.p.now = s.p.now.Add(5 * time.Second) })
	return nil, context.DeadlineExceeded
}

// Of many requests that wait for an issuer that does not answer, one asks it, and all are told: they do not wait for
// each other's time in turn.
func TestIssuerThatHangs(t *testing.T) {
	p := newProvider(t)
	k, s := p.rotate(), &slowly{p: p}
	i, err := oidc.New(oidc.Config{
		Issuer: p.issuer, Audience: "shop", Client: &http.Client{Transport: s},
		Now: func() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	token := p.token(k, nil)
	for range 5 {
		if _, err := ask(i, token); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v", err)
		}
	}
	if s.tried != 1 {
		t.Errorf("the issuer was asked %d times", s.tried)
	}
	p.set(func() { p.now = p.now.Add(time.Second) })
	if _, _ = ask(i, token); s.tried != 2 {
		t.Errorf("a second later it was asked %d times", s.tried)
	}
}
