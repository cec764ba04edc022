// Package marks remembers what a driver has seen of the floors of its collections: the largest versions of the marks of
// deleted documents that were removed.
package marks

import "sync"

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
