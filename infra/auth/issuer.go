package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claims is what a token of ours says. Validate is called by the JWT library
// after its own checks; the name sid is the one of OpenID Connect.
type claims struct {
	jwt.RegisteredClaims
	Roles   []string `json:"roles,omitempty"`
	Session string   `json:"sid,omitempty"`
}

var errNoSubject = errors.New("the sub claim is missing")

func (c *claims) Validate() error {
	if c.Subject == "" {
		return errNoSubject
	}
	return nil
}

// Grant is what a token is issued for. The subject and a TTL of a second or more are required.
type Grant struct {
	Subject string
	Roles   []string
	Session string
	TTL     time.Duration
}

// Issuer signs tokens with the first key of its ring.
type Issuer struct {
	key              signingKey
	issuer, audience string
	clock            func() time.Time
}

// NewIssuer makes an Issuer; a nil clock is time.Now. It panics without a key, as
// there is no such ring but the zero one, which only a mistake in wiring makes.
func NewIssuer(keys *KeyRing, issuer, audience string, clock func() time.Time) *Issuer {
	if keys == nil || len(keys.keys) == 0 {
		panic("auth: an issuer needs a key ring with a key")
	}
	if clock == nil {
		clock = time.Now
	}
	return &Issuer{key: keys.keys[0], issuer: issuer, audience: audience, clock: clock}
}

// Issue signs a token and says when it expires: to the whole second, as the token does.
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
	t.Header["kid"] = i.key.kid
	if token, err = t.SignedString(i.key.private); err != nil {
		return "", time.Time{}, fmt.Errorf("issue a token: %w", err)
	}
	return token, expires, nil
}
