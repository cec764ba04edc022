package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// keyRef is the extension of a stored event in place of its key: which of the person's keys it is.
const keyRef = "ebbpersonkeyref"

// personKeys is the keys that events about a person came with, apart from the events: without them, what the events
// have encrypted cannot be read. The document has a hash of the person's id.
type personKeys struct {
	Wrapped []string  `json:"keys,omitempty"`
	Erased  time.Time `json:"erased,omitzero"` // the keys are destroyed, and no others are stored
}

func personID(person string) string {
	sum := sha256.Sum256([]byte(person))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func refOf(wrapped string) string {
	sum := sha256.Sum256([]byte(wrapped))
	return hex.EncodeToString(sum[:8])
}

// detachKey stores the key of an event apart, or drops it when the person is erased, and returns the event without it.
// A command to the clock has the event that it schedules in its data, with a key of its own.
func (a *archive) detachKey(ctx context.Context, tx *function.Tx, e ce.Event) (ce.Event, error) {
	e, err := withScheduled(e, func(inner ce.Event) (ce.Event, error) { return a.detachKey(ctx, tx, inner) })
	person, wrapped := event.Extension(e, event.Person), event.Extension(e, event.PersonalKey)
	if err != nil || wrapped == "" {
		return e, err
	}
	e = e.Clone()
	e.SetExtension(event.PersonalKey, nil)
	e.SetExtension(keyRef, refOf(wrapped))
	known, _, err := a.keys.Find(ctx, tx, personID(person))
	if err != nil || !known.Erased.IsZero() || slices.Contains(known.Wrapped, wrapped) {
		return e, err
	}
	known.Wrapped = append(slices.Clone(known.Wrapped), wrapped)
	return e, a.keys.Put(ctx, tx, personID(person), known)
}

// attachKey returns an event that detachKey has returned as it came, with its key; without it when the person is
// erased.
func (a *archive) attachKey(ctx context.Context, tx store.Transactor, e ce.Event) (ce.Event, error) {
	e, err := withScheduled(e, func(inner ce.Event) (ce.Event, error) { return a.attachKey(ctx, tx, inner) })
	ref := event.Extension(e, keyRef)
	if err != nil || ref == "" {
		return e, err
	}
	e = e.Clone()
	e.SetExtension(keyRef, nil)
	known, _, err := a.keys.Find(ctx, tx, personID(event.Extension(e, event.Person)))
	if err != nil {
		return e, err
	}
	for _, wrapped := range known.Wrapped {
		if refOf(wrapped) == ref {
			e.SetExtension(event.PersonalKey, wrapped)
		}
	}
	return e, nil
}

// parseWhole returns a stored event as it came, with its key; without it when the person is erased.
func (a *archive) parseWhole(ctx context.Context, tx *function.Tx, data json.RawMessage) (ce.Event, error) {
	e, err := parse(data)
	if err != nil {
		return e, err
	}
	return a.attachKey(ctx, tx, e)
}

// withScheduled returns a command to the clock with the event that it schedules changed, if that has personal data.
// Other events, and data that is no such command, stay as they are.
func withScheduled(e ce.Event, change func(ce.Event) (ce.Event, error)) (ce.Event, error) {
	if e.Type() != event.ClockSchedule.Name() || !bytes.Contains(e.DataEncoded, []byte(event.PersonalValues)) {
		return e, nil
	}
	var data map[string]json.RawMessage
	if json.Unmarshal(e.DataEncoded, &data) != nil {
		return e, nil
	}
	inner, err := event.FromJSON(data["event"])
	if err != nil {
		return e, nil
	}
	if inner, err = change(inner); err != nil {
		return e, err
	}
	if data["event"], err = event.ToJSON(inner); err != nil {
		return e, fault.Wrap(err, fault.Internal, "encode a scheduled event")
	}
	e = e.Clone()
	if e.DataEncoded, err = json.Marshal(data); err != nil {
		return e, fault.Wrap(err, fault.Internal, "encode a command to the clock")
	}
	return e, nil
}

// erase destroys the keys of a person when the event tells that the person is erased, and tells how many there were.
func (a *archive) erase(ctx context.Context, tx *function.Tx, e ce.Event) error {
	if e.Type() != event.PersonErased.Name() || tx.Replayed() {
		return nil
	}
	data, err := event.PersonErased.Decode(e)
	if err != nil {
		return nil // it is stored like any event of a stranger, and destroys no key
	}
	id := personID(data.PersonID)
	known, _, err := a.keys.Find(ctx, tx, id)
	if err != nil || !known.Erased.IsZero() {
		return err
	}
	erased := []event.ErasedItem{}
	if n := len(known.Wrapped); n > 0 {
		erased = append(erased, event.ErasedItem{What: "key", Count: n})
	}
	tx.Emit(event.DataErased.New(data.PersonID, event.ErasedData{
		PersonID: data.PersonID, Function: "archive", At: tx.Now(), Erased: erased,
	}).Keyed(data.PersonID + "/erased"))
	return a.keys.Put(ctx, tx, id, personKeys{Erased: tx.Now()})
}
