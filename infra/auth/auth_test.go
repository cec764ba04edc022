package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ebb-dev/ebb/infra/fault"
)

const (
	issuer   = "https://shop.example"
	audience = "shop"
)

// world is an issuer and a verifier with a clock that a test can advance.
type world struct {
	ring     *KeyRing
	issuer   *Issuer
	verifier *Verifier
	mu       sync.Mutex
	now      time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ring, err := GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ring: ring, now: time.Date(2026, 5, 4, 3, 2, 1, 500, time.UTC)}
	w.issuer = NewIssuer(ring, issuer, audience, w.clock)
	w.verifier = newVerifier(t, VerifierConfig{Keys: ring.Public(), Issuer: issuer, Audience: audience, Clock: w.clock})
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newVerifier(t testing.TB, c VerifierConfig) *Verifier {
	t.Helper()
	v, err := NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (w *world) token(t testing.TB) string {
	t.Helper()
	token, _, err := w.issuer.Issue(Grant{Subject: "u-1", Roles: []string{RoleCustomer}, Session: "s-1", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// good returns the claims of a token that is accepted, for a test to change.
func (w *world) good() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": issuer,
		"aud": audience,
		"sub": "u-1",
		"exp": w.now.Add(time.Hour).Unix(),
		"iat": w.now.Unix(),
	}
}

func (w *world) sign(t testing.TB, c jwt.MapClaims, header map[string]any) string {
	t.Helper()
	return signWith(t, jwt.SigningMethodEdDSA, w.ring.keys[0].private, w.ring.keys[0].kid, c, header)
}

func signWith(t testing.TB, m jwt.SigningMethod, key any, kid string, c jwt.MapClaims, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(m, c)
	token.Header["kid"] = kid
	for name, value := range header {
		token.Header[name] = value
		if value == nil {
			delete(token.Header, name)
		}
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func refused(t *testing.T, v *Verifier, token, why string) {
	t.Helper()
	p, err := v.Verify(token)
	if !fault.Is(err, fault.Unauthenticated) {
		t.Fatalf("Verify = %+v, %v; want a refusal", p, err)
	}
	if !p.Anonymous() {
		t.Errorf("a refused token speaks for %+v", p)
	}
	if got := fault.Public(err); !strings.Contains(got, why) {
		t.Errorf("message = %q; want it to say %q", got, why)
	}
}

func TestVerify(t *testing.T) {
	w := newWorld(t)
	token, expires, err := w.issuer.Issue(
		Grant{Subject: "u-1", Roles: []string{RoleCustomer, "x"}, Session: "s-1", TTL: time.Hour},
	)
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 5, 4, 4, 2, 1, 0, time.UTC); !expires.Equal(want) {
		t.Errorf("expires = %v; want %v", expires, want)
	}
	for _, cached := range []bool{false, true} {
		p, err := w.verifier.Verify(token)
		if err != nil {
			t.Fatalf("cached %v: %v", cached, err)
		}
		if p.Subject != "u-1" || p.Session != "s-1" || p.TokenID == "" || !p.ExpiresAt.Equal(expires) ||
			!p.Is(RoleCustomer) ||
			!p.Is("x") ||
			p.Is(RoleAdmin) {
			t.Errorf("cached %v: principal = %+v", cached, p)
		}
		p.Roles[0] = RoleAdmin // a caller's copy is its own
	}
	if p, _ := w.verifier.Verify(token); p.Is(RoleAdmin) {
		t.Error("a caller changed the roles of the cached principal")
	}
}

// Other claims that are text are the principal's, if they are short.
func TestVerifyReadsOtherClaims(t *testing.T) {
	w := newWorld(t)
	c := w.good()
	c["plan"], c["org"], c["level"], c["long"] = "gold", "o-1", 3, strings.Repeat("a", 257)
	p, err := w.verifier.Verify(w.sign(t, c, nil))
	if want := map[string]string{"plan": "gold", "org": "o-1"}; err != nil || !maps.Equal(p.Claims, want) {
		t.Errorf("got %v, %v, want %v", p.Claims, err, want)
	}
	if p, err := w.verifier.Verify(w.token(t)); err != nil || p.Claims != nil || p.Session != "s-1" {
		t.Errorf("without other claims: got %+v, %v", p, err)
	}
}

func TestVerifyRefusesByClaim(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name   string
		spoil  func(c jwt.MapClaims)
		header map[string]any
		why    string
	}{
		{"expired", func(c jwt.MapClaims) { c["exp"] = w.now.Add(-6 * time.Second).Unix() }, nil, "has expired"},
		{"no exp", func(c jwt.MapClaims) { delete(c, "exp") }, nil, "(exp)"},
		{"exp of a wrong type", func(c jwt.MapClaims) { c["exp"] = "soon" }, nil, "not a well-formed"},
		{"another iss", func(c jwt.MapClaims) { c["iss"] = issuer + "/" }, nil, "(iss)"},
		{"no iss", func(c jwt.MapClaims) { delete(c, "iss") }, nil, "(iss)"},
		{"another aud", func(c jwt.MapClaims) { c["aud"] = "bank" }, nil, "(aud)"},
		{"no aud", func(c jwt.MapClaims) { delete(c, "aud") }, nil, "(aud)"},
		{"no sub", func(c jwt.MapClaims) { delete(c, "sub") }, nil, "(sub)"},
		{"empty sub", func(c jwt.MapClaims) { c["sub"] = "" }, nil, "(sub)"},
		{"not yet valid", func(c jwt.MapClaims) { c["nbf"] = w.now.Add(7 * time.Second).Unix() }, nil, "(nbf)"},
		{"from the future", func(c jwt.MapClaims) { c["iat"] = w.now.Add(7 * time.Second).Unix() }, nil, "(iat)"},
		{"no kid", func(jwt.MapClaims) {}, map[string]any{"kid": nil}, "(kid)"},
		{"kid of a wrong type", func(jwt.MapClaims) {}, map[string]any{"kid": 7}, "(kid)"},
		{"unknown kid", func(jwt.MapClaims) {}, map[string]any{"kid": "other"}, "(kid)"},
		{"critical extension", func(jwt.MapClaims) {}, map[string]any{"crit": []string{"b64"}}, "critical"},
		{"alg that is unknown", func(jwt.MapClaims) {}, map[string]any{"alg": "XX"}, "(alg)"},
		{"alg none over a signature", func(jwt.MapClaims) {}, map[string]any{"alg": "none"}, "(alg)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := w.good()
			test.spoil(c)
			refused(t, w.verifier, w.sign(t, c, test.header), test.why)
		})
	}
	if _, err := w.verifier.Verify(w.sign(t, w.good(), nil)); err != nil {
		t.Errorf("the token that was not spoilt is refused too: %v", err)
	}
}

func TestVerifyAllowsForClocksThatDiffer(t *testing.T) {
	w := newWorld(t)
	c := w.good()
	c["iat"], c["exp"] = w.now.Add(4*time.Second).Unix(), w.now.Add(-3*time.Second).Unix()
	if _, err := w.verifier.Verify(w.sign(t, c, nil)); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefusesForgeries(t *testing.T) {
	w := newWorld(t)
	kid, public := w.ring.keys[0].kid, w.ring.keys[0].private.Public().(ed25519.PublicKey)
	other := newWorld(t)
	good := w.token(t)
	last := strings.LastIndex(good, ".")
	parts, others := strings.Split(good, "."), strings.Split(other.token(t), ".")
	swapped := strings.Join([]string{parts[0], others[1], parts[2]}, ".")
	x := w.ring.Public().Keys[0].X
	tests := map[string]struct{ token, why string }{
		"alg none": {
			signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, w.good(), nil),
			"(alg)",
		},
		"HS256 by public key": {signWith(t, jwt.SigningMethodHS256, []byte(public), kid, w.good(), nil), "(alg)"},
		"HS256 by its JWK":    {signWith(t, jwt.SigningMethodHS256, []byte(x), kid, w.good(), nil), "(alg)"},
		"another's key, our kid": {
			signWith(t, jwt.SigningMethodEdDSA, other.ring.keys[0].private, kid, w.good(), nil),
			"signature",
		},
		"no signature":     {good[:last+1], "signature"},
		"another's claims": {swapped, "signature"},
		"two parts":        {good[:last], "well-formed"},
		"rubbish":          {"rubbish", "well-formed"},
		"nothing":          {"", "well-formed"},
		"very long":        {strings.Repeat("a", maxToken+1), "longer"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { refused(t, w.verifier, test.token, test.why) })
	}
}

// The check must hold even if algorithms and keys of several kinds are accepted.
func TestVerifyBindsTheAlgorithmToTheKey(t *testing.T) {
	w := newWorld(t)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	ecJWK, err := NewJWK("ec", ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	rsJWK, err := NewJWK("rs", rs.Public())
	if err != nil {
		t.Fatal(err)
	}
	bound := rsJWK
	bound.Kid, bound.Alg = "bound", "PS256"
	keys := JWKS{Keys: append(w.ring.Public().Keys, ecJWK, rsJWK, bound)}
	v := newVerifier(
		t,
		VerifierConfig{
			Keys:       keys,
			Issuer:     issuer,
			Audience:   audience,
			Clock:      w.clock,
			Algorithms: []string{"EdDSA", "ES256", "RS256", "PS256"},
		},
	)

	for name, token := range map[string]string{
		"EdDSA": w.token(t),
		"ES256": signWith(t, jwt.SigningMethodES256, ec, "ec", w.good(), nil),
		"RS256": signWith(t, jwt.SigningMethodRS256, rs, "rs", w.good(), nil),
		"PS256": signWith(t, jwt.SigningMethodPS256, rs, "bound", w.good(), nil),
	} {
		if _, err := v.Verify(token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused(t, v, signWith(t, jwt.SigningMethodES256, ec, "rs", w.good(), nil), "does not fit")
	refused(t, v, signWith(t, jwt.SigningMethodRS256, rs, "bound", w.good(), nil), "does not fit")
	refused(t, w.verifier, signWith(t, jwt.SigningMethodES256, ec, "ec", w.good(), nil), "(alg)")
}

// raw signs a header and claims as they are written here.
func (w *world) raw(t testing.TB, header, claims string) string {
	t.Helper()
	text := encode([]byte(header)) + "." + encode([]byte(claims))
	return text + "." + encode(ed25519.Sign(w.ring.keys[0].private, []byte(text)))
}

// A token that two readers may understand differently, or that is of another type, is refused although its signature
// is right (RFC 7519 section 4, RFC 8725 section 3.11).
func TestVerifyRefusesWhatIsUnclear(t *testing.T) {
	w := newWorld(t)
	header := fmt.Sprintf(`{"alg":"EdDSA","kid":%q}`, w.ring.keys[0].kid)
	good := fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"u-1","exp":%d}`, issuer, audience, w.now.Add(time.Hour).Unix())
	with := func(text, member string) string { return text[:len(text)-1] + "," + member + "}" }
	for _, accepted := range []string{
		header, with(header, `"typ":"JWT"`), with(header, `"typ":"at+jwt"`), with(header, `"typ":"application/AT+JWT"`),
	} {
		if _, err := w.verifier.Verify(w.raw(t, accepted, good)); err != nil {
			t.Errorf("%s: %v", accepted, err)
		}
	}
	for why, token := range map[string]string{
		"claim twice":               w.raw(t, header, with(good, `"sub":"u-2"`)),
		"claim in another case":     w.raw(t, header, with(good, `"Sub":"u-2"`)),
		"roles in another case":     w.raw(t, header, with(good, `"ROLES":["admin"]`)),
		"other claim twice":         w.raw(t, header, with(good, `"plan":"gold","plan":"free"`)),
		"member of a claim twice":   w.raw(t, header, with(good, `"x":{"a":1,"a":2}`)),
		"header twice":              w.raw(t, with(header, `"kid":"other"`), good),
		"header in another case":    w.raw(t, with(header, `"Crit":["x"]`), good),
		"escaped name that is same": w.raw(t, header, with(good, `"\u0073ub":"u-2"`)),
	} {
		t.Run(why, func(t *testing.T) { refused(t, w.verifier, token, "not a well-formed JWT") })
	}
	for _, typ := range []string{`"secevent+jwt"`, `"logout+jwt"`, `"id_token"`, `""`, `7`} {
		refused(t, w.verifier, w.raw(t, with(header, `"typ":`+typ), good), "(typ)")
	}
}

// RFC 7518 section 3.5: the salt of PS256 is as long as its hash.
func TestVerifyRefusesOtherSalts(t *testing.T) {
	w := newWorld(t)
	key, _ := rsa.GenerateKey(rand.Reader, 2048)
	jwk, err := NewJWK("rs", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, VerifierConfig{Keys: JWKS{Keys: []JWK{jwk}}, Issuer: issuer, Audience: audience, Clock: w.clock,
		Algorithms: []string{"PS256"}})
	for salt, accepted := range map[int]bool{rsa.PSSSaltLengthEqualsHash: true, 20: false, 64: false} {
		method := *jwt.SigningMethodPS256
		method.Options = &rsa.PSSOptions{SaltLength: salt}
		token := signWith(t, &method, key, "rs", w.good(), nil)
		if accepted {
			if _, err := v.Verify(token); err != nil {
				t.Error(err)
			}
			continue
		}
		refused(t, v, token, "signature")
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	keys := newWorld(t).ring.Public()
	with := func(change func(*JWK)) JWKS {
		k := keys.Keys[0]
		change(&k)
		return JWKS{Keys: []JWK{k}}
	}
	for name, c := range map[string]VerifierConfig{
		"no issuer":            {Keys: keys, Audience: audience},
		"no audience":          {Keys: keys, Issuer: issuer},
		"no key":               {Issuer: issuer, Audience: audience},
		"algorithm HS256":      {Keys: keys, Issuer: issuer, Audience: audience, Algorithms: []string{"EdDSA", "HS256"}},
		"algorithm none":       {Keys: keys, Issuer: issuer, Audience: audience, Algorithms: []string{"EdDSA", "none"}},
		"no fitting key":       {Keys: keys, Issuer: issuer, Audience: audience, Algorithms: []string{"ES256"}},
		"a key for encryption": {Keys: with(func(k *JWK) { k.Use = "enc" }), Issuer: issuer, Audience: audience},
		"a key for signing":    {Keys: with(func(k *JWK) { k.Ops = []string{"sign"} }), Issuer: issuer, Audience: audience},
		"a key twice":          {Keys: JWKS{Keys: append(keys.Keys, keys.Keys...)}, Issuer: issuer, Audience: audience},
	} {
		if _, err := NewVerifier(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRotation(t *testing.T) {
	w := newWorld(t)
	old := w.token(t)
	rotated, err := w.ring.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	saved, err := rotated.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := ParseKeyRing(saved)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(loaded.Public().Keys); got != 2 {
		t.Fatalf("%d keys; want 2", got)
	}
	v := newVerifier(t, VerifierConfig{Keys: loaded.Public(), Issuer: issuer, Audience: audience, Clock: w.clock})
	fresh, _, err := NewIssuer(loaded, issuer, audience, w.clock).Issue(Grant{Subject: "u-2", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{old, fresh} {
		if _, err := v.Verify(token); err != nil {
			t.Errorf("after the rotation: %v", err)
		}
	}
	refused(t, w.verifier, fresh, "(kid)") // whose keys lack the new one
}

func TestCacheDoesNotOutliveExpiry(t *testing.T) {
	w := newWorld(t)
	token := w.token(t)
	if _, err := w.verifier.Verify(token); err != nil || w.verifier.cache.get(token) == nil {
		t.Fatalf("not cached: %v", err)
	}
	w.pass(time.Hour + 4*time.Second)
	if _, err := w.verifier.Verify(token); err != nil {
		t.Errorf("within the leeway: %v", err)
	}
	w.pass(time.Second)
	refused(t, w.verifier, token, "has expired")
	w.verifier.cache = newCache()
	refused(t, w.verifier, token, "has expired") // and the library agrees
}

func TestCacheKeepsNoRefusedToken(t *testing.T) {
	w := newWorld(t)
	c := w.good()
	c["aud"] = "bank"
	token := w.sign(t, c, nil)
	refused(t, w.verifier, token, "(aud)")
	if w.verifier.cache.get(token) != nil {
		t.Error("a refused token is in the cache")
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	for i := range 4 * sets * ways {
		c.put(fmt.Sprint("token ", i), Principal{Subject: fmt.Sprint(i)})
	}
	held := 0
	for i := range 4 * sets * ways {
		if e := c.get(fmt.Sprint("token ", i)); e != nil {
			if held++; e.principal.Subject != fmt.Sprint(i) {
				t.Fatalf("token %d speaks for %s", i, e.principal.Subject)
			}
		}
	}
	if held == 0 || held > sets*ways {
		t.Errorf("%d tokens held; want 1 to %d", held, sets*ways)
	}
}

func TestVerifyConcurrently(t *testing.T) {
	w := newWorld(t)
	tokens := []string{w.token(t), w.token(t), w.token(t)}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				if _, err := w.verifier.Verify(tokens[(i+j)%len(tokens)]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestFromHeader(t *testing.T) {
	w := newWorld(t)
	token := w.token(t)
	for _, header := range []string{"Bearer " + token, "bearer " + token, "BEARER  " + token + " "} {
		if p, err := w.verifier.FromHeader(header); err != nil || p.Subject != "u-1" {
			t.Errorf("%.10q: %+v, %v", header, p, err)
		}
	}
	if p, err := w.verifier.FromHeader(""); err != nil || !p.Anonymous() {
		t.Errorf("no header: %+v, %v", p, err)
	}
	for _, header := range []string{
		"Bearer", "Bearer ", "Basic dTpw", token, "Bearer " + token + " " + token, "Bearer\t" + token,
	} {
		if _, err := w.verifier.FromHeader(header); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%.10q: %v", header, err)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	w := newWorld(t)
	for _, g := range []Grant{
		{TTL: time.Hour}, {Subject: "u-1"}, {Subject: "u-1", TTL: -time.Hour}, {Subject: "u-1", TTL: time.Millisecond},
	} {
		if token, _, err := w.issuer.Issue(g); err == nil || token != "" {
			t.Errorf("%+v: %q, %v", g, token, err)
		}
	}
}

func TestContext(t *testing.T) {
	if p := From(context.Background()); !p.Anonymous() {
		t.Errorf("an empty context knows %+v", p)
	}
	if p := From(With(context.Background(), Principal{Subject: "u-1"})); p.Subject != "u-1" {
		t.Errorf("principal = %+v", p)
	}
}

func TestHashToken(t *testing.T) {
	if got, want := HashToken("abc"), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"; got != want {
		t.Errorf("HashToken = %s; want %s", got, want)
	}
}

func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	good := w.token(f)
	for _, seed := range []string{"", ".", "..", good, good + "=", strings.Repeat(".", 9),
		signWith(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, w.ring.keys[0].kid, w.good(), nil)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		p, err := w.verifier.Verify(token)
		if token == good {
			return // what the seeds hold is accepted, and nothing else can be
		}
		if err == nil || !p.Anonymous() {
			t.Fatalf("accepted %q as %+v", token, p)
		}
		if !fault.Is(err, fault.Unauthenticated) || fault.Public(err) == "" {
			t.Fatalf("%q: %v", token, err)
		}
	})
}

func BenchmarkVerifyCached(b *testing.B) {
	w := newWorld(b)
	w.verifier.clock = time.Now
	token, _, err := NewIssuer(
		w.ring,
		issuer,
		audience,
		nil,
	).Issue(Grant{Subject: "u-1", Roles: []string{RoleCustomer}, TTL: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	v := newVerifier(b, VerifierConfig{Keys: w.ring.Public(), Issuer: issuer, Audience: audience})
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(token); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := v.Verify(token); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("uncached", func(b *testing.B) {
		for b.Loop() {
			v.cache = newCache()
			if _, err := v.Verify(token); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestPublicSetHoldsNoPrivateMember(t *testing.T) {
	w := newWorld(t)
	data, err := json.Marshal(w.ring.Public())
	if err != nil {
		t.Fatal(err)
	}
	seed := encode(w.ring.keys[0].private.Seed())
	for _, text := range []string{string(data), fmt.Sprintf("%v %+v %#v %s", w.ring, w.ring, w.ring, w.ring)} {
		if strings.Contains(text, seed) || strings.Contains(text, `"d"`) ||
			strings.Contains(text, fmt.Sprintf("%#v", w.ring.keys[0].private)) ||
			strings.Contains(text, fmt.Sprint(w.ring.keys[0].private)) {
			t.Errorf("a private key shows in %s", text)
		}
	}
}
