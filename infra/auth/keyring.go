package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// KeyRing holds private Ed25519 keys. The first whose time has come signs, all verify: a ring that was rotated still
// accepts the tokens of its older keys. A KeyRing never changes. It prints as the kids of its keys, so that a log
// cannot leak one.
type KeyRing struct {
	keys []signingKey
}

type signingKey struct {
	kid     string
	private ed25519.PrivateKey
	from    int64 // when it begins to sign, in seconds since 1970; 0: at once
}

// privateJWK is an OKP key with its private member (RFC 8037 section 2), and when it begins to sign.
type privateJWK struct {
	JWK
	D         string `json:"d"`
	NotBefore int64  `json:"nbf,omitempty"`
}

// GenerateKeyRing returns a ring with one new key.
func GenerateKeyRing() (*KeyRing, error) { return new(KeyRing).Rotate() }

// Rotate returns a ring that signs with a new key at once and still has the old ones. Publish its Public set to every
// verifier before the first token is signed with it. Schedule leaves time for that.
func (k *KeyRing) Rotate() (*KeyRing, error) {
	return k.add(0)
}

// add returns a ring with a new key before the others, which signs from that time on.
func (k *KeyRing) add(from int64) (*KeyRing, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a signing key: %w", err)
	}
	jwk, err := NewJWK("", public)
	if err != nil {
		return nil, err
	}
	return &KeyRing{keys: append([]signingKey{{jwk.Kid, private, from}}, k.keys...)}, nil
}

// Schedule returns a ring with a new key that begins to sign after the lead, so that its Public set can reach every
// verifier before. A ring whose next key does not sign yet gets no other. Keys are left out whose successor has signed
// for longer than keep, the longest life of a token.
func (k *KeyRing) Schedule(now time.Time, lead, keep time.Duration) (*KeyRing, error) {
	next := k
	if k.keys[0].from <= now.Unix() {
		var err error
		if next, err = k.add(now.Add(lead).Unix()); err != nil {
			return nil, err
		}
	}
	for i, key := range next.keys {
		if i+1 < len(next.keys) && now.Sub(time.Unix(key.from, 0)) > keep {
			return &KeyRing{keys: next.keys[:i+1]}, nil
		}
	}
	return next, nil
}

// Next returns when the newest key begins to sign. It is in the past if it signs already.
func (k *KeyRing) Next() time.Time { return time.Unix(k.keys[0].from, 0) }

// signing returns the key that signs at a time. If none has begun, the oldest does.
func (k *KeyRing) signing(now time.Time) signingKey {
	for _, key := range k.keys {
		if key.from <= now.Unix() {
			return key
		}
	}
	return k.keys[len(k.keys)-1]
}

// ParseKeyRing decodes what Marshal returned: a JWK Set of private Ed25519 keys, the signing one first.
func ParseKeyRing(privateJWKS []byte) (*KeyRing, error) {
	var set struct {
		Keys []privateJWK `json:"keys"`
	}
	if json.Unmarshal(privateJWKS, &set) != nil {
		return nil, errors.New("parse a key ring: not a JWK set") // the cause could quote a private key
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("parse a key ring: it holds no key")
	}
	ring := &KeyRing{}
	for i, k := range set.Keys {
		private, err := k.private()
		if err != nil {
			return nil, fmt.Errorf("parse a key ring: key %d: %w", i, err)
		}
		ring.keys = append(ring.keys, signingKey{k.Kid, private, k.NotBefore})
	}
	if _, err := ring.Public().byKid(); err != nil {
		return nil, fmt.Errorf("parse a key ring: %w", err)
	}
	return ring, nil
}

func (k privateJWK) private() (ed25519.PrivateKey, error) {
	if k.Kty != "OKP" || k.Crv != "Ed25519" {
		return nil, fmt.Errorf("kty %q with crv %q cannot sign here; only OKP with Ed25519 can", k.Kty, k.Crv)
	}
	seed, errD := decode("d", k.D, ed25519.SeedSize)
	public, errX := decode("x", k.X, ed25519.PublicKeySize)
	if err := errors.Join(errD, errX); err != nil {
		return nil, err
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !bytes.Equal(private[ed25519.SeedSize:], public) {
		return nil, errors.New("x is not the public key of d")
	}
	return private, nil
}

// Marshal returns the ring as a JWK Set with its private keys. Store it as a secret.
func (k *KeyRing) Marshal() ([]byte, error) {
	public := k.Public()
	set := struct {
		Keys []privateJWK `json:"keys"`
	}{Keys: make([]privateJWK, 0, len(k.keys))}
	for i, key := range k.keys {
		set.Keys = append(set.Keys, privateJWK{public.Keys[i], encode(key.private.Seed()), key.from})
	}
	return json.Marshal(set)
}

// Public returns the JWK Set to publish, in the order of the ring.
func (k *KeyRing) Public() JWKS {
	set := JWKS{Keys: make([]JWK, 0, len(k.keys))}
	for _, key := range k.keys {
		jwk, _ := members(key.private.Public().(ed25519.PublicKey)) // cannot fail for this type
		jwk.Kid, jwk.Use = key.kid, "sig"
		set.Keys = append(set.Keys, jwk)
	}
	return set
}

// String returns the kids and nothing else.
func (k *KeyRing) String() string {
	if k == nil {
		return "auth.KeyRing(nil)"
	}
	kids := make([]string, 0, len(k.keys))
	for _, key := range k.keys {
		kids = append(kids, key.kid)
	}
	return fmt.Sprintf("auth.KeyRing%v", kids)
}

// GoString returns what String does, so that %#v shows no key either.
func (k *KeyRing) GoString() string { return k.String() }
