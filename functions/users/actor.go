package users

import (
	"context"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// actor is the stored account that a request acts for. A token tells who signed in some minutes ago; only the account
// tells what is allowed now. It is read in the unit of work of the request, so a request that writes commits
// only if the account is still the one that was read.
type actor struct {
	id      string
	account account
	admin   bool // by the token and by the account
	demoted bool // by the token and not by the account
}

// actor reads the actor of a request. It answers fault.Unauthenticated when the account is gone, or the session of the
// token has ended.
func (u *users) actor(ctx context.Context, tx *function.Tx) (actor, error) {
	who := tx.Principal()
	if who.Anonymous() || len(who.Subject) > maxID || len(who.Session) > maxID {
		return actor{}, fault.New(fault.Unauthenticated, "this needs the token of a user")
	}
	keys := []store.Key{u.accounts.Key(who.Subject)}
	if who.Session != "" {
		keys = append(keys, u.sessions.Key(who.Session))
	}
	if err := tx.StoreTx().Load(ctx, keys...); err != nil {
		return actor{}, err
	}
	a, ok, err := u.accounts.Find(ctx, tx, who.Subject)
	if err != nil {
		return actor{}, err
	}
	if !ok || a.Deleted {
		return actor{}, fault.New(fault.Unauthenticated, "the account of this token is gone")
	}
	if who.Session != "" {
		s, ok, err := u.sessions.Find(ctx, tx, who.Session)
		if err != nil {
			return actor{}, err
		}
		if !ok || s.UserID != who.Subject {
			return actor{}, fault.New(fault.Unauthenticated, "the session of this token has ended; sign in again")
		}
	}
	claims := who.Is(auth.RoleAdmin)
	return actor{id: who.Subject, account: a, admin: claims && a.admin(), demoted: claims && !a.admin()}, nil
}

// demand answers fault.Denied unless the actor is an admin.
func (a actor) demand() error {
	if a.admin {
		return nil
	}
	return fault.New(fault.Denied, "this needs the role %s, which the account does not have", auth.RoleAdmin)
}

// mayTouch answers nil if the actor may see and change the user. An admin of before is told that they are none now;
// for any other actor the user does not exist.
func (a actor) mayTouch(id string) error {
	switch {
	case a.id == id || a.admin:
		return nil
	case a.demoted:
		return a.demand()
	}
	return noSuchUser()
}
