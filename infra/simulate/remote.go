package simulate

import "time"

// remoteCalls records the calls of other services that have idempotency keys.
type remoteCalls struct {
	byKey map[string]*remoteCall
	keyOf map[string]string // by what is asked for
}

type remoteCall struct {
	what     string
	by       *instance
	answered time.Duration // when the caller got an answer that was no failure; negative: it did not
}

// unitAttempts is how often the kit runs a unit of work that loses races.
const unitAttempts = 12

// failed notes that the store of the function has failed, so that a call may have to be made again.
func (s *supervisor) failed() { s.failedAt = s.sim.now }

// raced notes a race that a fault made the function lose. When a unit of work has lost all its attempts, it has failed.
func (s *supervisor) raced() {
	if s.races++; s.races >= unitAttempts {
		s.races = 0
		s.failed()
	}
}

// RemoteCall runs effect as Remote does, as a call that has an idempotency key. what names the call: the same text is
// the same call. It reports a violation when a key is used for two calls, when one call is made under two keys, and
// when a call is made again whose caller has had the answer, while neither a crash nor a failure of its store explains
// that.
func (sim *Simulation) RemoteCall(key, what string, effect func() error) error {
	if sim.cur == nil || sim.cur.inst == nil {
		return effect()
	}
	before := sim.remote.byKey[key]
	if before != nil && before.answered >= 0 && before.by.state != gone && before.by.s.failedAt < before.answered &&
		!sim.ledger.slow {
		sim.Violated("a call is made again that was answered: %s", what)
	}
	return sim.RemoteAgain(key, what, effect)
}

// RemoteAgain does as RemoteCall, for a call that a handler makes: it may be made again at any time.
func (sim *Simulation) RemoteAgain(key, what string, effect func() error) error {
	if sim.cur == nil || sim.cur.inst == nil {
		return effect()
	}
	r, by, t := &sim.remote, sim.cur.inst, sim.cur
	if other, known := r.keyOf[what]; known && other != key {
		sim.Violated("one call is made under two keys: %s", what+" under "+other+" and "+key)
	}
	r.keyOf[what] = key
	if before := r.byKey[key]; before != nil && before.what != what {
		sim.Violated("a key is used for two calls: %s", key+" for "+before.what+" and "+what)
	}
	call := &remoteCall{what: what, by: by, answered: -1}
	r.byKey[key] = call
	err := sim.Remote(effect)
	if err == nil && by.state != gone && !t.late && !sim.over {
		call.answered = sim.now
	}
	return err
}
