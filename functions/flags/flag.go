package flags

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/flag"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/httprequest"
)

// stored is the stored form of a flag. Its id is the key.
type stored struct {
	Definition json.RawMessage `json:"definition,omitempty"`
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
	Removed    bool            `json:"removed"`
}

// Flag is the API's form of a flag.
type Flag struct {
	Key        string          `json:"key"`
	Version    int64           `json:"version"`
	Definition json.RawMessage `json:"definition" doc:"In flagd's JSON: state, variants, defaultVariant, targeting, metadata."`
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
}

// change is an entry of the history.
type change struct {
	Key        string          `json:"key"`
	Version    int64           `json:"version"` // of the flag after it
	At         time.Time       `json:"at"`
	By         string          `json:"by,omitempty"`
	What       string          `json:"what"`
	Reason     string          `json:"reason,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"`
}

// What a change did.
const (
	added       = "added"
	changed     = "changed"
	removed     = "removed"
	enabled     = "enabled"
	disabled    = "disabled"
	scheduled   = "scheduled"
	unscheduled = "unscheduled"
	applied     = "applied"
	leftOut     = "left-out" // a scheduled change of a flag that has changed since
)

// historyRetention is how long a change is stored.
const historyRetention = 2 * 365 * 24 * time.Hour

// maxFlags is the most flags that exist at a time: a bulk evaluation reads all of them.
const maxFlags = 500

// etag returns the entity tag of a version (RFC 9110 section 8.8.3).
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// find returns a flag with its version; fault.NotFound when it is missing or was removed.
func (s *flags) find(ctx context.Context, tx *function.Tx, key string) (stored, int64, error) {
	f, version, err := s.flags.Read(ctx, tx, key)
	if err == nil && (version == 0 || f.Removed) {
		err = fault.New(fault.NotFound, "there is no flag %q", key)
	}
	return f, version, err
}

// findVersion returns the flag if its version is one that ifMatch names. An empty ifMatch is refused.
func (s *flags) findVersion(ctx context.Context, tx *function.Tx, key, ifMatch string) (stored, int64, error) {
	if ifMatch == "" {
		return stored{}, 0, fault.New(fault.Invalid, "a change needs an If-Match header with the flag's ETag").
			WithStatus(http.StatusPreconditionRequired)
	}
	f, version, err := s.find(ctx, tx, key)
	if err == nil && !httprequest.Match(ifMatch, etag(version)) {
		err = outdated(version)
	}
	return f, version, err
}

func outdated(version int64) error {
	return fault.New(fault.Invalid, "the flag has changed since; its ETag is %s now", etag(version)).
		WithStatus(http.StatusPreconditionFailed)
}

// save writes the next version of a flag, with its event and its entry in the history, and returns the version.
func (s *flags) save(ctx context.Context, tx *function.Tx, key string, f stored, c change) (int64, error) {
	f.UpdatedAt = tx.Now()
	if f.CreatedAt.IsZero() {
		f.CreatedAt = tx.Now()
	}
	if err := s.flags.Put(ctx, tx, key, f); err != nil {
		return 0, err
	}
	version, err := s.flags.Version(ctx, tx, key)
	if err != nil {
		return 0, err
	}
	tx.Emit(f.told(key, version))
	c.Definition = f.Definition
	return version, s.record(ctx, tx, key, version, c)
}

// told returns the event of a version of the flag.
func (f stored) told(key string, version int64) event.Draft {
	return event.FlagsChanged.New(key, event.ChangedFlag{
		Key: key, Version: int(version), Definition: f.Definition, Removed: f.Removed,
	})
}

// record adds an entry to the history.
func (s *flags) record(ctx context.Context, tx *function.Tx, key string, version int64, c change) error {
	c.Key, c.Version, c.At = key, version, tx.Now()
	if c.By == "" {
		c.By = tx.Principal().Subject
	}
	return s.history.Create(ctx, tx, tx.NewID(), c)
}

// canonical returns a valid definition without blanks.
func canonical(definition json.RawMessage) (json.RawMessage, error) {
	if _, err := flag.Parse(definition); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err := json.Compact(&b, definition) // Parse has read it
	return b.Bytes(), err
}

// withState returns the definition with another state. Its other members stay what they are.
func withState(definition json.RawMessage, state string) (json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(definition, &members); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "decode the definition of a flag")
	}
	members["state"], _ = json.Marshal(state) // text always marshals
	return json.Marshal(members)
}
