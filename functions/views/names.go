package views

import (
	"context"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// user is the copy of a user's name. Its revision decides whether an event is newer. A deleted user has no name.
type user struct {
	Name string `json:"name,omitempty"`
	function.EntityRevision
}

// accept returns the later of two versions of a user. Deleted stays deleted.
func (u user) accept(next user) user {
	if u.Before(next.EntityRevision) {
		return next
	}
	return u
}

func (v *views) userRegistered(ctx context.Context, tx *function.Tx, data events.RegisteredUser) error {
	return v.saveUser(ctx, tx, data.UserID, user{Name: data.Name})
}

func (v *views) userChanged(ctx context.Context, tx *function.Tx, data events.ChangedUser) error {
	return v.saveUser(ctx, tx, data.UserID, user{Name: data.Name})
}

func (v *views) userDeleted(ctx context.Context, tx *function.Tx, data events.DeletedUser) error {
	return v.saveUser(ctx, tx, data.UserID, user{EntityRevision: function.EntityRevision{Deleted: true}})
}

// saveUser stores a version of a user, unless a later one is stored already. Of a deleted user nothing stays, nor does
// what another version of the function has stored.
func (v *views) saveUser(ctx context.Context, tx *function.Tx, id string, next user) error {
	next.Revision = tx.Revision()
	known, _, err := v.users.Find(ctx, tx, id)
	if err != nil {
		return err
	}
	if next = known.accept(next); next.Deleted {
		return v.users.Replace(ctx, tx, id, next)
	}
	return v.users.Put(ctx, tx, id, next)
}

// product is the copy of a product of the catalogue. It stays when the product is deleted, because old orders refer to
// it.
type product struct {
	Name    string       `json:"name"`
	Price   events.Money `json:"price,omitzero"`
	Deleted bool         `json:"deleted,omitempty"`
	Version int          `json:"version"`
}

func (v *views) productChanged(ctx context.Context, tx *function.Tx, data events.ChangedProduct) error {
	known, _, err := v.products.Find(ctx, tx, data.ProductID)
	if err != nil || known.Version >= data.Version {
		return err
	}
	return v.products.Put(ctx, tx, data.ProductID, product{
		Name: data.Name, Price: data.Price, Deleted: data.Deleted, Version: data.Version,
	})
}

// stock is the copy of a product's available stock.
type stock struct {
	Available int `json:"available"`
	function.Revision
}

func (v *views) stockChanged(ctx context.Context, tx *function.Tx, data events.ChangedStock) error {
	known, _, err := v.stock.Find(ctx, tx, data.ProductID)
	if err != nil || !known.Before(tx.Revision()) {
		return err
	}
	return v.stock.Put(ctx, tx, data.ProductID, stock{Available: data.Available, Revision: tx.Revision()})
}
