package notifications

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// tokenFacts is the data of a letter with a token.
type tokenFacts struct {
	Token, Link string // Link is empty where no page is configured
	Until       string
}

// mailToken starts to send a letter with a token to the address that the token is for, which need not be that of the
// user. No letter is sent with a token that has expired. The page gets the token under the letter's name in the
// fragment of the link, which browsers do not send: it is in no log of a server and in no Referer.
func (n *notifications) mailToken(
	ctx context.Context, tx *function.Tx, l Letter, user, to, token string, expires time.Time,
) error {
	if !tx.Now().Before(expires) {
		return nil
	}
	facts := tokenFacts{Token: token, Until: expires.UTC().Format("2006-01-02 15:04 UTC")}
	if n.page != "" {
		facts.Link = n.page + "#" + l.name + "=" + url.QueryEscape(token)
	}
	return n.notify(ctx, tx, l, Message{UserID: user, To: to, Data: facts})
}

// checkPage reports a page that is not an absolute URL, or has a fragment of its own.
func checkPage(page string) error {
	u, err := url.Parse(page)
	local := err == nil && u.Scheme == "http" && isLocal(u.Hostname())
	if page != "" && (err != nil || u.Host == "" || u.Scheme != "https" && !local || u.Fragment != "") {
		return errors.New("invalid EBB_ACCOUNT_URL: want https://HOST/PATH without a fragment")
	}
	return nil
}

func (n *notifications) emailProofRequested(
	ctx context.Context, tx *function.Tx, data events.RequestedEmailProof,
) error {
	return n.mailToken(ctx, tx, emailProof, data.UserID, data.Email, data.Token, data.ExpiresAt)
}

// passwordResetRequested mails the token to the address in the event: this function may know only a former address of
// the user, whose mail another person may read.
func (n *notifications) passwordResetRequested(
	ctx context.Context, tx *function.Tx, data events.RequestedPasswordReset,
) error {
	return n.mailToken(ctx, tx, passwordReset, data.UserID, data.Email, data.Token, data.ExpiresAt)
}

// changes are the sentences of the letter about a change.
var changes = map[string]string{
	events.EmailChanged:        "The e-mail address of your account was changed.",
	events.PasswordChanged:     "The password of your account was changed.",
	events.PasswordReset:       "A new password was set for your account, with a letter to this address.",
	events.SecondFactorAdded:   "A second factor was added to your account.",
	events.SecondFactorRemoved: "The second factor of your account was removed.",
	events.RecoveryCodeUsed:    "A recovery code was used to sign in to your account.",
	events.PasskeyAdded:        "A passkey was added to your account. It signs in without the password.",
	events.PasskeyRemoved:      "A passkey of your account was removed.",
	events.PasskeyCopied: "A passkey of your account was refused, because there seems to be a copy of it. Remove it, " +
		"and add another one.",
}

// securityChanged mails a user that the security of the account has changed. A kind of change that this version does
// not know gets no letter.
func (n *notifications) securityChanged(ctx context.Context, tx *function.Tx, data events.ChangedSecurity) error {
	sentence, known := changes[data.What]
	if !known {
		return nil
	}
	return n.notify(ctx, tx, securityChanged, Message{UserID: data.UserID, To: data.Email, Data: sentence})
}
