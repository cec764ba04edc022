package saga

import (
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// This file decides: what a saga does next, given its progress and what has happened. It has no side effect.

// run is one change of one saga.
type run[S any] struct {
	steps  func(version int, name string) *Step[S]
	newest int // the newest version that is declared
	stuck  int // how often is sent again before the saga is stuck
	strict bool
	refuse fault.Kind // of the error about a saga of a newer version

	now   time.Time
	early time.Duration // how far the clock function is ahead of this instance, at least
	state *S
	in    *Instance // of the state

	changed bool
	rearm   bool      // the timer may be lost
	sends   []sent[S] // in order
	told    []Stuck   // what has become stuck
	err     error
}

// sent is a command that a change emits.
type sent[S any] struct {
	step string
	undo bool
	*Command[S]
}

func (r *run[S]) step(i int) *Step[S] { return r.steps(r.in.Saga.Version, r.in.Saga.Steps[i].Name) }

// isNewer reports whether a newer build of the function has begun the saga, and sets the error. Only that build knows
// what its steps mean, also those whose names this one knows. An event is then delivered again, to another instance.
func (r *run[S]) isNewer() bool {
	v := r.in.Saga.Version
	if v > r.newest {
		r.err = fault.New(r.refuse, "the saga runs on version %d of its declaration, and this instance knows %d", v, r.newest)
	}
	return v > r.newest
}

// start begins the saga.
func (r *run[S]) start() {
	r.changed = true
	r.advance()
}

// advance begins, forward or backward, each step that can begin, and ends the saga when nothing is left.
func (r *run[S]) advance() {
	p := &r.in.Saga
	switch p.Status {
	case Running:
		for i := range p.Steps { // a step that is skipped has later ones begin
			if p.Steps[i].State == ToDo && p.ready(i) {
				r.begin(i)
			}
		}
		if !p.has(ToDo, Doing, Failed) {
			p.Status = Completed
		}
	case Undoing:
		for i := len(p.Steps) - 1; i >= 0; i-- {
			if s := p.Steps[i].State; (s == Done || s == Doing) && p.clear(i) {
				r.undo(i)
			}
		}
		if !p.has(Done, Doing, BeingUndone) {
			p.Status = Reversed
		}
	}
	if p.Status.Ended() {
		p.Stuck = nil
	}
}

// begin begins step i, or skips it.
func (r *run[S]) begin(i int) {
	s, step := &r.in.Saga.Steps[i], r.step(i)
	switch {
	case step == nil:
		r.unknown(i)
		return
	case step.When != nil && !step.When(*r.state):
		s.State, s.EndedAt = Skipped, r.now
	default:
		s.State, s.StartedAt, s.Due, s.Again = Doing, r.now, time.Time{}, 0
		if step.Deadline > 0 {
			s.Due = r.now.Add(step.Deadline)
		}
		r.send(i, step.Command, false)
	}
	r.moved(i)
}

// undo begins to undo step i, or notes that nothing has to be undone.
func (r *run[S]) undo(i int) {
	s, step := &r.in.Saga.Steps[i], r.step(i)
	switch {
	case step == nil:
		r.unknown(i)
		return
	case step.Undo == nil:
		s.State, s.UndoneAt, s.Due, s.Again = Undone, r.now, time.Time{}, 0
	default:
		s.State, s.UndoingAt, s.Due, s.Again = BeingUndone, r.now, r.now.Add(step.undoDeadline()), 0
		r.send(i, step.Undo, true)
	}
	r.moved(i)
}

// moved notes that step i has changed, and so is not what the saga is stuck at.
func (r *run[S]) moved(i int) {
	r.changed = true
	if stuck := r.in.Saga.Stuck; stuck != nil && stuck.Step == r.in.Saga.Steps[i].Name {
		r.in.Saga.Stuck = nil
	}
}

// send emits a command of step i and notes its id when it is known.
func (r *run[S]) send(i int, c *Command[S], undo bool) {
	if c != nil {
		r.sends = append(r.sends, sent[S]{r.in.Saga.Steps[i].Name, undo, c})
	}
}

// unknownRetry is how long a saga waits before it looks again for the declaration of a step.
const unknownRetry = time.Minute

// unknown deals with a step that no declaration has. The saga is stuck. It looks again from time to time, because the
// declaration may be back.
func (r *run[S]) unknown(i int) {
	s := &r.in.Saga.Steps[i]
	if s.Due.IsZero() || !s.Due.After(r.now) {
		s.Due = r.now.Add(r.backoff(unknownRetry, s.Again))
		s.Again++
		r.changed = true
	}
	r.stick(i, "no declaration has the step")
}

// stick notes that the saga is stuck at step i, and tells it once.
func (r *run[S]) stick(i int, why string) {
	p := &r.in.Saga
	if p.Stuck == nil {
		p.Stuck = &Stuck{Step: p.Steps[i].Name, Reason: why, Since: r.now}
		r.told = append(r.told, *p.Stuck)
		r.changed = true
	}
}

// maxBackoff bounds how long a stuck saga waits until it tries again, unless its deadline is longer.
const maxBackoff = time.Hour

// backoff returns how long to wait after again repetitions: the deadline, and more and more once the saga is stuck.
func (r *run[S]) backoff(deadline time.Duration, again int) time.Duration {
	for range min(again-r.stuck+1, 20) {
		deadline = max(deadline, min(2*deadline, maxBackoff))
	}
	return deadline
}

// reply is an event that may answer a command, and its type and data as the saga reads them.
type reply struct {
	ce.Event
	as   string
	data []byte
}

// answered handles an event that may answer a command of the saga.
func (r *run[S]) answered(e reply) {
	if !r.in.Saga.Status.Ended() && r.isNewer() {
		return
	}
	p := &r.in.Saga
	m := r.match(e)
	if m.step < 0 {
		return
	}
	s := &p.Steps[m.step]
	s.Due, s.Again = time.Time{}, 0
	if a, ok := m.by.(answer); ok && a.apply != nil {
		if r.err = a.apply(r.state, e.Event); r.err != nil {
			return
		}
	}
	switch m.as {
	case Done:
		s.State, s.EndedAt = Done, r.now
		if s.StartedAt.IsZero() {
			s.StartedAt = r.now
		}
	case Undone:
		s.State, s.UndoneAt = Undone, r.now
	case Failed:
		s.State, s.EndedAt = Failed, r.now
		reason, code, err := reasonOf(m.by, e)
		if r.err = err; err != nil {
			return
		}
		r.turn(reason, code)
	}
	r.moved(m.step)
	r.advance()
}

// match is the step that an event answers, how, and the declared answer; step -1: none.
type match struct {
	step int
	as   State
	by   event.Typed
}

// match returns the step that an event answers. That is the one whose command caused the event. An event that another
// command of the saga caused answers nothing. Where the cause is not known the type decides, see loose.
func (r *run[S]) match(e reply) match {
	p, cause := &r.in.Saga, event.Extension(e.Event, event.CausationID)
	own, known := r.in.commandOf(cause)
	found := match{step: -1}
	for i := range p.Steps {
		m, ok := r.awaits(i, e.as)
		if !ok {
			continue
		}
		key := sentKey(p.Steps[i].Name, m.as == Undone)
		switch {
		case known && key == own:
			return m
		case known:
		case found.step < 0 && r.loose(m, len(r.in.Sent[key]) > 0):
			found = m
		}
	}
	return found
}

// awaits returns what an event of the type would mean for step i, if the step waits for such an event.
func (r *run[S]) awaits(i int, eventType string) (match, bool) {
	state, step := r.in.Saga.Steps[i].State, r.step(i)
	if step == nil {
		return match{}, false
	}
	forward := state == Doing || state == ToDo && step.Command == nil // an event from outside may come early
	switch {
	case r.in.Saga.Status == Running && forward && is(step.Done, eventType):
		return match{i, Done, step.Done}, true
	case r.in.Saga.Status == Running && forward && is(step.Failed, eventType):
		return match{i, Failed, step.Failed}, true
	case state == BeingUndone && is(step.Undone, eventType):
		return match{i, Undone, step.Undone}, true
	}
	return match{}, false
}

// loose reports whether an event whose cause is not known counts as the answer. Events from outside have a cause of
// their own. A failure ends the way forward, so that a second one finds nothing to do. Any other answer must not
// be one to two steps: the second copy of the first answer would complete the second step.
func (r *run[S]) loose(m match, sent bool) bool {
	switch step := r.step(m.step); {
	case step.Command == nil && m.as != Undone:
		return true
	case r.strict:
		return false
	case !sent || m.as == Failed:
		return true
	}
	answers := 0
	for i := range r.in.Saga.Steps {
		if step := r.step(i); step != nil {
			for _, t := range []event.Typed{step.Done, step.Undone} {
				if is(t, m.by.Info().Name) {
					answers++
				}
			}
		}
	}
	return answers == 1
}

// expired handles every step whose deadline has passed at the time.
func (r *run[S]) expired(at time.Time) {
	if r.isNewer() {
		return
	}
	p := &r.in.Saga
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Due.IsZero() || at.Before(s.Due) {
			continue
		}
		step := r.step(i)
		switch {
		case step == nil:
			r.unknown(i)
		case s.State == BeingUndone:
			r.again(i, step.Undo, step.undoDeadline(), true)
		case s.State == Doing && p.Status == Running && !p.pivoted():
			r.turn(timedOut(s.Name), "deadline")
		case s.State == Doing && p.Status == Running:
			r.again(i, step.Command, step.Deadline, false)
		default:
			s.Due = time.Time{} // it was unknown and is known again
			r.changed = true
		}
	}
	r.advance()
}

// again sends a command of step i again.
func (r *run[S]) again(i int, c *Command[S], deadline time.Duration, undo bool) {
	s := &r.in.Saga.Steps[i]
	s.Again++
	s.Due = r.now.Add(r.backoff(deadline, s.Again))
	r.send(i, c, undo)
	r.changed = true
	if s.Again >= r.stuck {
		what := "its command"
		if undo {
			what = "its undo"
		}
		r.stick(i, what+" is not answered")
	}
}

// turn begins to undo a running saga. Answers to the commands of the way forward are not waited for any more.
func (r *run[S]) turn(reason, code string) {
	p := &r.in.Saga
	if p.Status != Running {
		return
	}
	p.Status, p.Reason, r.in.Code = Undoing, reason, code
	for i := range p.Steps {
		if s := &p.Steps[i]; s.State == Doing {
			s.Due, s.Again = time.Time{}, 0
		}
	}
	r.changed = true
}

// cancel begins to undo the saga, unless it is too late or being done.
func (r *run[S]) cancel(reason, code string) {
	if r.in.Saga.Status == Running && !r.in.Saga.pivoted() && !r.isNewer() {
		r.turn(reason, code)
		r.advance()
	}
}

// revert undoes a saga, also one that is completed.
func (r *run[S]) revert(reason, code string) {
	if r.isNewer() {
		return
	}
	p := &r.in.Saga
	if p.Status == Completed {
		p.Status, r.in.EndedAt = Running, time.Time{}
	}
	r.turn(reason, code)
	r.advance()
}

// due returns the earliest deadline; the zero time if there is none.
func (p *Progress) nextDue() (due time.Time) {
	if p.Status.Ended() {
		return due
	}
	for _, s := range p.Steps {
		if earlier(s.Due, due) {
			due = s.Due
		}
	}
	return due
}

// resolve ends a waiting step in place of an event. It returns fault.Conflict if the step does not wait.
func (r *run[S]) resolve(name string, as State, reason, code string, change func(*S)) error {
	p := &r.in.Saga
	i := p.index(name)
	if i < 0 {
		return fault.New(fault.NotFound, "the saga has no step %q", name)
	}
	s, step := &p.Steps[i], r.step(i)
	waits := step != nil && step.Command == nil && (s.State == Doing || s.State == ToDo)
	switch {
	case r.isNewer():
		return r.err
	case p.Status != Running || !waits:
		return fault.New(fault.Conflict, "step %q is %s and does not wait for an answer", name, s.State)
	}
	if change != nil {
		change(r.state)
	}
	s.State, s.EndedAt, s.Due, s.Again = as, r.now, time.Time{}, 0
	if s.StartedAt.IsZero() {
		s.StartedAt = r.now
	}
	if as == Failed {
		r.turn(reason, code)
	}
	r.moved(i)
	r.advance()
	return r.err
}

// retry sends what the saga waits for again, now.
func (r *run[S]) retry() error {
	p := &r.in.Saga
	switch {
	case p.Status.Ended():
		return fault.New(fault.Conflict, "the saga has ended: it is %s", p.Status)
	case r.isNewer():
		return r.err
	}
	for i := range p.Steps {
		s, step := &p.Steps[i], r.step(i)
		if step == nil {
			continue
		}
		s.Again = 0
		switch {
		case s.State == BeingUndone:
			s.Due = r.now.Add(step.undoDeadline())
			r.send(i, step.Undo, true)
		case s.State == Doing && p.Status == Running:
			if step.Deadline > 0 {
				s.Due = r.now.Add(step.Deadline)
			}
			r.send(i, step.Command, false)
		default:
			s.Due = time.Time{}
		}
	}
	p.Stuck, r.changed, r.rearm = nil, true, true
	r.advance()
	return r.err
}

// skip takes a step for done, or for undone, without an answer.
func (r *run[S]) skip(name, reason string) error {
	p := &r.in.Saga
	i := p.index(name)
	if i < 0 {
		return fault.New(fault.NotFound, "the saga has no step %q", name)
	}
	s := &p.Steps[i]
	switch {
	case !p.Status.Ended() && r.isNewer():
		return r.err
	case p.Status == Running && (s.State == ToDo || s.State == Doing):
		s.State, s.EndedAt = Skipped, r.now
	case p.Status == Undoing && s.State.active():
		s.State, s.UndoneAt = Undone, r.now
	default:
		return fault.New(fault.Conflict, "step %q is %s: there is nothing to skip in a saga that is %s", name, s.State,
			p.Status)
	}
	s.Skipped, s.Due, s.Again = reason, time.Time{}, 0
	r.moved(i)
	r.advance()
	return r.err
}

// end ends the saga with what it has.
func (r *run[S]) end(as Status, reason, code string) error {
	p := &r.in.Saga
	if p.Status.Ended() {
		return fault.New(fault.Conflict, "the saga has ended: it is %s", p.Status)
	}
	if as == Reversed && (p.Status == Running || p.Reason == "") {
		p.Reason, r.in.Code = reason, code
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.State == Doing || s.State == BeingUndone || s.State == ToDo && as == Completed {
			s.Skipped = reason
		}
		s.Due, s.Again = time.Time{}, 0
	}
	p.Status, p.Stuck, r.changed = as, nil, true
	return nil
}

// sentLimit is how many ids of commands of a step are stored; a step that is sent more often is answered for the later
// ones too.
const sentLimit = 8

// commandOf returns the key of the command with the id.
func (in *Instance) commandOf(id string) (key string, ok bool) {
	if id == "" {
		return "", false
	}
	for key, ids := range in.Sent {
		if slices.Contains(ids, id) {
			return key, true
		}
	}
	return "", false
}

// sentKey returns the key of the commands of a step.
func sentKey(step string, undo bool) string {
	if undo {
		return "undo " + step
	}
	return step
}

func (in *Instance) note(key, id string) {
	if in.Sent == nil {
		in.Sent = map[string][]string{}
	}
	ids := append(in.Sent[key], id)
	in.Sent[key] = ids[max(0, len(ids)-sentLimit):]
}

// timedOut returns the reason for which a saga is undone when the deadline of a step has passed.
func timedOut(step string) string { return "step " + step + " timed out" }

// cancellable returns why the saga cannot be cancelled; nil if it can, or is being undone already.
func (r *run[S]) cancellable() error {
	switch p := &r.in.Saga; {
	case p.Status.Ended():
		return fault.New(fault.Conflict, "the saga has ended: it is %s", p.Status)
	case p.Status == Running && p.pivoted():
		return fault.New(fault.Conflict, "the saga is past its pivot and only goes forward")
	}
	return nil
}
