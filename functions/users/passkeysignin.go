package users

import (
	"context"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

var (
	askPasskey = function.Operation{
		Method: http.MethodPost, Path: "/api/sessions/passkey/options", Access: function.Public,
		Status: http.StatusCreated, Summary: "Begin to sign in with a passkey", Idempotency: function.Off,
		MaxBody: smallBody,
		Description: "Gives the options for navigator.credentials.get in a browser, with a challenge that is good once, " +
			"for five minutes. They name no passkeys: the browser offers those that it has for this site. A client that asks " +
			"for many has to wait: 429 with Retry-After. Where passkeys are not set up: 409.",
		Errors: []int{http.StatusConflict, http.StatusTooManyRequests},
	}
	openWithPasskey = function.Operation{
		Method: http.MethodPost, Path: "/api/sessions/passkey", Access: function.Public,
		Status: http.StatusCreated, Summary: "Sign in with a passkey", Idempotency: function.Off, MaxBody: smallBody,
		Description: "With what the browser gave for the options. No address and no password are asked for, and the " +
			"session counts as opened with a second factor: the device has verified the user. A passkey that is not known, a " +
			"challenge that was used, and a signature that does not fit are 401.",
		Errors: []int{http.StatusUnauthorized, http.StatusConflict},
	}
	askStepUp = function.Operation{
		Method: http.MethodPost, Path: "/api/sessions/current/step-up/options", Owner: manifest.OwnerOnly,
		Scope: manifest.NoKey, Status: http.StatusCreated, Summary: "Begin to prove by a passkey who uses the session",
		Idempotency: function.Off, MaxBody: smallBody,
		Description: "Gives the options for navigator.credentials.get in a browser, with a challenge for this session.",
		Errors:      []int{http.StatusConflict},
	}
)

// asked limits the challenges of one network, each of which is stored for five minutes.
var asked = limit{"challenges", 100, time.Second, time.Minute, time.Hour}

func (u *users) askPasskey(ctx context.Context, tx *function.Tx, _ *struct{}) (*requestOutput, error) {
	if err := u.passkeys.enabled(); err != nil {
		return nil, err
	}
	tries := fromNetwork(ctx, asked)
	if err := u.allowed(ctx, tx, tries...); err != nil {
		return nil, err
	}
	if err := u.count(ctx, tx, tries...); err != nil {
		return nil, err
	}
	return u.askFor(ctx, tx, challenge{Ceremony: ceremonySignIn})
}

func (u *users) askStepUp(ctx context.Context, tx *function.Tx, _ *struct{}) (*requestOutput, error) {
	_, err := u.actor(ctx, tx)
	if err == nil {
		err = u.passkeys.enabled()
	}
	if err != nil {
		return nil, err
	}
	return u.askFor(ctx, tx, challengeToCaller(tx, ceremonyStepUp))
}

type passkeyLoginInput struct {
	Agent string `header:"User-Agent" hidden:"true"`
	Body  struct {
		Credential PasskeyAssertion `json:"credential"`
		Device     string           `json:"device_token,omitempty" maxLength:"256" writeOnly:"true" doc:"The device_token of an earlier sign-in to this account. One that is not good any more is like none."`
	}
}

func (u *users) loginWithPasskey(
	ctx context.Context, tx *function.Tx, in *passkeyLoginInput,
) (*tokensOutput, error) {
	if err := u.passkeys.enabled(); err != nil {
		return nil, err
	}
	id, err := u.checkPasskey(ctx, tx, in.Body.Credential, challenge{Ceremony: ceremonySignIn})
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, function.CommitThen(badPasskey(fault.Unauthenticated, "body.credential"))
	}
	a, err := u.accounts.Get(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(id))
	if err != nil {
		return nil, err
	}
	if u.config.AddressProof == proofRequired && u.unproven(a) {
		if err := u.offerProof(ctx, tx, id, a.Email); err != nil {
			return nil, err
		}
		return nil, function.CommitThen(fault.New(fault.Unauthenticated, "prove your e-mail address first: see the mail"))
	}
	return u.enter(ctx, tx, id, a, c, entry{
		agent: in.Agent, device: deviceOf(c.DeviceKey, in.Body.Device), secondFactor: true,
	})
}
