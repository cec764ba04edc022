package users

import (
	"context"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// The values of EBB_ADDRESS_PROOF.
const (
	proofOff      = "off"      // no address is proven
	proofOffered  = "offered"  // each new address gets a mail; an account that has proven none may do all
	proofRequired = "required" // no sign-in before the proof, and another address counts only when it is proven
)

var (
	proveAddress = function.Operation{
		Method: http.MethodPost, Path: "/api/email-proofs", Status: http.StatusNoContent, Access: function.Public,
		Summary: "Prove an e-mail address", Idempotency: function.Off, MaxBody: smallBody,
		Description: "With the token of the mail to the address, once, and the access token or the password of the " +
			"account: the mail alone must not confirm an account that somebody else has made.",
		Errors: []int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	mailProof = function.Operation{
		Method: http.MethodPost, Path: "/api/users/{id}/email-proof", Owner: manifest.OwnerHidden, Scope: manifest.NoKey,
		Status: http.StatusAccepted, Summary: "Ask for another mail to prove the e-mail address",
		Description: "The token of the mail before is not valid any more. A proven address gets no mail.",
		Idempotency: function.Off,
		Errors:      []int{http.StatusForbidden, http.StatusTooManyRequests},
	}
)

// The limits of mails to prove addresses: of what an account may ask for, and of what goes to one address, since a
// stranger may register with it, delete the account and register again.
var (
	proofMails   = limit{"proof-mails", 3, 5 * time.Minute, 24 * time.Hour, 24 * time.Hour}
	proofMailsTo = limit{"proof-mails-to", 5, 5 * time.Minute, 6 * time.Hour, 24 * time.Hour}
)

// proven reports whether the user has proven to read the mail of the present address.
func (a account) proven() bool { return a.Proven != "" && a.Proven == a.Email }

// unproven reports whether the user has yet to prove the address of the account. The configured admin need not.
func (u *users) unproven(a account) bool { return !a.proven() && a.Email != u.admin.email }

// offerProof has a mail sent by which the user proves an address, unless there were too many.
func (u *users) offerProof(ctx context.Context, tx *function.Tx, user, email string) error {
	may, err := u.askedProof(ctx, tx, user)
	if err != nil || !may {
		return err
	}
	if may, err = u.mayTry(ctx, tx, proofMailsTo.of(email)); err != nil || !may {
		return err
	}
	token, expires, err := u.newProof(ctx, tx, ofAddress, user, email, addressProofTTL)
	if err != nil {
		return err
	}
	tx.Emit(events.UserEmailProofRequested.New(user, events.RequestedEmailProof{
		UserID: user, Email: email, Token: token, ExpiresAt: expires,
	}).Keyed(user + "/email-proof"))
	return nil
}

// askedProof counts that a user asks for a mail to prove an address, and reports whether one may be sent. An address
// that another has is counted like a free one, or the waits would tell them apart.
func (u *users) askedProof(ctx context.Context, tx *function.Tx, user string) (bool, error) {
	if u.config.AddressProof == proofOff {
		return false, nil
	}
	return u.mayTry(ctx, tx, proofMails.of(user))
}

func (u *users) mailProof(ctx context.Context, tx *function.Tx, in *oneUser) (*struct{}, error) {
	a, _, err := u.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	if u.config.AddressProof == proofOff || a.Wanted == "" && a.proven() {
		return nil, nil
	}
	if err := u.allowed(ctx, tx, proofMails.of(in.ID)); err != nil {
		return nil, err
	}
	email := a.Email
	if a.Wanted != "" {
		email = a.Wanted
		owner, taken, err := u.ownerOf(ctx, tx, email, in.ID)
		if err != nil {
			return nil, err
		}
		if taken {
			return nil, u.tellOwner(ctx, tx, in.ID, owner, email)
		}
	}
	return nil, u.offerProof(ctx, tx, in.ID, email)
}

type proveInput struct {
	Body struct {
		Token    string `json:"token" maxLength:"256" writeOnly:"true" doc:"The token of the mail."`
		Password string `json:"password,omitempty" format:"password" writeOnly:"true" doc:"The password of the account. Not needed with its access token."`
	}
	work work
}

func (u *users) prove(ctx context.Context, tx *function.Tx, in *proveInput) (*struct{}, error) {
	id, p, a, err := u.proof(ctx, tx, ofAddress, in.Body.Token)
	if err != nil {
		return nil, err
	}
	if p.Email != a.Email && p.Email != a.Wanted {
		return nil, noProof() // the user has changed their mind
	}
	if err := u.mayProve(ctx, tx, id, in); err != nil {
		return nil, err
	}
	if err := u.proofs.Delete(ctx, tx, proofID(ofAddress, id)); err != nil {
		return nil, err
	}
	before := a
	if p.Email == a.Wanted {
		if a, err = u.takeWanted(ctx, tx, id, a); err != nil {
			return nil, err
		}
	}
	if a.Proven = a.Email; a.equal(before) {
		return nil, nil
	}
	return nil, u.save(ctx, tx, id, a)
}

// mayProve answers nil if the request is of the user: by its access token, or by the password.
func (u *users) mayProve(ctx context.Context, tx *function.Tx, id string, in *proveInput) error {
	if who := tx.Principal(); who.Subject == id && who.Key == "" { // a key is for no account
		_, err := u.actor(ctx, tx)
		return err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(id))
	if err != nil {
		return err
	}
	right, err := u.guess(ctx, tx, id, in.Body.Password, &in.work, c)
	if err != nil || right {
		return err
	}
	return function.CommitThen(fault.New(fault.Unauthenticated, "this needs the password of the account, or its token"))
}

// takeWanted makes the address that the user has asked for the address of the account. It may have been taken since.
func (u *users) takeWanted(ctx context.Context, tx *function.Tx, id string, a account) (account, error) {
	_, taken, err := u.ownerOf(ctx, tx, a.Wanted, id)
	if err != nil {
		return a, err
	}
	if taken {
		return a, noProof()
	}
	if err := u.moveClaim(ctx, tx, id, a.Email, a.Wanted); err != nil {
		return a, err
	}
	a.Email, a.Wanted = a.Wanted, ""
	return a, nil
}
