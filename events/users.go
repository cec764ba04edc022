package events

import "github.com/ebb-dev/ebb/infra/event"

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
}

// DeletedUser is a user who is gone.
type DeletedUser struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"128"`
}

// What users says.
var (
	UserRegistered = event.Define(namespace, "users.registered", 1, event.Fact, "Somebody has signed up.",
		RegisteredUser{UserID: exUser, Name: "Ada Lovelace", Email: "ada@example.com", Roles: []string{"customer"}},
		RegisteredUser{UserID: exUser, Name: "Ada Lovelace", Email: "ada@example.com"})

	UserChanged = event.Define(namespace, "users.changed", 1, event.Fact, "A user's name or address is another now.",
		ChangedUser{UserID: exUser, Name: "Ada King", Email: "ada.king@example.com"})

	UserDeleted = event.Define(namespace, "users.deleted", 1, event.Fact,
		"A user is gone. Whoever kept a copy of their personal data erases it.",
		DeletedUser{UserID: exUser})
)
