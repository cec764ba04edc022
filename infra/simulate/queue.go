package simulate

import "time"

// eventQueue holds what will happen, earliest first, and in the order of put at the same time.
type eventQueue struct {
	items []entry
	n     uint64
}

type entry struct {
	at time.Duration
	n  uint64
	do func()
}

func (e entry) before(o entry) bool { return e.at < o.at || e.at == o.at && e.n < o.n }

func (a *eventQueue) put(at time.Duration, do func()) {
	a.n++
	a.items = append(a.items, entry{at, a.n, do})
	for i := len(a.items) - 1; i > 0; {
		up := (i - 1) / 2
		if !a.items[i].before(a.items[up]) {
			break
		}
		a.items[i], a.items[up] = a.items[up], a.items[i]
		i = up
	}
}

func (a *eventQueue) take() entry {
	first, last := a.items[0], len(a.items)-1
	a.items[0] = a.items[last]
	a.items[last] = entry{}
	a.items = a.items[:last]
	for i := 0; ; {
		least := i
		for _, down := range [2]int{2*i + 1, 2*i + 2} {
			if down < last && a.items[down].before(a.items[least]) {
				least = down
			}
		}
		if least == i {
			return first
		}
		a.items[i], a.items[least] = a.items[least], a.items[i]
		i = least
	}
}
