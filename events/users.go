package events

import (
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// RegisteredUser is a user who has signed up.
type RegisteredUser struct {
	UserID string   `json:"user_id" minLength:"1" maxLength:"128" person:"id"`
	Name   string   `json:"name" minLength:"1" maxLength:"200" personal:"erased"`
	Email  string   `json:"email" format:"email" maxLength:"254" personal:"erased@erased.invalid" doc:"Personal data: keep it no longer than you need it."`
	Roles  []string `json:"roles,omitempty" doc:"Missing: an ordinary customer."`
}

// ChangedUser is a user after a change.
type ChangedUser struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"128" person:"id"`
	Name   string `json:"name" minLength:"1" maxLength:"200" personal:"erased"`
	Email  string `json:"email" format:"email" maxLength:"254" personal:"erased@erased.invalid" doc:"Personal data: keep it no longer than you need it."`
	// Roles are those of the user from the time of the event on: a token that was issued before gives no other role.
	// Events from before this field was added have none.
	Roles []string `json:"roles,omitempty" doc:"All roles of the user, also for tokens issued before. Missing: unknown."`
}

// DeletedUser is a user who was deleted.
type DeletedUser struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"128"`
}

// SignedOutUser names the access tokens of a user that must be refused from now on, although they have not expired. The
// order of such events does not matter: each token that one of them names is refused. With SessionIDs, the tokens of
// those sessions are refused, whenever they were issued; without, every token of the user whose iat is before
// IssuedBefore, which is a whole second, as iat is, rounded up.
type SignedOutUser struct {
	UserID       string    `json:"user_id" minLength:"1" maxLength:"128"`
	SessionIDs   []string  `json:"session_ids,omitempty" maxLength:"100" doc:"Ended sessions. Missing: all earlier ones."`
	IssuedBefore time.Time `json:"issued_before" doc:"Without session_ids, tokens with an earlier iat are refused."`
	Until        time.Time `json:"until" doc:"Each named token has expired by then, so the event can be removed."`
}

// TakenAddress is a user with whose address a second person tried to register.
type TakenAddress struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"128"`
}

// The events of users.
var (
	UserRegistered = event.Define(namespace, "users.registered", 1, event.Fact, "A user signed up.",
		RegisteredUser{UserID: exUser, Name: "Ada Lovelace", Email: "ada@example.com", Roles: []string{"customer"}},
		RegisteredUser{UserID: exUser, Name: "Ada Lovelace", Email: "ada@example.com"})

	UserChanged = event.Define(namespace, "users.changed", 1, event.Fact, "A user's name, address or roles changed.",
		ChangedUser{UserID: exUser, Name: "Ada King", Email: "ada.king@example.com", Roles: []string{"customer"}},
		ChangedUser{UserID: exUser, Name: "Ada King", Email: "ada.king@example.com"})

	UserDeleted = event.Define(namespace, "users.deleted", 1, event.Fact,
		"A user was deleted. Each consumer erases its copy of their personal data.",
		DeletedUser{UserID: exUser})

	UserSignedOut = event.Define(namespace, "users.signed-out", 1, event.Fact,
		"Sessions of a user ended: by signing out, by a new password, or because a refresh token was used twice.",
		SignedOutUser{
			UserID: exUser, SessionIDs: []string{exSession}, IssuedBefore: exTime, Until: exTime.Add(15 * time.Minute),
		},
		SignedOutUser{UserID: exUser, IssuedBefore: exTime, Until: exTime.Add(15 * time.Minute)})

	UserAddressTaken = event.Define(namespace, "users.address-taken", 1, event.Fact,
		"A second person tried to register with a user's address. Only the user is to be told.",
		TakenAddress{UserID: exUser})
)
