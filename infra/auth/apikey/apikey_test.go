package apikey_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Every key is accepted, and none with one character changed, two exchanged, or some missing.
func TestChecksum(t *testing.T) {
	key := apikey.New()
	if !apikey.Valid(key) || !strings.HasPrefix(key, "ebb_") || key == apikey.New() {
		t.Fatalf("got %q", key)
	}
	wrong := []string{"", "ebb_", key[:len(key)-1], key + "0", strings.ToUpper(key), " " + key}
	for i := range key {
		for _, c := range "0aZ_é" {
			wrong = append(wrong, key[:i]+string(c)+key[i+1:])
		}
		if i > 0 {
			wrong = append(wrong, key[:i-1]+key[i:i+1]+key[i-1:i]+key[i+1:])
		}
	}
	for _, text := range wrong {
		if text != key && apikey.Valid(text) {
			t.Errorf("%q is accepted", text)
		}
	}
}

// tokens accepts the token "good", as an authenticator beside API keys.
type tokens struct{}

func (tokens) Authenticate(r *http.Request) (auth.Principal, error) {
	switch r.Header.Get("Authorization") {
	case "":
		return auth.Principal{}, nil
	case "Bearer good":
		return auth.Principal{Subject: "ada"}, nil
	}
	return auth.Principal{}, fault.New(fault.Unauthenticated, "no good token")
}

// A key is taken from either field, and a request with two credentials is refused.
func TestBeside(t *testing.T) {
	key := apikey.New()
	typo := key[:10] + "_" + key[11:]
	for name, c := range map[string]struct {
		header  http.Header
		keyHash string
		subject string
		refused bool
	}{
		"nothing":              {http.Header{}, "", "", false},
		"a token":              {http.Header{"Authorization": {"Bearer good"}}, "", "ada", false},
		"a bad token":          {http.Header{"Authorization": {"Bearer bad"}}, "", "", true},
		"a key":                {http.Header{"Authorization": {"Bearer " + key}}, apikey.Hash(key), "", false},
		"a key, other case":    {http.Header{"Authorization": {"bearer  " + key}}, apikey.Hash(key), "", false},
		"a key of its own":     {http.Header{apikey.Header: {key}}, apikey.Hash(key), "", false},
		"a typing error":       {http.Header{"Authorization": {"Bearer " + typo}}, "", "", true},
		"another typing error": {http.Header{apikey.Header: {typo}}, "", "", true},
		"no key":               {http.Header{apikey.Header: {""}}, "", "", true},
		"a token as a key":     {http.Header{apikey.Header: {"good"}}, "", "", true},
		"key and token":        {http.Header{apikey.Header: {key}, "Authorization": {"Bearer good"}}, "", "", true},
		"two keys":             {http.Header{apikey.Header: {key, key}}, "", "", true},
		"two in one field":     {http.Header{apikey.Header: {key + ", " + key}}, "", "", true},
		"twice":                {http.Header{"Authorization": {"Bearer " + key, "Bearer " + key}}, "", "", true},
		"basic":                {http.Header{"Authorization": {"Basic " + key}}, "", "", true},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = c.header
		p, err := apikey.Beside(tokens{}).Authenticate(r)
		if p.KeyHash != c.keyHash || p.Subject != c.subject || fault.Is(err, fault.Unauthenticated) != c.refused {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
		if err != nil && strings.Contains(err.Error(), key[4:20]) {
			t.Errorf("%s: the error tells the key: %v", name, err)
		}
	}
	if apikey.Beside(nil) != nil {
		t.Error("without an authenticator there is one")
	}
}

// Changes of a key give the same result in every order and number. A revoked key stays revoked.
func TestKnownCommutes(t *testing.T) {
	now := time.Unix(1000, 0)
	made := apikey.Known{ID: "k", Subject: "ada", Roles: []string{"admin", "customer"}, Version: 1, Expires: 2000}
	narrowed, revoked, late := made, made, made
	narrowed.Roles, narrowed.Version = []string{"customer"}, 2
	revoked.Version, revoked.Revoked = 3, true
	late.Version, late.Expires = 9, 1000
	learn := func(changes ...apikey.Known) (k apikey.Known) {
		for _, c := range changes {
			k.Learn(c, now)
		}
		return k
	}
	for _, order := range [][]apikey.Known{
		{made, narrowed}, {narrowed, made}, {made, narrowed, made}, {late, narrowed}, {narrowed, narrowed, late},
	} {
		if k := learn(order...); !slices.Equal(k.Roles, []string{"customer"}) || k.Version != 2 {
			t.Errorf("%v: got %+v", order, k)
		}
	}
	for _, order := range [][]apikey.Known{
		{made, narrowed, revoked}, {revoked, made, narrowed}, {narrowed, revoked, made}, {revoked, revoked},
	} {
		k := learn(order...)
		if _, err := k.Principal("h", now); !k.Revoked || !fault.Is(err, fault.Unauthenticated) || len(k.Roles) > 0 {
			t.Errorf("%v: got %+v, %v", order, k, err)
		}
	}
}

// A key is refused from its expiry on, and while it is not known.
func TestPrincipal(t *testing.T) {
	k := apikey.Known{
		ID: "k", Subject: "ada", Roles: []string{"customer"}, Scopes: []string{"orders:read"}, Version: 1, Expires: 2000,
	}
	p, err := k.Principal("h", time.Unix(1999, 999))
	if err != nil || p.Subject != "ada" || p.Key != "k" || p.KeyHash != "h" || !p.Is("customer") ||
		!slices.Equal(p.Scopes, k.Scopes) || p.ExpiresAt.Unix() != 2000 {
		t.Errorf("got %+v, %v", p, err)
	}
	if p, err := k.Principal("h", time.Unix(2000, 0)); !fault.Is(err, fault.Unauthenticated) || !p.Anonymous() {
		t.Errorf("expired: got %+v, %v", p, err)
	}
	if _, err := (apikey.Known{}).Principal("h", time.Unix(0, 0)); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("unknown: got %v", err)
	}
}
