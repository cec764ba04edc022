package knative_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/host/knative"
)

func marshal(v any) ([]byte, error) { return json.Marshal(v) }

// cluster is a test server in place of an API server that issues service account tokens.
type cluster struct {
	*httptest.Server
	key   atomic.Pointer[rsa.PrivateKey]
	down  atomic.Bool
	asked atomic.Int64
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	c.rotate(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		c.asked.Add(1)
		if c.down.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		// As real API servers do, it gives another host for its keys than that of the request.
		_ = json.NewEncoder(w).Encode(
			map[string]string{"issuer": "https://cluster.example", "jwks_uri": "https://10.0.0.1:6443/openid/v1/jwks"},
		)
	})
	mux.HandleFunc("/openid/v1/jwks", func(w http.ResponseWriter, _ *http.Request) {
		key, err := auth.NewJWK(c.kid(), &c.key.Load().PublicKey)
		if err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(auth.JWKS{Keys: []auth.JWK{key}})
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func (c *cluster) rotate(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c.key.Store(key)
}

func (c *cluster) kid() string { return "key-" + c.key.Load().N.Text(16)[:8] }

func (c *cluster) token(t *testing.T, subject, audience string) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": "https://cluster.example", "sub": subject, "aud": []string{audience},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	token.Header["kid"] = c.kid()
	signed, err := token.SignedString(c.key.Load())
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

const (
	trigger  = "system:serviceaccount:shop:oidc-inventory-default"
	audience = "shop/inventory"
)

// Only a token of the cluster's issuer, with this function's audience and an allowed subject, may deliver events.
func TestSenders(t *testing.T) {
	c, forger := newCluster(t), newCluster(t)
	now := time.Now()
	senders, err := knative.NewSenders(knative.SendersConfig{
		Issuer: c.URL, Audience: audience, Subjects: []string{"system:serviceaccount:shop:oidc-*"},
		Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	h := started(t, &shop{}, knative.Config{Senders: senders})
	deliver := func(token string) int {
		r := binary(ship(t))
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		return send(h, r).Code
	}
	c.down.Store(true)
	if got := deliver(c.token(t, trigger, audience)); got != http.StatusServiceUnavailable {
		t.Errorf("the issuer is down: got %d; the event must come again", got)
	}
	c.down.Store(false)
	now = now.Add(2 * time.Second)
	for name, x := range map[string]struct {
		token string
		want  int
	}{
		"the trigger":                   {c.token(t, trigger, audience), http.StatusOK},
		"nobody":                        {"", http.StatusUnauthorized},
		"another pod's service account": {c.token(t, "system:serviceaccount:shop:default", audience), http.StatusForbidden},
		"another namespace's trigger": {
			c.token(t, "system:serviceaccount:evil:oidc-inventory", audience), http.StatusForbidden,
		},
		"an identity for another sink":   {c.token(t, trigger, "shop/payments"), http.StatusUnauthorized},
		"an identity of another cluster": {forger.token(t, trigger, audience), http.StatusUnauthorized},
		"no token":                       {"x.y.z", http.StatusUnauthorized},
	} {
		if got := deliver(x.token); got != x.want {
			t.Errorf("%s: got %d, want %d", name, got, x.want)
		}
	}
	counted(t, h, 1)

	now = now.Add(time.Minute)
	c.rotate(t)
	if got := deliver(c.token(t, trigger, audience)); got != http.StatusOK {
		t.Errorf("after the cluster's key was replaced: got %d", got)
	}
	asked := c.asked.Load()
	for range 20 {
		deliver(forger.token(t, trigger, audience))
	}
	if n := c.asked.Load() - asked; n > 0 {
		t.Errorf("forged tokens had the keys fetched %d times within %s", n, 10*time.Second)
	}
}

// A delivery with a new key is retried when the keys cannot be fetched, because a refusal would be final. Deliveries
// with a known key do not wait for a fetch.
func TestNewKey(t *testing.T) {
	c, forger := newCluster(t), newCluster(t)
	now := time.Now().Add(-5 * time.Second) // every token is newer than the fetched keys
	senders, err := knative.NewSenders(knative.SendersConfig{
		Issuer: c.URL, Audience: audience, Subjects: []string{"system:serviceaccount:shop:oidc-*"},
		Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	h := started(t, &shop{}, knative.Config{Senders: senders})
	deliver := func(what, token string, want int) {
		t.Helper()
		r := binary(ship(t))
		r.Header.Set("Authorization", "Bearer "+token)
		if got := send(h, r).Code; got != want {
			t.Errorf("%s: got %d, want %d", what, got, want)
		}
	}
	old := c.token(t, trigger, audience)
	deliver("the first", old, 200)
	c.rotate(t)
	deliver("the next, just after the keys were fetched", c.token(t, trigger, audience), 503)
	deliver("an old one", old, 200)
	now = now.Add(10 * time.Second)
	c.down.Store(true)
	deliver("the next, when the issuer is down", c.token(t, trigger, audience), 503)
	c.down.Store(false)
	deliver("just after that", c.token(t, trigger, audience), 503)
	now = now.Add(10 * time.Second)
	deliver("later", c.token(t, trigger, audience), 200)
	deliver("a forged one", forger.token(t, trigger, audience), 401)
}

// An invalid configuration is refused.
func TestSendersConfig(t *testing.T) {
	good := knative.SendersConfig{
		Issuer: "https://kubernetes.default.svc", Audience: audience, Subjects: []string{trigger},
	}
	if _, err := knative.NewSenders(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*knative.SendersConfig){
		"no issuer":       func(c *knative.SendersConfig) { c.Issuer = "kubernetes" },
		"no audience":     func(c *knative.SendersConfig) { c.Audience = "" },
		"nobody":          func(c *knative.SendersConfig) { c.Subjects = nil },
		"everybody":       func(c *knative.SendersConfig) { c.Subjects = []string{"*"} },
		"a star midway":   func(c *knative.SendersConfig) { c.Subjects = []string{"system:*:shop"} },
		"an empty sender": func(c *knative.SendersConfig) { c.Subjects = []string{""} },
	} {
		cfg := good
		change(&cfg)
		if _, err := knative.NewSenders(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
