package users

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// caller identifies the client whose turn a request takes in a queue.
type caller struct {
	key   string // an address, or a device
	known bool   // a device that has signed in before, which shows it by a token
}

// queue hands out a few places fairly. A request that finds none free waits, for a bounded time and among a bounded
// number. Callers take turns, and each caller's requests are served in the order of their arrival; known devices and
// the others take turns as well. When all waiting places are taken, one more request displaces the latest of the caller
// that has most waiting, so that no caller keeps the others out by asking more often. It may be used concurrently.
type queue struct {
	patience   time.Duration
	mostOfAll  int
	mostOfEach int

	mu      sync.Mutex
	free    int
	waiting int
	lines   [2]line // of known devices, and of the others
	last    int     // the line that was served last
}

// line holds those who wait, by caller. The first caller in turn is served next.
type line struct {
	turn []string
	by   map[string][]*waiter
}

// waiter waits for a place; grant gets nil for a place, or why there is none.
type waiter struct{ grant chan error }

func newQueue(places int) *queue {
	return &queue{
		patience: 5 * time.Second, mostOfAll: 256, mostOfEach: 32, free: places, last: 1,
		lines: [2]line{{by: map[string][]*waiter{}}, {by: map[string][]*waiter{}}},
	}
}

func lineOf(c caller) int {
	if c.known {
		return 0
	}
	return 1
}

// acquire waits for a place, which the caller gives back by release. It answers fault.Unavailable when the waiting
// places are taken or none becomes free in time.
func (q *queue) acquire(ctx context.Context, c caller) error {
	w, err := q.enter(c)
	if err != nil || w == nil {
		return err
	}
	late := time.NewTimer(q.patience)
	defer late.Stop()
	select {
	case err := <-w.grant:
		return err
	case <-late.C:
		err = q.full()
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !q.leave(c, w) {
		if granted := <-w.grant; granted == nil {
			q.release() // it came at the same moment
		}
	}
	return err
}

func (q *queue) full() error {
	return fault.New(fault.Unavailable, "too many passwords are being checked at the moment").After(q.patience)
}

// enter takes a free place, and returns nil then, or joins those who wait.
func (q *queue) enter(c caller) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free > 0 { // then no request waits
		q.free--
		return nil, nil
	}
	l := &q.lines[lineOf(c)]
	if len(l.by[c.key]) >= q.mostOfEach || q.waiting >= q.mostOfAll && !q.displace(c) {
		return nil, q.full()
	}
	if len(l.by[c.key]) == 0 {
		l.turn = append(l.turn, c.key)
	}
	w := &waiter{grant: make(chan error, 1)}
	l.by[c.key] = append(l.by[c.key], w)
	q.waiting++
	return w, nil
}

// displace sends the latest request of the caller that has most waiting away, to make room for c: of the other kind of
// callers while c's kind has less than half of the places, so that neither keeps the other out, and otherwise of c's
// own kind, if c has fewer. Known devices are treated as strangers are: anyone may have many, of accounts of their own.
func (q *queue) displace(c caller) bool {
	own := lineOf(c)
	key, most, all := q.lines[own].longest()
	if all < q.mostOfAll/2 {
		key, _, _ = q.lines[1-own].longest() // they have more than half
		return q.dismiss(caller{key: key, known: !c.known})
	}
	return most > len(q.lines[own].by[c.key])+1 && q.dismiss(caller{key: key, known: c.known})
}

// longest returns the caller with most requests, how many those are, and how many all callers have.
func (l *line) longest() (key string, most, all int) {
	for _, k := range l.turn {
		n := len(l.by[k])
		if all += n; n > most {
			key, most = k, n
		}
	}
	return key, most, all
}

func (q *queue) dismiss(c caller) bool {
	line := q.lines[lineOf(c)].by[c.key]
	w := line[len(line)-1]
	q.remove(c, w)
	w.grant <- q.full()
	return true
}

// leave takes a waiter out. It reports false when the waiter has been granted a place, or sent away, before.
func (q *queue) leave(c caller, w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.remove(c, w)
}

func (q *queue) remove(c caller, w *waiter) bool {
	l := &q.lines[lineOf(c)]
	at := slices.Index(l.by[c.key], w)
	if at < 0 {
		return false
	}
	q.waiting--
	l.by[c.key] = slices.Delete(l.by[c.key], at, at+1)
	if len(l.by[c.key]) == 0 {
		delete(l.by, c.key)
		l.turn = slices.DeleteFunc(l.turn, func(key string) bool { return key == c.key })
	}
	return true
}

// release gives a place back, or hands it to the request whose turn it is.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := range q.lines {
		which := (q.last + 1 + n) % len(q.lines)
		l := &q.lines[which]
		if len(l.turn) == 0 {
			continue
		}
		key := l.turn[0]
		w := l.by[key][0]
		l.turn = append(l.turn[1:], key) // the caller's next turn comes after the others'
		q.remove(caller{key: key, known: which == 0}, w)
		q.last = which
		w.grant <- nil
		return
	}
	q.free++
}
