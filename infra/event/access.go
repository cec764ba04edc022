package event

import "time"

// RevokedAccess names access tokens and API keys of a subject that are refused although they have not expired, or that
// no longer give a role. Such events commute: in whatever order they arrive, the union of what they name is refused.
type RevokedAccess struct {
	Subject      string    `json:"subject" minLength:"1" maxLength:"200" doc:"The sub claim of the tokens."`
	Sessions     []string  `json:"sessions,omitempty" maxLength:"100" doc:"The sessions that have ended: their tokens (sid) are refused whenever they were issued."`
	Roles        []string  `json:"roles,omitempty" maxLength:"100" doc:"The roles that are lost: a token with an iat before issued_before does not give them."`
	Keys         []string  `json:"keys,omitempty" maxLength:"128" doc:"The ids of API keys that are refused at once, or with roles do not give these any more. An event for each of them follows."`
	IssuedBefore time.Time `json:"issued_before" doc:"Without keys, sessions and roles, every token of the subject with an earlier iat is refused. A whole second, as iat is, rounded up."`
	Until        time.Time `json:"until" doc:"After this no token that the event names is valid, so that the event can be forgotten."`
}

// AccessRevoked is emitted by the function that issues tokens. The kit consumes it in every other function that has a
// database and an operation that is not public; see infra/function.
var AccessRevoked = Define(kit, "users.access-revoked", 1, Fact,
	"Access tokens of a user are refused from now on, or do not give a role any more: an account was deleted, a "+
		"role was taken away, sessions have ended.",
	RevokedAccess{
		Subject: exUser, Sessions: []string{exSession}, Roles: []string{"admin"}, IssuedBefore: exTime,
		Until: exTime.Add(15 * time.Minute),
	},
	RevokedAccess{Subject: exUser, IssuedBefore: exTime, Until: exTime.Add(15 * time.Minute)},
	RevokedAccess{
		Subject: exUser, Roles: []string{"admin"}, Keys: []string{exKey}, IssuedBefore: time.Unix(0, 0).UTC(),
		Until: exTime.Add(90 * 24 * time.Hour),
	})
