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

// inboxEntry remembers an event that was handled. At has in Unix seconds when an event arrived that was past its time.
type inboxEntry struct {
	At int64 `json:"at,omitempty"`
}

var onTime = json.RawMessage(`{}`)

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

func newInboxEntry(id string, now time.Time) json.RawMessage {
	if id >= inboxHorizon(now) {
		return onTime
	}
	data, _ := json.Marshal(inboxEntry{At: now.Unix()}) // a number always marshals
	return data
}

// inboxExpired reports whether an inbox entry is past its time: that of its event, or of its arrival if it arrived
// late.
func inboxExpired(d store.Document, now time.Time) bool {
	var entry inboxEntry
	if d.ID >= inboxHorizon(now) || len(d.Data) > len(onTime) && json.Unmarshal(d.Data, &entry) != nil {
		return false
	}
	return now.Sub(time.Unix(entry.At, 0)) > inboxRetention
}

func inboxHorizon(now time.Time) string { return hourOf(now.Add(-inboxRetention)) }
