package events

import (
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// RegisteredUser is somebody who has just signed up.
type RegisteredUser struct {
	UserID string   `json:"user_id" minLength:"1" maxLength:"128"`
	Name   string   `json:"name" minLength:"1" maxLength:"200"`
	Email  string   `json:"email" format:"email" maxLength:"254" doc:"Personal data: keep it no longer than you need it."`
	Roles  []string `json:"roles,omitempty" doc:"None: an ordinary customer."`
}

// ChangedUser is a user as they are after a change.
type ChangedUser struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"128"`
	Name   string `json:"name" minLength:"1" maxLength:"200"`
	Email  string `json:"email" format:"email" maxLength:"254" doc:"Personal data: keep it no longer than you need it."`
	// Events from before this field was added have none.
	Roles []string `json:"roles,omitempty" doc:"All roles of the user from the time of the event on: a token issued before it gives no other. None: not told."`
}

// DeletedUser is a user who is gone.
type DeletedUser struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"128"`
}

// SignedOutUser names the access tokens of a user that are to be refused from now on, although they have not expired.
// It commutes: in whatever order such events arrive, the union of what they name is refused.
type SignedOutUser struct {
	UserID       string    `json:"user_id" minLength:"1" maxLength:"128"`
	SessionIDs   []string  `json:"session_ids,omitempty" maxLength:"100" doc:"The sessions that have ended: their tokens (sid) are refused whenever they were issued. None: all sessions that began before issued_before."`
	IssuedBefore time.Time `json:"issued_before" doc:"Without session_ids, a token of the user with an earlier iat is refused. A whole second, as iat is, rounded up."`
	Until        time.Time `json:"until" doc:"After this no token that the event names is valid, so that the event can be forgotten."`
}

// TakenAddress is a user whose address somebody has asked for.
type TakenAddress struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"128"`
}

// What users says.
var (
	UserRegistered = event.Define(namespace, "users.registered", 1, event.Fact, "Somebody has signed up.",
		RegisteredUser{UserID: exUser, Name: "Ada Lovelace", Email: "ada@example.com", Roles: []string{"customer"}},
		RegisteredUser{UserID: exUser, Name: "Ada Lovelace", Email: "ada@example.com"})

	UserChanged = event.Define(namespace, "users.changed", 1, event.Fact, "A user's name, address or roles are others now.",
		ChangedUser{UserID: exUser, Name: "Ada King", Email: "ada.king@example.com", Roles: []string{"customer"}},
		ChangedUser{UserID: exUser, Name: "Ada King", Email: "ada.king@example.com"})

	UserDeleted = event.Define(namespace, "users.deleted", 1, event.Fact,
		"A user is gone. Whoever kept a copy of their personal data erases it.",
		DeletedUser{UserID: exUser})

	UserSignedOut = event.Define(namespace, "users.signed-out", 1, event.Fact,
		"Sessions of a user have ended: by signing out, by a new password, or because a refresh token was shown twice.",
		SignedOutUser{UserID: exUser, SessionIDs: []string{exSession}, IssuedBefore: exTime, Until: exTime.Add(15 * time.Minute)},
		SignedOutUser{UserID: exUser, IssuedBefore: exTime, Until: exTime.Add(15 * time.Minute)})

	UserAddressTaken = event.Define(namespace, "users.address-taken", 1, event.Fact,
		"Somebody has asked for an address that is a user's already. They were not told; the user is to be.",
		TakenAddress{UserID: exUser})
)
