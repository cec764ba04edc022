package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/jsonlimit"
)

// leeway is the largest difference between the clocks of an issuer and a verifier.
const leeway = 5 * time.Second

// maxToken limits the work that a client can cause, in bytes. Tokens of an Issuer have some 500.
const maxToken = 8 << 10

// VerifierConfig is what a Verifier accepts. Keys, Issuer and Audience are required.
type VerifierConfig struct {
	Keys             JWKS
	Issuer, Audience string
	Clock            func() time.Time // nil: time.Now
	Algorithms       []string         // of EdDSA, ES256, RS256, PS256; none: EdDSA

	// Subjects is put before the sub claim, so that subjects of two issuers are never the same.
	Subjects string

	// Roles returns the roles that the claims of a token give; nil: those of the roles claim, which must be a list of
	// texts then. It must not change the claims.
	Roles func(claims map[string]any) []string

	// Scopes returns what a token may be used for by its claims; nil: for all that its roles allow. It must not change
	// the claims. It counts with Roles only.
	Scopes func(claims map[string]any) []string
}

// Verifier verifies tokens with public keys. A signature costs some 50 µs, so it caches accepted tokens, a limited
// number of them and none beyond its expiry.
type Verifier struct {
	keys   map[string]verificationKey
	parser *jwt.Parser
	clock  func() time.Time
	cache  *cache

	subjects string
	roles    func(claims map[string]any) []string
	scopes   func(claims map[string]any) []string
}

// fits has the kind of key of each algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1). No algorithm takes a byte
// slice, so a public key is never used as an HMAC secret.
var fits = map[string]func(key any) bool{
	"EdDSA": is[ed25519.PublicKey],
	"ES256": is[*ecdsa.PublicKey],
	"RS256": is[*rsa.PublicKey],
	"PS256": is[*rsa.PublicKey],
}

func is[T any](key any) bool { _, ok := key.(T); return ok }

// NewVerifier returns a Verifier. It refuses an empty issuer, audience or key set, an algorithm that is not asymmetric,
// and keys of which none fits any accepted algorithm.
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
		keys: keys, clock: c.Clock, cache: newCache(), subjects: c.Subjects, roles: c.Roles,
		scopes: c.Scopes,
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

// Verify returns the principal of a token. For a token that is not accepted it returns fault.Unauthenticated with the
// reason in the message. A reason about the claims is given only for tokens with a valid signature.
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
	c := claims{mapped: v.roles != nil}
	if _, err := v.parser.ParseWithClaims(token, &c, v.keyFor); err != nil {
		return Principal{}, refuse(err, explain(err, &c))
	}
	p := Principal{
		Subject:   subjectOf(v.subjects, c.Subject),
		Roles:     c.Roles,
		TokenID:   c.ID,
		ExpiresAt: c.ExpiresAt.UTC(),
		Session:   c.Session,
		Claims:    c.Other,
	}
	if v.roles != nil {
		p.Roles = v.roles(c.all)
		if v.scopes != nil {
			p.Scopes, p.Scoped = v.scopes(c.all), true
		}
	}
	if c.IssuedAt != nil {
		p.IssuedAt = c.IssuedAt.UTC()
	}
	return v.cache.put(token, p).shared(), nil
}

// maxSubject is how many bytes the subject of a principal has at most that another issuer has chosen: as many as events
// have for the id of a user. OpenID Connect allows 255, and would leave no space for what is put before them.
const maxSubject = 128

// subjectOf returns the subject of a principal. A long one of another issuer is named by its hash. That begins with
// what no other subject begins with: those of users are UUIDs, and the others have the text before.
func subjectOf(before, sub string) string {
	if before == "" || len(before)+len(sub) <= maxSubject {
		return before + sub
	}
	sum := sha256.Sum256([]byte(before + sub))
	return "sha256-" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// expired applies the rule of the JWT library, so that the result is the same for a token from the cache.
func expired(p Principal, now time.Time) bool { return !now.Before(p.ExpiresAt.Add(leeway)) }

// keyFor returns the key that a token names, if it may be used with the token's algorithm. Extensions marked critical
// are refused, as RFC 7515 section 4.1.11 requires of a verifier that does not support them, and so are members of the
// header that are there twice (section 4) and tokens of another type than an access token (RFC 8725 section 3.11).
func (v *Verifier) keyFor(t *jwt.Token) (any, error) {
	head, _, _ := strings.Cut(t.Raw, ".")
	if text, err := base64.RawURLEncoding.Strict().DecodeString(head); err != nil || unclear(text, headerShape) {
		return nil, jwt.ErrTokenMalformed
	}
	if !isAccessToken(t.Header["typ"]) {
		return nil, refusal("the token is of another type than an access token (typ)")
	}
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
	if rsaKey, ok := key.key.(*rsa.PublicKey); ok && t.Method.Alg() == "PS256" {
		signed := t.Raw[:strings.LastIndexByte(t.Raw, '.')]
		if err := strictPS256.Verify(signed, t.Signature, rsaKey); err != nil {
			return nil, errSignature
		}
	}
	return key.key, nil
}

// strictPS256 demands a salt as long as the hash, as RFC 7518 section 3.5 does. The library's own method takes any.
var strictPS256 = jwt.SigningMethodRSAPSS{
	SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA,
	VerifyOptions:    &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
}

// isAccessToken reports whether a typ allows a token to be an access token: no typ, JWT, or at+jwt of RFC 9068, whose
// case and prefix "application/" do not count (RFC 7515 section 4.1.9).
func isAccessToken(typ any) bool {
	if typ == nil {
		return true
	}
	text, _ := typ.(string)
	text = strings.ToLower(text)
	text = strings.TrimPrefix(text, "application/")
	return text == "jwt" || text == "at+jwt"
}

// Members of tokens that mean something to a Verifier.
var (
	headerShape = shapeOf("alg", "kid", "typ", "crit")
	claimsShape = shapeOf("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "roles")
)

func shapeOf(names ...string) *jsonlimit.Shape {
	s := &jsonlimit.Shape{Fields: map[string]*jsonlimit.Shape{}}
	for _, name := range names {
		s.Fields[name] = nil
	}
	return s
}

// maxValues is how many values the header and the claims of a token have at most.
const maxValues = 1000

// unclear reports whether two readers may understand a JSON text differently: an object has a name twice (RFC 7519
// section 4, RFC 7515 section 4), or a name of the shape in another case.
func unclear(text []byte, shape *jsonlimit.Shape) bool {
	return jsonlimit.Check(text, maxValues, shape) != nil
}

// ErrUnknownKey is the reason when a token names a key that the verifier does not have. With newer keys the token may
// be accepted.
const ErrUnknownKey = refusal("the token is signed with a key that is not known (kid)")

const errSignature = refusal("the token's signature does not match")

// refusal is a reason of this package that passes through the JWT library.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(cause error, message string) error {
	return &fault.Error{Kind: fault.Unauthenticated, Message: message, Cause: cause}
}

// explain returns the first reason for a refusal, from the signature to the claims.
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
		return string(errSignature)
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

// FromHeader returns the principal of an Authorization header (RFC 6750 section 2.1). An empty header is the anonymous
// principal and no error: the operation decides whether it needs a token.
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
