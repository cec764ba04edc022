package notifications

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// tokenFacts are what a letter with a token speaks of.
type tokenFacts struct {
	Token, Link string // Link is empty where no page is configured
	Until       string
}

// facts returns what a letter with a token says. The token is in the fragment of the link, which browsers do not send:
// it is in no log of a server and in no Referer.
func (n *notifications) facts(kind, token string, until time.Time) tokenFacts {
	f := tokenFacts{Token: token, Until: until.UTC().Format("2006-01-02 15:04 UTC")}
	if n.page != "" {
		f.Link = n.page + "#" + kind + "=" + url.QueryEscape(token)
	}
	return f
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

// emailProofRequested sends the token to the address that is to be proven. A token that has expired is worth no letter.
func (n *notifications) emailProofRequested(
	ctx context.Context, tx *function.Tx, data events.RequestedEmailProof,
) error {
	if !tx.Now().Before(data.ExpiresAt) {
		return nil
	}
	return n.notify(ctx, tx, emailProof, Message{
		UserID: data.UserID, To: data.Email, Data: n.facts("email-proof", data.Token, data.ExpiresAt),
	})
}

// passwordResetRequested sends the token to the address that it is for. The copy of the user may have one of before,
// whose mail another may read.
func (n *notifications) passwordResetRequested(
	ctx context.Context, tx *function.Tx, data events.RequestedPasswordReset,
) error {
	if !tx.Now().Before(data.ExpiresAt) {
		return nil
	}
	return n.notify(ctx, tx, passwordReset, Message{
		UserID: data.UserID, To: data.Email, Data: n.facts("password-reset", data.Token, data.ExpiresAt),
	})
}

// changes are the sentences of the letter about a change.
var changes = map[string]string{
	events.EmailChanged:        "The e-mail address of your account was changed.",
	events.PasswordChanged:     "The password of your account was changed.",
	events.PasswordReset:       "A new password was set for your account, with a letter to this address.",
	events.SecondFactorAdded:   "A second factor was added to your account.",
	events.SecondFactorRemoved: "The second factor of your account was removed.",
	events.RecoveryCodeUsed:    "A recovery code was used to sign in to your account.",
}

// securityChanged tells a user of a change. One that this version does not know is not told.
func (n *notifications) securityChanged(ctx context.Context, tx *function.Tx, data events.ChangedSecurity) error {
	sentence, known := changes[data.What]
	if !known {
		return nil
	}
	return n.notify(ctx, tx, securityChanged, Message{UserID: data.UserID, To: data.Email, Data: sentence})
}
