package local

import "time"

// memoryFreer returns the memory of stopped functions to the operating system, with a garbage collection each time. The
// memory of the functions themselves can be freed at once. The broker's memory for them can be freed about ten seconds
// later, and needs two collections, because it is in pools.
type memoryFreer struct {
	free    func()
	freed   time.Time
	stopped time.Time // when the last function was stopped
	owed    int       // collections that are still to be run
}

const (
	freeEvery = 5 * time.Second  // the shortest interval of collections
	quietFor  = 12 * time.Second // until the broker has released its memory
)

// check runs a collection when one is due. It is called at intervals; stopped reports whether a function was stopped
// since the last call.
func (p *memoryFreer) check(now time.Time, stopped bool) {
	if stopped {
		p.stopped, p.owed = now, 3
	}
	due := p.freed.Add(freeEvery)
	if quiet := p.stopped.Add(quietFor); p.owed < 3 && due.Before(quiet) {
		due = quiet
	}
	if p.owed == 0 || now.Before(due) {
		return
	}
	p.free()
	p.freed = now
	p.owed--
}
