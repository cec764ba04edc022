// Package seen caches what a driver has read or written of documents.
package seen

import (
	"sync"

	"github.com/ebb-dev/ebb/infra/store"
)

// generation is the most documents of one generation.
const generation = 2048

// Cache holds what was seen of the documents that were used last, in two generations. The zero Cache is empty. Its
// methods may be called concurrently.
type Cache[V any] struct {
	mu         sync.Mutex
	young, old map[store.Key]V
}

// Put notes what was seen of a document.
func (c *Cache[V]) Put(k store.Key, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= generation {
		c.old, c.young = c.young, map[store.Key]V{}
	}
	c.young[k] = v
}

// Drop forgets a document.
func (c *Cache[V]) Drop(k store.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, k)
	delete(c.old, k)
}

// Get returns what was seen of a document, and whether anything was.
func (c *Cache[V]) Get(k store.Key) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.young[k]
	if !ok {
		v, ok = c.old[k]
	}
	return v, ok
}
