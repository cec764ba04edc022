// Package memory is a cache in the memory of the process. It has a size in bytes, and keeps what is used often
// (W-TinyLFU, by otter). Several processes each have a cache of their own: an invalidation reaches one of them.
package memory

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/ebb-dev/ebb/infra/cache"
)

// DefaultSize is the size of a cache in bytes, where none is asked for.
const DefaultSize = 64 << 20

// overhead is what an entry takes beside its key and its value, in bytes: those of otter's node, the hash table and the
// policy.
const overhead = 256

// Store is a cache.Store. Use New.
type Store struct {
	entries *otter.Cache[string, *entry]
	now     func() time.Time

	mu        sync.Mutex        // held while tags are compared and changed
	last      uint64            // the last state that a tag was given
	suspended map[string]*entry // the states of tags with which nothing is stored now, until they expire
}

var _ cache.Store = (*Store)(nil)

// entry is a copy, or the state of a tag, which expires as copies do. It is not changed.
type entry struct {
	value   []byte
	lease   cache.Lease // the states of its tags; of a tag: its own
	expires time.Time
}

// leaseTime is how long a tag has its state when nothing is stored with it.
const leaseTime = time.Minute

// New returns an empty cache of a size in bytes; 0: DefaultSize.
func New(size int, now func() time.Time) *Store {
	if size <= 0 {
		size = DefaultSize
	}
	return &Store{now: now, entries: otter.Must(&otter.Options[string, *entry]{
		MaximumWeight: uint64(size),
		Weigher: func(key string, e *entry) uint32 {
			return uint32(len(key) + len(e.value) + len(e.lease) + overhead)
		},
	})}
}

func keyOf(key string) string { return "k" + key }
func tagOf(tag string) string { return "t" + tag }

// find returns an entry that has not expired; nil if there is none.
func (s *Store) find(key string, now time.Time) *entry {
	e, ok := s.entries.GetIfPresent(key)
	if !ok || !now.Before(e.expires) {
		return nil
	}
	return e
}

// current reports whether tags have the states of a lease.
func (s *Store) current(lease cache.Lease, tags []string, now time.Time) bool {
	const size = 8
	if len(lease) != size*len(tags) {
		return false
	}
	for i, tag := range tags {
		t := s.find(tagOf(tag), now)
		if t == nil || t.lease != lease[i*size:(i+1)*size] {
			return false
		}
	}
	return true
}

// Get implements cache.Store.
func (s *Store) Get(_ context.Context, key string, tags ...string) ([]byte, cache.Lease, error) {
	now := s.now()
	if e := s.find(keyOf(key), now); e != nil && s.current(e.lease, tags, now) {
		return e.value, e.lease, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lease := make([]byte, 0, 8*len(tags))
	for _, tag := range tags {
		t := s.suspension(tag, now)
		if t == nil {
			t = s.find(tagOf(tag), now)
		}
		if t == nil {
			t = s.newState(now.Add(leaseTime))
			s.entries.Set(tagOf(tag), t)
		}
		lease = append(lease, t.lease...)
	}
	return nil, cache.Lease(lease), nil
}

// newState returns a state that no tag had before.
func (s *Store) newState(expires time.Time) *entry {
	s.last++
	return &entry{lease: cache.Lease(binary.BigEndian.AppendUint64(nil, s.last)), expires: expires}
}

// suspension returns the state of a tag that is suspended; nil when it is not.
func (s *Store) suspension(tag string, now time.Time) *entry {
	e := s.suspended[tag]
	if e != nil && !now.Before(e.expires) {
		delete(s.suspended, tag)
		return nil
	}
	return e
}

// Set implements cache.Store.
func (s *Store) Set(
	_ context.Context, key string, value []byte, ttl time.Duration, lease cache.Lease, tags ...string,
) error {
	ttl, ok := cache.Storable(value, ttl, lease, tags)
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok || !s.current(lease, tags, now) {
		return nil
	}
	expires := now.Add(ttl)
	for i, tag := range tags { // a tag lives as long as what is stored with it
		if t := s.find(tagOf(tag), now); t != nil && t.expires.Before(expires) {
			s.entries.Set(tagOf(tag), &entry{lease: lease[8*i : 8*i+8], expires: expires})
		}
	}
	s.entries.Set(keyOf(key), &entry{value: slices.Clip(value), lease: lease, expires: expires})
	return nil
}

// Invalidate implements cache.Store.
func (s *Store) Invalidate(_ context.Context, tags ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(0, tags)
	return nil
}

// Suspend implements cache.Store.
func (s *Store) Suspend(_ context.Context, d time.Duration, tags ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(d, tags)
	return nil
}

// remove takes the states from tags. Those that are suspended, or are to be, get another one.
func (s *Store) remove(d time.Duration, tags []string) {
	now := s.now()
	for _, tag := range tags {
		s.entries.Invalidate(tagOf(tag)) // a tag that is suspended has no state there
		until := now.Add(d)
		if e := s.suspension(tag, now); e != nil && until.Before(e.expires) {
			until = e.expires
		}
		if !now.Before(until) {
			continue
		}
		if s.suspended == nil {
			s.suspended = map[string]*entry{}
		}
		s.suspended[tag] = s.newState(until)
	}
}

// Close implements cache.Store.
func (s *Store) Close() error {
	s.entries.InvalidateAll()
	return nil
}
