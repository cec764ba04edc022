// Package apikey makes API keys and recognises them in requests.
//
// A key is a prefix, 256 random bits and a checksum, in letters and digits: a search finds keys that have got into a
// file, and a key with a typing error is refused without a look-up. Only the SHA-256 of a key is stored or sent. It
// needs no salt and no slow hash, because a key cannot be guessed.
//
// Every function of the package may be called concurrently.
package apikey

import (
	"crypto/rand"
	"hash/crc32"
	"math/big"
	"net/http"
	"strings"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
)

const (
	// Prefix begins every key.
	Prefix = "ebb_"

	// Header is the field that has a key, for clients that cannot set Authorization: Bearer KEY.
	Header = "X-Api-Key"

	secretBytes = 32
	secretSize  = 43 // of secretBytes in base 62
	sumSize     = 6  // of a CRC-32 in base 62
	size        = len(Prefix) + secretSize + sumSize
)

// New returns a new key.
func New() string {
	var secret [secretBytes]byte
	_, _ = rand.Read(secret[:]) // never fails
	return Of256(secret)
}

// Of256 returns the key with these 256 bits, for a simulation that must be repeatable. All other keys are New.
func Of256(secret [secretBytes]byte) string {
	key := Prefix + base62(new(big.Int).SetBytes(secret[:]), secretSize)
	return key + checksum(key)
}

// base62 returns n in the digits 0 to 9, a to z and A to Z, with zeros before it up to the length.
func base62(n *big.Int, length int) string {
	digits := n.Text(62)
	return strings.Repeat("0", length-len(digits)) + digits
}

// checksum returns the CRC-32 (IEEE) of the text in base 62.
func checksum(text string) string {
	return base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(text)))), sumSize)
}

// Valid reports whether the text has the form of a key and the right checksum.
func Valid(text string) bool {
	if len(text) != size || !strings.HasPrefix(text, Prefix) {
		return false
	}
	for _, c := range []byte(text[len(Prefix):]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	end := size - sumSize
	return checksum(text[:end]) == text[end:]
}

// Hash returns the form in which a key is stored: its SHA-256 in base64url, 43 characters.
func Hash(key string) string { return auth.HashToken(key) }

// Of returns the key that a request has: in the Authorization field as a bearer token, or in Header. It returns "" for
// a request without a key, and fault.Unauthenticated for more than one credential and for a key whose checksum is
// wrong.
func Of(r *http.Request) (string, error) {
	shown, bearer := r.Header[Header], r.Header["Authorization"]
	switch {
	case len(shown) > 1 || len(shown) == 1 && len(bearer) > 0:
		return "", fault.New(fault.Unauthenticated, "the request has more than one credential")
	case len(shown) == 1:
		return checked(strings.Trim(shown[0], " "))
	case len(bearer) != 1:
		return "", nil // the authenticator of tokens judges it
	}
	scheme, token, _ := strings.Cut(bearer[0], " ")
	if token = strings.Trim(token, " "); !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(token, Prefix) {
		return "", nil
	}
	return checked(token)
}

func checked(key string) (string, error) {
	if !Valid(key) {
		return "", fault.New(fault.Unauthenticated, "the API key is not complete, or has a typing error")
	}
	return key, nil
}

// Beside returns an authenticator that takes API keys, and leaves every other credential to own. Of a key it tells the
// hash only: who may use it, and for what, is known where keys are stored, and the principal has no subject before
// that. Nil stays nil, which refuses all credentials.
func Beside(own auth.Authenticator) auth.Authenticator {
	if own == nil {
		return nil
	}
	return choice{own}
}

type choice struct{ own auth.Authenticator }

// Authenticate implements auth.Authenticator.
func (c choice) Authenticate(r *http.Request) (auth.Principal, error) {
	key, err := Of(r)
	switch {
	case err != nil:
		return auth.Principal{}, err
	case key != "":
		return auth.Principal{KeyHash: Hash(key)}, nil
	}
	return c.own.Authenticate(r)
}
