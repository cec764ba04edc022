package auth

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// The cache is a table of sets of four slots, each an atomic pointer: a lookup takes no lock and writes nothing, so
// cores do not contend, and the size is fixed. The hash of a token selects its set; a new token in a full set replaces
// a random one of the set. Two that are stored at the same time may overwrite each other, which costs one more check of
// a signature.
//
// The hash is seeded per cache, so that a client cannot choose tokens that collide, and only tokens with a valid
// signature are stored, so that a client cannot fill it with others.
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

// shared returns the entry's principal with a copy of the roles, which the caller may change.
func (e *entry) shared() Principal {
	p := e.principal
	p.Roles = slices.Clone(p.Roles)
	return p
}
