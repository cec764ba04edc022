package event

import (
	"encoding/json"
	"fmt"
	"reflect"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// ContentType is the media type of the data of every event.
const ContentType = "application/json"

// Kind tells facts from commands.
type Kind string

const (
	Fact    Kind = "fact"    // it has happened; any function may consume it
	Command Kind = "command" // it asks one function to act
)

// Info describes an event type independently of the Go type of its data. Triggers, AsyncAPI and the admin
// screens are derived from it. It is shared between goroutines and must not be changed.
type Info struct {
	Name       string  // dev.ebb.orders.placed.v1
	Short      string  // orders.placed.v1: the name without the prefix of its namespace
	Function   string  // orders: the function that emits it (a fact) or carries it out (a command)
	What       string  // placed
	Version    int     // 1
	Kind       Kind    //
	Doc        string  // one or two sentences
	Schema     *Schema // of the data
	Examples   []Example
	DataSchema string       // the address of the schema: the dataschema attribute
	GoType     reflect.Type // of the data
	upcasters  []upcaster
}

// Typed is anything that names an event type: a Type[T] of any T, or an *Info.
type Typed interface{ Info() *Info }

// Info returns the type itself, so that an *Info is Typed.
func (i *Info) Info() *Info { return i }

// Example is data that a type may carry. The first example of a type is named full; the second, which types with
// optional fields have, minimal. Together they show every field.
type Example struct {
	Name string
	Data any // of the type's GoType
}

// Example returns the data of the first example, which has every field.
func (i *Info) Example() any { return i.Examples[0].Data }

// Check validates data as it came over the wire against the schema.
func (i *Info) Check(data []byte) error { return i.named(i.Schema.Validate(data)) }

// CheckEvent reports why an event is not one of this type with data that the schema allows; nil when it is.
func (i *Info) CheckEvent(e ce.Event) error {
	if err := i.accepts(e); err != nil {
		return err
	}
	return i.Check(e.DataEncoded)
}

func (i *Info) accepts(e ce.Event) error {
	switch {
	case e.SpecVersion() != ce.CloudEventsVersionV1:
		return fmt.Errorf("%s: CloudEvents version %q, want 1.0", i.Name, e.SpecVersion())
	case e.Type() != i.Name:
		return fmt.Errorf("%s: event is of type %q", i.Name, e.Type())
	case !isJSON(e.DataContentType()):
		return fmt.Errorf("%s: data is %q, want %s", i.Name, e.DataContentType(), ContentType)
	}
	return nil
}

// New returns a pointer to a new value of the Go type with the data, which it checks against the schema.
func (i *Info) New(data []byte) (any, error) {
	v := reflect.New(i.GoType)
	if err := i.Schema.decode(data, v.Elem()); err != nil {
		return nil, i.named(err)
	}
	return v.Interface(), nil
}

func (i *Info) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", i.Name, err)
}

// Type is an event type whose data is a T. Define makes one.
type Type[T any] struct{ info *Info }

// Name returns the CloudEvents type: dev.ebb.orders.placed.v1.
func (t Type[T]) Name() string { return t.info.Name }

// Info returns the description of the type. It is shared and must not be changed.
func (t Type[T]) Info() *Info { return t.info }

// New returns a draft of an event about subject, the id of an entity. Events about one entity keep their order, so
// subject is the partition key too; see Draft.Keyed.
func (t Type[T]) New(subject string, data T) Draft {
	return Draft{Info: t.info, Subject: subject, Key: subject, Data: data}
}

// Decode returns the data of an event that was received. It checks that the event is of this type and that the data
// conforms to the schema; an error is a *Violation with the place, or names the attribute that differs.
func (t Type[T]) Decode(e ce.Event) (T, error) {
	var data, none T
	if data, old, err := t.upcast(e); old {
		return data, err
	}
	if err := t.info.accepts(e); err != nil {
		return none, err
	}
	if raw, ok := any(&data).(*json.RawMessage); ok && t.isRaw() {
		*raw = e.DataEncoded
		return data, t.info.Check(e.DataEncoded)
	}
	if err := t.info.Schema.decode(e.DataEncoded, reflect.ValueOf(&data).Elem()); err != nil {
		return none, t.info.named(err)
	}
	return data, nil
}

// Raw returns the type with its data as JSON, for code that handles events of any type. Decode checks the data against
// the schema of the type and does not copy it.
func Raw(t Typed) Type[json.RawMessage] { return Type[json.RawMessage]{t.Info()} }

// isRaw reports whether Raw has returned the type.
func (t Type[T]) isRaw() bool { return t.info.GoType != reflect.TypeFor[T]() }

// Draft is an event before the kit stamps it with id, source, time and the rest.
type Draft struct {
	Info    *Info
	Subject string
	Key     string // of the partition
	Data    any
	ID      string // "": the kit gives it one; see Tx.NewID
	Cause   string // the id of the event that it answers; "": that of the event that is being handled
	SentAs  string // the type of the newer version that is sent beside it; see Beside
}

// Keyed returns the draft with another partition key than its subject.
func (d Draft) Keyed(partitionkey string) Draft {
	d.Key = partitionkey
	return d
}

// Encode returns the data as it goes over the wire. Data that the schema does not allow is an error here, so that a
// defect shows in the function that has it and not in every consumer.
func (d Draft) Encode() (json.RawMessage, error) {
	if d.Info == nil {
		return nil, fmt.Errorf("event: draft without a type")
	}
	v := reflect.ValueOf(d.Data)
	if !v.IsValid() || v.Type() != d.Info.GoType {
		return nil, fmt.Errorf("%s: data is a %T, want %s", d.Info.Name, d.Data, d.Info.GoType)
	}
	// json.Marshal would silently replace bytes that are not UTF-8 by U+FFFD.
	if err := checkText(v); err != nil {
		return nil, d.Info.named(err)
	}
	raw, err := json.Marshal(d.Data)
	if err != nil {
		return nil, d.Info.named(err)
	}
	if err := d.Info.Check(raw); err != nil {
		return nil, err
	}
	return raw, nil
}
