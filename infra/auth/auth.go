// Package auth says who is asking: it issues and verifies JSON Web Tokens
// (RFC 7519) and carries the verified Principal through a context.
//
// Tokens are signed with Ed25519 (RFC 8037) by a KeyRing and checked by a
// Verifier that knows only public keys (a JWK Set, RFC 7517). A Verifier names
// the algorithms, the issuer and the audience it accepts and insists on an
// expiry and a subject; there is no switch that turns any of this off. The
// claims type of the JWT library stays inside this package.
//
// Every type here is safe for concurrent use.
package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"time"
)

// The roles that Ebb's own functions know. A token may carry others.
const (
	RoleCustomer = "customer"
	RoleAdmin    = "admin"
)

// Principal is who is acting. The zero Principal is anonymous: nobody showed a token.
type Principal struct {
	Subject   string    // the sub claim: a user's or a function's id
	Roles     []string  // the roles claim
	TokenID   string    // the jti claim
	IssuedAt  time.Time // the iat claim, in whole seconds if the issuer is ours; zero: the token has none
	ExpiresAt time.Time // the exp claim
	Session   string    // the sid claim: the session the token was issued in
}

// Is reports whether the principal has the role.
func (p Principal) Is(role string) bool { return slices.Contains(p.Roles, role) }

// Anonymous reports whether nobody is known to be asking.
func (p Principal) Anonymous() bool { return p.Subject == "" }

type principalKey struct{}

// With returns a context that carries p.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From is the principal that ctx carries, or the anonymous one.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// HashToken is the form in which a refresh token is stored: the SHA-256 of it in
// base64url. It is unsalted on purpose, so that a token can be looked up by its
// hash, and therefore fit only for tokens drawn from a random source, never for passwords.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
