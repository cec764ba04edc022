package users

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
)

// session holds a family of refresh tokens: the one that is valid now and those before it. Only
// hashes are stored.
type session struct {
	UserID    string    `json:"user_id"`
	Current   string    `json:"current"`
	Used      []string  `json:"used,omitempty"` // the latest ones, oldest first
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`       // moves on with each refresh
	UsedAt    time.Time `json:"used_at,omitzero"` // the hour of the last refresh
	Agent     string    `json:"agent,omitempty"`  // User-Agent at the sign-in

	SecondFactor bool      `json:"second_factor,omitempty"` // the user has shown one
	StepUp       string    `json:"step_up,omitempty"`       // hash of the step-up token
	StepUpUntil  time.Time `json:"step_up_until,omitzero"`
}

// maxUsed bounds the memory for used tokens. One that is older than that is refused like an unknown
// one: it opens nothing, but it does not end the session either.
const maxUsed = 100

// credentials holds the secrets of a user, apart from the user, whose versions number the
// user's events. The list of sessions is what a sign-in and a deletion both write, so that
// neither misses the other.
type credentials struct {
	Password  string   `json:"password"` // PHC
	Sessions  []string `json:"sessions,omitempty"`
	DeviceKey string   `json:"device_key,omitempty"` // what device tokens are checked with; see deviceToken

	Factor   *secondFactor `json:"second_factor,omitempty"` // nil: no app, and no recovery codes
	Passkeys []string      `json:"passkeys,omitempty"`      // ids, the oldest first
}

// maxSessions is the most sessions that a user has open; one more ends the oldest.
const maxSessions = 20

// without returns the credentials without one of the sessions.
func (c credentials) without(session string) credentials {
	c.Sessions = slices.DeleteFunc(slices.Clone(c.Sessions), func(id string) bool { return id == session })
	return c
}

// credentialsID differs from the user's id, so that no event about the user is numbered after it.
func credentialsID(user string) string { return "of-" + user }

// secretSize is the number of random bytes of a token, a challenge or a device key.
const secretSize = 32

// newSecret returns secretSize random bytes in base64url.
func newSecret() string {
	secret := make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails
	return base64.RawURLEncoding.EncodeToString(secret)
}

// newToken returns a refresh token or a step-up token of the session with this id, or a mailed token of the user with
// this id: "<id>.<32 random bytes>". Its hash is taken over the whole.
func newToken(id string) string { return id + "." + newSecret() }

// sessionOf returns the session that a refresh token names. Only its hash proves that it belongs there.
func sessionOf(token string) (string, bool) {
	id, secret, ok := strings.Cut(token, ".")
	return id, ok && id != "" && len(secret) == base64.RawURLEncoding.EncodedLen(secretSize)
}

type verdict int

const (
	unknown verdict = iota // not a token of this session, or one of long ago
	current
	replayed // it was good once, and was exchanged
	expired
)

// judge returns how a refresh token stands to the session.
func (s session) judge(token string, now time.Time) verdict {
	hash := auth.HashToken(token)
	switch {
	case slices.ContainsFunc(s.Used, func(used string) bool { return same(used, hash) }):
		return replayed
	case !same(s.Current, hash):
		return unknown
	case !now.Before(s.ExpiresAt):
		return expired
	}
	return current
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// rotated returns the session with a new token; the one before it counts as used.
func (s session) rotated(token string, now, expires time.Time) session {
	s.Used = append(slices.Clone(s.Used), s.Current)
	if extra := len(s.Used) - maxUsed; extra > 0 {
		s.Used = s.Used[extra:]
	}
	s.Current, s.ExpiresAt, s.UsedAt = auth.HashToken(token), expires, now.Truncate(time.Hour)
	return s
}
