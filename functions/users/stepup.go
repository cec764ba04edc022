package users

import (
	"context"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// A change of how a user signs in needs a proof of the user besides the access token, which may be stolen: the
// password, or with a second factor its code. The proof is a step-up token in the header field Ebb-Step-Up, which is
// bound to the session, or, without a second factor, the password in the request itself. So does every change that
// staff make: of roles, of another user's account, sessions and API keys.

// stepUpTTL is how long a step-up token is valid.
const stepUpTTL = 5 * time.Minute

var stepUp = function.Operation{
	Method: http.MethodPost, Path: "/api/sessions/current/step-up", Owner: manifest.OwnerOnly, Scope: manifest.NoKey,
	Status: http.StatusCreated, Summary: "Prove who uses the session", Idempotency: function.Off, MaxBody: smallBody,
	Description: "Gives a token for the header field Ebb-Step-Up of requests that change how the user signs in: by the " +
		"password, or if the user has a second factor by its code or a passkey. It is valid for five minutes, for this " +
		"session.",
	Errors: []int{http.StatusTooManyRequests, http.StatusServiceUnavailable},
}

type stepUpInput struct {
	Body struct {
		Password string            `json:"password,omitempty" format:"password" writeOnly:"true"`
		Code     string            `json:"code,omitempty" maxLength:"64" writeOnly:"true" doc:"Of the second factor, or a recovery code."`
		Passkey  *PasskeyAssertion `json:"passkey,omitempty" doc:"In place of code: what the browser gave for the options of POST /api/sessions/current/step-up/options."`
	}
	work work
}

type stepUpOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Token     string `json:"step_up_token"`
		ExpiresIn int    `json:"expires_in" doc:"Seconds until the token expires."`
	}
}

func (u *users) stepUp(ctx context.Context, tx *function.Tx, in *stepUpInput) (*stepUpOutput, error) {
	by, err := u.actor(ctx, tx)
	if err != nil {
		return nil, err
	}
	id := tx.Principal().Session
	if id == "" {
		return nil, fault.New(fault.Invalid, "the access token is of no session")
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(by.id))
	if err != nil {
		return nil, err
	}
	if err := u.showRecent(ctx, tx, by.id, c, in); err != nil {
		return nil, err
	}
	s, err := u.sessions.Get(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	token := newToken(id)
	s.StepUp, s.StepUpUntil = auth.HashToken(token), tx.Now().Add(stepUpTTL)
	if err := u.sessions.Put(ctx, tx, id, s); err != nil {
		return nil, err
	}
	out := &stepUpOutput{CacheControl: "no-store"}
	out.Body.Token, out.Body.ExpiresIn = token, int(stepUpTTL.Seconds())
	return out, nil
}

// showRecent checks the proof that a token is given for.
func (u *users) showRecent(ctx context.Context, tx *function.Tx, id string, c credentials, in *stepUpInput) error {
	if !c.secondFactor() {
		return u.confirm(ctx, tx, id, "body.password", in.Body.Password, &in.work, c)
	}
	if in.Body.Passkey != nil {
		user, err := u.checkPasskey(ctx, tx, *in.Body.Passkey, challengeToCaller(tx, ceremonyStepUp))
		if err == nil && user != id {
			err = function.CommitThen(badPasskey(fault.Invalid, "body.passkey"))
		}
		return err
	}
	ok, err := u.checkCode(ctx, tx, id, &c, in.Body.Code)
	if err != nil {
		return err
	}
	if !ok {
		return function.CommitThen(wrongCode(fault.Invalid))
	}
	return u.credentials.Put(ctx, tx, credentialsID(id), c)
}

// recent is what a request shows besides its access token.
type recent struct {
	stepUp   string // the header field Ebb-Step-Up
	password string // of the actor, in the body
	work     *work  // nil: the request has no body for a password
}

// demandRecent answers nil if the request shows a recent proof of the actor. It is called before anything else is
// written: a wrong password commits that it was tried, and nothing else.
func (u *users) demandRecent(ctx context.Context, tx *function.Tx, by actor, r recent) error {
	if r.stepUp != "" {
		s, ok, err := u.sessions.Find(ctx, tx, tx.Principal().Session)
		if err != nil {
			return err
		}
		if ok && s.UserID == by.id && same(s.StepUp, auth.HashToken(r.stepUp)) && tx.Now().Before(s.StepUpUntil) {
			return nil
		}
		return notRecent("header.Ebb-Step-Up", "is not valid any more; see POST /api/sessions/current/step-up")
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(by.id))
	if err != nil {
		return err
	}
	if c.secondFactor() || r.work == nil {
		return notRecent("header.Ebb-Step-Up", "is needed; see POST /api/sessions/current/step-up")
	}
	return u.confirm(ctx, tx, by.id, "body.current_password", r.password, r.work, c)
}

// demandForAnother is like demandRecent for a change of the user with this id, and demands nothing of the user.
func (u *users) demandForAnother(ctx context.Context, tx *function.Tx, by actor, id string, r recent) error {
	if by.id == id {
		return nil
	}
	return u.demandRecent(ctx, tx, by, r)
}

func notRecent(location, message string) error {
	return fault.New(fault.Invalid, "this needs a recent proof that it is you").With(
		fault.Detail{Location: location, Message: message})
}

// confirm returns nil if the password is the present one of the user.
func (u *users) confirm(
	ctx context.Context, tx *function.Tx, id, location, password string, w *work, c credentials,
) error {
	wrong := notRecent(location, "must be your present password")
	if password == "" || tooLong(password) {
		return wrong
	}
	ok, err := u.guess(ctx, tx, id, password, w, c)
	if err != nil || ok {
		return err
	}
	return function.CommitThen(wrong)
}

// guess reports whether the password is the present one of the user. A wrong one is counted: the holder of a stolen
// access token, or of a mailed token, may guess no oftener than other clients.
func (u *users) guess(
	ctx context.Context, tx *function.Tx, id, password string, w *work, c credentials,
) (right bool, err error) {
	try := byOwner.of(id)
	if err := u.allowed(ctx, tx, try); err != nil {
		return false, err
	}
	if password != "" && !tooLong(password) {
		right, err = w.matches(ctx, u.hasher, password, c.Password)
	}
	if err != nil || right {
		return right, err
	}
	return false, u.count(ctx, tx, try)
}
