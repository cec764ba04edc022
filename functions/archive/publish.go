package archive

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"unicode"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/personal"
)

type publishInput struct {
	Body struct {
		Type    string          `json:"type" minLength:"1" maxLength:"200" doc:"The full name, with its version."`
		Subject string          `json:"subject,omitempty" maxLength:"200" doc:"The entity's id; also the partition key."`
		Data    json.RawMessage `json:"data" doc:"Data that conforms to the schema of the type."`
	}
}

type publishOutput struct {
	Body json.RawMessage `doc:"The CloudEvent in structured JSON."`
}

// byFunctionsOnly returns fault.Denied for the data of events that only functions publish. With APIKeyChanged a person
// could give the rights of another user to a key of their own, with APIKeysNarrow or AccessRevoked keep others out for
// as long as they like, with ActRecorded forge the record of what staff has done, and with PersonErased destroy the
// data of a person, which an administrator or that person requests from the function that has it. An event with a
// secret in it, such as the token that sets a password, would take it to another address. byFunctionsOnly also checks
// the event that the clock is asked to publish. The clock refuses data that is no command to it.
func (a *archive) byFunctionsOnly(eventType string, data json.RawMessage) error {
	info, known := a.types().Lookup(eventType)
	secret := known && personal.FieldsOf(info.GoType).Secret()
	switch {
	case secret, slices.Contains(made, eventType):
		return fault.New(fault.Denied, "functions alone make events of the type %s", eventType)
	case eventType == event.ClockSchedule.Name():
		e := ce.New()
		e.SetType(eventType)
		if err := e.SetData(event.ContentType, data); err != nil {
			return nil
		}
		cmd, err := event.ClockSchedule.Decode(e)
		if err != nil {
			return nil
		}
		inner, err := event.FromJSON(cmd.Event)
		if err != nil {
			return nil
		}
		return a.byFunctionsOnly(inner.Type(), inner.Data())
	}
	return nil
}

// made are the types of the kit whose events functions alone make.
var made = []string{
	event.APIKeyChanged.Name(), event.APIKeysNarrow.Name(), event.AccessRevoked.Name(), event.ActRecorded.Name(),
	event.PersonErased.Name(),
}

// publish emits an event of any type, with the archive as its source. Data that does not conform to the schema is
// refused, because the event would become a dead letter of every function that consumes it. Personal fields are
// encrypted, see withData; the answer has their placeholders.
func (a *archive) publish(ctx context.Context, tx *function.Tx, in *publishInput) (*publishOutput, error) {
	info, known := a.types().Lookup(in.Body.Type)
	if !known {
		return nil, fault.New(fault.Invalid, "unknown event type %q", in.Body.Type)
	}
	if err := a.byFunctionsOnly(info.Name, in.Body.Data); err != nil {
		return nil, err
	}
	if err := info.Check(in.Body.Data); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the data does not conform to its schema: %v", err)
	}
	if strings.ContainsFunc(in.Body.Subject, unicode.IsControl) { // CloudEvents 1.0.2, section 3.1
		return nil, fault.New(fault.Invalid, "the subject has a control character")
	}
	id := tx.NewID()
	e := ce.New()
	e.SetID(id)
	e.SetSource(a.source)
	e.SetType(info.Name)
	e.SetTime(tx.Now())
	e.SetDataSchema(info.DataSchema)
	e.SetExtension(event.CorrelationID, id)
	if in.Body.Subject != "" {
		e.SetSubject(in.Body.Subject)
		e.SetExtension(event.PartitionKey, in.Body.Subject)
	}
	e, err := a.withData(ctx, tx, e, info, in.Body.Data)
	if err != nil {
		return nil, err
	}
	data, err := event.ToJSON(e)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the event cannot be written as JSON")
	}
	if e, err = a.attachKey(ctx, tx, e); err != nil {
		return nil, err
	}
	tx.EmitRaw(e)
	return &publishOutput{Body: data}, nil
}
