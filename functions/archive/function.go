package archive

import (
	"net/http"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

type archive struct {
	types  func() event.Catalogue // of the system
	events *store.Collection[stored]
	heads  *store.Collection[head]
	dead   *store.Collection[letter]
	source string // of the events that it is asked to publish
}

// New declares the archive.
func New(env function.Env) (*function.Function, error) {
	f := function.New("archive", env)
	function.MinBatchInterval(f, 25*time.Millisecond) // nobody waits for it, and every event there is comes here
	a := &archive{
		types: sync.OnceValue(func() event.Catalogue { return f.Env().System().Types() }),
		events: function.Collection[stored](f, "events", store.Large,
			store.On("subject", "position"), store.On("correlation_id", "position"), store.On("type", "position")),
		heads:  function.Collection[head](f, "heads"),
		dead:   function.Collection[letter](f, "dead_letters", store.On("state", "at")),
		source: f.Source(),
	}
	function.OnAny(f, a.keep)
	function.On(f, event.ArchiveReplay, a.replay)
	function.OnDeadLetter(f, a.bury)
	function.Emits(f, event.ArchiveReplay, event.ArchiveReplayed)

	admin := function.Only(auth.RoleAdmin)
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/archive/events", Access: admin,
		Summary: "List events", Description: "In the order of their arrival, or with order=desc the other way round. A page may be short and still have a next one."}, a.list)
	function.Serve(f, function.Operation{Method: http.MethodPost, Path: "/api/archive/events", Access: admin, Status: http.StatusAccepted,
		Summary: "Publish an event", Description: "Of any type, with data that its schema allows. The archive is its source."}, a.publish)
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/archive/events/{id}", Access: admin,
		Summary: "One event, by its position or its id", Description: "By position it is always found. By id it is looked for around the time that a UUIDv7 names."}, a.get)
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/archive/causality/{id}", Access: admin,
		Summary: "What caused what", Description: "The events of one correlation, or of all correlations that touch an entity, as trees."}, a.causality)
	function.Serve(f, function.Operation{Method: http.MethodPost, Path: "/api/archive/replays", Access: admin, Status: http.StatusAccepted,
		Summary: "Say past events again to one function", Description: "Marked as replayed: projections take them, side effects do not happen again."}, a.startReplay)
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/archive/dead-letters", Access: admin,
		Summary: "List dead letters, newest first"}, a.listDead)
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/archive/dead-letters/{id}", Access: admin,
		Summary: "One dead letter"}, a.getDead)
	function.Serve(f, function.Operation{Method: http.MethodPut, Path: "/api/archive/dead-letters/{id}", Access: admin,
		Summary: "Mend the data of a dead letter"}, a.mendDead)
	function.Serve(f, function.Operation{Method: http.MethodPost, Path: "/api/archive/dead-letters/{id}/replay", Access: admin, Status: http.StatusAccepted,
		Summary: "Deliver a dead letter again", Description: "To the function that failed and no other, and with effects: as if it came for the first time."}, a.replayDead)
	function.Serve(f, function.Operation{Method: http.MethodDelete, Path: "/api/archive/dead-letters/{id}", Access: admin, Status: http.StatusNoContent,
		Summary: "Drop a dead letter"}, a.dropDead)
	return f, nil
}
