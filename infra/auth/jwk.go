package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// JWK is one public key (RFC 7517): an Ed25519 key (kty OKP, RFC 8037), a P-256
// key (kty EC) or an RSA key (RFC 7518 section 6). It has no field for a private member.
type JWK struct {
	Kty string   `json:"kty"`
	Kid string   `json:"kid"`
	Use string   `json:"use,omitempty"`
	Ops []string `json:"key_ops,omitempty" nullable:"false"`
	Alg string   `json:"alg,omitempty"`
	Crv string   `json:"crv,omitempty"`
	X   string   `json:"x,omitempty"`
	Y   string   `json:"y,omitempty"`
	N   string   `json:"n,omitempty"`
	E   string   `json:"e,omitempty"`
}

// JWKS is a JWK Set: public keys by their kid.
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// Small keys are refused: RFC 7518 section 3.3 requires 2048 bits or more. Large ones are refused too, because they
// make every check of a signature slow.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// NewJWK returns the JWK of a public key: ed25519.PublicKey, *ecdsa.PublicKey on P-256, or *rsa.PublicKey. An empty kid
// becomes the key's thumbprint.
func NewJWK(kid string, key crypto.PublicKey) (JWK, error) {
	k, err := members(key)
	if err != nil {
		return JWK{}, err
	}
	if k.Kid = kid; kid == "" {
		k.Kid = k.Thumbprint()
	}
	k.Use = "sig"
	_, err = k.Key() // a key that is published must be readable
	return k, err
}

func members(key crypto.PublicKey) (JWK, error) {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return JWK{Kty: "OKP", Crv: "Ed25519", Alg: "EdDSA", X: encode(key)}, nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil || key.Curve != elliptic.P256() {
			return JWK{}, errors.New("an EC key must be on P-256")
		}
		return JWK{Kty: "EC", Crv: "P-256", Alg: "ES256", X: encode(point[1:33]), Y: encode(point[33:])}, nil
	case *rsa.PublicKey:
		return JWK{Kty: "RSA", N: encode(key.N.Bytes()), E: encode(big.NewInt(int64(key.E)).Bytes())}, nil
	}
	return JWK{}, fmt.Errorf("a key of type %T is not supported", key)
}

// Thumbprint returns the SHA-256 thumbprint of the key (RFC 7638), a kid that can be computed from the key alone.
func (k JWK) Thumbprint() string {
	var canonical string
	switch k.Kty {
	case "RSA":
		canonical = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, k.E, k.N)
	case "EC":
		canonical = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, k.Crv, k.X, k.Y)
	default:
		canonical = fmt.Sprintf(`{"crv":%q,"kty":%q,"x":%q}`, k.Crv, k.Kty, k.X)
	}
	sum := sha256.Sum256([]byte(canonical))
	return encode(sum[:])
}

// Key returns the public key: ed25519.PublicKey, *ecdsa.PublicKey or *rsa.PublicKey.
func (k JWK) Key() (crypto.PublicKey, error) {
	switch k.Kty + " " + k.Crv {
	case "OKP Ed25519":
		return k.ed25519()
	case "EC P-256":
		return k.p256()
	case "RSA ":
		return k.rsa()
	}
	return nil, fmt.Errorf("kty %q with crv %q is not supported", k.Kty, k.Crv)
}

func (k JWK) ed25519() (crypto.PublicKey, error) {
	x, err := decode("x", k.X, ed25519.PublicKeySize)
	return ed25519.PublicKey(x), err
}

func (k JWK) p256() (crypto.PublicKey, error) {
	x, errX := decode("x", k.X, 32)
	y, errY := decode("y", k.Y, 32)
	if err := errors.Join(errX, errY); err != nil {
		return nil, err
	}
	point := append(append([]byte{4}, x...), y...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errors.New("x and y are not a point on P-256")
	}
	return key, nil
}

func (k JWK) rsa() (crypto.PublicKey, error) {
	n, errN := decode("n", k.N, 0)
	e, errE := decode("e", k.E, 0)
	if err := errors.Join(errN, errE); err != nil {
		return nil, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if bits := modulus.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, fmt.Errorf("n has %d bits; %d to %d are accepted", bits, minRSABits, maxRSABits)
	}
	if exponent.BitLen() > 31 || exponent.Int64() < 3 || exponent.Bit(0) == 0 {
		return nil, errors.New("e must be an odd number of at least 3 and at most 31 bits")
	}
	if roca(modulus) {
		return nil, errors.New("n was made by a generator whose keys can be factored (CVE-2017-15361)")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

// rocaPrimes are primes of which the generator of CVE-2017-15361 made the primes of its keys: each is a power of 65537
// modulo all of them, and so is their product (Nemec and others, The Return of Coppersmith's Attack, CCS 2017).
var rocaPrimes = []int64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157}

// roca reports whether a modulus is a power of 65537 modulo each of rocaPrimes. Of other moduli, fewer than one in 2^26
// are.
func roca(n *big.Int) bool {
	for _, p := range rocaPrimes {
		rest, power := new(big.Int).Mod(n, big.NewInt(p)).Int64(), int64(1)
		for i := int64(1); i < p && power != rest; i++ {
			power = power * 65537 % p
		}
		if power != rest {
			return false
		}
	}
	return true
}

// ParseJWKS decodes a JWK Set. As RFC 7517 section 5 requires, it ignores keys of other kinds, keys for encryption, and
// keys whose key_ops do not have "verify"; it refuses a set with a key that is malformed, has no kid, has the kid of
// another, or is private.
func ParseJWKS(data []byte) (JWKS, error) {
	var set struct {
		Keys []struct {
			JWK
			D string `json:"d"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return JWKS{}, fmt.Errorf("parse a JWK set: %w", err)
	}
	var keys JWKS
	for i, k := range set.Keys {
		if k.D != "" {
			return JWKS{}, fmt.Errorf("parse a JWK set: key %d holds a private key, which belongs in no public set", i)
		}
		if k.usable() {
			keys.Keys = append(keys.Keys, k.JWK)
		}
	}
	if _, err := keys.byKid(); err != nil {
		return JWKS{}, fmt.Errorf("parse a JWK set: %w", err)
	}
	return keys, nil
}

func (k JWK) usable() bool {
	if k.Use != "" && k.Use != "sig" || k.Ops != nil && !slices.Contains(k.Ops, "verify") {
		return false
	}
	switch k.Kty + " " + k.Crv {
	case "OKP Ed25519", "EC P-256", "RSA ":
		return true
	}
	return false
}

// verificationKey is a public key and the one algorithm that its JWK is bound to, if any.
type verificationKey struct {
	key crypto.PublicKey
	alg string
}

func (s JWKS) byKid() (map[string]verificationKey, error) {
	keys := make(map[string]verificationKey, len(s.Keys))
	for i, k := range s.Keys {
		key, err := k.Key()
		if err == nil && !k.usable() {
			err = errors.New("it is not for verifying (use, key_ops)")
		}
		if err != nil {
			return nil, fmt.Errorf("key %d (kid %q): %w", i, k.Kid, err)
		}
		if k.Kid == "" {
			return nil, fmt.Errorf("key %d has no kid", i)
		}
		if _, twice := keys[k.Kid]; twice {
			return nil, fmt.Errorf("key %d: kid %q is there twice", i, k.Kid)
		}
		keys[k.Kid] = verificationKey{key: key, alg: k.Alg}
	}
	return keys, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode decodes a base64url member of size bytes; size 0 allows any length but 0.
func decode(member, text string, size int) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s is not base64url", member)
	case len(b) == 0:
		return nil, fmt.Errorf("%s is missing", member)
	case size != 0 && len(b) != size:
		return nil, fmt.Errorf("%s has %d bytes, not %d", member, len(b), size)
	}
	return b, nil
}
