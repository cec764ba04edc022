package firestore

import (
	"context"
	"math/rand/v2"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// attempts is how often a call is tried that may succeed the next time.
const attempts = 6

// change is a mutation in Firestore's form.
type change struct {
	store.Mutation
	record record
	ref    *firestore.DocumentRef
}

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
	switch {
	case len(b.Mutations) == 0:
		return again(ctx, func() error {
			_, err := s.look(ctx, b.Preconditions)
			return err
		})
	case writesAll(b):
		return s.commitOptimistic(ctx, b.Preconditions, changes)
	}
	return s.commitLocking(ctx, b.Preconditions, changes)
}

func (s *Store) changes(b store.Batch) (changes []change, err error) {
	size := 0
	changes = make([]change, len(b.Mutations))
	for i, m := range b.Mutations {
		r, ref, err := s.recordOf(m)
		if err != nil {
			return nil, err
		}
		changes[i] = change{m, r, ref}
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
	updates, known := s.seen.at(preconditions)
	for n := 1; ; n++ {
		if !known {
			err := again(ctx, func() (err error) {
				updates, err = s.look(ctx, preconditions)
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
			known = false // it has changed, or was deleted and created again with the same version
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
		case c.Data == nil && conditional:
			batch.Delete(c.ref, firestore.LastUpdateTime(updated))
		case c.Data == nil:
			batch.Delete(c.ref)
		case !conditional:
			batch.Set(c.ref, c.record)
		case updated.IsZero():
			batch.Create(c.ref, c.record)
		default:
			batch.Update(c.ref, c.record.updates(), firestore.LastUpdateTime(updated))
		}
	}
	results, err := batch.Commit(ctx)
	if err != nil {
		return err
	}
	for i, c := range changes {
		if c.Data != nil && i < len(results) {
			s.seen.add(c.Key, c.Version, results[i].UpdateTime)
		}
	}
	return nil
}

// commitLocking checks the preconditions and writes in one transaction.
func (s *Store) commitLocking(ctx context.Context, preconditions []store.Precondition, changes []change) error {
	refs, err := s.refs(keysOf(preconditions))
	if err != nil {
		return err
	}
	return s.client.RunTransaction(ctx, func(_ context.Context, tx *firestore.Transaction) error {
		snaps, err := tx.GetAll(refs)
		if err != nil {
			return err
		}
		if err := s.hold(preconditions, snaps); err != nil {
			return err
		}
		for _, c := range changes {
			if c.Data == nil {
				err = tx.Delete(c.ref)
			} else {
				err = tx.Set(c.ref, c.record)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, firestore.MaxAttempts(4)) // with pauses of up to 1, 2 and 4 seconds
}

// look checks the preconditions against one consistent state, and returns the documents' update times.
func (s *Store) look(
	ctx context.Context, preconditions []store.Precondition,
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
	return updates, s.hold(preconditions, snaps)
}

// hold returns a conflict unless the documents have the required versions.
func (s *Store) hold(preconditions []store.Precondition, snaps []*firestore.DocumentSnapshot) error {
	for i, p := range preconditions {
		d, err := s.document(p.Key, snaps[i])
		if err != nil {
			return err
		}
		if d.Version != p.Version {
			return changed(p.Key)
		}
	}
	return nil
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
