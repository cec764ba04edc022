package events

import (
	"encoding/json"
	"fmt"
	"mime"
	"reflect"
	"slices"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
)

// ContentType is what the data of every event in the catalogue is.
const ContentType = "application/json"

const (
	namePrefix    = "dev.ebb."
	schemaAddress = "https://ebb.dev/schemas/"
)

// Kind says whether an event tells what has happened or asks for something.
type Kind string

const (
	Fact    Kind = "fact"    // it has happened; whoever cares may hear it
	Command Kind = "command" // it asks one capability to act
)

// Info is what is known of an event type whatever Go type its data has: all
// that triggers, AsyncAPI and the admin screens are derived from.
type Info struct {
	Name       string  // dev.ebb.orders.placed.v1
	Capability string  // who says it (a fact) or carries it out (a command): orders
	What       string  // placed
	Version    int     // 1
	Kind       Kind    //
	Doc        string  // one or two sentences
	Schema     *Schema // of the data
	Examples   []Example
	DataSchema string       // the address of the schema, as the dataschema attribute has it
	GoType     reflect.Type // of the data
}

// Example is one data a type may carry. The first of a type is called full, the
// second, where there are optional fields, minimal; together they show every field.
type Example struct {
	Name string
	Data any // of the type's GoType
}

// Example is the data of the type's first and fullest example.
func (i *Info) Example() any { return i.Examples[0].Data }

// Check says what is wrong with data as it came over the wire; nil if nothing is.
func (i *Info) Check(data []byte) error { return i.fault(i.Schema.Validate(data)) }

// CheckEvent says why an event is not one of this type, with data its schema allows.
func (i *Info) CheckEvent(e event.Event) error {
	if err := i.accepts(e); err != nil {
		return err
	}
	return i.Check(e.DataEncoded)
}

func (i *Info) accepts(e event.Event) error {
	switch {
	case e.SpecVersion() != event.CloudEventsVersionV1:
		return fmt.Errorf("%s: CloudEvents version %q, want 1.0", i.Name, e.SpecVersion())
	case e.Type() != i.Name:
		return fmt.Errorf("%s: event is of type %q", i.Name, e.Type())
	case !isJSON(e.DataContentType()):
		return fmt.Errorf("%s: data is %q, want %s", i.Name, e.DataContentType(), ContentType)
	}
	return nil
}

func (i *Info) fault(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", i.Name, err)
}

// Absent means JSON in the JSON format of CloudEvents.
func isJSON(contentType string) bool {
	if contentType == "" || contentType == ContentType {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == ContentType || strings.HasSuffix(media, "+json"))
}

// Type is an event type whose data is a T. The types are the package's variables.
type Type[T any] struct{ info *Info }

// Name is the CloudEvents type: dev.ebb.orders.placed.v1.
func (t Type[T]) Name() string { return t.info.Name }

// Info is the type without its Go type. It is shared; do not change it.
func (t Type[T]) Info() *Info { return t.info }

// New is an event about subject, the id of an entity. Events about one entity
// keep their order, so subject is its partition key too; see Draft.Keyed.
func (t Type[T]) New(subject string, data T) Draft {
	return Draft{Info: t.info, Subject: subject, Key: subject, Data: data}
}

// Decode is the data of an event that was received. It promises that the event
// is of this type and the data keeps to the schema; the error names the place where not.
func (t Type[T]) Decode(e event.Event) (T, error) {
	var data, none T
	if err := t.info.accepts(e); err != nil {
		return none, err
	}
	if err := t.info.Schema.decode(e.DataEncoded, reflect.ValueOf(&data).Elem()); err != nil {
		return none, t.info.fault(err)
	}
	return data, nil
}

// Draft is an event before the kit stamps it with id, source, time and the rest.
type Draft struct {
	Info    *Info
	Subject string
	Key     string // of the partition
	Data    any
}

// Keyed is the draft ordered among the events of another key than its subject.
func (d Draft) Keyed(partitionkey string) Draft {
	d.Key = partitionkey
	return d
}

// Encode is the data as it goes over the wire. What the schema does not allow is
// an error here, so that a defect shows where it was made and not at every reader.
func (d Draft) Encode() (json.RawMessage, error) {
	if d.Info == nil {
		return nil, fmt.Errorf("events: draft without a type")
	}
	v := reflect.ValueOf(d.Data)
	if !v.IsValid() || v.Type() != d.Info.GoType {
		return nil, fmt.Errorf("%s: data is a %T, want %s", d.Info.Name, d.Data, d.Info.GoType)
	}
	// json.Marshal would quietly put U+FFFD for what is not UTF-8.
	if err := checkText(v); err != nil {
		return nil, d.Info.fault(err)
	}
	raw, err := json.Marshal(d.Data)
	if err != nil {
		return nil, d.Info.fault(err)
	}
	if err := d.Info.Check(raw); err != nil {
		return nil, err
	}
	return raw, nil
}

var catalogue = map[string]*Info{}

// Catalogue is every type there is, by name. The slice is the caller's.
func Catalogue() []*Info {
	all := make([]*Info, 0, len(catalogue))
	for _, info := range catalogue {
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b *Info) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Lookup is the type of a name as the type attribute has it.
func Lookup(name string) (*Info, bool) {
	info, ok := catalogue[name]
	return info, ok
}

// define registers a type. It panics on a defect in the catalogue, which only
// whoever is writing an event can cause and the first test run shows.
func define[T any](name string, version int, kind Kind, doc string, full T, more ...T) Type[T] {
	capability, what, ok := strings.Cut(name, ".")
	if !ok || version < 1 || doc == "" {
		panic(fmt.Sprintf("events: %q wants a capability and a name, a version and a doc", name))
	}
	info := &Info{
		Name:       fmt.Sprintf("%s%s.v%d", namePrefix, name, version),
		Capability: capability,
		What:       what,
		Version:    version,
		Kind:       kind,
		Doc:        doc,
		GoType:     reflect.TypeFor[T](),
		Examples:   []Example{{Name: "full", Data: full}},
	}
	for i, data := range more {
		info.Examples = append(info.Examples, Example{Name: exampleName(i), Data: data})
	}
	info.DataSchema = schemaAddress + info.Name + ".json"
	info.Schema = schemaOf(info)
	if _, twice := catalogue[info.Name]; twice {
		panic("events: " + info.Name + " is defined twice")
	}
	catalogue[info.Name] = info
	return Type[T]{info}
}

func exampleName(i int) string {
	if i == 0 {
		return "minimal"
	}
	return fmt.Sprintf("other-%d", i)
}
