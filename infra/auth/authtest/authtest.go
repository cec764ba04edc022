// Package authtest helps to test what checks access tokens.
package authtest

import (
	"encoding/json"
	"testing"

	"github.com/ebb-dev/ebb/infra/auth"
)

// Keys returns the texts of a new key ring and of its public keys, as EBB_SIGNING_KEYS and EBB_VERIFICATION_KEYS have
// them.
func Keys(t testing.TB) (signing, verification string) {
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
	return string(private), string(public)
}
