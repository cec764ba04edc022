package function

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/event"
)

// inboxRetention is how long an inbox entry is stored after the event was handled: longer than any broker retries.
const inboxRetention = 72 * time.Hour

// inboxEntry remembers an event that was handled.
type inboxEntry struct {
	Expires int64 `json:"expires,omitempty"` // Unix seconds; 0: an older version of the kit wrote the entry

	// At is when an event arrived that was past its time by then, Unix seconds. Older versions of the kit, which may run
	// beside this one during a rollout, remove such an entry by it.
	At int64 `json:"at,omitempty"`

	// Outbox names the outbox entry with the events that its handler emitted; "": it emitted none. An older version of
	// the kit wrote no name: nil.
	Outbox *string `json:"outbox,omitempty"`

	Follow follows `json:"follow,omitempty"` // what its handler left to do; see followUp
}

// inboxID returns the id of an event's inbox entry. It begins with the hour of the event, or of the replay that it is
// part of: older versions of the kit found expired entries by it.
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
		return noHour
	}
	return hourOf(at)
}

// noHour is the beginning of the id for an event without a time.
const noHour = "ffffffff"

func hourOf(t time.Time) string {
	h := strconv.FormatInt(max(t.Unix()/3600, 0), 16)
	return strings.Repeat("0", max(8-len(h), 0)) + h
}

// newInboxEntry returns the inbox entry of an event whose handler emitted events into the outbox entry, "": none, and
// left something to do.
func newInboxEntry(id string, now time.Time, outbox string, left follows) json.RawMessage {
	entry := inboxEntry{Expires: now.Add(inboxRetention).Unix(), Outbox: &outbox, Follow: left}
	if id < inboxHorizon(now) {
		entry.At = now.Unix()
	}
	data, _ := json.Marshal(entry) // numbers and a string always marshal
	return data
}

func inboxHorizon(now time.Time) string { return hourOf(now.Add(-inboxRetention)) }

// dated returns an entry that an older version of the kit wrote with the time when it expires: three days after its
// event or its arrival, and if neither is known, from now on.
func (e inboxEntry) dated(id string, now time.Time) inboxEntry {
	at := now
	hour, err := strconv.ParseInt(id[:min(len(id), len(noHour))], 16, 64)
	switch {
	case e.At > 0:
		at = time.Unix(e.At, 0)
	case err == nil && hour*3600 < now.Unix():
		at = time.Unix(hour*3600, 0)
	}
	e.Expires = at.Add(inboxRetention).Unix()
	return e
}
