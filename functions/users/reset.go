package users

import (
	"context"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

var (
	askReset = function.Operation{
		Method: http.MethodPost, Path: "/api/password-resets", Status: http.StatusAccepted, Access: function.Public,
		Summary: "Ask for a new password", Idempotency: function.Off, MaxBody: smallBody,
		Description: "If the address is a user's, a mail with a token goes there, a few a day. The answer is the same if " +
			"it is not. A client that asks for many has to wait: 429 with Retry-After.",
		Errors: []int{http.StatusTooManyRequests},
	}
	resetPassword = function.Operation{
		Method: http.MethodPost, Path: "/api/password-resets/completion", Status: http.StatusNoContent,
		Access: function.Public, Summary: "Set a new password", Idempotency: function.Off, MaxBody: smallBody,
		Description: "With the token of the mail, once, within half an hour. All sessions of the user end. A second factor " +
			"stays.",
		Errors: []int{http.StatusServiceUnavailable},
	}
)

// The limits of asking for new passwords: of what one network may, and of the mails to one address.
var (
	resets     = limit{"resets", 20, time.Second, 10 * time.Minute, time.Hour}
	resetMails = limit{"reset-mails", 3, 10 * time.Minute, 24 * time.Hour, 24 * time.Hour}
)

type askResetInput struct {
	Body struct {
		Email string `json:"email" maxLength:"320"`
	}
}

// askReset is the same work for an address that no user has, but for the token and its event.
func (u *users) askReset(ctx context.Context, tx *function.Tx, in *askResetInput) (*struct{}, error) {
	email := normalise(in.Body.Email)
	if err := invalid(checkEmail(email)); err != nil {
		return nil, err
	}
	tries := fromNetwork(ctx, resets)
	if err := u.allowed(ctx, tx, tries...); err != nil {
		return nil, err
	}
	if err := u.count(ctx, tx, tries...); err != nil {
		return nil, err
	}
	may, err := u.mayTry(ctx, tx, resetMails.of(email))
	if err != nil || !may {
		return nil, err
	}
	id, err := u.userOf(ctx, tx, in.Body.Email)
	if err != nil || id == "" {
		return nil, err
	}
	a, err := u.accounts.Get(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	token, expires, err := u.newProof(ctx, tx, ofReset, id, a.Email, resetTTL)
	if err != nil {
		return nil, err
	}
	tx.Emit(events.UserPasswordResetRequested.New(id, events.RequestedPasswordReset{
		UserID: id, Email: a.Email, Token: token, ExpiresAt: expires,
	}).Keyed(id + "/password-reset"))
	return nil, nil
}

type resetInput struct {
	Body struct {
		Token    string `json:"token" maxLength:"256" writeOnly:"true" doc:"The token of the mail."`
		Password string `json:"password" format:"password" writeOnly:"true" doc:"As at the registration."`
	}
	work work
}

func (u *users) reset(ctx context.Context, tx *function.Tx, in *resetInput) (*struct{}, error) {
	id, p, a, err := u.proof(ctx, tx, ofReset, in.Body.Token)
	if err != nil {
		return nil, err
	}
	if p.Email != a.Email {
		return nil, noProof() // the address was changed since
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(id))
	if err != nil {
		return nil, err
	}
	weak := u.config.checkPassword("body.password", in.Body.Password, c.shortest(u.config), a)
	if err := invalid(weak); err != nil {
		return nil, err // and the token stays good
	}
	if err := u.revokeKeys(ctx, tx, id); err != nil {
		return nil, err
	}
	if err := u.setPassword(ctx, tx, id, c, in.Body.Password, &in.work, ""); err != nil {
		return nil, err
	}
	if err := u.proofs.Delete(ctx, tx, proofID(ofReset, id)); err != nil {
		return nil, err
	}
	tellUser(tx, id, events.PasswordReset, "")
	if a.proven() {
		return nil, nil
	}
	a.Proven = a.Email // the token came by mail
	return nil, u.save(ctx, tx, id, a)
}
