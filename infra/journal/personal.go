package journal

import (
	"context"
	"reflect"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
)

// texts encrypts and decrypts single texts with a function's keys for persons.
type texts interface {
	DeclarePersonal()
	SealStored(collection, fields string, rewrite func(context.Context, *store.Tx, string) (changed bool, err error))
	IsSealedPersonal(text string) bool
	SealPersonal(ctx context.Context, tx store.Transactor, person, text, placeholder string) (string, error)
	OpenPersonal(ctx context.Context, tx store.Transactor, person, text, placeholder string) (string, error)
}

// cipher encrypts the personal fields of a journal's states and events.
type cipher struct {
	texts
	state, event *personal.Fields // nil: none
}

func newCipher(f *function.Function, state, event reflect.Type) cipher {
	c := cipher{f.Instance().(texts), personal.FieldsOf(state), personal.FieldsOf(event)}
	if c.state != nil || c.event != nil {
		c.DeclarePersonal()
	}
	return c
}

// seal encrypts the personal fields of *v, which is a copy.
func (c cipher) seal(ctx context.Context, u store.Transactor, fields *personal.Fields, v any) error {
	if fields == nil {
		return nil
	}
	return fields.Each(v, func(person, text, placeholder string) (string, error) {
		return c.SealPersonal(ctx, u, person, text, placeholder)
	})
}

// open decrypts the personal fields of *v.
func (c cipher) open(ctx context.Context, u store.Transactor, fields *personal.Fields, v any) error {
	if fields == nil {
		return nil
	}
	return fields.Each(v, func(person, text, placeholder string) (string, error) {
		return c.OpenPersonal(ctx, u, person, text, placeholder)
	})
}

// sealOld encrypts those personal fields of *v, which is a copy, that were stored in the clear, and reports whether
// there are any. A placeholder stays.
func (c cipher) sealOld(ctx context.Context, u store.Transactor, fields *personal.Fields, v any) (old bool, err error) {
	err = fields.Each(v, func(person, text, placeholder string) (string, error) {
		if text == placeholder || c.IsSealedPersonal(text) {
			return text, nil
		}
		old = true
		return c.SealPersonal(ctx, u, person, text, placeholder)
	})
	return old, err
}

// sealStored has the kit encrypt what was stored before a field was personal.
func (j *Journal[S, E]) sealStored() {
	if fields := j.personal.state; fields != nil {
		j.personal.SealStored(j.name, fields.String(), func(ctx context.Context, tx *store.Tx, id string) (bool, error) {
			h, ok, err := j.heads.Find(ctx, tx, id)
			if err != nil || !ok {
				return false, err
			}
			old, err := j.personal.sealOld(ctx, tx, fields, &h.State)
			if err != nil || !old {
				return false, err
			}
			return true, j.heads.Put(ctx, tx, id, h)
		})
	}
	if fields := j.personal.event; fields != nil {
		j.personal.SealStored(j.name+"_events", fields.String(), func(
			ctx context.Context, tx *store.Tx, id string,
		) (changed bool, err error) {
			g, ok, err := j.groups.Find(ctx, tx, id)
			if err != nil || !ok {
				return false, err
			}
			for i := range g.Events {
				old, err := j.personal.sealOld(ctx, tx, fields, &g.Events[i])
				if err != nil {
					return false, err
				}
				changed = changed || old
			}
			if changed {
				err = j.groups.Put(ctx, tx, id, g)
			}
			return changed, err
		})
	}
}
