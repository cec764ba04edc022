package function

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

// A function that is added to a running system has heard of no API key and of no revocation from before its trigger
// existed. So it asks the archive once to publish those events again, for it alone. It does so when the clock first
// sweeps: a sweep that has arrived shows that the answer will too. A system without an archive has nothing to ask for.

// How long an API key is good at most, and an access token that is revoked: what is older says nothing any more.
const (
	keyLife     = 366 * 24 * time.Hour
	revokedLife = 24 * time.Hour
)

// catchesUp reports whether the function asks for what it missed. The archive has heard everything.
func (f *Function) catchesUp() bool {
	_, archive := f.emits[event.ArchiveReplayed.Name()]
	return !archive && (f.learnsKeys() || f.checksRevocations() && len(f.emits) > 0)
}

// catchUpThen returns the handler of the clock's sweep that asks for what the function missed, and then calls next, if
// that is not nil.
func (f *Function) catchUpThen(next handler) handler {
	return func(ctx context.Context, tx *Tx, e ce.Event) error {
		if err := tx.catchUp(ctx); err != nil || next == nil {
			return err
		}
		return next(ctx, tx, e)
	}
}

// caughtUp is stored beside what is learnt, under an id that no key and no subject has.
type caughtUp struct {
	At time.Time `json:"at"`
}

// catchUp asks the archive for past events, unless that was done.
func (tx *Tx) catchUp(ctx context.Context) error {
	if tx.Replayed() {
		return nil
	}
	key := store.Key{Collection: revokedName, ID: "caught-up"}
	if !tx.f.checksRevocations() {
		key.Collection = keysName
	}
	d, err := tx.db.Get(ctx, key)
	if err != nil || d.Version > 0 || !tx.f.hasArchive() {
		return err
	}
	if tx.f.learnsKeys() {
		tx.askForPast(event.APIKeyChanged.Name(), keyLife)
	}
	if tx.f.checksRevocations() {
		tx.askForPast(event.AccessRevoked.Name(), revokedLife)
	}
	data, err := json.Marshal(caughtUp{tx.now})
	if err != nil {
		return fault.Wrap(err, fault.Internal, "encode that past events were asked for")
	}
	_, err = tx.db.Set(ctx, key, data)
	return err
}

// askForPast emits the command that the events of a type which are no older than that be published again for this
// function.
func (tx *Tx) askForPast(eventType string, age time.Duration) {
	id := tx.NewID()
	tx.Emit(event.ArchiveReplay.New(id, event.ReplayEvents{
		ReplayID: id, To: tx.f.name, Types: []string{eventType}, Since: tx.now.Add(-age).UTC(),
	}))
}

// hasArchive reports whether a function of the system replays events.
func (f *Function) hasArchive() bool {
	return slices.ContainsFunc(f.env.System().Functions, func(d *manifest.Declaration) bool {
		return slices.Contains(d.Emits, event.ArchiveReplayed.Name())
	})
}
