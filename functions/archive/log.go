package archive

import (
	"context"
	"encoding/json"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// The log is a collection with one document per event. Units of work of many instances append to it at the same time
// and write no common document. Each takes positions by its own clock, but never before an event that was committed
// when the unit read the log: the broker delivers an event only after the earlier ones of its partition key were
// acknowledged, so the order of each key is kept, whatever the clocks of the instances are.
//
// A reader that goes through the log may miss an event that is committed with an earlier position meanwhile. A replay
// must not: it seals the log before it reads it. The head has the epoch, and every unit that appends requires that the
// head has not changed since it read the epoch, which it writes into its events. Who seals the log writes the next
// epoch: from that commit on no event of the epochs before can be added, wherever its position is.
//
// Older versions of the archive counted positions in the head, which each append wrote. Those events are in a
// collection of their own and come first; see old.go.

// stored is one event. The id of its document is its position.
type stored struct {
	attributes
	Event json.RawMessage `json:"event"` // in structured JSON; null: it is in parts
	torn  bool            // parts of it are gone
}

// attributes holds the attributes of an event that queries use.
type attributes struct {
	Position      position  `json:"position"`
	Epoch         int64     `json:"epoch,omitempty"` // see seal
	At            string    `json:"at"`              // time of arrival; see sortableTime
	ID            string    `json:"id"`
	Source        string    `json:"source"`
	Type          string    `json:"type"`
	Subject       string    `json:"subject,omitempty"`
	CorrelationID string    `json:"correlation_id,omitempty"`
	CausationID   string    `json:"causation_id,omitempty"`
	Time          time.Time `json:"time,omitzero"`
	Parts         int       `json:"parts,omitempty"` // of the event; see parts.go
}

// head is what all units read that append, and few write.
type head struct {
	Position int64    `json:"position"`          // of the last event that an older version has counted
	At       string   `json:"at"`                // when that arrived
	Replays  []ending `json:"replays,omitempty"` // replays that have read the log to its end lately
	Epoch    int64    `json:"epoch,omitempty"`   // grows when the log is sealed
	Sealed   int64    `json:"sealed,omitempty"`  // when it was, Unix nanoseconds; events of the epoch are not earlier
}

const headID = "head"

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
	at, err := a.arrival(ctx, tx, h)
	if err != nil {
		return err
	}
	if e, err = a.detachKey(ctx, tx, e); err == nil {
		err = a.erase(ctx, tx, e)
	}
	if err == nil {
		err = a.replayLate(ctx, h, tx, e)
	}
	if err != nil {
		return err
	}
	p := positionAt(at, tx.NewID())
	of := attributes{
		Position: p, Epoch: h.Epoch, At: sortableTime(time.Unix(0, at)),
		ID: e.ID(), Source: e.Source(), Type: e.Type(), Subject: e.Subject(), Time: e.Time(),
		CorrelationID: event.Extension(e, event.CorrelationID), CausationID: event.Extension(e, event.CausationID),
	}
	data, err := encode(of, e)
	if err == nil && len(data) > maxWhole {
		data, err = a.encodeLarge(ctx, tx, of, e)
	}
	if err != nil {
		return err
	}
	return tx.StoreTx().Create(ctx, a.log.Key(string(p)), data)
}

// arrivals gives the events of one attempt of a unit of work their times of arrival.
type arrivals struct{ next int64 }

// arrival returns the time of arrival for the next event of the unit: later than that of every event in the log. One
// query per attempt finds out whether another instance has a clock that is ahead.
func (a *archive) arrival(ctx context.Context, tx *function.Tx, h head) (int64, error) {
	n, err := store.Shared(tx, arrivals{}, func() (*arrivals, error) {
		at := max(tx.Now().UnixNano(), h.Sealed, minTime)
		ahead, err := a.log.Query(ctx, tx, store.Find{
			Where: []store.Filter{{Field: "position", Op: store.GreaterOrEqual, Value: from(time.Unix(0, at))}},
			Order: []store.Order{{Field: "position", Desc: true}}, Limit: 1,
		})
		if err == nil && len(ahead.Items) > 0 {
			at = ahead.Items[0].Value.Position.time() + 1
		}
		return &arrivals{at}, err
	})
	if err != nil {
		return 0, err
	}
	n.next++
	return n.next - 1, nil
}

// seal ends the epoch and returns it, and the time that no event of a later epoch is before. With an ending, units of
// later epochs replay the events that belong to the replay.
func (a *archive) seal(ctx context.Context, tx *function.Tx, e *ending) (epoch, sealed int64, err error) {
	h, _, err := a.heads.Find(ctx, tx, headID)
	if err != nil {
		return 0, 0, err
	}
	epoch = h.Epoch
	h.Epoch, h.Sealed = epoch+1, max(tx.Now().UnixNano(), h.Sealed)
	if e != nil {
		h.Replays = e.among(h.Replays, tx.Now())
	}
	return epoch, h.Sealed, a.heads.Put(ctx, tx, headID, h)
}

// last returns the last position of the log; "" when it is empty.
func (a *archive) last(ctx context.Context, tx *function.Tx) (position, error) {
	found, err := a.log.Query(ctx, tx, store.Find{Order: []store.Order{{Field: "position", Desc: true}}, Limit: 1})
	if err != nil || len(found.Items) > 0 {
		if err == nil {
			return found.Items[0].Value.Position, nil
		}
		return "", err
	}
	h, _, err := a.heads.Find(ctx, tx, headID)
	if err != nil || h.Position == 0 {
		return "", err
	}
	return counted(h.Position), nil
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

// between returns the span of a range of time: from since on and before until. A zero time is an open end.
func (a *archive) between(ctx context.Context, tx *function.Tx, since, until time.Time) (s span, err error) {
	s = span{"", endless}
	if !since.IsZero() {
		if s.first, err = a.beginning(ctx, tx, since); err != nil {
			return s, err
		}
	}
	if !until.IsZero() {
		s.end, err = a.beginning(ctx, tx, until)
	}
	return s, err
}

// beginning returns the beginning of the span of the events that arrived at the time or later.
func (a *archive) beginning(ctx context.Context, tx store.Transactor, t time.Time) (string, error) {
	h, _, err := a.heads.Find(ctx, tx, headID)
	if err != nil {
		return "", err
	}
	n, err := a.countedSince(ctx, tx, t, h.Position)
	if err != nil || n <= h.Position {
		return string(counted(n)), err
	}
	return from(t), nil
}
