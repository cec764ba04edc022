package function

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
)

const (
	pruneInterval = 15 * time.Second
	pruneLimit    = 200 // entries of a collection that one unit removes
)

// prune removes a few expired entries of the inbox, of the stored responses and of the revocations, from time to time,
// in a transaction that commits anyway.
func (f *Function) prune(ctx context.Context, db *store.Tx, now time.Time) error {
	next := f.outbox.prune.Load()
	if now.UnixNano() < next || !f.outbox.prune.CompareAndSwap(next, now.Add(pruneInterval).UnixNano()) {
		return nil
	}
	old, more, err := db.Query(ctx, store.Query{Collection: inboxName, Limit: pruneLimit})
	if err != nil {
		return err
	}
	removed := 0
	for _, d := range old {
		if inboxExpired(d, now) {
			db.Discard(d.Key)
			removed++
		}
	}
	responses, _, err := db.Query(ctx, store.Query{
		Collection: idempotencyName, Limit: pruneLimit, Order: []store.Order{{Field: "at"}},
		Where: []store.Filter{{Field: "at", Op: store.Less, Value: now.Add(-responseRetention).Unix()}},
	})
	if err != nil {
		return err
	}
	for _, d := range responses {
		db.Discard(d.Key)
	}
	moreRevoked := false
	if f.checksRevocations() {
		if moreRevoked, err = pruneRevocations(ctx, db, now); err != nil {
			return err
		}
	}
	if more && removed == pruneLimit || len(responses) == pruneLimit || moreRevoked {
		f.outbox.prune.Store(0) // the next unit goes on
	}
	return nil
}
