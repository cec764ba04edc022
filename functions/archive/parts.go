package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// An event may be as large as a broker takes, and bytes that are in base64 a third larger. A store may take less in one
// document: Firestore takes 1 MiB, DynamoDB 400 KB. So the JSON of a large event is stored in parts beside the document
// that would have it, of the log or of the dead letters. The store's limit for a commit of several documents is larger
// by far.

// The largest JSON of an event within its document, and of a part, in bytes. A part is stored in base64.
const (
	maxWhole = 350 << 10
	partSize = 256 << 10
)

// part is a piece of the JSON of an event. Its document has the id of the event's, a slash and its number.
type part struct {
	At      string    `json:"at,omitempty"`     // of the log: when the event arrived; see sortableTime
	Expires time.Time `json:"expires,omitzero"` // of a dead letter: when it is forgotten
	Text    []byte    `json:"text"`
}

func partID(id string, n int) string { return fmt.Sprintf("%s/%d", id, n) }

// split stores a text in parts, and returns how many. The other members of the parts are those of p.
func split(
	ctx context.Context, tx *function.Tx, in *store.Collection[part], id string, text []byte, p part,
) (n int, err error) {
	for piece := range slices.Chunk(text, partSize) {
		p.Text = piece
		if err := in.Put(ctx, tx, partID(id, n), p); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// joined returns the text that split has stored; ok is false when a part of it is gone.
func joined(
	ctx context.Context, tx *function.Tx, in *store.Collection[part], id string, n int,
) (text json.RawMessage, ok bool, err error) {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = partID(id, i)
	}
	parts, err := in.GetMany(ctx, tx, ids...)
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		p, there := parts[id]
		if !there {
			return nil, false, nil
		}
		text = append(text, p.Text...)
	}
	return text, true, nil
}

// encodeLarge stores the event of a document of the log in parts, and returns the document without it.
func (a *archive) encodeLarge(
	ctx context.Context, tx *function.Tx, of attributes, e ce.Event,
) (data json.RawMessage, err error) {
	text, err := event.ToJSON(e)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the event cannot be written as JSON")
	}
	if of.Parts, err = split(ctx, tx, a.logParts, string(of.Position), text, part{At: of.At}); err != nil {
		return nil, err
	}
	if data, err = json.Marshal(stored{attributes: of, Event: json.RawMessage("null")}); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode the attributes of an event")
	}
	return data, nil
}

// join puts the event of a document of the log together. Where a part is removed already, since it is past its
// retention, the event has its attributes only and is marked as torn.
func (a *archive) join(ctx context.Context, tx *function.Tx, e *stored) error {
	if e.Parts == 0 {
		return nil
	}
	text, ok, err := joined(ctx, tx, a.logParts, string(e.Position), e.Parts)
	if err != nil {
		return err
	}
	if e.Event, e.torn = text, !ok; e.torn {
		e.Event, err = json.Marshal(map[string]string{
			"specversion": ce.CloudEventsVersionV1, "id": e.ID, "source": e.Source, "type": e.Type,
		})
	}
	return err
}

// joinLetter puts the event of a dead letter together.
func (a *archive) joinLetter(ctx context.Context, tx *function.Tx, id string, l letter) (letter, error) {
	if l.Parts == 0 {
		return l, nil
	}
	text, ok, err := joined(ctx, tx, a.deadParts, id, l.Parts)
	if err == nil && !ok {
		err = fault.New(fault.Internal, "the dead letter %s has lost a part of its event", id)
	}
	l.Event = text
	return l, err
}

// putLetter stores a dead letter whose event is whole.
func (a *archive) putLetter(ctx context.Context, tx *function.Tx, id string, l letter) (err error) {
	before := l.Parts
	if l.Parts = 0; len(l.Event) > maxWhole {
		if l.Parts, err = split(ctx, tx, a.deadParts, id, l.Event, part{Expires: l.Expires}); err != nil {
			return err
		}
		l.Event = json.RawMessage("null")
	}
	for n := l.Parts; n < before; n++ {
		if err := a.deadParts.Delete(ctx, tx, partID(id, n)); err != nil {
			return err
		}
	}
	return a.dead.Put(ctx, tx, id, l)
}
