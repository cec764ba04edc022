package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ebb-dev/ebb/infra/fault"
)

// leeway is how far the clocks of an issuer and a verifier may be apart.
const leeway = 5 * time.Second

// maxToken bounds the work that a stranger can cause. Our tokens have some 500 bytes.
const maxToken = 8 << 10

// VerifierConfig is what a Verifier insists on. Keys, Issuer and Audience are required.
type VerifierConfig struct {
	Keys             JWKS
	Issuer, Audience string
	Clock            func() time.Time // nil: time.Now
	Algorithms       []string         // of EdDSA, ES256, RS256, PS256; none: EdDSA
}

// Verifier checks tokens against public keys. A signature costs some 50 µs, so tokens
// that passed are remembered, a bounded number of them and none beyond its expiry.
type Verifier struct {
	keys   map[string]verificationKey
	parser *jwt.Parser
	clock  func() time.Time
	cache  *cache
}

// fits says which keys an algorithm may be checked with (RFC 7518 section 3.1, RFC 8037
// section 3.1). No algorithm takes a byte slice, so a public key never serves as an HMAC secret.
var fits = map[string]func(key any) bool{
	"EdDSA": is[ed25519.PublicKey],
	"ES256": is[*ecdsa.PublicKey],
	"RS256": is[*rsa.PublicKey],
	"PS256": is[*rsa.PublicKey],
}

func is[T any](key any) bool { _, ok := key.(T); return ok }

// NewVerifier makes a Verifier. It refuses an empty issuer, audience or key set, an
// algorithm that is not asymmetric, and keys of which none fits any accepted algorithm.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{"EdDSA"}
	}
	keys, err := c.Keys.byKid()
	if err = errors.Join(err, c.validate(keys)); err != nil {
		return nil, fmt.Errorf("token verifier: %w", err)
	}
	return &Verifier{
		keys:  keys,
		clock: c.Clock,
		cache: newCache(),
		parser: jwt.NewParser(
			jwt.WithValidMethods(slices.Clone(c.Algorithms)),
			jwt.WithIssuer(c.Issuer),
			jwt.WithAudience(c.Audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(leeway),
			jwt.WithTimeFunc(c.Clock),
			jwt.WithStrictDecoding(),
		),
	}, nil
}

func (c VerifierConfig) validate(keys map[string]verificationKey) error {
	var faults []error
	if c.Issuer == "" {
		faults = append(faults, errors.New("no issuer"))
	}
	if c.Audience == "" {
		faults = append(faults, errors.New("no audience"))
	}
	usable := false
	for _, alg := range c.Algorithms {
		if fits[alg] == nil {
			faults = append(faults, fmt.Errorf("algorithm %q is not accepted; EdDSA, ES256, RS256 and PS256 are", alg))
		}
		for _, key := range keys {
			usable = usable || key.allows(alg)
		}
	}
	if !usable {
		faults = append(faults, fmt.Errorf("no key for any of the algorithms %v", c.Algorithms))
	}
	return errors.Join(faults...)
}

func (k verificationKey) allows(alg string) bool {
	return (k.alg == "" || k.alg == alg) && fits[alg] != nil && fits[alg](k.key)
}

// Verify is who a token speaks for. A token that is not accepted is a
// fault.Unauthenticated whose message names what is wrong with it. What is wrong
// with the claims is told only of tokens whose signature is good.
func (v *Verifier) Verify(token string) (Principal, error) {
	if e := v.cache.get(token); e != nil {
		if expired(e.principal, v.clock()) {
			return Principal{}, refuse(jwt.ErrTokenExpired, "the token has expired")
		}
		return e.shared(), nil
	}
	if len(token) > maxToken {
		return Principal{}, fault.New(fault.Unauthenticated, "the token is longer than %d bytes", maxToken)
	}
	var c claims
	if _, err := v.parser.ParseWithClaims(token, &c, v.keyFor); err != nil {
		return Principal{}, refuse(err, explain(err, &c))
	}
	p := Principal{
		Subject:   c.Subject,
		Roles:     c.Roles,
		TokenID:   c.ID,
		ExpiresAt: c.ExpiresAt.UTC(),
		Session:   c.Session,
	}
	if c.IssuedAt != nil {
		p.IssuedAt = c.IssuedAt.UTC()
	}
	return v.cache.put(token, p).shared(), nil
}

// expired is the very rule of the JWT library, so that a token is judged alike
// whether or not it comes from the cache.
func expired(p Principal, now time.Time) bool { return !now.Before(p.ExpiresAt.Add(leeway)) }

// keyFor finds the key that a token names, and makes sure that it may be used with
// the token's algorithm. Extensions marked critical are refused, as RFC 7515 section
// 4.1.11 asks of whoever does not understand them.
func (v *Verifier) keyFor(t *jwt.Token) (any, error) {
	if _, critical := t.Header["crit"]; critical {
		return nil, refusal("the token has critical extensions that are not understood")
	}
	kid, _ := t.Header["kid"].(string)
	if kid == "" {
		return nil, refusal("the token names no key (kid)")
	}
	key, known := v.keys[kid]
	if !known {
		return nil, ErrUnknownKey
	}
	if !key.allows(t.Method.Alg()) {
		return nil, refusal("the token's algorithm does not fit its key (alg)")
	}
	return key.key, nil
}

// ErrUnknownKey is the reason of a refusal that another set of keys may lift.
const ErrUnknownKey = refusal("the token is signed with a key that is not known (kid)")

// refusal is a reason of our own that passes through the JWT library.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(cause error, message string) error {
	return &fault.Error{Kind: fault.Unauthenticated, Message: message, Cause: cause}
}

// explain names the first thing that is wrong, from the signature to the claims.
func explain(err error, c *claims) string {
	var own refusal
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case errors.As(err, &own):
		return string(own)
	case is(jwt.ErrTokenMalformed):
		return "the token is not a well-formed JWT"
	case is(jwt.ErrTokenUnverifiable):
		return "the token's algorithm is not accepted (alg)"
	case is(jwt.ErrTokenSignatureInvalid) && strings.Contains(err.Error(), "signing method"):
		return "the token's algorithm is not accepted (alg)"
	case is(jwt.ErrTokenSignatureInvalid):
		return "the token's signature does not match"
	case is(jwt.ErrTokenExpired):
		return "the token has expired"
	case c.ExpiresAt == nil:
		return "the token has no expiry (exp)"
	case is(jwt.ErrTokenNotValidYet):
		return "the token is not valid yet (nbf)"
	case is(jwt.ErrTokenUsedBeforeIssued):
		return "the token is from the future (iat)"
	case c.Issuer == "" || is(jwt.ErrTokenInvalidIssuer):
		return "the token is from another issuer (iss)"
	case len(c.Audience) == 0 || is(jwt.ErrTokenInvalidAudience):
		return "the token is for another audience (aud)"
	case is(errNoSubject):
		return "the token has no subject (sub)"
	}
	return "the token is not accepted"
}

// FromHeader is who an Authorization header speaks for (RFC 6750 section 2.1). An
// empty header is nobody, which is no fault: whether a token is needed is the operation's to say.
func (v *Verifier) FromHeader(authorization string) (Principal, error) {
	if authorization == "" {
		return Principal{}, nil
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, fault.New(fault.Unauthenticated, "the Authorization header is not a Bearer token")
	}
	if token = strings.Trim(token, " "); token == "" {
		return Principal{}, fault.New(fault.Unauthenticated, "the Authorization header has no token")
	}
	return v.Verify(token)
}
