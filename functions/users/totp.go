package users

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// The values of EBB_STAFF_SECOND_FACTOR.
const (
	staffOptional = "optional"
	staffRequired = "required" // without one a token gives no role beyond customer
)

var (
	beginFactor = function.Operation{
		Method: http.MethodPost, Path: "/api/second-factor", Owner: manifest.OwnerOnly, Scope: manifest.NoKey,
		Status: http.StatusCreated, Summary: "Set up a second factor", Idempotency: function.Off, MaxBody: smallBody,
		StepUp: manifest.StepUpAlways,
		Description: "Gives the secret of an authenticator app (TOTP, RFC 6238) for the caller's account. It counts once a " +
			"code of it has confirmed it; until then another call replaces it. Needs a recent proof, and a proven address.",
		Errors: []int{http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	confirmFactor = function.Operation{
		Method: http.MethodPost, Path: "/api/second-factor/confirmation", Owner: manifest.OwnerOnly, Scope: manifest.NoKey,
		Summary: "Confirm the second factor", Idempotency: function.Off, MaxBody: smallBody,
		Description: "With a code of the app. Gives the recovery codes, this once; each works once in place of a code.",
		Errors:      []int{http.StatusConflict, http.StatusTooManyRequests},
	}
	showFactor = function.Operation{
		Method: http.MethodGet, Path: "/api/users/{id}/second-factor", Owner: manifest.OwnerHidden, Person: "id",
		Scope:   manifest.NoKey,
		Summary: "Show whether a user has a second factor", Errors: []int{http.StatusForbidden},
	}
	removeFactor = function.Operation{
		Method: http.MethodDelete, Path: "/api/users/{id}/second-factor", Scope: manifest.NoKey, Owner: manifest.OwnerHidden,
		Status: http.StatusNoContent, Summary: "Remove the authenticator app", StepUp: manifest.StepUpAlways,
		Description: "Of oneself, or by an admin of a user who has lost it. Needs a recent proof of the caller. The user's " +
			"other sessions end. Passkeys stay.",
		Idempotency: function.Off, Errors: []int{http.StatusForbidden},
	}
)

// byCode limits the wrong codes of an account. Only who knows the password, or has an access token, gets to try one.
var byCode = limit{"code", 5, time.Second, 15 * time.Minute, time.Hour}

// secondFactor is the app of a user that makes one-time codes, and the recovery codes of all second factors. The
// function computes the app's codes from the secret, so it stores the secret itself and not a hash, beside the hash of
// the password. No operation shows it again.
type secondFactor struct {
	Secret    string   `json:"secret"` // base32; empty: no app
	Confirmed bool     `json:"confirmed,omitempty"`
	Step      uint64   `json:"step,omitempty"`     // of the last code that was used: it and those before are used up
	Recovery  []string `json:"recovery,omitempty"` // hashes of the recovery codes that are left
}

// recoveryOnly returns the factor without the app; nil if nothing is left.
func (f *secondFactor) recoveryOnly() *secondFactor {
	if f == nil || len(f.Recovery) == 0 {
		return nil
	}
	return &secondFactor{Recovery: f.Recovery}
}

// app reports whether the user has an app for codes.
func (c credentials) app() bool { return c.Factor != nil && c.Factor.Confirmed }

// secondFactor reports whether the user has a second factor: an app or a passkey.
func (c credentials) secondFactor() bool { return c.app() || len(c.Passkeys) > 0 }

// shortest returns the least length of a new password.
func (c credentials) shortest(config Config) int {
	if c.secondFactor() {
		return minPassword
	}
	return config.PasswordMin
}

const (
	period        = 30 // seconds, of a code
	codeSteps     = 1  // codes that are accepted before and after the present one, for clocks that differ
	recoveryCodes = 10
	recoverySize  = 24 // base32 characters: 120 bits
)

// step returns which code is a user's in which second.
func step(now time.Time) uint64 { return uint64(now.Unix()) / period }

// plainCode returns a code in the form in which codes are compared: upper case, without the spaces and hyphens that
// people write between its parts.
func plainCode(code string) string {
	return strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(code))
}

// fits returns the factor after the code of its app was used, and whether it is one that is later than the last one
// used.
func (f secondFactor) fits(code string, now time.Time) (after secondFactor, ok bool) {
	if f.Secret == "" {
		return f, false
	}
	for s := step(now) - codeSteps; s <= step(now)+codeSteps; s++ {
		want, err := hotp.GenerateCodeCustom(f.Secret, s, hotp.ValidateOpts{Digits: otp.DigitsSix})
		if err == nil && s > f.Step && subtle.ConstantTimeCompare([]byte(want), []byte(plainCode(code))) == 1 {
			f.Step = s
			return f, true
		}
	}
	return f, false
}

// accept returns the factor after the code was used, and whether the code is good: one of the app, or a recovery code
// that is left. An app that is not confirmed yet gives no good codes but the one that confirms it, and a recovery code
// confirms no app.
func (f secondFactor) accept(code string, confirms bool, now time.Time) (after secondFactor, recovery, ok bool) {
	if f.Confirmed != confirms {
		if after, ok = f.fits(code, now); ok {
			return after, false, true
		}
	}
	if confirms {
		return f, false, false
	}
	hash := auth.HashToken(plainCode(code))
	at := slices.IndexFunc(f.Recovery, func(h string) bool { return same(h, hash) })
	if at < 0 {
		return f, false, false
	}
	f.Recovery = slices.Delete(slices.Clone(f.Recovery), at, at+1)
	return f, true, true
}

// newRecoveryCodes returns recovery codes and their hashes.
func newRecoveryCodes() (codes, hashes []string) {
	for range recoveryCodes {
		text := rand.Text()[:recoverySize]
		codes = append(codes, text[:6]+"-"+text[6:12]+"-"+text[12:18]+"-"+text[18:])
		hashes = append(hashes, auth.HashToken(text))
	}
	return codes, hashes
}

// checkCode reports whether a code of the second factor is good, and marks it as used in c, which the caller saves. A
// wrong one is counted.
func (u *users) checkCode(
	ctx context.Context, tx *function.Tx, id string, c *credentials, code string,
) (bool, error) {
	return u.tryCode(ctx, tx, id, c, code, false)
}

// tryCode is checkCode, or checks the code that confirms an app.
func (u *users) tryCode(
	ctx context.Context, tx *function.Tx, id string, c *credentials, code string, confirms bool,
) (bool, error) {
	try := byCode.of(id)
	if err := u.allowed(ctx, tx, try); err != nil {
		return false, err
	}
	var after secondFactor
	var recovery, ok bool
	if c.Factor != nil {
		after, recovery, ok = c.Factor.accept(code, confirms, tx.Now())
	}
	if !ok {
		return false, u.count(ctx, tx, try)
	}
	c.Factor = &after
	if recovery {
		tellUser(tx, id, events.RecoveryCodeUsed, "")
	}
	return true, nil
}

type beginFactorInput struct {
	StepUp string `header:"Ebb-Step-Up" maxLength:"256" doc:"A step-up token, instead of current_password."`
	Body   struct {
		CurrentPassword string `json:"current_password,omitempty" format:"password" writeOnly:"true"`
	}
	work work
}

type beginFactorOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Secret string `json:"secret" doc:"Base32, for an app that takes no address."`
		URI    string `json:"uri" doc:"otpauth address, which apps read as a QR code."`
	}
}

func (u *users) beginFactor(ctx context.Context, tx *function.Tx, in *beginFactorInput) (*beginFactorOutput, error) {
	by, err := u.actor(ctx, tx)
	if err != nil {
		return nil, err
	}
	if err := u.demandRecent(ctx, tx, by, recent{in.StepUp, in.Body.CurrentPassword, &in.work}); err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(by.id))
	if err != nil {
		return nil, err
	}
	if c.app() {
		return nil, fault.New(fault.Conflict, "there is an authenticator app already; remove it first")
	}
	if err := u.demandProven(by.account); err != nil {
		return nil, err
	}
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: u.config.Issuer, AccountName: by.account.Email, Period: period, SecretSize: 20,
	})
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "make the secret of a second factor")
	}
	next := secondFactor{Secret: key.Secret()}
	if c.Factor != nil {
		next.Recovery = c.Factor.Recovery // of passkeys
	}
	c.Factor = &next
	if err := u.credentials.Put(ctx, tx, credentialsID(by.id), c); err != nil {
		return nil, err
	}
	out := &beginFactorOutput{CacheControl: "no-store"}
	out.Body.Secret, out.Body.URI = key.Secret(), key.URL()
	return out, nil
}

type confirmFactorInput struct {
	Body struct {
		Code string `json:"code" maxLength:"64" writeOnly:"true" doc:"The six digits that the app shows."`
	}
}

type confirmFactorOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		RecoveryCodes []string `json:"recovery_codes"`
	}
}

func (u *users) confirmFactor(
	ctx context.Context, tx *function.Tx, in *confirmFactorInput,
) (*confirmFactorOutput, error) {
	by, err := u.actor(ctx, tx)
	if err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(by.id))
	if err != nil {
		return nil, err
	}
	if c.Factor == nil || c.Factor.Secret == "" || c.Factor.Confirmed {
		return nil, fault.New(fault.Conflict, "no second factor waits for its confirmation")
	}
	ok, err := u.tryCode(ctx, tx, by.id, &c, in.Body.Code, true)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, function.CommitThen(wrongCode(fault.Invalid))
	}
	out := &confirmFactorOutput{CacheControl: "no-store"}
	c.Factor.Confirmed = true
	out.Body.RecoveryCodes, c.Factor.Recovery = newRecoveryCodes()
	if err := u.credentials.Put(ctx, tx, credentialsID(by.id), c); err != nil {
		return nil, err
	}
	if err := u.markSession(ctx, tx, tx.Principal().Session, true); err != nil {
		return nil, err
	}
	tellUser(tx, by.id, events.SecondFactorAdded, "")
	return out, nil
}

// markSession notes whether the user of a session has shown a second factor. The tokens from its next refresh on are
// accordingly.
func (u *users) markSession(ctx context.Context, tx *function.Tx, id string, shown bool) error {
	s, ok, err := u.sessions.Find(ctx, tx, id)
	if err != nil || !ok || s.SecondFactor == shown {
		return err
	}
	s.SecondFactor = shown
	return u.sessions.Put(ctx, tx, id, s)
}

// wrongCode is the answer to a code that is wrong, or was used before.
func wrongCode(kind fault.Kind) error {
	return fault.New(kind, "the code of the second factor is wrong, or was used before").With(
		fault.Detail{Location: "body.code", Message: "must be the app's present code, or a recovery code"})
}

// codeWanted is the answer to a sign-in with the right password that lacks the second factor.
func codeWanted(c credentials) error {
	wanted := fault.New(fault.Unauthenticated, "this account has a second factor: sign in with its code too").With(
		fault.Detail{Location: "body.code", Message: "is needed"})
	if len(c.Passkeys) == 0 {
		return wanted
	}
	return wanted.With(fault.Detail{Location: "body.passkey", Message: "does in place of a code"})
}

type factorOutput struct {
	Body struct {
		TOTP          bool `json:"totp" doc:"The user has an authenticator app."`
		Passkeys      int  `json:"passkeys" doc:"How many passkeys the user has."`
		RecoveryCodes int  `json:"recovery_codes" doc:"How many recovery codes are left."`
	}
}

func (u *users) showFactor(ctx context.Context, tx *function.Tx, in *oneUser) (*factorOutput, error) {
	if _, _, err := u.find(ctx, tx, in.ID); err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(in.ID))
	if err != nil {
		return nil, err
	}
	out := &factorOutput{}
	out.Body.TOTP, out.Body.Passkeys = c.app(), len(c.Passkeys)
	if c.secondFactor() && c.Factor != nil {
		out.Body.RecoveryCodes = len(c.Factor.Recovery)
	}
	return out, nil
}

type removeFactorInput struct {
	ID     string `path:"id" maxLength:"128" doc:"The user's id."`
	StepUp string `header:"Ebb-Step-Up" maxLength:"256" doc:"A step-up token of the caller."`
}

func (u *users) removeFactor(ctx context.Context, tx *function.Tx, in *removeFactorInput) (*struct{}, error) {
	_, by, err := u.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := u.demandRecent(ctx, tx, by, recent{stepUp: in.StepUp}); err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(in.ID))
	if err != nil || c.Factor == nil || c.Factor.Secret == "" {
		return nil, err
	}
	if c.app() {
		tellUser(tx, in.ID, events.SecondFactorRemoved, "")
	}
	c.Factor = c.Factor.recoveryOnly()
	return nil, u.afterRemoval(ctx, tx, in.ID, c)
}

// rolesOf returns the roles that a token of the session gives.
func (u *users) rolesOf(a account, s session) []string {
	if u.config.StaffFactor != staffRequired || s.SecondFactor {
		return a.Roles
	}
	return slices.DeleteFunc(slices.Clone(a.Roles), func(role string) bool { return role != auth.RoleCustomer })
}
