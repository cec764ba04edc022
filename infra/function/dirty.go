package function

import "sync/atomic"

// dirtyFlag says that work may be waiting. A worker that has looked clears the marks that were set before it began to
// look; a mark that was set in the meantime stays.
type dirtyFlag struct{ marked, cleared atomic.Uint64 }

func (d *dirtyFlag) mark() { d.marked.Add(1) }

func (d *dirtyFlag) isSet() bool { return d.cleared.Load() < d.marked.Load() }

// latest returns the mark to clear up to when the work that is looked for now has been done.
func (d *dirtyFlag) latest() uint64 { return d.marked.Load() }

func (d *dirtyFlag) clear(upTo uint64) {
	for was := d.cleared.Load(); was < upTo && !d.cleared.CompareAndSwap(was, upTo); was = d.cleared.Load() {
	}
}
