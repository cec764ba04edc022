package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// stored is one event. The id of its document is its position; see key.
type stored struct {
	attributes
	Event json.RawMessage `json:"event"` // in structured JSON
}

// attributes holds the attributes of an event that queries use.
type attributes struct {
	Position      int64     `json:"position"`
	At            string    `json:"at"` // time of arrival; see sortableTime
	ID            string    `json:"id"`
	Source        string    `json:"source"`
	Type          string    `json:"type"`
	Subject       string    `json:"subject,omitempty"`
	CorrelationID string    `json:"correlation_id,omitempty"`
	CausationID   string    `json:"causation_id,omitempty"`
	Time          time.Time `json:"time,omitzero"`
}

// head is the end of the log. Its position and time only grow.
type head struct {
	Position int64    `json:"position"`
	At       string   `json:"at"`
	Replays  []ending `json:"replays,omitempty"` // replays that have ended lately
}

const headID = "head"

// key returns the document id of a position: a text that sorts as the number does.
func key(position int64) string { return fmt.Sprintf("%016x", position) }

// sortableTime writes a time as a text that sorts as the time does.
func sortableTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

// store appends an event to the log.
func (a *archive) store(ctx context.Context, tx *function.Tx, e ce.Event) error {
	switch addressee := event.Extension(e, event.ReplayTo); {
	case addressee == "":
	case addressee == "archive" && event.Extension(e, event.Replay) == "":
		// A replayed dead letter of the archive itself: the event is not stored yet.
		e = e.Clone()
		e.SetExtension(event.ReplayTo, nil)
	default:
		return nil
	}
	h, _, err := a.heads.Find(ctx, tx, headID)
	if err != nil {
		return err
	}
	h.Position, h.At = h.Position+1, max(h.At, sortableTime(tx.Now()))
	if err := a.heads.Put(ctx, tx, headID, h); err != nil {
		return err
	}
	a.replayLate(h, tx, e)
	if e, err = a.detachKey(ctx, tx, e); err == nil {
		err = a.erase(ctx, tx, e)
	}
	if err != nil {
		return err
	}
	data, err := encode(attributes{
		Position: h.Position, At: h.At, ID: e.ID(), Source: e.Source(), Type: e.Type(), Subject: e.Subject(), Time: e.Time(),
		CorrelationID: event.Extension(e, event.CorrelationID), CausationID: event.Extension(e, event.CausationID),
	}, e)
	if err != nil {
		return err
	}
	return tx.StoreTx().Create(ctx, a.events.Key(key(h.Position)), data)
}

// encode returns the JSON of a stored. It is joined by hand, because encoding/json would parse and copy the event twice
// more.
func encode(a attributes, e ce.Event) (json.RawMessage, error) {
	head, err := json.Marshal(a)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode the attributes of an event")
	}
	data := append(make([]byte, 0, 3*len(head)+len(e.DataEncoded)), head[:len(head)-1]...)
	if data, err = event.AppendJSON(append(data, `,"event":`...), &e); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the event cannot be written as JSON")
	}
	return append(data, '}'), nil
}

// end returns the position of the last event; 0 when the log is empty.
func (a *archive) end(ctx context.Context, tx *function.Tx) (int64, error) {
	h, _, err := a.heads.Find(ctx, tx, headID)
	return h.Position, err
}

// since returns the first position whose event arrived at the time or later; end+1 when none did.
func (a *archive) since(ctx context.Context, tx *function.Tx, t time.Time, end int64) (int64, error) {
	if t.IsZero() {
		return 1, nil
	}
	var failed error
	at := sortableTime(t)
	n := sort.Search(int(end), func(i int) bool {
		if failed != nil {
			return true
		}
		e, err := a.events.Get(ctx, tx, key(int64(i)+1))
		failed = err
		return e.At >= at
	})
	return int64(n) + 1, failed
}

// span is a range of positions, both ends included.
type span struct{ first, last int64 }

// between returns the span of a range of time: from since on and before until. A zero time is an open end.
func (a *archive) between(ctx context.Context, tx *function.Tx, since, until time.Time) (span, error) {
	end, err := a.end(ctx, tx)
	if err != nil {
		return span{}, err
	}
	s := span{last: end}
	if s.first, err = a.since(ctx, tx, since, end); err != nil || until.IsZero() {
		return s, err
	}
	after, err := a.since(ctx, tx, until, end)
	s.last = after - 1
	return s, err
}
