package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"testing"
)

// rfc8037 is the public key of RFC 8037 appendix A.2, and its thumbprint that of A.3.
const (
	rfc8037           = `{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	rfc8037Thumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
)

func TestJWKSRoundTrip(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	keys := newWorld(t).ring.Public()
	for _, key := range []any{ec.Public(), rs.Public()} {
		jwk, err := NewJWK("", key)
		if err != nil {
			t.Fatal(err)
		}
		keys.Keys = append(keys.Keys, jwk)
	}
	data, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseJWKS(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed.Keys) != 3 {
		t.Fatalf("%d keys; want 3", len(parsed.Keys))
	}
	if key, _ := parsed.Keys[1].Key(); !ec.PublicKey.Equal(key) {
		t.Error("the EC key is another one")
	}
	if key, _ := parsed.Keys[2].Key(); !rs.PublicKey.Equal(key) {
		t.Error("the RSA key is another one")
	}
}

func TestThumbprint(t *testing.T) {
	set, err := ParseJWKS([]byte(`{"keys":[` + rfc8037 + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Keys[0].Thumbprint(); got != rfc8037Thumbprint {
		t.Errorf("thumbprint = %s; want that of RFC 8037", got)
	}
}

func TestParseJWKSPassesOver(t *testing.T) {
	set, err := ParseJWKS([]byte(`{"keys":[
		{"kty":"oct","kid":"o","k":"c2VjcmV0"},
		{"kty":"OKP","crv":"X25519","kid":"x","x":"AA"},
		{"kty":"EC","crv":"P-521","kid":"p","x":"AA","y":"AA"},
		{"kty":"RSA","kid":"e","use":"enc","n":"AA","e":"AQAB"},
		{"kty":"OKP","crv":"Ed25519","kid":"s","key_ops":["sign"],"x":"AA"},
		{"kty":"OKP","crv":"Ed25519","kid":"n","key_ops":[],"x":"AA"},
		` + rfc8037 + `]}`))
	if err != nil || len(set.Keys) != 1 || set.Keys[0].Kid != "a" {
		t.Errorf("%+v, %v; want the Ed25519 key alone", set, err)
	}
}

func TestParseJWKSRefuses(t *testing.T) {
	short, zeros := encode(make([]byte, 128)), encode(make([]byte, 32))
	for why, keys := range map[string]string{
		"private key":      strings.Replace(rfc8037, `"kid"`, `"d":"AA","kid"`, 1),
		"no kid":           strings.Replace(rfc8037, `"kid":"a",`, "", 1),
		"twice":            rfc8037 + "," + rfc8037,
		"x is not base64":  strings.Replace(rfc8037, "11qY", "11q=", 1),
		"x has 1 bytes":    `{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AA"}`,
		"x is missing":     `{"kty":"OKP","crv":"Ed25519","kid":"a"}`,
		"not a point":      `{"kty":"EC","crv":"P-256","kid":"a","x":"` + zeros + `","y":"` + zeros + `"}`,
		"n has 0 bits":     `{"kty":"RSA","kid":"a","n":"` + short + `","e":"AQAB"}`,
		"e must be an odd": `{"kty":"RSA","kid":"a","n":"_` + encode(make([]byte, 256))[1:] + `","e":"Ag"}`,
		"invalid":          `nonsense`,
	} {
		if _, err := ParseJWKS([]byte(`{"keys":[` + keys + `]}`)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func TestParseKeyRingRefuses(t *testing.T) {
	a, b := newWorld(t).ring, newWorld(t).ring
	mixed := privateJWK{a.Public().Keys[0], encode(b.keys[0].private.Seed()), 0}
	wrong, _ := json.Marshal(map[string]any{"keys": []any{mixed}})
	public, _ := json.Marshal(a.Public())
	for why, data := range map[string]string{
		"not a JWK set":         `"secret"`,
		"holds no key":          `{"keys":[]}`,
		"d is missing":          string(public),
		"not the public key":    string(wrong),
		"only OKP with Ed25519": `{"keys":[{"kty":"RSA","kid":"a"}]}`,
	} {
		_, err := ParseKeyRing([]byte(data))
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		} else if strings.Contains(err.Error(), mixed.D) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error quotes a secret: %v", why, err)
		}
	}
}
