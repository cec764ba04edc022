package notifications

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// user is what is known of somebody to write to. The sequence, and where there is none the time,
// says whether a word about them is newer than the last.
type user struct {
	Name     string    `json:"name,omitempty"`
	Email    string    `json:"email,omitempty"`
	Sequence int64     `json:"sequence,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Deleted  bool      `json:"deleted,omitempty"`
}

// accept is the later of two words about a user. Deleted stays deleted.
func (u user) accept(next user) user {
	switch {
	case u.Deleted:
		return u
	case next.Deleted, u.olderThan(next):
		return next
	}
	return u
}

func (u user) olderThan(next user) bool {
	if u.Sequence != next.Sequence && u.Sequence > 0 && next.Sequence > 0 {
		return u.Sequence < next.Sequence
	}
	return !next.At.Before(u.At)
}

func (n *notifications) registered(ctx context.Context, tx *function.Tx, data events.RegisteredUser) error {
	if err := n.learn(ctx, tx, data.UserID, user{Name: data.Name, Email: data.Email}); err != nil {
		return err
	}
	return n.notify(ctx, tx, notice{template: "welcome", userID: data.UserID})
}

func (n *notifications) changed(ctx context.Context, tx *function.Tx, data events.ChangedUser) error {
	return n.learn(ctx, tx, data.UserID, user{Name: data.Name, Email: data.Email})
}

func (n *notifications) deleted(ctx context.Context, tx *function.Tx, data events.DeletedUser) error {
	return n.learn(ctx, tx, data.UserID, user{Deleted: true})
}

func (n *notifications) learn(ctx context.Context, tx *function.Tx, id string, next user) error {
	e := tx.Event()
	next.At = e.Time().UTC()
	next.Sequence, _ = strconv.ParseInt(fmt.Sprint(e.Extensions()[function.Sequence]), 10, 64) // none: 0
	known, _, err := n.users.Find(ctx, tx, id)
	if err != nil {
		return err
	}
	return n.users.Put(ctx, tx, id, known.accept(next))
}
