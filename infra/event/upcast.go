package event

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// SentAs is the extension of an event that is sent in an older version for consumers that do not know the newer one
// yet: the type of the newer event, which is sent beside it. See Draft.Beside.
const SentAs = "ebbsentas"

// upcaster reads data of an older version of a type as the version after it.
type upcaster struct {
	from    *Info
	convert func(data []byte) (any, error)
}

// Upcast declares that data of an older version of a type can be read as a newer one: then a function that consumes the
// newer version gets events of the older one too, from senders that are not deployed yet, from queues, from the
// archive. Upcasters form chains: with one from 1 to 2 and one from 2 to 3, version 3 reads both.
//
//	var _ = event.Upcast(OrderPlacedV1, OrderPlaced, func(old PlacedOrderV1) (PlacedOrder, error) { … })
//
// The older type stays defined as long as such events exist, which is as long as the archive. It panics on a defect in
// the declaration: call it from package variables.
func Upcast[A, B any](from Type[A], to Type[B], convert func(A) (B, error)) struct{} {
	old, info := from.info, to.info
	switch {
	case old.Function != info.Function || old.What != info.What || old.Version >= info.Version:
		panic(fmt.Sprintf("event: %s is no older version of %s", old.Name, info.Name))
	case slices.ContainsFunc(info.upcasters, func(u upcaster) bool { return u.from == old }):
		panic(fmt.Sprintf("event: %s is read as %s twice", old.Name, info.Name))
	}
	info.upcasters = append(info.upcasters, upcaster{old, func(data []byte) (any, error) {
		var before A
		if err := old.Schema.decode(data, reflect.ValueOf(&before).Elem()); err != nil {
			return nil, old.named(err)
		}
		after, err := convert(before)
		if err != nil {
			return nil, fmt.Errorf("%s cannot be read as %s: %w", old.Name, info.Name, err)
		}
		return after, nil
	}})
	return struct{}{}
}

// Older returns the older versions that the type reads, each once.
func (i *Info) Older() (all []*Info) {
	for _, u := range i.upcasters {
		for _, old := range append([]*Info{u.from}, u.from.Older()...) {
			if !slices.Contains(all, old) {
				all = append(all, old)
			}
		}
	}
	return all
}

// upcast returns the data of an event of an older version; ok is false when the event is of no such version.
func (t Type[T]) upcast(e ce.Event) (data T, ok bool, err error) {
	if t.info.Name == e.Type() || len(t.info.upcasters) == 0 {
		return data, false, nil
	}
	value, ok, err := t.info.upcastData(e.Type(), e.DataEncoded)
	if err != nil || !ok {
		return data, ok, err
	}
	old := *t.info
	old.Name = e.Type()
	if err := old.accepts(e); err != nil {
		return data, true, err
	}
	// What an upcaster makes is held to the schema like what a sender makes.
	encoded, err := Draft{Info: t.info, Data: value}.Encode()
	if err != nil {
		return data, true, err
	}
	if raw, ok := any(&data).(*json.RawMessage); ok && t.isRaw() {
		*raw = encoded
		return data, true, nil
	}
	return value.(T), true, nil
}

// upcastData reads data of an older version; ok is false when no chain of upcasters begins there.
func (i *Info) upcastData(from string, data []byte) (value any, ok bool, err error) {
	for _, u := range i.upcasters {
		if u.from.Name == from {
			value, err = u.convert(data)
			return value, true, err
		}
	}
	for _, u := range i.upcasters {
		between, ok, err := u.from.upcastData(from, data)
		if err != nil {
			return nil, true, err
		}
		if !ok {
			continue
		}
		raw, err := json.Marshal(between)
		if err != nil {
			return nil, true, err
		}
		value, err = u.convert(raw)
		return value, true, err
	}
	return nil, false, nil
}

// Beside returns the draft of an event that is sent in an older version beside the newer one, for consumers that do not
// know that yet. A function that consumes the newer version and reads the older one through an Upcast leaves it out, so
// that it handles the fact once.
func (d Draft) Beside(newer Typed) Draft {
	d.SentAs = newer.Info().Name
	return d
}
