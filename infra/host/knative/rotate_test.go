package knative_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/keyfile"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/host/knative"
)

// vault is a test server in place of an API server with one Secret.
type vault struct {
	*httptest.Server
	t       *testing.T
	account string // directory of a service account
	token   string // that the server takes
	data    map[string][]byte
	version int
	writes  int
	race    func() // called once before a write
	refuse  int    // the status of each answer; 0: none
}

func newVault(t *testing.T) *vault {
	t.Helper()
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	private, err := ring.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(ring.Public())
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{t: t, account: t.TempDir(), token: "sesame", version: 7, data: map[string][]byte{
		knative.SigningKeys: append(private, '\n'), knative.VerificationKeys: public, "other": []byte("stays"),
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/shop/secrets/keys", v.get)
	mux.HandleFunc("PUT /api/v1/namespaces/shop/secrets/keys", v.put)
	v.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer "+v.token:
			w.WriteHeader(http.StatusUnauthorized)
		case v.refuse != 0:
			w.Header().Set("Location", "https://example.com/")
			w.WriteHeader(v.refuse)
		default:
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(v.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.Certificate().Raw})
	for name, text := range map[string]string{"token": "sesame\n", "namespace": "shop", "ca.crt": string(ca)} {
		v.write(filepath.Join(v.account, name), []byte(text))
	}
	return v
}

func (v *vault) write(path string, text []byte) {
	v.t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		v.t.Fatal(err)
	}
}

// secret is a Secret as an API server has it, with a member that RotateKeys does not know.
type secret struct {
	Kind      string
	Metadata  map[string]any
	Data      map[string][]byte
	Immutable *bool
}

func (v *vault) get(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "Secret", "data": v.data, "immutable": false,
		"metadata": map[string]any{
			"name": "keys", "resourceVersion": fmt.Sprint(v.version), "labels": map[string]any{"a": "b"},
		},
	})
}

func (v *vault) put(w http.ResponseWriter, r *http.Request) {
	if race := v.race; race != nil {
		v.race = nil
		race()
	}
	var s secret
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		v.t.Error(err)
	}
	labels, _ := s.Metadata["labels"].(map[string]any)
	if s.Kind != "Secret" || s.Immutable == nil || labels["a"] != "b" || string(s.Data["other"]) != "stays" {
		v.t.Errorf("members are lost: %+v", s)
	}
	if s.Metadata["resourceVersion"] != fmt.Sprint(v.version) {
		w.WriteHeader(http.StatusConflict)
		return
	}
	v.version++
	v.writes++
	v.data = s.Data
}

func (v *vault) config(now time.Time) knative.RotateConfig {
	return knative.RotateConfig{
		Server: v.URL, Secret: "keys", Lead: time.Hour, Keep: 15 * time.Minute, Account: v.account,
		Now: func() time.Time { return now },
	}
}

func (v *vault) ring() *auth.KeyRing {
	v.t.Helper()
	ring, err := auth.ParseKeyRing(v.data[knative.SigningKeys])
	if err != nil {
		v.t.Fatal(err)
	}
	return ring
}

// mount writes the Secret into a directory as a kubelet does, which changes one link.
func (v *vault) mount(dir string) {
	v.t.Helper()
	versioned := filepath.Join(dir, fmt.Sprint("..", v.version))
	if err := os.Mkdir(versioned, 0o700); err != nil {
		v.t.Fatal(err)
	}
	for name, text := range v.data {
		v.write(filepath.Join(versioned, name), text)
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil {
				v.t.Fatal(err)
			}
		}
	}
	next := filepath.Join(dir, "..next")
	if err := os.Symlink(filepath.Base(versioned), next); err != nil {
		v.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
		v.t.Fatal(err)
	}
}

// Keys rotate in a Secret by schedule. Functions that mount it refuse no token before it ends, and none of before after
// that; the Secret reaches each of them some minutes later.
func TestRotateKeys(t *testing.T) {
	v := newVault(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := func() time.Time { return now }
	users, orders := t.TempDir(), t.TempDir()
	v.mount(users)
	v.mount(orders)
	rings, err := keyfile.Open(keyfile.Scheme+filepath.Join(users, knative.SigningKeys), auth.ParseKeyRing, clock)
	if err != nil {
		t.Fatal(err)
	}
	issuer := auth.NewRotatingIssuer(rings.Now, "ebb", "ebb", clock)
	verifier, err := keyfile.NewVerifier(keyfile.Scheme+filepath.Join(orders, knative.VerificationKeys),
		auth.VerifierConfig{Issuer: "ebb", Audience: "ebb", Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	accepts := func(token string) error {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		_, err := verifier.Authenticate(r)
		return err
	}
	const lives = 15 * time.Minute
	var tokens []string // of the last lives
	var first string
	kids := map[string]bool{}
	for minute := range 4 * 24 * 60 {
		now = now.Add(time.Minute)
		switch minute % (24 * 60) {
		case 0:
			from, err := knative.RotateKeys(t.Context(), v.config(now))
			if err != nil || !from.Equal(now.Add(time.Hour)) {
				t.Fatalf("signs from %v, %v", from, err)
			}
		case 2: // users know the next key before others do
			v.mount(users)
		case 5:
			v.mount(orders)
		}
		token, _, err := issuer.Issue(auth.Grant{Subject: "ann", TTL: lives})
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = token
		}
		if tokens = append(tokens, token); len(tokens) > int(lives/time.Minute) {
			tokens = tokens[1:]
		}
		for _, token := range []string{tokens[0], token} {
			if err := accepts(token); err != nil {
				t.Fatalf("minute %d: %v", minute, err)
			}
		}
		kids[v.ring().Public().Keys[0].Kid] = true
	}
	if len(kids) != 4 || len(v.ring().Public().Keys) > 2 {
		t.Errorf("there were %d keys, and are %d", len(kids), len(v.ring().Public().Keys))
	}
	if accepts(first) == nil {
		t.Error("the first token is still accepted")
	}
}

// The command may run twice, and beside a change of the Secret, which is not lost.
func TestRotateKeysTwice(t *testing.T) {
	v := newVault(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v.race = func() { v.version++ }
	for range 2 {
		if _, err := knative.RotateKeys(t.Context(), v.config(now)); err != nil {
			t.Fatal(err)
		}
	}
	if v.writes != 1 || len(v.ring().Public().Keys) != 2 {
		t.Errorf("%d writes, %d keys", v.writes, len(v.ring().Public().Keys))
	}
	// A public side that is stale, as another wrote the private one alone, is written again.
	v.data[knative.VerificationKeys] = []byte(`{"keys":[]}`)
	if _, err := knative.RotateKeys(t.Context(), v.config(now)); err != nil || v.writes != 2 {
		t.Errorf("%v, %d writes", err, v.writes)
	}
}

// What is refused changes nothing, and no error quotes a key.
func TestRotateKeysRefused(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		harm func(v *vault)
		want fault.Kind
	}{
		"another token":    {func(v *vault) { v.token = "other" }, fault.Denied},
		"no right":         {func(v *vault) { v.refuse = http.StatusForbidden }, fault.Denied},
		"no Secret":        {func(v *vault) { v.refuse = http.StatusNotFound }, fault.NotFound},
		"a redirect":       {func(v *vault) { v.refuse = http.StatusFound }, fault.Unavailable},
		"an outage":        {func(v *vault) { v.refuse = http.StatusBadGateway }, fault.Unavailable},
		"an immutable one": {func(v *vault) { v.refuse = http.StatusUnprocessableEntity }, fault.Invalid},
		"no keys":          {func(v *vault) { delete(v.data, knative.SigningKeys) }, fault.Invalid},
		"half a key": {
			func(v *vault) { v.data[knative.SigningKeys] = v.data[knative.SigningKeys][:90] }, fault.Invalid,
		},
		"always changed": {func(v *vault) { v.refuse = http.StatusConflict }, fault.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t)
			key := string(v.data[knative.SigningKeys])
			c.harm(v)
			_, err := knative.RotateKeys(t.Context(), v.config(now))
			if !fault.Is(err, c.want) || v.writes > 0 {
				t.Errorf("got %v, %d writes", err, v.writes)
			}
			_, d, _ := strings.Cut(key, `"d":"`)
			if d, _, _ = strings.Cut(d, `"`); d == "" || strings.Contains(fmt.Sprint(err), d) {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
	v := newVault(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := knative.RotateKeys(cancelled, v.config(now)); err == nil {
		t.Error("a cancelled context is no error")
	}
	// Another server than the cluster's is not given the token.
	stranger := newVault(t)
	cfg := v.config(now)
	cfg.Server, cfg.Account = stranger.URL, v.account
	v.write(filepath.Join(v.account, "ca.crt"), []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	if _, err := knative.RotateKeys(t.Context(), cfg); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}
