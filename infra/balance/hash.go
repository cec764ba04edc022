package balance

import (
	"math"
	"net"
	"net/http"
)

// IPHash is a Balancer that sends the requests of one client address to one member as long as that is there. It is
// consistent: when a member comes or goes, only the addresses that it gets or had move, which are 1/n of them, and each
// gateway chooses the same member. A member gets addresses in proportion to its weight. The zero IPHash is ready to
// use.
//
// It is rendezvous hashing: each member has a score for the address, and the highest one wins.
type IPHash struct {
	Key func(*http.Request) string // what is hashed; nil: the host of RemoteAddr
}

var _ Balancer = (*IPHash)(nil)

// Choose implements Balancer.
func (b *IPHash) Choose(r *http.Request, members []*Member) int {
	if len(members) == 1 {
		return 0
	}
	var key string
	if b.Key != nil {
		key = b.Key(r)
	} else if key = r.RemoteAddr; key != "" {
		if host, _, err := net.SplitHostPort(key); err == nil {
			key = host
		}
	}
	hashed := fnv(key)
	best, highest := 0, math.Inf(-1)
	for i, m := range members {
		// The unit is in (0, 1). With -w/ln(u) a member of twice the weight wins twice as often.
		unit := (float64(mix(hashed^m.hash)>>11) + 0.5) / (1 << 53)
		if score := -m.Weight() / math.Log(unit); score > highest {
			best, highest = i, score
		}
	}
	return best
}

// fnv returns the FNV-1a hash of s. It is the same in every process, which hash/maphash is not.
func fnv(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix spreads the bits of a hash, as SplitMix64 does, so that similar addresses have independent scores.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
