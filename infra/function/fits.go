package function

import "sync/atomic"

// fits is how many events of a batch fit one commit of the function's database, as far as this instance knows, or how
// many documents that a unit removes beside its own work. A database with a limit refuses a larger commit
// (fault.TooLarge), and the batch is handled in halves, the unit without that removal. Without fits every batch would
// begin with its whole size again, and run its handlers once for each size that is refused.
type fits struct{ most atomic.Int64 } // 0: nothing was refused yet

// of returns how many of n fit together.
func (f *fits) of(n int) int {
	if most := int(f.most.Load()); most > 0 {
		return min(n, most)
	}
	return n
}

// refused notes that the commit of n was too large.
func (f *fits) refused(n int) { f.most.Store(int64(max(n/2, 1))) }

// committed notes that n were committed together. As many as are allowed at present make room for more: what was
// refused may have been larger than others.
func (f *fits) committed(n int) {
	if most := f.most.Load(); most > 0 && int64(n) >= most {
		f.most.CompareAndSwap(most, most+max(most/8, 1))
	}
}
