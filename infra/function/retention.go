package function

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
)

// Every collection whose documents are not needed for ever declares their expiry: those of the kit, and those of the
// author with store.Expire or store.Retain. Nothing runs while a function is at zero, so expired documents are removed
// by the units of work themselves, whatever they are for: every pruneInterval one unit of an instance removes at most
// pruneLimit documents in the transaction that it commits anyway, and while more are left the next units go on. Several
// collections take turns. A unit is never refused because of this work: a failure is logged and tried again later, and
// a commit that the database refuses as too large is made without it; the next ones then remove fewer.
//
// A document that is past its time may so be stored for longer while no unit runs; then nothing is added either.
const (
	pruneInterval = 15 * time.Second
	pruneLimit    = 200 // documents that one unit removes at most
)

// pruner says when a unit has to remove expired documents, and with which collection it begins.
type pruner struct {
	next atomic.Int64 // Unix nanoseconds
	turn atomic.Int64
}

// due reports whether the unit that asks has to prune. It reports true for one unit of each interval.
func (p *pruner) due(now time.Time) bool {
	next := p.next.Load()
	return now.UnixNano() >= next && p.next.CompareAndSwap(next, now.Add(pruneInterval).UnixNano())
}

// prune removes a few expired documents in the transaction of a unit, at most limit, and returns their number.
func (f *Function) prune(ctx context.Context, tx *store.Tx, now time.Time, limit int) (pruned int) {
	nested := tx.Nest()
	left, more, err := f.pruneSome(ctx, nested, now, limit)
	if err != nil {
		f.env.Logger.WarnContext(ctx, "expired documents could not be removed and are tried again later",
			"function", f.name, "error", err)
		return 0
	}
	nested.Merge()
	if more {
		f.pruner.next.Store(0) // the next unit goes on
	}
	return limit - left
}

// pruneSome removes expired documents. It returns how many it could have removed beside them, and whether there may be
// more.
func (f *Function) pruneSome(
	ctx context.Context, tx *store.Tx, now time.Time, limit int,
) (left int, more bool, err error) {
	var expiring store.Schema
	for _, spec := range f.databaseSchema() {
		if spec.Expiry != nil {
			expiring = append(expiring, spec)
		}
	}
	left = limit
	first := int(f.pruner.turn.Load())
	for n := range expiring {
		at := (first + n) % len(expiring)
		if left == 0 {
			f.pruner.turn.Store(int64(at))
			return left, true, nil
		}
		if expiring[at].Name == inboxName {
			dated, unfinished, err := dateInbox(ctx, tx, now, left)
			if err != nil {
				return left, false, err
			}
			left -= dated
			more = more || unfinished
		}
		removed, unfinished, err := tx.Prune(ctx, expiring[at], now, left)
		if err != nil {
			return left, false, err
		}
		left -= removed
		more = more || unfinished
	}
	return left, more, nil
}

// dateInbox gives entries the time when they expire that an older version of the kit wrote without one. In the order of
// that field they come first.
func dateInbox(ctx context.Context, tx *store.Tx, now time.Time, limit int) (dated int, more bool, err error) {
	for _, n := range []int{1, limit} { // nearly always there is none, which one document tells
		docs, further, err := tx.Query(ctx, store.Query{
			Collection: inboxName, Order: []store.Order{{Field: "expires"}}, Limit: n,
		})
		if err != nil {
			return 0, false, err
		}
		old := slices.DeleteFunc(slices.Clone(docs), func(d store.Document) bool { return decodeInbox(d).Expires > 0 })
		if len(old) == 0 {
			return 0, false, nil
		}
		if n == limit {
			return len(old), further && len(old) == len(docs), setExpiries(ctx, tx, old, now)
		}
	}
	return 0, false, nil
}

func setExpiries(ctx context.Context, tx *store.Tx, old []store.Document, now time.Time) error {
	for _, d := range old {
		data, err := json.Marshal(decodeInbox(d).dated(d.ID, now))
		if err != nil {
			return err
		}
		if _, err := tx.Set(ctx, d.Key, data); err != nil {
			return err
		}
	}
	return nil
}

// decodeInbox returns an entry; what cannot be decoded is like an entry without members.
func decodeInbox(d store.Document) (entry inboxEntry) {
	_ = json.Unmarshal(d.Data, &entry)
	return entry
}
