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
