package auth

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// The cache is a table of sets of four slots, each an atomic pointer: to look
// something up takes no lock and writes nothing, so cores do not disturb one another,
// and its size is fixed. A token is found in the one set that its hash names; a newcomer
// to a full set takes the place of a random neighbour. Two that come at
// once may overwrite each other, which costs one more check of a signature.
//
// The hash is seeded per cache, so nobody can choose tokens that collide, and
// only tokens with a good signature come in, so nobody can flood it with rubbish.
type cache struct {
	seed  maphash.Seed
	slots [sets * ways]atomic.Pointer[entry]
}

const (
	sets = 512 // a power of two
	ways = 4
)

// entry is immutable. The whole token is compared, never only its hash.
type entry struct {
	hash      uint64
	token     string
	principal Principal
}

func newCache() *cache { return &cache{seed: maphash.MakeSeed()} }

func (c *cache) set(hash uint64) []atomic.Pointer[entry] {
	first := int(hash%sets) * ways
	return c.slots[first : first+ways : first+ways]
}

func (c *cache) get(token string) *entry {
	hash := maphash.String(c.seed, token)
	set := c.set(hash)
	for i := range set {
		if e := set[i].Load(); e != nil && e.hash == hash && e.token == token {
			return e
		}
	}
	return nil
}

func (c *cache) put(token string, p Principal) *entry {
	e := &entry{hash: maphash.String(c.seed, token), token: strings.Clone(token), principal: p}
	set := c.set(e.hash)
	for i := range set {
		if set[i].CompareAndSwap(nil, e) {
			return e
		}
	}
	set[(e.hash/sets)%ways].Store(e) // other bits than those that chose the set
	return e
}

// shared is the entry's principal with roles of its own, which the caller may change.
func (e *entry) shared() Principal {
	p := e.principal
	p.Roles = slices.Clone(p.Roles)
	return p
}
