package firestore

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
)

// attempts is how often a call is tried that may succeed the next time.
const attempts = 6

// change is a mutation in Firestore's form.
type change struct {
	store.Mutation
	record    record
	ref       *firestore.DocumentRef
	expected  int64 // the version that a precondition requires; whichever: there is none
	singleUse bool  // no marks of deleted documents are kept
}

const whichever = -1

// creates reports whether the change creates a document that must be missing, with a version above its mark.
func (c change) creates() bool { return c.Data != nil && c.expected == 0 && !c.singleUse }

// blind reports whether the change makes a mark of a document whose version is not known.
func (c change) blind() bool { return c.Data == nil && c.expected == whichever && !c.singleUse }

// commit writes a batch if its preconditions hold.
//
// Firestore has no versions, but each write can have a precondition: the document's last update time, or that the
// document is missing. So a batch that writes all documents of its preconditions is one call without locks when this
// handle knows their update times; when it does not, or the call is refused, a read comes before the call. Only a batch
// with a precondition on a document that it does not write needs a transaction.
func (s *Store) commit(ctx context.Context, b store.Batch) error {
	changes, err := s.changes(b)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.creates() && c.Version <= s.floors.Of(c.Collection) {
			return changed(c.Key)
		}
	}
	switch {
	case len(b.Mutations) == 0:
		return again(ctx, func() error {
			_, err := s.look(ctx, b.Preconditions, nil)
			return err
		})
	case writesAll(b) && !slices.ContainsFunc(changes, change.blind):
		return s.commitOptimistic(ctx, b.Preconditions, changes)
	}
	return s.commitLocking(ctx, b.Preconditions, changes)
}

func (s *Store) changes(b store.Batch) (changes []change, err error) {
	size, expected := 0, make(map[store.Key]int64, len(b.Preconditions))
	for _, p := range b.Preconditions {
		expected[p.Key] = p.Version
	}
	changes = make([]change, len(b.Mutations))
	for i, m := range b.Mutations {
		r, ref, err := s.recordOf(m)
		if err != nil {
			return nil, err
		}
		spec, _ := s.schema.Spec(m.Collection) // it is declared, as every call has checked
		changes[i] = change{m, r, ref, whichever, spec.SingleUse}
		if version, conditional := expected[m.Key]; conditional {
			changes[i].expected = version
		}
		if size += len(ref.Path); m.Data != nil {
			size += r.size(ref)
		}
	}
	if size > maxCommit {
		return nil, fault.New(
			fault.TooLarge, "a commit of %d documents has %d bytes; Firestore takes at most %d at once", len(changes), size,
			maxCommit,
		)
	}
	return changes, nil
}

// writesAll reports whether all preconditions are on documents that the batch writes. Deleting a document that must be
// missing does not count as a write.
func writesAll(b store.Batch) bool {
	if len(b.Preconditions) == 0 {
		return true
	}
	written := make(map[store.Key]bool, len(b.Mutations))
	for _, m := range b.Mutations {
		written[m.Key] = m.Data != nil
	}
	for _, p := range b.Preconditions {
		put, there := written[p.Key]
		if !there || !put && p.Version == 0 {
			return false
		}
	}
	return true
}

func (s *Store) commitOptimistic(ctx context.Context, preconditions []store.Precondition, changes []change) error {
	updates, known := s.updates(preconditions, changes)
	for n := 1; ; n++ {
		if !known {
			err := again(ctx, func() (err error) {
				updates, err = s.look(ctx, preconditions, changes)
				return err
			})
			if err != nil {
				return err
			}
		}
		err := s.write(ctx, changes, updates)
		switch status.Code(err) {
		case codes.FailedPrecondition, codes.NotFound, codes.AlreadyExists:
			if len(preconditions) == 0 {
				return err
			}
			if n == attempts {
				return changed(preconditions[0].Key)
			}
			known = false // it has changed, has a mark, or was deleted and created again with the same version
		case codes.Aborted:
			if n == attempts || !pause(ctx, n) {
				return err
			}
		default:
			return err
		}
	}
}

// write writes all documents in one call, each with its last update time as the precondition.
func (s *Store) write(ctx context.Context, changes []change, updates map[store.Key]time.Time) error {
	//lint:ignore SA1019 the newer BulkWriter is not atomic, and a transaction needs one more call
	batch := s.client.Batch()
	for _, c := range changes {
		updated, conditional := updates[c.Key]
		switch {
		case c.Data == nil && conditional && !c.singleUse:
			batch.Update(c.ref, c.marking(c.expected, s.time()), firestore.LastUpdateTime(updated))
		case c.Data == nil && conditional:
			batch.Delete(c.ref, firestore.LastUpdateTime(updated))
		case c.Data == nil:
			batch.Delete(c.ref)
		case !conditional && !c.singleUse:
			data, fields := c.record.merged()
			batch.Set(c.ref, data, fields)
		case !conditional:
			batch.Set(c.ref, c.record)
		case updated.IsZero():
			batch.Create(c.ref, c.record)
		default:
			batch.Update(c.ref, c.record.updates(c.expected == 0), firestore.LastUpdateTime(updated))
		}
	}
	results, err := batch.Commit(ctx)
	if err != nil {
		return err
	}
	for i, c := range changes {
		if c.Data != nil && i < len(results) {
			s.seen.Put(c.Key, sight{version: c.Version, updated: results[i].UpdateTime})
		}
	}
	return nil
}

// marking returns the updates that make a mark of a document with the version.
func (c change) marking(version int64, at time.Time) []firestore.Update {
	return []firestore.Update{
		{Path: layout.Version, Value: firestore.Delete}, {Path: layout.Data, Value: firestore.Delete},
		{Path: layout.Layout, Value: firestore.Delete}, {Path: layout.Keys, Value: firestore.Delete},
		{Path: layout.Last, Value: firestore.FieldTransformMaximum(max(version, c.Version))},
		{Path: layout.Deleted, Value: at},
	}
}

// commitLocking checks the preconditions and writes in one transaction.
func (s *Store) commitLocking(ctx context.Context, preconditions []store.Precondition, changes []change) error {
	keys := keysOf(preconditions)
	for _, c := range changes {
		if c.blind() {
			keys = append(keys, c.Key)
		}
	}
	refs, err := s.refs(keys)
	if err != nil {
		return err
	}
	return s.client.RunTransaction(ctx, func(_ context.Context, tx *firestore.Transaction) error {
		snaps, err := tx.GetAll(refs)
		if err != nil {
			return err
		}
		stored, err := s.hold(preconditions, snaps, changes)
		if err != nil {
			return err
		}
		for i := len(preconditions); i < len(keys); i++ {
			if stored[keys[i]], err = s.document(keys[i], snaps[i]); err != nil {
				return err
			}
		}
		for _, c := range changes {
			if err := s.writeIn(tx, c, stored[c.Key].Version); err != nil {
				return err
			}
		}
		return nil
	}, firestore.MaxAttempts(4)) // with pauses of up to 1, 2 and 4 seconds
}

// writeIn makes a change in a transaction. The stored version is needed for a deletion only.
func (s *Store) writeIn(tx *firestore.Transaction, c change, stored int64) error {
	switch {
	case c.singleUse && c.Data == nil:
		return tx.Delete(c.ref)
	case c.singleUse:
		return tx.Set(c.ref, c.record)
	case c.Data != nil:
		data, fields := c.record.merged()
		return tx.Set(c.ref, data, fields)
	case stored > 0:
		return tx.Update(c.ref, c.marking(stored, s.time()))
	}
	return nil // it is missing
}

// look checks the preconditions against one consistent state, and returns the documents' update times.
func (s *Store) look(
	ctx context.Context, preconditions []store.Precondition, changes []change,
) (updates map[store.Key]time.Time, err error) {
	refs, err := s.refs(keysOf(preconditions))
	if err != nil {
		return nil, err
	}
	snaps, err := s.snapshots(ctx, refs)
	if err != nil {
		return nil, err
	}
	updates = make(map[store.Key]time.Time, len(preconditions))
	for i, snap := range snaps {
		updates[preconditions[i].Key] = snap.UpdateTime
	}
	_, err = s.hold(preconditions, snaps, changes)
	return updates, err
}

// hold returns the documents, or a conflict unless they have the required versions and those that the changes create
// have versions above Last.
func (s *Store) hold(
	preconditions []store.Precondition, snaps []*firestore.DocumentSnapshot, changes []change,
) (stored map[store.Key]store.Document, err error) {
	stored = make(map[store.Key]store.Document, len(preconditions))
	for i, p := range preconditions {
		d, err := s.document(p.Key, snaps[i])
		if err != nil {
			return nil, err
		}
		if d.Version != p.Version {
			return nil, changed(p.Key)
		}
		stored[p.Key] = d
	}
	for _, c := range changes {
		if c.creates() && c.Version <= stored[c.Key].Last {
			return nil, changed(c.Key)
		}
	}
	return stored, nil
}

func keysOf(preconditions []store.Precondition) []store.Key {
	keys := make([]store.Key, len(preconditions))
	for i, p := range preconditions {
		keys[i] = p.Key
	}
	return keys
}

func changed(k store.Key) error {
	return fault.New(fault.Conflict, "%s %q has changed in the meantime", k.Collection, k.ID)
}

// again retries a read that Firestore did not answer.
func again(ctx context.Context, read func() error) error {
	for n := 1; ; n++ {
		err := read()
		switch status.Code(err) {
		case codes.Unavailable, codes.Internal, codes.Aborted:
			if n < attempts && pause(ctx, n) {
				continue
			}
		}
		return err
	}
}

// pause waits, longer after each attempt, and returns false when the context ends.
func pause(ctx context.Context, n int) bool {
	most := min(10*time.Millisecond<<n, time.Second)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(rand.N(most)):
		return true
	}
}

// Pause waits before a unit of work is run again after n conflicts. Firestore sustains about one write of a document
// per second, and accepts short bursts.
func (s *Store) Pause(ctx context.Context, n int) { pause(ctx, n) }
