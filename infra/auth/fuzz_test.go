package auth

import (
	"encoding/json"
	"reflect"
	"testing"
)

// Any text as a set of public keys or as a ring of private ones is refused, or is the same after it is written and read
// again. A public set never accepts a private key.
func FuzzKeys(f *testing.F) {
	ring, err := GenerateKeyRing()
	if err != nil {
		f.Fatal(err)
	}
	private, _ := ring.Marshal()
	public, _ := json.Marshal(ring.Public())
	for _, seed := range [][]byte{private, public, nil,
		[]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"k"}]}`),
		[]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"k"},{"kty":"oct","k":"AA"}]}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if set, err := ParseJWKS(text); err == nil {
			written, err := json.Marshal(set)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := ParseJWKS(written); err != nil || len(again.Keys) != len(set.Keys) {
				t.Fatalf("%s: got %v, then %v, %v", text, set, again, err)
			}
		}
		ring, err := ParseKeyRing(text)
		if err != nil {
			return
		}
		if _, err := ParseJWKS(text); err == nil {
			t.Fatalf("a ring of private keys was taken for public ones: %s", text)
		}
		written, err := ring.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseKeyRing(written); err != nil || !reflect.DeepEqual(again.Public(), ring.Public()) {
			t.Fatalf("got %v, then %v, %v", ring, again, err)
		}
	})
}
