package simulate

import (
	"iter"
	"time"
)

// task is a coroutine: one request or delivery under way. It gives way at every call of a port.
type task struct {
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	job   func()
	inst  *instance // whose memory it works on; nil: nobody's
	late  bool      // whoever asked no longer waits
}

// spawn begins a task, from the scheduler or out of the agenda and never out of another task.
func (w *World) spawn(job func()) {
	var t *task
	if n := len(w.pool); n > 0 {
		t = w.pool[n-1]
		w.pool = w.pool[:n-1]
	} else {
		t = &task{}
		t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
			t.yield = yield
			for {
				t.job()
				t.job, t.inst, t.late = nil, nil, false
				if w.over || !yield(struct{}{}) {
					return
				}
			}
		})
		w.tasks = append(w.tasks, t)
	}
	t.job = job
	w.running++
	w.resume(t)
}

func (w *World) resume(t *task) {
	before := w.cur
	w.cur = t
	t.next()
	w.cur = before
	if t.job == nil && !w.over {
		w.running--
		w.pool = append(w.pool, t)
	}
}

// sleep lets time pass for the task that runs, and others have their turn meanwhile.
func (w *World) sleep(d time.Duration) {
	if w.over || w.cur == nil {
		return
	}
	at := w.now + d
	if len(w.agenda.items) == 0 || w.agenda.items[0].at > at {
		w.now = at
		return
	}
	t := w.cur
	w.agenda.put(at, func() { w.resume(t) })
	if !t.yield(struct{}{}) {
		w.over = true
	}
}

// end unwinds every task that is under way: its ports answer errors from now on.
func (w *World) end() {
	w.over = true
	for _, t := range w.tasks {
		t.stop()
	}
}
