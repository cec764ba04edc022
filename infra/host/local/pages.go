package local

import "time"

// pages gives memory back to the system, which takes a collection each time. What functions held goes with them. What the
// broker held for them it lets go some ten seconds later, and that lies in pools, which two collections empty.
type pages struct {
	free    func()
	freed   time.Time
	dropped time.Time // when the last function was
	owed    int       // collections that are still to come
}

const (
	freeEvery = 5 * time.Second  // at the most
	quietFor  = 12 * time.Second // until the broker has let go
)

// look is called now and then, and told whether a function was dropped.
func (p *pages) look(now time.Time, dropped bool) {
	if dropped {
		p.dropped, p.owed = now, 3
	}
	due := p.freed.Add(freeEvery)
	if quiet := p.dropped.Add(quietFor); p.owed < 3 && due.Before(quiet) {
		due = quiet
	}
	if p.owed == 0 || now.Before(due) {
		return
	}
	p.free()
	p.freed = now
	p.owed--
}
