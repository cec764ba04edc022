package firestore

import (
	"context"
	"sync/atomic"
	"time"

	"cloud.google.com/go/firestore"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
)

// Old marks are removed in two steps, since a commit cannot check the floor of a collection without a transaction:
//
//  1. The floor is raised to the versions of the old marks. Every handle reads the floors again after floorsAge at the
//     latest, and creates documents above them from then on.
//  2. When the floor has stood for announced, longer than any handle or unit of work goes by an older one, the marks up
//     to it are removed.
//
// The deletions drive both: the first of a handle, and every pruneEvery'th.

const (
	floorsAge = 20 * time.Minute
	announced = time.Hour

	pruneLimit = 400 // marks that are removed at once, of each collection
)

// pruneEvery is how many marks a handle makes before it looks for old ones.
var pruneEvery int64 = 256

// floorsRead is when a handle has read the floors last.
type floorsRead struct{ at atomic.Int64 } // Unix nanoseconds

// learnFloors notes the floors of the register.
func (s *Store) learnFloors(r registered) {
	for _, spec := range s.schema {
		if name, err := layout.Collection(spec.Name); err == nil && !spec.SingleUse {
			s.floors.Raise(spec.Name, r.Floors[name].Version)
		}
	}
	s.floorsRead.at.Store(s.time().UnixNano())
}

// freshFloors reads the floors again when they were read too long ago.
func (s *Store) freshFloors(ctx context.Context) error {
	if s.time().Sub(time.Unix(0, s.floorsRead.at.Load())).Abs() < floorsAge {
		return nil
	}
	return s.change(ctx, func(r *registered) (bool, error) {
		s.learnFloors(*r)
		return false, nil
	})
}

// pruneAfter removes old marks when a batch that was committed has made enough new ones. What fails is done after later
// batches.
func (s *Store) pruneAfter(ctx context.Context, b store.Batch) {
	made := marks.Made(s.schema, b)
	for _, n := range made {
		s.marked.Add(n)
	}
	if s.marked.Load() <= pruneEvery || len(made) == 0 {
		return
	}
	s.marked.Store(0)
	for c := range made {
		_ = s.prune(ctx, c)
	}
}

func (s *Store) prune(ctx context.Context, collection string) error {
	c, err := s.collection(collection)
	if err != nil {
		return err
	}
	old := c.Where(layout.Deleted, "<", s.time().Add(-store.MarkRetention)).OrderBy(layout.Deleted, firestore.Asc)
	snaps, err := old.Limit(pruneLimit).Documents(ctx).GetAll()
	if err != nil || len(snaps) == 0 {
		return err
	}
	lasts, largest := make([]int64, len(snaps)), int64(0)
	for i, snap := range snaps {
		var r record
		if err := snap.DataTo(&r); err != nil {
			return err
		}
		lasts[i], largest = r.Last, max(largest, r.Last)
	}
	var f marks.Floor
	err = s.change(ctx, func(r *registered) (bool, error) {
		if r.Floors == nil {
			r.Floors = map[string]marks.Floor{}
		}
		before := r.Floors[c.ID]
		f = before.Raise(largest, s.time(), announced)
		r.Floors[c.ID] = f
		return f != before, nil
	})
	if err != nil {
		return err
	}
	s.floors.Raise(collection, f.Version)
	//lint:ignore SA1019 the newer BulkWriter needs more calls
	batch, n := s.client.Batch(), 0
	for i, snap := range snaps {
		if lasts[i] <= f.Stood {
			batch.Delete(snap.Ref, firestore.LastUpdateTime(snap.UpdateTime))
			n++
		}
	}
	if n == 0 {
		return nil
	}
	_, err = batch.Commit(ctx)
	return err
}
