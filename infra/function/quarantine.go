package function

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// quarantineMark is in an entry that is quarantined. An older version of the kit ignores it and tries such an entry
// again, so the events that were not published stay in the entry.
type quarantineMark struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

func isQuarantined(d store.Document) bool {
	var entry struct {
		Quarantined *quarantineMark `json:"quarantined"`
	}
	return json.Unmarshal(d.Data, &entry) == nil && entry.Quarantined != nil
}

// refusedForGood reports whether the broker will never take an event, whatever else is wrong now.
func refusedForGood(err error) bool {
	return fault.Is(err, fault.Invalid) || fault.Is(err, fault.TooLarge)
}

// publishEach publishes the events of an entry one by one, since the broker has refused one of them, or of another
// entry, for good. It returns the indexes of those that the broker refuses, with its last refusal.
func (f *Function) publishEach(ctx context.Context, waiting []ce.Event) (refused []int, refusal, err error) {
	for i, e := range waiting {
		switch err := f.publishEvents(ctx, e); {
		case err == nil:
		case refusedForGood(err):
			refused, refusal = append(refused, i), err
			f.env.Logger.ErrorContext(ctx, "the broker refuses an event for good",
				"function", f.name, "event", e.ID(), "type", e.Type(), "error", err)
		default:
			return nil, nil, err
		}
	}
	return refused, refusal, nil
}

// quarantine marks an entry, unless it has changed since it was read. Of an entry whose events were refused, which
// gives their indexes, it keeps these; nil: the entry stays unchanged but for the mark.
func (f *Function) quarantine(
	ctx context.Context, db store.Driver, d store.Document, refused []int, cause error,
) error {
	mark := quarantineMark{At: f.env.Now().UTC(), Reason: cause.Error()}
	data, err := markQuarantined(d.Data, refused, mark)
	if err != nil {
		return err
	}
	err = store.Update(ctx, db, func(ctx context.Context, tx *store.Tx) error {
		current, err := tx.Get(ctx, d.Key)
		if err != nil || current.Version != d.Version {
			return err
		}
		_, err = tx.Set(ctx, d.Key, data)
		return err
	})
	if err != nil {
		return err
	}
	f.outbox.forget(d.ID)
	f.reportQuarantined(f.outbox.quarantined.Add(1))
	f.env.Logger.ErrorContext(ctx, "an outbox entry is quarantined: its events are not published until an operator acts",
		"function", f.name, "entry", d.ID, "reason", mark.Reason)
	return nil
}

func (f *Function) reportQuarantined(n int64) { f.env.Telemetry.OutboxQuarantined(f.name, int(n)) }

func markQuarantined(data json.RawMessage, refused []int, mark quarantineMark) (json.RawMessage, error) {
	if refused != nil {
		var entry outboxEntry
		if err := json.Unmarshal(data, &entry); err != nil {
			return nil, err
		}
		kept := make([]json.RawMessage, len(refused))
		for i, n := range refused {
			kept[i] = entry.Events[n]
		}
		return json.Marshal(struct {
			outboxEntry
			Quarantined quarantineMark `json:"quarantined"`
		}{outboxEntry{entry.At, kept}, mark})
	}
	// The entry cannot be decoded, so the mark is put in front of its members.
	members, ok := bytes.CutPrefix(bytes.TrimSpace(data), []byte("{"))
	if !ok {
		return nil, fault.New(fault.Internal, "an outbox entry is no JSON object")
	}
	text, err := json.Marshal(mark)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(`{"quarantined":`), text, []byte(","), members), nil
}
