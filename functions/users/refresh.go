package users

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

type refreshInput struct {
	Body struct {
		RefreshToken string `json:"refresh_token" maxLength:"256" writeOnly:"true"`
	}
}

func notGood() error {
	return fault.New(fault.Unauthenticated, "the refresh token is not good any more; sign in again")
}

func (u *users) refresh(ctx context.Context, tx *function.Tx, in *refreshInput) (*tokensOutput, error) {
	token := in.Body.RefreshToken
	id, ok := sessionOf(token)
	if !ok {
		return nil, notGood()
	}
	s, ok, err := u.sessions.Find(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notGood()
	}
	switch v := s.judge(token, tx.Now()); v {
	case replayed, expired:
		if v == replayed {
			u.log.WarnContext(ctx, "a used refresh token was shown: its session ends", "user", s.UserID, "session", id)
		}
		// The session ends for good, and that has to be committed although the answer is a refusal.
		if err := u.end(ctx, tx, id, s.UserID); err != nil {
			return nil, err
		}
		return nil, function.CommitThen(notGood())
	case unknown:
		return nil, notGood()
	}
	a, ok, err := u.accounts.Find(ctx, tx, s.UserID) // roles may have changed since
	if err != nil {
		return nil, err
	}
	if !ok || a.Deleted {
		return nil, notGood()
	}
	next := newToken(id)
	s = s.rotated(next, tx.Now(), u.sessionEnds(s, tx.Now()))
	if err := u.sessions.Put(ctx, tx, id, s); err != nil {
		return nil, err
	}
	return u.tokens(s.UserID, a, id, s, next)
}

// sessionEnds returns when a session that is refreshed now ends, unless it is refreshed again: at the latest when its
// whole life is over.
func (u *users) sessionEnds(s session, now time.Time) time.Time {
	idle, last := now.Add(u.config.RefreshTTL), s.CreatedAt.Add(u.config.SessionTTL)
	if last.Before(idle) && !s.CreatedAt.IsZero() {
		return last
	}
	return idle
}

// logout ends the session of the token that was shown. One that is over already is fine.
func (u *users) logout(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
	who := tx.Principal()
	if who.Session == "" {
		return nil, nil // a token that no sign-in of ours gave
	}
	s, ok, err := u.sessions.Find(ctx, tx, who.Session)
	if err != nil || !ok || s.UserID != who.Subject {
		return nil, err
	}
	return nil, u.end(ctx, tx, who.Session, s.UserID)
}

// end removes a session and its mention with the user.
func (u *users) end(ctx context.Context, tx *function.Tx, id, user string) error {
	if err := u.sessions.Delete(ctx, tx, id); err != nil {
		return err
	}
	u.signedOut(tx, user, id)
	c, ok, err := u.credentials.Find(ctx, tx, credentialsID(user))
	if err != nil || !ok {
		return err
	}
	return u.credentials.Put(ctx, tx, credentialsID(user), c.without(id))
}
