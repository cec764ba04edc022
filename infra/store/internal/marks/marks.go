// Package marks remembers what a driver has seen of the floors of its collections: the largest versions of the marks of
// deleted documents that were removed.
package marks

import (
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
)

// Floor is the floor of a collection as a register stores it: the largest version of the marks that were removed.
type Floor struct {
	Version int64     `firestore:"version" json:"version"` // documents are created above it
	Since   time.Time `firestore:"since" json:"since"`     // when it was raised
	Stood   int64     `firestore:"stood" json:"stood"`     // the version before, which has stood for long
}

// Raise makes the floor at least a version. A version has stood for long when it was not raised for the time announced.
func (f Floor) Raise(to int64, now time.Time, announced time.Duration) Floor {
	if now.Sub(f.Since) > announced {
		f.Stood = f.Version
	}
	if to > f.Version {
		f.Version, f.Since = to, now
	}
	return f
}

// Made returns how many marks a batch has made in each collection: one for each deletion from a collection that is not
// for single use.
func Made(schema store.Schema, b store.Batch) map[string]int64 {
	made := map[string]int64{}
	for _, m := range b.Mutations {
		if spec, _ := schema.Spec(m.Collection); m.Data == nil && !spec.SingleUse {
			made[m.Collection]++
		}
	}
	return made
}

// Floors holds the largest floor of each collection that was seen. It may be behind the database, and never ahead of
// it. The zero Floors is empty. Its methods may be called concurrently.
type Floors struct {
	mu   sync.RWMutex
	seen map[string]int64
}

// Of returns the floor of a collection; 0: none was seen.
func (f *Floors) Of(collection string) int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.seen[collection]
}

// Raise notes a floor, unless a larger one was seen.
func (f *Floors) Raise(collection string, floor int64) {
	if floor <= f.Of(collection) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[string]int64{}
	}
	f.seen[collection] = max(f.seen[collection], floor)
}
