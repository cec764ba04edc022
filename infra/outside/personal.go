package outside

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
)

// Fields of In that have the tag personal (see package personal) are stored encrypted under the function's key for the
// person while the call has no result. When the person is erased in between, the service is called with placeholders.

// sealedCall is added to the name of a call whose personal fields are encrypted. An older version of the kit knows no
// call of that name, and leaves it to this version: it would call the service with the encrypted text.
const sealedCall = " (sealed)"

// texts encrypts and decrypts single texts with a function's keys for persons.
type texts interface {
	DeclarePersonal()
	SealPersonal(ctx context.Context, tx store.Transactor, person, text, placeholder string) (string, error)
	OpenPersonal(ctx context.Context, tx store.Transactor, person, text, placeholder string) (string, error)
}

// personalOf returns the personal fields of what a call is made with; nil when it has none.
func (c *Calls) personalOf(in reflect.Type) *personal.Fields {
	if in.Kind() != reflect.Struct {
		return nil
	}
	fields := personal.FieldsOf(in)
	if fields != nil {
		c.f.Instance().(texts).DeclarePersonal()
	}
	return fields
}

// seal returns what a call is made with as it is stored, and the name under which it is.
func (c *Call[In, Out]) seal(ctx context.Context, tx *function.Tx, in In) (In, string, error) {
	name := c.name
	if c.personal == nil {
		return in, name, nil
	}
	err := c.personal.Each(&in, func(person, text, placeholder string) (string, error) {
		name = c.name + sealedCall
		return c.calls.f.Instance().(texts).SealPersonal(ctx, tx, person, text, placeholder)
	})
	return in, name, err
}

// open returns what a stored call is made with.
func (c *Call[In, Out]) open(ctx context.Context, p pending, tx store.Transactor) (in In, err error) {
	if err := json.Unmarshal(p.In, &in); err != nil {
		return in, fault.Wrap(err, fault.Internal, "decode what %s is called with", c.name)
	}
	if c.personal == nil || !strings.HasSuffix(p.Call, sealedCall) {
		return in, nil
	}
	err = c.personal.Each(&in, func(person, text, placeholder string) (string, error) {
		return c.calls.f.Instance().(texts).OpenPersonal(ctx, tx, person, text, placeholder)
	})
	return in, err
}

// read returns what a stored call is made with, outside of any unit of work.
func (c *Call[In, Out]) read(ctx context.Context, p pending) (in In, err error) {
	if c.personal == nil || !strings.HasSuffix(p.Call, sealedCall) {
		return c.open(ctx, p, nil)
	}
	err = c.calls.f.Read(ctx, func(ctx context.Context, tx *function.Tx) error {
		in, err = c.open(ctx, p, tx)
		return err
	})
	return in, err
}

// causeOf returns the event that starts a call as it is stored: without data, and without what is encrypted.
func causeOf(e ce.Event) ce.Event {
	if event.Extension(e, event.PersonalValues) != "" || event.Extension(e, event.PersonalKey) != "" {
		e = e.Clone()
		e.SetExtension(event.PersonalValues, nil)
		e.SetExtension(event.PersonalKey, nil)
	}
	e.DataEncoded = nil
	return e
}
