package events

import (
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// RequestedEmailProof is an address that waits for the proof that the user reads its mail. The token is for the mail
// alone: users stores only its hash.
type RequestedEmailProof struct {
	UserID    string    `json:"user_id" minLength:"1" maxLength:"128" person:"id"`
	Email     string    `json:"email" format:"email" maxLength:"254" personal:"erased@erased.invalid" doc:"Where the mail goes; it need not be the user's address yet."`
	Token     string    `json:"token" minLength:"1" maxLength:"256" personal:"erased" secret:"true"`
	ExpiresAt time.Time `json:"expires_at"`
}

// RequestedPasswordReset is a user for whom a new password was asked. The token is for the mail alone: users stores
// only its hash.
type RequestedPasswordReset struct {
	UserID    string    `json:"user_id" minLength:"1" maxLength:"128" person:"id"`
	Email     string    `json:"email,omitempty" format:"email" maxLength:"254" personal:"erased@erased.invalid" doc:"Where the mail goes: the address that the token is for. Missing in events of before: to the user's address."`
	Token     string    `json:"token" minLength:"1" maxLength:"256" personal:"erased" secret:"true"`
	ExpiresAt time.Time `json:"expires_at"`
}

// What has changed about the security of an account.
const (
	EmailChanged        = "email-changed"
	PasswordChanged     = "password-changed"
	PasswordReset       = "password-reset"
	SecondFactorAdded   = "second-factor-added"
	SecondFactorRemoved = "second-factor-removed"
	RecoveryCodeUsed    = "recovery-code-used"
	PasskeyAdded        = "passkey-added"
	PasskeyRemoved      = "passkey-removed"
	PasskeyCopied       = "passkey-copied" // a copy of it was shown, and refused
)

// ChangedSecurity is a change of how a user signs in, of which the user is told.
type ChangedSecurity struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"128" person:"id"`
	What   string `json:"what" minLength:"1" maxLength:"64" doc:"email-changed, password-changed, password-reset, second-factor-added, second-factor-removed, recovery-code-used, passkey-added, passkey-removed or passkey-copied; there may be more."`
	Email  string `json:"email,omitempty" format:"email" maxLength:"254" personal:"erased@erased.invalid" doc:"Where the mail goes. Missing: to the user's address."`
}

// The events of users about how they sign in.
var (
	UserEmailProofRequested = event.Define(namespace, "users.email-proof-requested", 1, event.Fact,
		"A user is to prove an e-mail address. Only the mail to that address may have the token.",
		RequestedEmailProof{
			UserID: exUser, Email: "ada@example.com", Token: exUser + ".c2VjcmV0", ExpiresAt: exTime.Add(48 * time.Hour),
		})

	UserPasswordResetRequested = event.Define(namespace, "users.password-reset-requested", 1, event.Fact,
		"A new password was asked for a user. Only the mail to the user may have the token.",
		RequestedPasswordReset{
			UserID: exUser, Email: "ada@example.com", Token: exUser + ".c2VjcmV0", ExpiresAt: exTime.Add(30 * time.Minute),
		})

	UserSecurityChanged = event.Define(namespace, "users.security-changed", 1, event.Fact,
		"How a user signs in was changed. The user is to be told, in case it was somebody else.",
		ChangedSecurity{UserID: exUser, What: EmailChanged, Email: "ada@example.com"},
		ChangedSecurity{UserID: exUser, What: PasswordChanged})
)
