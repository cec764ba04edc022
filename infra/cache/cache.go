// Package cache is the port of caches: stores of copies that may be lost at any time, and that expire.
//
// A copy has tags, and Invalidate removes every copy with a tag. An invalidation is never undone by a reader that was
// on its way: a reader that finds nothing gets a lease, and what it has read is stored only if none of the tags was
// invalidated since.
//
// Store is what a driver implements. Reader reads through a store: it calls the origin for what is missing, once for
// all who ask at the same time. A store that is away costs time and no answer: the origin is asked.
package cache

import (
	"context"
	"time"
)

// Limits of every store. An entry over one of them is not stored.
const (
	MaxValue = 2 << 20            // bytes of a value
	MaxTTL   = 7 * 24 * time.Hour // a longer time is cut
	MaxTags  = 16                 // of an entry
)

// Lease is the state of some tags at one time.
type Lease string

// Store stores copies. It may be used concurrently.
//
// A copy may be gone at any time: because room is needed, or because the store was restarted. It is never there after
// its time, and there is none without a time.
type Store interface {
	// Get returns the value that was stored under the key with the same tags, and nil when there is none. Callers must not
	// change it. The lease is the one for Set; it is good for a minute where nothing has been stored. An error says that
	// the store cannot be reached; the lease is empty then.
	Get(ctx context.Context, key string, tags ...string) (value []byte, lease Lease, err error)

	// Set stores a value that was read after Get had returned the lease, unless one of the tags was invalidated since, the
	// lease is empty, or the value, the time or the tags are over the limits. That is no error. The store keeps the slice.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration, lease Lease, tags ...string) error

	// Invalidate removes all entries that have one of the tags. No Get that begins after it has returned finds one. An
	// error says that some of them may still be there, until their time is over.
	Invalidate(ctx context.Context, tags ...string) error

	// Suspend removes all entries that have one of the tags, and for a time nothing is stored that has one of them or was
	// read within that time: the origin changes at a time that is not known. Get finds nothing meanwhile and
	// returns leases all the same. A longer suspension stays, also when Invalidate is called within it. An error says that
	// some of the entries may still be there and that others may be stored.
	Suspend(ctx context.Context, d time.Duration, tags ...string) error

	// Close frees what the store uses.
	Close() error
}

// Storable reports whether an entry is within the limits, and returns its time.
func Storable(value []byte, ttl time.Duration, lease Lease, tags []string) (time.Duration, bool) {
	ok := len(value) <= MaxValue && len(tags) <= MaxTags && ttl >= time.Millisecond && (lease != "" || len(tags) == 0)
	return min(ttl, MaxTTL), ok
}
