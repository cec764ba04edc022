package apikey

import (
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Known is the stored form of what a function knows of a key. It is stored under the key's hash, also when the key is
// revoked, until the key would have expired.
type Known struct {
	ID      string   `json:"id"`
	Subject string   `json:"subject"`
	Roles   []string `json:"roles,omitempty"`
	Scopes  []string `json:"scopes,omitempty"`
	Version int64    `json:"version"` // of the key: each change has a larger one
	Revoked bool     `json:"revoked,omitempty"`
	Expires int64    `json:"expires"` // Unix seconds; after this nothing of it matters
}

// Learn takes over what is newer, and reports whether that changes anything. In whatever order changes of a key arrive,
// and however often, the result is the same: a revoked key stays revoked, and of other changes the latest counts. What
// has expired at the time now is not taken over.
func (k *Known) Learn(other Known, now time.Time) (changed bool) {
	if other.Expires <= now.Unix() || k.Revoked || !other.Revoked && other.Version <= k.Version {
		return false
	}
	if other.Revoked { // nothing else of it matters
		other.Roles, other.Scopes = nil, nil
	}
	*k = other
	return true
}

// Principal returns who uses the key with the hash, or fault.Unauthenticated when the key cannot be used at the time
// now. The zero Known is that of a key that is not known.
func (k Known) Principal(hash string, now time.Time) (auth.Principal, error) {
	switch {
	case k.ID == "" || k.Revoked:
		return auth.Principal{}, fault.New(fault.Unauthenticated, "the API key is not known, or is revoked")
	case now.Unix() >= k.Expires:
		return auth.Principal{}, fault.New(fault.Unauthenticated, "the API key has expired")
	}
	return auth.Principal{
		Subject: k.Subject, Roles: k.Roles, Key: k.ID, KeyHash: hash, Scopes: k.Scopes,
		ExpiresAt: time.Unix(k.Expires, 0).UTC(),
	}, nil
}
