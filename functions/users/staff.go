package users

import (
	"context"
	"slices"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// staff lists admins, so that one who leaves finds another without a search. It may lack some: those of data from
// before it was kept are added when they sign in. It decides nothing by itself: whether one it names still is an admin,
// the account says, which is read in the same unit of work.
type staff struct {
	Admins []string `json:"admins"`
}

// staffID is the id of the only document.
const staffID = "admins"

// enlist adds an admin to the list.
func (u *users) enlist(ctx context.Context, tx *function.Tx, id string) error {
	s, _, err := u.staff.Find(ctx, tx, staffID)
	if err != nil || slices.Contains(s.Admins, id) {
		return err
	}
	s.Admins = append(s.Admins, id)
	return u.staff.Put(ctx, tx, staffID, s)
}

// delist takes an admin off the list who is not to be one any more, and answers fault.Conflict if no admin would be
// left. The account of the admin who stays is read in the unit, so of two admins who remove each other or themselves
// at the same time one finds it changed.
func (u *users) delist(ctx context.Context, tx *function.Tx, by actor, id string) error {
	s, _, err := u.staff.Find(ctx, tx, staffID)
	if err != nil {
		return err
	}
	before := len(s.Admins)
	s.Admins = slices.DeleteFunc(slices.Clone(s.Admins), func(other string) bool { return other == id })
	stays := by.admin && by.id != id // its account was read as that of an admin
	for len(s.Admins) > 0 && !stays {
		a, ok, err := u.accounts.Find(ctx, tx, s.Admins[0])
		if err != nil {
			return err
		}
		if stays = ok && a.admin(); !stays {
			s.Admins = s.Admins[1:]
		}
	}
	if !stays {
		return fault.New(fault.Conflict, "this is the last admin; make another user an admin first")
	}
	if len(s.Admins) == before {
		return nil
	}
	return u.staff.Put(ctx, tx, staffID, s)
}
