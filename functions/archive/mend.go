package archive

import (
	"context"
	"encoding/json"
	"reflect"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
)

// systemKeys returns the keys that the keys of persons are wrapped under. A system that has set none uses one that
// everyone knows.
func (c Config) systemKeys() (personal.Keys, error) {
	if c.PersonalKeys == "" {
		return personal.Public(), nil
	}
	return personal.ParseKeys(c.PersonalKeys)
}

// withData returns the event of a dead letter with other data of its type. Where a personal field of the data has its
// placeholder, as the API shows the event, the value from before stays. What it has otherwise is encrypted under the
// person's key, and the stored event has the placeholder in its place.
func (a *archive) withData(
	ctx context.Context, tx store.Transactor, e ce.Event, info *event.Info, data json.RawMessage,
) (ce.Event, error) {
	fields := personal.FieldsOf(info.GoType)
	if fields == nil {
		return withJSON(e, data)
	}
	decoded, err := info.New(data)
	if err != nil {
		return e, fault.Wrap(err, fault.Invalid, "the data does not conform to its schema: %v", err)
	}
	redacted, person, given := personal.Take(fields, reflect.ValueOf(decoded).Elem().Interface())
	before := event.Extension(e, event.Person)
	key, values, err := a.personalOf(ctx, tx, e)
	if err != nil {
		return e, err
	}
	changed, next := person != before && len(values) > 0, map[string]string{}
	for name, placeholder := range fields.Placeholders() {
		old, had := values[name]
		value, has := given[name]
		switch {
		case has && value != placeholder:
			next[name], changed = value, true // also the value from before: the data has it in the clear
		case has && had:
			next[name] = old
		case had:
			changed = true // the field is empty now
		}
	}
	if !changed {
		return withJSON(e, data)
	}
	e = e.Clone()
	for _, name := range []string{event.Person, event.PersonalValues, keyRef} {
		e.SetExtension(name, nil)
	}
	if len(next) == 0 {
		return withJSON(e, data)
	}
	if key.wrapped == "" || person != before {
		if key, err = a.keyFor(ctx, tx, person); err != nil {
			return e, err
		}
	}
	sealed, err := key.plain.Seal(next, personal.EventPurpose(e.Source(), e.ID()))
	if err != nil {
		return e, err
	}
	e.SetExtension(event.Person, person)
	e.SetExtension(event.PersonalValues, sealed)
	e.SetExtension(keyRef, refOf(key.wrapped))
	if data, err = (event.Draft{Info: info, Data: redacted}).Encode(); err != nil {
		return e, fault.Wrap(err, fault.Internal, "the placeholders of %s", info.Name)
	}
	return withJSON(e, data)
}

// withJSON returns an event with other data.
func withJSON(e ce.Event, data json.RawMessage) (ce.Event, error) {
	if err := e.SetData(event.ContentType, data); err != nil {
		return e, fault.Wrap(err, fault.Invalid, "the data cannot be put into the event")
	}
	return e, nil
}

// dataKey is a key of a person; one without a wrapped form is none.
type dataKey struct {
	plain   personal.Key
	wrapped string
}

// personalOf returns the values of a stored event's personal fields, and the key that they are encrypted under. It
// returns none when the event has none, or the key is destroyed.
func (a *archive) personalOf(
	ctx context.Context, tx store.Transactor, e ce.Event,
) (key dataKey, values map[string]string, err error) {
	whole, err := a.attachKey(ctx, tx, e)
	sealed := event.Extension(whole, event.PersonalValues)
	key.wrapped = event.Extension(whole, event.PersonalKey)
	if err != nil || sealed == "" || key.wrapped == "" {
		return dataKey{}, nil, err
	}
	if key.plain, err = a.personalKeys.Unwrap(key.wrapped); err == nil {
		values, err = key.plain.Open(sealed, personal.EventPurpose(e.Source(), e.ID()))
	}
	return key, values, err
}

// keyFor returns a key of the person that the archive has from an event, or else a new one, which it stores. It refuses
// the data of a person who is erased. It makes no key that it would have to store under one that everyone knows.
func (a *archive) keyFor(ctx context.Context, tx store.Transactor, person string) (key dataKey, err error) {
	if person == "" {
		return key, fault.New(fault.Invalid, "the data has personal fields and no id of the person")
	}
	known, _, err := a.keys.Find(ctx, tx, personID(person))
	switch {
	case err != nil:
		return key, err
	case !known.Erased.IsZero():
		return key, fault.New(fault.Conflict, "the person is erased: leave the placeholders in the personal fields")
	case len(known.Wrapped) > 0:
		key.wrapped = known.Wrapped[len(known.Wrapped)-1]
		key.plain, err = a.personalKeys.Unwrap(key.wrapped)
		return key, err
	case !a.hasKeys:
		return key, fault.New(fault.Conflict, "personal data cannot be encrypted: set %s for the archive", personal.Variable)
	}
	if key.plain, key.wrapped, err = a.personalKeys.New(); err != nil {
		return key, err
	}
	known.Wrapped = append(known.Wrapped, key.wrapped)
	return key, a.keys.Put(ctx, tx, personID(person), known)
}
