package event

import "time"

// ChangedAPIKey is an API key as it is after a change. Such events may arrive in any order: of those about one key the
// one with the largest version counts, and a key that is revoked in any of them stays revoked.
type ChangedAPIKey struct {
	KeyID     string    `json:"key_id" minLength:"1" maxLength:"128"`
	Hash      string    `json:"hash" minLength:"43" maxLength:"43" doc:"The SHA-256 of the key, in base64url. The key itself is known to its owner only."`
	Subject   string    `json:"subject" minLength:"1" maxLength:"200" doc:"Whose key it is: the user that its requests act for."`
	Roles     []string  `json:"roles,omitempty" maxLength:"100" doc:"Of the owner's roles, those that the key gives."`
	Scopes    []string  `json:"scopes,omitempty" maxLength:"100" doc:"What the key may be used for, such as orders:read."`
	Version   int64     `json:"version" min:"1" doc:"Larger with each change of the key."`
	ExpiresAt time.Time `json:"expires_at" doc:"From then on the key is refused, and can be forgotten. It never changes."`
	Revoked   bool      `json:"revoked,omitempty"`
}

// UsedAPIKey tells that an API key was used on a day.
type UsedAPIKey struct {
	KeyID string    `json:"key_id" minLength:"1" maxLength:"128"`
	Day   time.Time `json:"day" doc:"Midnight in UTC of the day."`
}

// NarrowAPIKeys names API keys of a user that are revoked, or lose roles.
type NarrowAPIKeys struct {
	UserID string   `json:"user_id" minLength:"1" maxLength:"128"`
	Keys   []string `json:"keys" maxLength:"128" doc:"Their ids."`
	Roles  []string `json:"roles,omitempty" maxLength:"100" doc:"The roles that they lose. None: they are revoked."`
	Forget bool     `json:"forget,omitempty" doc:"They are removed too, because the account is deleted."`
}

var (
	// APIKeysNarrow is the command that the function which issues API keys sends itself for those keys of a user that its
	// database could not change in the same commit as the account.
	APIKeysNarrow = Define(kit, "users.narrow-api-keys", 1, Command,
		"Revoke API keys of a user, or take roles from them. The function sends itself one command for each portion.",
		NarrowAPIKeys{UserID: exUser, Keys: []string{exKey}, Roles: []string{"admin"}, Forget: true},
		NarrowAPIKeys{UserID: exUser, Keys: []string{exKey}})

	// APIKeyChanged is emitted by the function that issues API keys. The kit consumes it in every other function that
	// has a database and an operation that a key may call; see infra/function.
	APIKeyChanged = Define(kit, "users.api-key-changed", 1, Fact,
		"An API key is created, gives other roles, or is revoked.",
		ChangedAPIKey{
			KeyID: exKey, Hash: exHash, Subject: exUser, Roles: []string{"customer"}, Scopes: []string{"orders:read"},
			Version: 1, ExpiresAt: exTime.Add(90 * 24 * time.Hour), Revoked: true,
		},
		ChangedAPIKey{
			KeyID: exKey, Hash: exHash, Subject: exUser, Version: 1, ExpiresAt: exTime.Add(90 * 24 * time.Hour),
		})

	// APIKeyUsed is emitted by every function that API keys may call, once a day for each key that is used there.
	APIKeyUsed = Define(kit, "users.api-key-used", 1, Fact, "An API key was used at a function on a day.",
		UsedAPIKey{KeyID: exKey, Day: exTime.Truncate(24 * time.Hour)})
)

const (
	exKey  = "01920000-0000-7000-8000-000000000009"
	exHash = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
)
