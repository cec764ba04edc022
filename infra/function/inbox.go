package function

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/store"
)

// inboxRetention is how long an inbox entry is stored, from the event's own time or from its arrival if it arrived
// later than that: longer than any broker retries.
const inboxRetention = 72 * time.Hour

// inboxEntry remembers an event that was handled.
type inboxEntry struct {
	At int64 `json:"at,omitempty"` // when an event arrived that was past its time, Unix seconds

	// Outbox names the outbox entry with the events that its handler emitted; "": it emitted none. An older version of
	// the kit wrote no name: nil.
	Outbox *string `json:"outbox,omitempty"`

	Follow follows `json:"follow,omitempty"` // what its handler left to do; see followUp
}

// inboxID returns the id of an event's inbox entry. It begins with the hour of the event, or of the replay that it is
// part of, so that expired entries are at the front and are found without an index.
func inboxID(e ce.Event) string {
	replay := event.Extension(e, event.Replay)
	id := inboxHour(e, replay) + " " + e.Source() + " " + e.ID()
	if replay != "" {
		id += " " + replay
	}
	return id
}

func inboxHour(e ce.Event, replay string) string {
	at := e.Time()
	if id, err := uuid.Parse(replay); err == nil && id.Version() == 7 {
		at = time.Unix(id.Time().UnixTime())
	}
	if at.IsZero() {
		return "ffffffff" // never expires: nothing tells its age
	}
	return hourOf(at)
}

func hourOf(t time.Time) string {
	h := strconv.FormatInt(max(t.Unix()/3600, 0), 16)
	return strings.Repeat("0", max(8-len(h), 0)) + h
}

// newInboxEntry returns the inbox entry of an event whose handler emitted events into the outbox entry, "": none, and
// left something to do.
func newInboxEntry(id string, now time.Time, outbox string, left follows) json.RawMessage {
	entry := inboxEntry{Outbox: &outbox, Follow: left}
	if id < inboxHorizon(now) {
		entry.At = now.Unix()
	}
	data, _ := json.Marshal(entry) // a number and a string always marshal
	return data
}

// inboxExpired reports whether an inbox entry is past its time: that of its event, or of its arrival if it arrived
// late.
func inboxExpired(d store.Document, now time.Time) bool {
	var entry inboxEntry
	if d.ID >= inboxHorizon(now) || json.Unmarshal(d.Data, &entry) != nil {
		return false
	}
	return now.Sub(time.Unix(entry.At, 0)) > inboxRetention
}

func inboxHorizon(now time.Time) string { return hourOf(now.Add(-inboxRetention)) }
