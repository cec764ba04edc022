package delivery

import "sync"

// turns lets the calls of all engines of a process run beside one another, except for that of a suspect, which runs
// alone: when the process dies, it is known what died with it. While an engine waits for such a call no other call
// begins, so a handler without a timeout that never returns holds it up.
type turns struct {
	mu      sync.Mutex
	running int            // calls that run beside one another
	alone   bool           // a call runs alone
	wanting map[any]func() // engines that wait to make a call alone
	held    map[any]func() // other engines that wait
}

// begin reports whether a call of an engine may begin. If not, wake is called when it is worth asking again.
func (t *turns) begin(engine any, alone bool, wake func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, wanted := t.wanting[engine]; wanted && !alone { // it has a dead letter to give away first, or no suspects
		delete(t.wanting, engine)
		t.wake()
	}
	switch {
	case alone && (t.alone || t.running > 0):
		set(&t.wanting, engine, wake)
		return false
	case alone:
		delete(t.wanting, engine)
		t.alone = true
	case t.alone || len(t.wanting) > 0:
		set(&t.held, engine, wake)
		return false
	default:
		t.running++
	}
	return true
}

// end ends a call that begin has let begin.
func (t *turns) end(alone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if alone {
		t.alone = false
	} else {
		t.running--
	}
	t.wake()
}

// leave takes back what an engine waits for.
func (t *turns) leave(engine any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, engine)
	if _, wanted := t.wanting[engine]; wanted {
		delete(t.wanting, engine)
		t.wake()
	}
}

// wake has those ask again whose calls may begin now. Each does so in a goroutine, since the caller may hold the lock
// of an engine.
func (t *turns) wake() {
	if t.alone {
		return
	}
	if len(t.wanting) > 0 {
		if t.running == 0 {
			for _, wake := range t.wanting {
				go wake()
			}
		}
		return
	}
	for _, wake := range t.held {
		go wake()
	}
	clear(t.held)
}

func set(m *map[any]func(), engine any, wake func()) {
	if *m == nil {
		*m = make(map[any]func())
	}
	(*m)[engine] = wake
}
