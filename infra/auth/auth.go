// Package auth authenticates callers: it issues and verifies JSON Web Tokens (RFC 7519) and carries the verified
// Principal in a context.
//
// Tokens are signed with Ed25519 (RFC 8037) by a KeyRing and checked by a Verifier that has only public keys (a JWK
// Set, RFC 7517). A Verifier accepts the algorithms, the issuer and the audience that it is configured with and
// requires an expiry and a subject; none of this can be turned off. The claims type of the JWT library is not part of
// the API.
//
// Every type of the package is safe for concurrent use.
package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"time"
)

// The roles that the kit's functions check. A token may have others.
const (
	RoleCustomer = "customer"
	RoleViewer   = "viewer"   // sees what the system does, without personal data
	RoleOperator = "operator" // also mends it
	RoleAdmin    = "admin"    // may do all
)

// Viewers returns the roles with which a person may see what the system does.
func Viewers() []string { return []string{RoleViewer, RoleOperator, RoleAdmin} }

// Operators returns the roles with which a person may mend what the system does.
func Operators() []string { return []string{RoleOperator, RoleAdmin} }

// Principal is the caller. The zero Principal is anonymous: the request had no token.
type Principal struct {
	Subject   string    // the sub claim: a user's or a function's id
	Roles     []string  // the roles claim
	TokenID   string    // the jti claim
	IssuedAt  time.Time // the iat claim, in whole seconds if the issuer is ours; zero: the token has none
	ExpiresAt time.Time // the exp claim
	Session   string    // the sid claim: the session that the token was issued in
	Key       string    // the id of the API key that the request has, where keys are looked up; see package apikey
	KeyHash   string    // the hash of that key; with it and no Subject, the caller is not known yet
	Scopes    []string  // what the API key or the token may be used for; without Scoped and a key they mean nothing
	Scoped    bool      // the token may be used for nothing but what Scopes name; an API key is like that anyway

	// Claims are the other claims of the token whose values are texts of at most 256 bytes. It must not be changed.
	Claims map[string]string
}

// Is reports whether the principal has the role.
func (p Principal) Is(role string) bool { return slices.Contains(p.Roles, role) }

// Anonymous reports whether the caller is not known.
func (p Principal) Anonymous() bool { return p.Subject == "" }

type principalKey struct{}

// With returns a context that carries p.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns the principal that ctx carries, or the anonymous one.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// HashToken returns the form in which a refresh token is stored: its SHA-256 in base64url. It has no salt, so that a
// token can be looked up by its hash, and is therefore safe only for random tokens, never for passwords.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
