package auth

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claims are the claims of a token. The JWT library calls Validate after its own checks; the name sid is from OpenID
// Connect.
type claims struct {
	jwt.RegisteredClaims
	Roles   []string `json:"roles,omitempty"`
	Session string   `json:"sid,omitempty"`

	Other map[string]string `json:"-"` // claims that are text

	mapped bool           // the roles are read from all, and the roles claim may be anything
	all    map[string]any // as they were decoded
}

// maxClaim is how many bytes a claim has at most that is made available.
const maxClaim = 256

// UnmarshalJSON implements json.Unmarshaler. It refuses claims that are there twice (RFC 7519 section 4), and names of
// registered claims in another case, which encoding/json would take for them.
func (c *claims) UnmarshalJSON(b []byte) error {
	if unclear(b, claimsShape) {
		return errUnclear
	}
	type plain claims
	var into any = (*plain)(c)
	if c.mapped {
		into = &struct {
			*jwt.RegisteredClaims
			Session *string `json:"sid"`
		}{&c.RegisteredClaims, &c.Session}
	}
	var all map[string]any
	if err := errors.Join(json.Unmarshal(b, into), json.Unmarshal(b, &all)); err != nil {
		return err
	}
	c.all = all
	for name, value := range all {
		switch name {
		case "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "roles":
			continue
		}
		if text, ok := value.(string); ok && len(text) <= maxClaim {
			if c.Other == nil {
				c.Other = map[string]string{}
			}
			c.Other[name] = text
		}
	}
	return nil
}

var errUnclear = errors.New("claims are there twice, or in another case")

var errNoSubject = errors.New("the sub claim is missing")

func (c *claims) Validate() error {
	if c.Subject == "" {
		return errNoSubject
	}
	for _, name := range notAccess {
		if _, has := c.all[name]; has {
			return errNotAccess
		}
	}
	if c.all["typ"] == "ID" { // as Keycloak calls ID tokens
		return errNotAccess
	}
	return nil
}

// notAccess are claims of other tokens than access tokens: at_hash and c_hash of an ID token (OpenID Connect Core 1.0
// section 3.3.2.11), events of a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.4) or a security event.
// Their typ may be JWT too, and their audience is the client, which may have the name of this system.
var notAccess = []string{"at_hash", "c_hash", "events"}

const errNotAccess = refusal("the token is another kind of token than an access token")

// Grant is the content of a token to issue. The subject and a TTL of a second or more are required.
type Grant struct {
	Subject string
	Roles   []string
	Session string
	TTL     time.Duration
}

// Issuer signs tokens with the key of its ring whose time has come.
type Issuer struct {
	ring             func() *KeyRing
	issuer, audience string
	clock            func() time.Time
}

// NewIssuer returns an Issuer; a nil clock is time.Now. It panics if the ring has no key: only the zero KeyRing has
// none.
func NewIssuer(keys *KeyRing, issuer, audience string, clock func() time.Time) *Issuer {
	if keys == nil || len(keys.keys) == 0 {
		panic("auth: an issuer needs a key ring with a key")
	}
	return NewRotatingIssuer(func() *KeyRing { return keys }, issuer, audience, clock)
}

// NewRotatingIssuer returns an Issuer that asks for its ring at each token; a nil clock is time.Now. No ring may be
// without a key.
func NewRotatingIssuer(ring func() *KeyRing, issuer, audience string, clock func() time.Time) *Issuer {
	if clock == nil {
		clock = time.Now
	}
	return &Issuer{ring: ring, issuer: issuer, audience: audience, clock: clock}
}

// Issue returns a signed token and the time when it expires, rounded down to the second as in the token.
func (i *Issuer) Issue(g Grant) (token string, expires time.Time, err error) {
	if g.Subject == "" {
		return "", time.Time{}, errors.New("issue a token: no subject")
	}
	if g.TTL < time.Second {
		return "", time.Time{}, fmt.Errorf("issue a token: a TTL of %v is under a second", g.TTL)
	}
	now := i.clock()
	expires = now.Add(g.TTL).Truncate(time.Second).UTC()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    i.issuer,
			Subject:   g.Subject,
			Audience:  jwt.ClaimStrings{i.audience},
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(expires),
			ID:        rand.Text(),
		},
		Roles:   g.Roles,
		Session: g.Session,
	})
	key := i.ring().signing(now)
	t.Header["kid"] = key.kid
	if token, err = t.SignedString(key.private); err != nil {
		return "", time.Time{}, fmt.Errorf("issue a token: %w", err)
	}
	return token, expires, nil
}
