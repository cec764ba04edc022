package function

import "sync/atomic"

// notice says that there is something to look for. Who has looked heeds the notices that were given before it began to;
// one that came in the meantime stands.
type notice struct{ given, heeded atomic.Uint64 }

func (n *notice) give() { n.given.Add(1) }

func (n *notice) stands() bool { return n.heeded.Load() < n.given.Load() }

// latest is what to heed when what is looked for now has been found and done.
func (n *notice) latest() uint64 { return n.given.Load() }

func (n *notice) heed(upTo uint64) {
	for was := n.heeded.Load(); was < upTo && !n.heeded.CompareAndSwap(was, upTo); was = n.heeded.Load() {
	}
}
