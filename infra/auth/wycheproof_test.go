package auth

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// wycheproof is Project Wycheproof's module of test vectors, and its sum.
const (
	wycheproof    = "github.com/C2SP/wycheproof@v0.0.0-20250901140545-b51abcfb8daf"
	wycheproofSum = "h1:5BKKVVVj676FUWirLcouEEL6GCYR9X0opkMlEUck8FY="
)

// vectors decodes one of the files of vectors, which the module cache has or the module proxy gives.
func vectors(t *testing.T, file string, into any) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", wycheproof).Output()
	var module struct{ Dir, Sum string }
	if err != nil || json.Unmarshal(out, &module) != nil {
		t.Skipf("skipped: %s is neither in the module cache nor to be had: %v", wycheproof, err)
	}
	if module.Sum != wycheproofSum {
		t.Fatalf("%s has the sum %s, want %s", wycheproof, module.Sum, wycheproofSum)
	}
	text, err := os.ReadFile(filepath.Join(module.Dir, "testvectors_v1", file))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// jws is a group of JSON Web Signatures, each made or spoilt in its own way, and the keys they are verified with.
type jws struct {
	Comment         string
	Public, Private json.RawMessage
	Tests           []struct {
		ID      int `json:"tcId"`
		Comment string
		JWS     json.RawMessage
		Result  string
	}
}

// verifiesJWS verifies a signature in compact form as Verify does, without its claims: the payloads are no claims.
func verifiesJWS(set []byte, compact string) error {
	keys, err := ParseJWKS(set)
	if err != nil {
		return err
	}
	v, err := NewVerifier(VerifierConfig{
		Keys: keys, Issuer: "i", Audience: "a", Algorithms: []string{"EdDSA", "ES256", "RS256", "PS256"},
	})
	if err != nil {
		return err
	}
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return fmt.Errorf("%d parts", len(parts))
	}
	token := &jwt.Token{Raw: compact}
	var decoded [3][]byte
	for i, part := range parts {
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return err
		}
	}
	if err := json.Unmarshal(decoded[0], &token.Header); err != nil {
		return err
	}
	alg, _ := token.Header["alg"].(string)
	if fits[alg] == nil {
		return fmt.Errorf("algorithm %q", alg)
	}
	token.Method, token.Signature = jwt.GetSigningMethod(alg), decoded[2]
	key, err := v.keyFor(token)
	if err != nil {
		return err
	}
	return token.Method.Verify(parts[0]+"."+parts[1], token.Signature, key)
}

// set makes a set of public keys of what a group has: a key or a set, of which symmetric keys have no public part.
func (g *jws) set(t *testing.T) []byte {
	t.Helper()
	source := g.Private
	if g.Public != nil {
		source = g.Public
	}
	var all struct{ Keys []map[string]any }
	if err := json.Unmarshal(source, &all); err != nil {
		t.Fatal(err)
	}
	if all.Keys == nil {
		var one map[string]any
		if err := json.Unmarshal(source, &one); err != nil {
			t.Fatal(err)
		}
		all.Keys = append(all.Keys, one)
	}
	for _, key := range all.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi"} {
			delete(key, private)
		}
	}
	set, err := json.Marshal(map[string]any{"keys": all.Keys})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// ours reports whether a compact JWS names one of the algorithms that a Verifier accepts.
func ours(compact string) bool {
	head, _, _ := strings.Cut(compact, ".")
	text, _ := base64.RawURLEncoding.DecodeString(head)
	var h struct{ Alg string }
	return json.Unmarshal(text, &h) == nil && fits[h.Alg] != nil
}

// Every valid signature of an algorithm that is accepted is accepted, and no other one.
func TestWycheproofJWS(t *testing.T) {
	for _, file := range []string{"json_web_signature_test.json", "json_web_key_test.json"} {
		var all struct{ TestGroups []jws }
		vectors(t, file, &all)
		accepted, refusedOnes := 0, 0
		for _, g := range all.TestGroups {
			set := g.set(t)
			for _, test := range g.Tests {
				var compact string
				if json.Unmarshal(test.JWS, &compact) != nil {
					continue // JSON serialization, which no header field can have
				}
				err := verifiesJWS(set, compact)
				want := test.Result == "valid" && ours(compact)
				if want != (err == nil) {
					t.Errorf("%s, %s, no. %d (%s, %s): %v", file, g.Comment, test.ID, test.Comment, test.Result, err)
				}
				if err == nil {
					accepted++
				} else {
					refusedOnes++
				}
			}
		}
		t.Logf("%s: %d accepted, %d refused", file, accepted, refusedOnes)
		if refusedOnes == 0 {
			t.Errorf("%s: no signature was refused", file)
		}
	}
}

// signatures is a group of signatures of one key.
type signatures struct {
	PublicKeyPem string
	PublicKeyJwk json.RawMessage
	Tests        []struct {
		ID               int `json:"tcId"`
		Comment          string
		Msg, Sig, Result string
	}
}

func (g *signatures) each(t *testing.T, check func(msg string, sig []byte) error) {
	t.Helper()
	if len(g.Tests) == 0 {
		t.Error("a group without a vector")
	}
	for _, test := range g.Tests {
		msg, err := hex.DecodeString(test.Msg)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := hex.DecodeString(test.Sig)
		if err != nil {
			t.Fatal(err)
		}
		err = check(string(msg), sig)
		if (test.Result == "valid") != (err == nil) {
			t.Errorf("no. %d (%s, %s): %v", test.ID, test.Comment, test.Result, err)
		}
	}
}

// A salt that is not as long as the hash is refused (RFC 7518 section 3.5), whatever else is right.
func TestWycheproofPSS(t *testing.T) {
	for _, salt := range []string{"32", "0"} {
		var all struct{ TestGroups []signatures }
		vectors(t, "rsa_pss_2048_sha256_mgf1_"+salt+"_test.json", &all)
		for _, g := range all.TestGroups {
			block, _ := pem.Decode([]byte(g.PublicKeyPem))
			parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			for i := range g.Tests {
				switch test := &g.Tests[i]; {
				case salt == "32":
				case test.Result == "valid":
					test.Result = "invalid"
				case test.Comment == "s_len changed to 32":
					test.Result = "valid"
				}
			}
			key := parsed.(*rsa.PublicKey)
			g.each(t, func(msg string, sig []byte) error { return strictPS256.Verify(msg, sig, key) })
		}
	}
}

func TestWycheproofEd25519(t *testing.T) {
	var all struct{ TestGroups []signatures }
	vectors(t, "ed25519_test.json", &all)
	for _, g := range all.TestGroups {
		set, err := ParseJWKS([]byte(`{"keys":[` + string(g.PublicKeyJwk) + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		key, err := set.Keys[0].Key()
		if err != nil {
			t.Fatal(err)
		}
		g.each(t, func(msg string, sig []byte) error { return jwt.SigningMethodEdDSA.Verify(msg, sig, key) })
	}
}
