package simulate

import (
	"iter"
	"time"
)

// task is a coroutine that runs one request or delivery. It yields at every call of a port.
type task struct {
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	job   func()
	inst  *instance // the instance it runs in; nil: none
	late  bool      // the caller no longer waits

	committed bool // the job has committed a change
}

// spawn starts a task. Only the scheduler may call it, never a task.
func (sim *Simulation) spawn(job func()) {
	var t *task
	if n := len(sim.pool); n > 0 {
		t = sim.pool[n-1]
		sim.pool = sim.pool[:n-1]
	} else {
		t = &task{}
		t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
			t.yield = yield
			for {
				t.job()
				t.job, t.inst, t.late, t.committed = nil, nil, false, false
				if sim.over || !yield(struct{}{}) {
					return
				}
			}
		})
		sim.tasks = append(sim.tasks, t)
	}
	t.job = job
	sim.running++
	sim.resume(t)
}

func (sim *Simulation) resume(t *task) {
	before := sim.cur
	sim.cur = t
	t.next()
	sim.cur = before
	if t.job == nil && !sim.over {
		sim.running--
		sim.pool = append(sim.pool, t)
	}
}

// sleep suspends the current task for d of simulated time.
func (sim *Simulation) sleep(d time.Duration) {
	if sim.over || sim.cur == nil {
		return
	}
	at := sim.now + d
	if len(sim.queue.items) == 0 || sim.queue.items[0].at > at {
		sim.now = at
		return
	}
	t := sim.cur
	sim.queue.put(at, func() { sim.resume(t) })
	if !t.yield(struct{}{}) {
		sim.over = true
	}
}

// end unwinds every unfinished task: its ports return errors from now on.
func (sim *Simulation) end() {
	sim.over = true
	for _, t := range sim.tasks {
		t.stop()
	}
}
