package notifications

import (
	"context"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// user is what is known of somebody to write to. The sequence, and where there is none the time,
// says whether a word about them is newer than the last.
type user struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
	function.Life
}

// accept is the later of two words about a user. Deleted stays deleted.
func (u user) accept(next user) user {
	if u.Precedes(next.Life) {
		return next
	}
	return u
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
	return n.learn(ctx, tx, data.UserID, user{Life: function.Life{Deleted: true}})
}

func (n *notifications) learn(ctx context.Context, tx *function.Tx, id string, next user) error {
	next.Moment = tx.Moment()
	known, _, err := n.users.Find(ctx, tx, id)
	if err != nil {
		return err
	}
	return n.users.Put(ctx, tx, id, known.accept(next))
}
