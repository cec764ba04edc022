package users

import (
	"context"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// proof is a token that was mailed to an address and not used yet. Who shows it reads the mail of the address. Only its
// hash is stored. A user has at most one of each kind: a new one takes the place of the one before.
type proof struct {
	Hash      string    `json:"hash"`
	Email     string    `json:"email"` // normalised
	ExpiresAt time.Time `json:"expires_at"`
}

// The kinds of proofs, and how long their tokens are valid.
const (
	ofAddress = "address"
	ofReset   = "reset"

	addressProofTTL = 48 * time.Hour
	resetTTL        = 30 * time.Minute
)

// proofKinds are all kinds: a deleted user leaves none.
var proofKinds = []string{ofAddress, ofReset}

func proofID(kind, user string) string { return kind + "-of-" + user }

// newProof stores a proof of a user, and returns its token, which the caller sends by mail, and when it expires.
func (u *users) newProof(
	ctx context.Context, tx *function.Tx, kind, user, email string, ttl time.Duration,
) (token string, expires time.Time, err error) {
	token, expires = newToken(user), tx.Now().Add(ttl)
	err = u.proofs.Put(ctx, tx, proofID(kind, user), proof{
		Hash: auth.HashToken(kind + " " + token), Email: email, ExpiresAt: expires,
	})
	return token, expires, err
}

// noProof is the answer to every token that is not good: unknown, used, replaced, expired, of a deleted user.
func noProof() error {
	return fault.New(fault.Invalid, "this needs the token of a mail").With(fault.Detail{
		Location: "body.token", Message: "is not valid any more; ask for another one",
	})
}

// proof returns whom a token belongs to, and what it proves.
func (u *users) proof(
	ctx context.Context, tx *function.Tx, kind, token string,
) (user string, p proof, a account, err error) {
	user, _, ok := strings.Cut(token, ".")
	if !ok || user == "" || len(user) > maxID {
		return "", proof{}, account{}, noProof()
	}
	p, ok, err = u.proofs.Find(ctx, tx, proofID(kind, user))
	if err != nil {
		return "", proof{}, account{}, err
	}
	if !ok || !same(p.Hash, auth.HashToken(kind+" "+token)) || !tx.Now().Before(p.ExpiresAt) {
		return "", proof{}, account{}, noProof()
	}
	a, ok, err = u.accounts.Find(ctx, tx, user)
	if err == nil && (!ok || a.Deleted) {
		err = noProof()
	}
	return user, p, a, err
}

// forgetProofs removes the tokens of a user that were mailed.
func (u *users) forgetProofs(ctx context.Context, tx *function.Tx, user string) error {
	for _, kind := range proofKinds {
		if err := u.proofs.Delete(ctx, tx, proofID(kind, user)); err != nil {
			return err
		}
	}
	return nil
}

// tellUser has a mail sent about a change of how the user signs in; to email, or if that is empty to their address.
func tellUser(tx *function.Tx, user, what, email string) {
	// Keyed apart from the user: the event is no version of the account.
	tx.Emit(events.UserSecurityChanged.New(user, events.ChangedSecurity{UserID: user, What: what, Email: email}).
		Keyed(user + "/security"))
}
