package notifications

import (
	"context"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// user is the copy of a user. Its revision decides whether an event is newer.
type user struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
	function.EntityRevision
}

// accept returns the later of two versions of a user. Deleted stays deleted.
func (u user) accept(next user) user {
	if u.Before(next.EntityRevision) {
		return next
	}
	return u
}

func (n *notifications) registered(ctx context.Context, tx *function.Tx, data events.RegisteredUser) error {
	err := n.save(ctx, tx, tx.Revision(), data.UserID, user{Name: data.Name, Email: data.Email})
	if err != nil {
		return err
	}
	return n.notify(ctx, tx, welcome, Message{UserID: data.UserID})
}

func (n *notifications) changed(ctx context.Context, tx *function.Tx, data events.ChangedUser) error {
	return n.save(ctx, tx, tx.Revision(), data.UserID, user{Name: data.Name, Email: data.Email})
}

func (n *notifications) deleted(ctx context.Context, tx *function.Tx, data events.DeletedUser) error {
	return n.save(ctx, tx, tx.Revision(), data.UserID, user{EntityRevision: function.EntityRevision{Deleted: true}})
}

func (n *notifications) addressTaken(ctx context.Context, tx *function.Tx, data events.TakenAddress) error {
	return n.notify(ctx, tx, addressTaken, Message{UserID: data.UserID})
}

// save stores a version of a user, unless a later one is stored already. Of a deleted user nothing stays, nor does what
// another version of the function has stored.
func (n *notifications) save(
	ctx context.Context, tx *function.Tx, revision function.Revision, id string, next user,
) error {
	next.Revision = revision
	known, _, err := n.users.Find(ctx, tx, id)
	if err != nil {
		return err
	}
	if next = known.accept(next); next.Deleted {
		return n.users.Replace(ctx, tx, id, next)
	}
	return n.users.Put(ctx, tx, id, next)
}

type recipientInput struct {
	ID string `path:"id" minLength:"1" maxLength:"128" doc:"The user's id."`
}

type recipientOutput struct {
	Body struct {
		UserID string `json:"user_id"`
		Name   string `json:"name"`
		Email  string `json:"email"`
	}
}

// recipient returns the copy of a user.
func (n *notifications) recipient(
	ctx context.Context, tx *function.Tx, in *recipientInput,
) (*recipientOutput, error) {
	u, ok, err := n.users.Find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	caller := tx.Principal()
	if !ok || u.Deleted || caller.Subject != in.ID && !caller.Is(auth.RoleAdmin) {
		return nil, fault.New(fault.NotFound, "there is no such user")
	}
	out := &recipientOutput{}
	out.Body.UserID, out.Body.Name, out.Body.Email = in.ID, u.Name, u.Email
	return out, nil
}
