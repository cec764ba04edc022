package archive

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
)

// Config holds the settings of the archive.
type Config struct {
	Retention time.Duration `envconfig:"EBB_ARCHIVE_RETENTION" default:"0s" desc:"how long events are stored after their arrival; 0s: for ever"`

	PersonalKeys string `envconfig:"EBB_PERSONAL_KEYS" secret:"true" desc:"keys that the keys of persons are wrapped under, the same for all functions: 32 bytes in base64url, with commas between, the current one first; none: a key that everyone knows"`
}

// Validate reports a retention that is negative, and keys that are not valid.
func (c Config) Validate() error {
	_, err := c.systemKeys()
	if c.Retention < 0 {
		err = errors.Join(err, errors.New("EBB_ARCHIVE_RETENTION must not be negative"))
	}
	return err
}

type archive struct {
	types func() event.Catalogue // of the system
	log   *store.Collection[stored]

	logParts  *store.Collection[part] // see parts.go
	deadParts *store.Collection[part]

	counted *store.Collection[countedEvent] // what older versions have written
	heads   *store.Collection[head]
	dead    *store.Collection[letter]
	keys    *store.Collection[personKeys]
	mends   *store.Collection[mendJob]
	source  string // of the events published through the API

	maxEvent func() int // the most bytes of an event that the broker takes

	personalKeys personal.Keys // of the system
	hasKeys      bool          // that not everyone knows
}

// New declares the archive function.
func New(env function.Env) (*function.Function, error) {
	f := function.New("archive", env)
	config, err := function.Configure[Config](f)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	systemKeys, err := config.systemKeys()
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	logged := []store.Option{store.Large, store.On("position"), store.On("subject", "position"),
		store.On("correlation_id", "position"), store.On("type", "position")}
	parts := []store.Option{store.Large, store.SingleUse}
	if config.Retention > 0 {
		logged = append(logged, store.Retain("at", config.Retention))
		parts = append(parts, store.Retain("at", config.Retention))
	}
	// No caller waits for it, and it receives every event: what a commit costs is shared by as many as possible.
	function.Deliver(f, broker.Tuning{Batch: 1024, MinBatchInterval: 250 * time.Millisecond})
	a := &archive{
		types: sync.OnceValue(func() event.Catalogue { return f.Env().System().Types() }),
		log:   function.Collection[stored](f, "log", logged...),
		counted: function.Collection[countedEvent](f, "events", store.Large,
			store.On("subject", "position"), store.On("correlation_id", "position"), store.On("type", "position")),
		logParts:  function.Collection[part](f, "log_parts", parts...),
		deadParts: function.Collection[part](f, "dead_letter_parts", store.Large, store.Expire("expires")),
		heads:     function.Collection[head](f, "heads"),
		dead:      function.Collection[letter](f, "dead_letters", store.On("state", "at"), store.Expire("expires")),
		keys:      function.Collection[personKeys](f, "person_keys"),
		mends:     function.Collection[mendJob](f, "mends", store.On("created_at"), store.Expire("expires")),
		source:    f.Source(),
		maxEvent: func() int {
			if limited, ok := f.Env().Publisher.(broker.Limiter); ok {
				return limited.MaxEvent()
			}
			return math.MaxInt
		},

		personalKeys: systemKeys, hasKeys: config.PersonalKeys != "",
	}
	function.OnAny(f, a.store)
	function.Prefetch(f, func(ce.Event) []store.Key { return []store.Key{a.heads.Key(headID)} })
	function.On(f, event.ArchiveReplay, a.replay)
	function.On(f, event.ArchiveMend, a.mend)
	function.OnDeadLetter(f, a.deadLetter)
	function.Emits(f, event.ArchiveReplay, event.ArchiveReplayed, event.ArchiveMend, event.DataErased)

	look, act := function.Only(auth.Viewers()...), function.Only(auth.Operators()...)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/archive/events", Access: look,
		Summary: "List events",
		Description: "In the order of arrival, or with order=desc in the reverse order. A page may be short and still " +
			"have a next one.",
	}, a.list)
	function.Serve(f, function.Operation{
		Method: http.MethodPost, Path: "/api/archive/events", Access: act, Status: http.StatusAccepted,
		Summary:     "Publish an event",
		Description: "Of any type, with data that conforms to its schema. The archive is its source.",
	}, a.publish)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/archive/events/{id}", Access: look,
		Summary:     "Show one event, by its position or its id",
		Description: "By position it is always found. By id it is searched from the time in a UUIDv7 on.",
	}, a.get)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/archive/causality/{id}", Access: look,
		Summary:     "Show which events caused which",
		Description: "The events of one correlation, or of all correlations with an event about an entity, as trees.",
	}, a.causality)
	function.Serve(f, function.Operation{
		Method: http.MethodPost, Path: "/api/archive/replays", Access: act, Status: http.StatusAccepted,
		Summary:     "Replay past events to one function",
		Description: "They are marked as replayed: projections handle them, side effects do not happen again.",
	}, a.startReplay)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/archive/dead-letters", Access: look,
		Summary: "List dead letters, newest first",
	}, a.listDead)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/archive/causes", Access: look,
		Summary:     "List why dead letters failed",
		Description: "The newest dead letters by function, type of event and cause, without their events.",
	}, a.causes)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/archive/dead-letters/{id}", Access: look,
		Summary: "Show one dead letter",
	}, a.getDead)
	function.Serve(f, function.Operation{
		Method: http.MethodPut, Path: "/api/archive/dead-letters/{id}", Access: act,
		Summary: "Mend the data of a dead letter", Errors: []int{http.StatusConflict},
		Description: "Personal fields are shown with their placeholders. One whose placeholder stays keeps its value; " +
			"another text takes its place, and is encrypted. That is a conflict when the person is erased.",
	}, a.mendDead)
	function.Serve(f, function.Operation{
		Method: http.MethodPost, Path: "/api/archive/dead-letters/{id}/replay", Access: act, Status: http.StatusAccepted,
		Summary: "Deliver a dead letter again",
		Description: "To the function that failed and no other, and with side effects, as at the first delivery. A " +
			"dead letter that does not fail again is forgotten after 30 days.",
	}, a.replayDead)
	function.Serve(f, function.Operation{
		Method: http.MethodDelete, Path: "/api/archive/dead-letters/{id}", Access: act, Status: http.StatusNoContent,
		Summary: "Drop a dead letter",
	}, a.dropDead)
	a.serveMends(f, look, act)
	return f, nil
}
