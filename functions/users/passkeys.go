package users

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

var (
	beginPasskey = function.Operation{
		Method: http.MethodPost, Path: "/api/passkeys/options", Owner: manifest.OwnerOnly, Scope: manifest.NoKey,
		Status: http.StatusCreated, Summary: "Begin to add a passkey", Idempotency: function.Off, MaxBody: smallBody,
		StepUp: manifest.StepUpAlways,
		Description: "Gives the options for navigator.credentials.create in a browser, with a challenge for this session " +
			"that is good once, for five minutes. Needs a recent proof, and a proven address. With ten passkeys, and where " +
			"passkeys are not set up: 409.",
		Errors: []int{http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	addPasskey = function.Operation{
		Method: http.MethodPost, Path: "/api/passkeys", Owner: manifest.OwnerOnly, Scope: manifest.NoKey,
		Status: http.StatusCreated, Summary: "Add a passkey", Idempotency: function.Off, MaxBody: smallBody,
		Description: "With what the browser made of the options. From then on the password alone does not sign in: it " +
			"takes a passkey, alone or beside the password, or a code. The first second factor of an account gives recovery " +
			"codes, this once. A passkey that is known already is 409.",
		Errors: []int{http.StatusConflict},
	}
	listPasskeys = function.Operation{
		Method: http.MethodGet, Path: "/api/users/{id}/passkeys", Owner: manifest.OwnerHidden, Person: "id",
		Scope: manifest.NoKey, Summary: "List the passkeys of a user",
		Description: "The oldest first: one's own, or anyone's for an admin. Somebody else's is 404.",
		Errors:      []int{http.StatusForbidden},
	}
	renamePasskey = function.Operation{
		Method: http.MethodPatch, Path: "/api/users/{id}/passkeys/{passkey}", Owner: manifest.OwnerHidden,
		Scope: manifest.NoKey, Summary: "Rename a passkey", MaxBody: smallBody, StepUp: manifest.StepUpOthers,
		Description: "An admin needs a recent proof to rename another user's.", Errors: []int{http.StatusForbidden},
	}
	removePasskey = function.Operation{
		Method: http.MethodDelete, Path: "/api/users/{id}/passkeys/{passkey}", Owner: manifest.OwnerHidden,
		Scope: manifest.NoKey, Status: http.StatusNoContent, Summary: "Remove a passkey", Idempotency: function.Off,
		StepUp: manifest.StepUpAlways,
		Description: "Of oneself, or by an admin of a user who has lost it. Needs a recent proof of the caller. The user's " +
			"other sessions end. With the last second factor the recovery codes are void.",
		Errors: []int{http.StatusForbidden},
	}
)

// Passkey is a passkey in the API.
type Passkey struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty" doc:"The hour in which it was used last."`
	Synced     bool       `json:"synced,omitempty" doc:"It is copied to other devices of the user, as by a password manager."`
}

func (p passkey) shown(id string) Passkey {
	s := Passkey{ID: id, Name: p.Name, CreatedAt: p.CreatedAt, Synced: p.Synced}
	if !p.UsedAt.IsZero() {
		s.LastUsedAt = &p.UsedAt
	}
	return s
}

// passkeys holds the stored passkeys and challenges, and the relying party that checks signatures.
type passkeys struct {
	all        *store.Collection[passkey]
	challenges *store.Collection[challenge]
	site       *relyingParty // nil: no passkeys
}

// servePasskeys declares the collections and the operations.
func (u *users) servePasskeys(f *function.Function) (err error) {
	u.passkeys = passkeys{
		all:        function.Collection[passkey](f, "passkeys"),
		challenges: function.Collection[challenge](f, "challenges", store.SingleUse, store.Expire("expires_at")),
	}
	u.passkeys.site, err = newRelyingParty(u.config.PasskeySite, u.config.PasskeyOrigins)
	function.Serve(f, beginPasskey, u.beginPasskey)
	function.Serve(f, addPasskey, u.addPasskey)
	function.Serve(f, listPasskeys, u.listPasskeys)
	function.Serve(f, renamePasskey, u.renamePasskey)
	function.Serve(f, removePasskey, u.removePasskey)
	function.Serve(f, askPasskey, u.askPasskey)
	function.Serve(f, openWithPasskey, u.loginWithPasskey)
	function.Serve(f, askStepUp, u.askStepUp)
	return err
}

// enabled returns nil where passkeys are set up, and fault.Conflict otherwise.
func (p passkeys) enabled() error {
	if p.site == nil {
		return fault.New(fault.Conflict, "passkeys are not set up here: EBB_PASSKEY_RP_ID names no site")
	}
	return nil
}

// ask stores a new challenge and returns its text, which the browser signs.
func (p passkeys) ask(ctx context.Context, tx *function.Tx, c challenge) (string, error) {
	text := newSecret()
	c.ExpiresAt = tx.Now().Add(challengeTTL)
	return text, p.challenges.Create(ctx, tx, auth.HashToken(text), c)
}

// use removes the challenge with a text that a browser has signed, and reports whether it was good for want. The caller
// also commits a refusal of the signature, so that each challenge is tried once.
func (p passkeys) use(ctx context.Context, tx *function.Tx, text string, want challenge) (good bool, err error) {
	id := auth.HashToken(text)
	c, ok, err := p.challenges.Find(ctx, tx, id)
	if err != nil || !ok || !c.good(want, tx.Now()) {
		return false, err
	}
	return true, p.challenges.Delete(ctx, tx, id)
}

// of returns the passkeys that the credentials of a user name, and their ids, the oldest first.
func (p passkeys) of(ctx context.Context, tx *function.Tx, c credentials) (ids []string, all []passkey, err error) {
	known, err := p.all.GetMany(ctx, tx, c.Passkeys...)
	for _, id := range c.Passkeys {
		if k, ok := known[id]; ok {
			ids, all = append(ids, id), append(all, k)
		}
	}
	return ids, all, err
}

// forget removes all passkeys of a user. The caller saves c.
func (p passkeys) forget(ctx context.Context, tx *function.Tx, c *credentials) error {
	for _, id := range c.Passkeys {
		if err := p.all.Delete(ctx, tx, id); err != nil {
			return err
		}
	}
	c.Passkeys = nil
	return nil
}

// demandProven refuses a second factor for an address that is not proven. Otherwise a user who registers with another
// person's address could lock that person out, who can reset the password only.
func (u *users) demandProven(a account) error {
	if u.config.AddressProof != proofOff && u.unproven(a) {
		return fault.New(fault.Conflict, "prove your e-mail address first")
	}
	return nil
}

type beginPasskeyInput struct {
	StepUp string `header:"Ebb-Step-Up" maxLength:"256" doc:"A step-up token, instead of current_password."`
	Body   struct {
		CurrentPassword string `json:"current_password,omitempty" format:"password" writeOnly:"true"`
	}
	work work
}

type beginPasskeyOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Options PasskeyCreation `json:"public_key"`
	}
}

func (u *users) beginPasskey(ctx context.Context, tx *function.Tx, in *beginPasskeyInput) (*beginPasskeyOutput, error) {
	by, err := u.actor(ctx, tx)
	if err == nil {
		err = u.passkeys.enabled()
	}
	if err != nil {
		return nil, err
	}
	if err := u.demandRecent(ctx, tx, by, recent{in.StepUp, in.Body.CurrentPassword, &in.work}); err != nil {
		return nil, err
	}
	if err := u.demandProven(by.account); err != nil {
		return nil, err
	}
	_, _, others, err := u.mayAddPasskey(ctx, tx, by.id)
	if err != nil {
		return nil, err
	}
	text, err := u.passkeys.ask(ctx, tx, challengeToCaller(tx, ceremonyRegister))
	if err != nil {
		return nil, err
	}
	out := &beginPasskeyOutput{CacheControl: "no-store"}
	out.Body.Options = u.passkeys.site.creation(text, by.id, by.account, others)
	return out, nil
}

// mayAddPasskey returns the credentials of a user and the passkeys that they name, with their ids. The error is
// fault.Conflict if the user has as many passkeys as a user may have.
func (u *users) mayAddPasskey(
	ctx context.Context, tx *function.Tx, user string,
) (c credentials, ids []string, all []passkey, err error) {
	if c, err = u.credentials.Get(ctx, tx, credentialsID(user)); err != nil {
		return c, nil, nil, err
	}
	ids, all, err = u.passkeys.of(ctx, tx, c)
	if err == nil && len(ids) >= maxPasskeys {
		err = fault.New(fault.Conflict, "there are %d passkeys; remove one first", maxPasskeys)
	}
	return c, ids, all, err
}

type addPasskeyInput struct {
	Body struct {
		Name       string              `json:"name" minLength:"1" maxLength:"100" doc:"What the user calls it, such as the device."`
		Credential PasskeyRegistration `json:"credential"`
	}
}

type addPasskeyOutput struct {
	CacheControl string `header:"Cache-Control"`
	Location     string `header:"Location"`
	Body         struct {
		Passkey
		RecoveryCodes []string `json:"recovery_codes,omitempty" doc:"Each works once in place of a passkey, beside the password. Only with the first second factor of the account."`
	}
}

// badPasskey returns the refusal of a passkey that is not known here, or that has signed no open challenge.
func badPasskey(kind fault.Kind, location string) error {
	return fault.New(kind, "this passkey is not accepted").With(fault.Detail{
		Location: location, Message: "is not known here, or answers no challenge of the last five minutes; ask for " +
			"options, and try again",
	})
}

func (u *users) addPasskey(ctx context.Context, tx *function.Tx, in *addPasskeyInput) (*addPasskeyOutput, error) {
	by, err := u.actor(ctx, tx)
	if err == nil {
		err = u.passkeys.enabled()
	}
	if err != nil {
		return nil, err
	}
	name := strings.TrimSpace(in.Body.Name)
	if err := invalid(checkName(name)); err != nil {
		return nil, err
	}
	made, err := in.Body.Credential.parse()
	if err != nil {
		return nil, u.refused(ctx, err, badPasskey(fault.Invalid, "body.credential"))
	}
	text := made.Response.CollectedClientData.Challenge
	good, err := u.passkeys.use(ctx, tx, text, challengeToCaller(tx, ceremonyRegister))
	if err != nil {
		return nil, err
	}
	if !good {
		return nil, badPasskey(fault.Invalid, "body.credential")
	}
	p, err := u.passkeys.site.register(made, text, by.id, tx.Now())
	if err != nil {
		return nil, function.CommitThen(u.refused(ctx, err, badPasskey(fault.Invalid, "body.credential")))
	}
	p.Name = name
	id := passkeyID(p.CredentialID)
	codes, err := u.enlistPasskey(ctx, tx, by.id, id, p)
	if err != nil {
		return nil, err
	}
	out := &addPasskeyOutput{CacheControl: "no-store", Location: "/api/users/" + by.id + "/passkeys/" + id}
	out.Body.Passkey, out.Body.RecoveryCodes = p.shown(id), codes
	return out, nil
}

// enlistPasskey adds a passkey to those of a user, and returns new recovery codes if the account has none left.
func (u *users) enlistPasskey(
	ctx context.Context, tx *function.Tx, user, id string, p passkey,
) (codes []string, err error) {
	c, ids, _, err := u.mayAddPasskey(ctx, tx, user)
	if err != nil {
		return nil, err
	}
	if _, ok, err := u.passkeys.all.Find(ctx, tx, id); err != nil || ok {
		if ok {
			err = function.CommitThen(fault.New(fault.Conflict, "this passkey was added already"))
		}
		return nil, err
	}
	if err := u.passkeys.all.Create(ctx, tx, id, p); err != nil {
		return nil, err
	}
	c.Passkeys = append(ids, id)
	c.Factor, codes = c.Factor.withRecovery()
	if err := u.credentials.Put(ctx, tx, credentialsID(user), c); err != nil {
		return nil, err
	}
	tellUser(tx, user, events.PasskeyAdded, "")
	return codes, u.markSession(ctx, tx, tx.Principal().Session, true)
}

// refused logs why a passkey is refused, for the people who set passkeys up. It returns the error to answer with.
func (u *users) refused(ctx context.Context, cause, answer error) error {
	u.log.InfoContext(ctx, "a passkey was refused", "reason", why(cause))
	return answer
}

type passkeysOutput struct {
	Body struct {
		Items []Passkey `json:"items"`
	}
}

func (u *users) listPasskeys(ctx context.Context, tx *function.Tx, in *oneUser) (*passkeysOutput, error) {
	if _, _, err := u.find(ctx, tx, in.ID); err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(in.ID))
	if err != nil {
		return nil, err
	}
	ids, all, err := u.passkeys.of(ctx, tx, c)
	if err != nil {
		return nil, err
	}
	out := &passkeysOutput{}
	out.Body.Items = []Passkey{}
	for i, id := range ids {
		out.Body.Items = append(out.Body.Items, all[i].shown(id))
	}
	return out, nil
}

// findPasskey returns a passkey of a user whom the actor may see and change, the user's credentials, and the actor.
func (u *users) findPasskey(
	ctx context.Context, tx *function.Tx, user, id string,
) (p passkey, c credentials, by actor, err error) {
	if _, by, err = u.find(ctx, tx, user); err != nil {
		return p, c, by, err
	}
	if c, err = u.credentials.Get(ctx, tx, credentialsID(user)); err != nil {
		return p, c, by, err
	}
	p, ok, err := u.passkeys.all.Find(ctx, tx, id)
	if err == nil && (!ok || !slices.Contains(c.Passkeys, id)) {
		err = fault.New(fault.NotFound, "there is no such passkey")
	}
	return p, c, by, err
}

type renamePasskeyInput struct {
	ID      string `path:"id" maxLength:"128" doc:"The user's id."`
	Passkey string `path:"passkey" minLength:"1" maxLength:"128" doc:"The passkey's id."`
	StepUp  string `header:"Ebb-Step-Up" maxLength:"256" doc:"A step-up token of the caller, for another user's passkey."`
	Body    struct {
		Name string `json:"name" minLength:"1" maxLength:"100"`
	}
}

type passkeyOutput struct{ Body Passkey }

func (u *users) renamePasskey(ctx context.Context, tx *function.Tx, in *renamePasskeyInput) (*passkeyOutput, error) {
	p, _, by, err := u.findPasskey(ctx, tx, in.ID, in.Passkey)
	if err == nil { // by another name the user would remove the wrong one
		err = u.demandForAnother(ctx, tx, by, in.ID, recent{stepUp: in.StepUp})
	}
	if err != nil {
		return nil, err
	}
	p.Name = strings.TrimSpace(in.Body.Name)
	if err := invalid(checkName(p.Name)); err != nil {
		return nil, err
	}
	return &passkeyOutput{Body: p.shown(in.Passkey)}, u.passkeys.all.Put(ctx, tx, in.Passkey, p)
}

type removePasskeyInput struct {
	ID      string `path:"id" maxLength:"128" doc:"The user's id."`
	Passkey string `path:"passkey" minLength:"1" maxLength:"128" doc:"The passkey's id."`
	StepUp  string `header:"Ebb-Step-Up" maxLength:"256" doc:"A step-up token of the caller."`
}

func (u *users) removePasskey(ctx context.Context, tx *function.Tx, in *removePasskeyInput) (*struct{}, error) {
	_, c, by, err := u.findPasskey(ctx, tx, in.ID, in.Passkey)
	if err != nil {
		return nil, err
	}
	if err := u.demandRecent(ctx, tx, by, recent{stepUp: in.StepUp}); err != nil {
		return nil, err
	}
	if err := u.passkeys.all.Delete(ctx, tx, in.Passkey); err != nil {
		return nil, err
	}
	c.Passkeys = slices.DeleteFunc(slices.Clone(c.Passkeys), func(id string) bool { return id == in.Passkey })
	tellUser(tx, in.ID, events.PasskeyRemoved, "")
	return nil, u.afterRemoval(ctx, tx, in.ID, c)
}

// afterRemoval saves the credentials of a user after the removal of a second factor from them, and ends the user's
// other sessions.
func (u *users) afterRemoval(ctx context.Context, tx *function.Tx, user string, c credentials) error {
	keep := sessionOfCaller(tx, user)
	if err := u.endSessions(ctx, tx, user, &c, keep); err != nil {
		return err
	}
	if !c.secondFactor() {
		c.Factor = nil
		if err := u.markSession(ctx, tx, keep, false); err != nil {
			return err
		}
	}
	return u.credentials.Put(ctx, tx, credentialsID(user), c)
}

type requestOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Options PasskeyRequest `json:"public_key"`
	}
}

// askFor stores a new challenge, and returns the options with which a browser has a passkey sign it.
func (u *users) askFor(ctx context.Context, tx *function.Tx, c challenge) (*requestOutput, error) {
	text, err := u.passkeys.ask(ctx, tx, c)
	if err != nil {
		return nil, err
	}
	out := &requestOutput{CacheControl: "no-store"}
	out.Body.Options = u.passkeys.site.request(text)
	return out, nil
}

// checkPasskey returns the id of the user whose passkey has signed an open challenge that is good for want, and stores
// when the passkey was used; "" if the signature is not accepted. Then the challenge is used up all the same, and the
// caller commits that with the refusal.
func (u *users) checkPasskey(
	ctx context.Context, tx *function.Tx, in PasskeyAssertion, want challenge,
) (user string, err error) {
	signed, err := in.parse()
	if err != nil {
		return "", u.refused(ctx, err, nil)
	}
	text := signed.Response.CollectedClientData.Challenge
	good, err := u.passkeys.use(ctx, tx, text, want)
	if err != nil || !good {
		return "", err
	}
	id := passkeyID(signed.RawID)
	p, ok, err := u.passkeys.all.Find(ctx, tx, id)
	if err != nil || !ok {
		return "", err
	}
	c, ok, err := u.credentials.Find(ctx, tx, credentialsID(p.UserID))
	if err != nil || !ok || !slices.Contains(c.Passkeys, id) {
		return "", err
	}
	after, err := u.passkeys.site.assert(signed, text, p, tx.Now())
	if err != nil {
		return "", u.refuseSignature(ctx, tx, id, p.UserID, err)
	}
	return p.UserID, u.passkeys.all.Put(ctx, tx, id, after)
}

// copies limits the mails about a copied passkey.
var copies = limit{"copies", 0, 24 * time.Hour, 24 * time.Hour, 24 * time.Hour}

// refuseSignature logs why the signature of a passkey is refused. It mails the user if the passkey was copied, at most
// once a day.
func (u *users) refuseSignature(ctx context.Context, tx *function.Tx, id, user string, cause error) error {
	if errors.Is(cause, errCopied) {
		may, err := u.mayTry(ctx, tx, copies.of(id))
		if err != nil {
			return err
		}
		if may {
			tellUser(tx, user, events.PasskeyCopied, "")
		}
	}
	return u.refused(ctx, cause, nil)
}
