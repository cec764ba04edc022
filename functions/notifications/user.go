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
	function.EntityRevision
}

// accept is the later of two words about a user. Deleted stays deleted.
func (u user) accept(next user) user {
	if u.Before(next.EntityRevision) {
		return next
	}
	return u
}

func (n *notifications) registered(ctx context.Context, tx *function.Tx, data events.RegisteredUser) error {
	said, who := tx.Revision(), user{Name: data.Name, Email: data.Email}
	if tx.Replayed() {
		return n.learn(ctx, tx, said, data.UserID, who)
	}
	// What is known of somebody is kept in a unit of its own, whatever becomes of the mail: later mail needs it.
	err := n.f.Update(
		ctx,
		func(ctx context.Context, own *function.Tx) error { return n.learn(ctx, own, said, data.UserID, who) },
	)
	if err != nil {
		return err
	}
	return n.notify(ctx, tx, welcome, Message{UserID: data.UserID})
}

func (n *notifications) changed(ctx context.Context, tx *function.Tx, data events.ChangedUser) error {
	return n.learn(ctx, tx, tx.Revision(), data.UserID, user{Name: data.Name, Email: data.Email})
}

func (n *notifications) deleted(ctx context.Context, tx *function.Tx, data events.DeletedUser) error {
	return n.learn(ctx, tx, tx.Revision(), data.UserID, user{EntityRevision: function.EntityRevision{Deleted: true}})
}

func (n *notifications) addressTaken(ctx context.Context, tx *function.Tx, data events.TakenAddress) error {
	return n.notify(ctx, tx, addressTaken, Message{UserID: data.UserID})
}

// learn keeps what was said of a user at the moment, unless more recent is known.
func (n *notifications) learn(
	ctx context.Context,
	tx *function.Tx,
	said function.Revision,
	id string,
	next user,
) error {
	next.Revision = said
	known, _, err := n.users.Find(ctx, tx, id)
	if err != nil {
		return err
	}
	return n.users.Put(ctx, tx, id, known.accept(next))
}
