package function

import (
	"context"
	"encoding/json"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// The kit learns of API keys and of revocations from events, and stores what it has learnt in documents of its own. The
// function that emits such events learns from them in the unit of work that emits them.

// learn returns the handler of an event that the kit learns from: keep stores the data. Then it calls next, the
// function's own handler, if that is not nil, also for data that is not valid: a handler of any event judges the data
// by itself.
func learn[T any](t event.Type[T], keep func(*Tx, context.Context, T) error, next handler) handler {
	return func(ctx context.Context, tx *Tx, e ce.Event) error {
		data, err := t.Decode(e)
		if err == nil {
			err = keep(tx, ctx, data)
		} else {
			err = fault.Wrap(err, fault.Invalid, "%s", err.Error())
		}
		if next == nil || err != nil && !fault.Is(err, fault.Invalid) {
			return err
		}
		return next(ctx, tx, e)
	}
}

// learnOwn has keep store the data of those events that the unit of work emits.
func learnOwn[T any](ctx context.Context, tx *Tx, keep func(*Tx, context.Context, T) error) error {
	for _, d := range tx.drafts {
		if data, ok := d.Data.(T); ok {
			if err := keep(tx, ctx, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// changeLearnt changes a document with what the kit has learnt. It writes nothing when change reports false. Errors
// name the document by what.
func changeLearnt[T any](
	ctx context.Context, tx *Tx, key store.Key, what string, change func(known *T) (changed bool),
) error {
	d, err := tx.db.Get(ctx, key)
	if err != nil {
		return err
	}
	known, err := decodeLearnt[T](d, what)
	if err != nil || !change(&known) {
		return err
	}
	data, err := json.Marshal(known)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "encode %s", what)
	}
	_, err = tx.db.Set(ctx, key, data)
	return err
}

// decodeLearnt returns the content of a document in which the kit stores what it has learnt; the zero value when there
// is no document.
func decodeLearnt[T any](d store.Document, what string) (known T, err error) {
	if d.Version == 0 {
		return known, nil
	}
	if err := json.Unmarshal(d.Data, &known); err != nil {
		return known, fault.Wrap(err, fault.Internal, "decode %s", what)
	}
	return known, nil
}
