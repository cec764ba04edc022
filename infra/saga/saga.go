package saga

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// Instance is what the kit stores of a saga beside the state of its author. Embed it in the state.
type Instance struct {
	ID       string              `json:"id"`
	Saga     Progress            `json:"saga"`
	Code     string              `json:"code,omitempty"` // why it is undone, for programs
	EndedAt  time.Time           `json:"ended_at,omitzero"`
	Timer    string              `json:"timer,omitempty"`    // the id of the timer that is set
	TimerDue time.Time           `json:"timer_due,omitzero"` // when it goes off
	Sent     map[string][]string `json:"sent,omitempty"`     // the ids of the last commands, by step or "undo STEP"
	Asked    *Asked              `json:"asked,omitempty"`    // of a child: the commands that it answers
	Handed   []HandOver          `json:"handed,omitempty"`   // who looks after it: the last one counts
}

// HandOver says who looks after a saga from a time on. Persons are ids, so an erasure finds no name here.
type HandOver struct {
	To     string    `json:"to,omitempty" doc:"The id of the person who looks after it from then on. Empty: no one does."`
	By     string    `json:"by" doc:"The id of the person who handed it over."`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// handedLimit is how many of the last hand-overs a saga remembers. The audit trail has them all.
const handedLimit = 20

// assignee returns the id of the person who looks after the saga; "": nobody does.
func (in *Instance) assignee() string {
	if len(in.Handed) == 0 {
		return ""
	}
	return in.Handed[len(in.Handed)-1].To
}

// Asked has the ids of the last commands that a child saga answers.
type Asked struct {
	Start string `json:"start,omitempty"`
	Undo  string `json:"undo,omitempty"`
}

func (in *Instance) instance() *Instance { return in }

// Stateful is what a pointer to the state of a saga is: *S, where S embeds Instance.
type Stateful[S any] interface {
	*S
	instance() *Instance
}

// Saga is a declared saga of a function. Its methods may be called concurrently for different units of work.
type Saga[S any] struct {
	f        *function.Function
	d        Declaration[S]
	versions []int // descending
	byName   map[int]map[string]*Step[S]
	instance func(*S) *Instance
	store    keeper[S]
	timer    *Command[S]
	told     metric.Int64Counter // sagas that became stuck
	ended    metric.Int64Counter
	router   *router
	consumes []string // types of event that answer commands
}

// New declares a saga of the function: its steps, the types of event that it consumes and emits, where it is stored,
// and the operations of operators. It returns an error that names everything that is not valid in the declaration.
func New[S any, P Stateful[S]](f *function.Function, d Declaration[S]) (*Saga[S], error) {
	d.Version, d.StuckAfter = cmp.Or(d.Version, 1), cmp.Or(d.StuckAfter, 5)
	if err := d.check(); err != nil {
		return nil, err
	}
	g := &Saga[S]{f: f, d: d, byName: map[int]map[string]*Step[S]{}, timer: d.Timer}
	g.instance = func(s *S) *Instance { return P(s).instance() }
	g.declare(d.Version, d.Steps)
	for v, steps := range d.Earlier {
		g.declare(v, steps)
	}
	slices.SortFunc(g.versions, func(a, b int) int { return b - a })
	if d.Store == nil {
		d.Store = documents[S]{}
	}
	g.store = d.Store.open(f, d.Name, d.Child == nil)
	g.told, _ = f.Env().Telemetry.Meter().Int64Counter("ebb.sagas.stuck", // its only error is an invalid name
		metric.WithDescription("Sagas that became stuck: they do not get on without a person."))
	g.ended, _ = f.Env().Telemetry.Meter().Int64Counter("ebb.sagas.ended",
		metric.WithDescription("Sagas that have ended, by their status: a commit that lost a race counts twice."))
	g.subscribe()
	g.serveOperators()
	return g, nil
}

func (g *Saga[S]) declare(version int, steps []Step[S]) {
	g.versions = append(g.versions, version)
	g.byName[version] = map[string]*Step[S]{}
	for _, s := range steps {
		g.byName[version][s.Name] = &s
	}
}

// step returns the declaration of a step of a saga of the version; nil if there is none.
func (g *Saga[S]) step(version int, name string) *Step[S] {
	if s := g.byName[version][name]; s != nil {
		return s
	}
	for _, v := range g.versions {
		if s := g.byName[v][name]; s != nil {
			return s
		}
	}
	return nil
}

// all calls do with every declared step, of all versions.
func (g *Saga[S]) all(do func(Step[S])) {
	for _, v := range g.versions {
		for _, s := range g.byName[v] {
			do(*s)
		}
	}
}

// subscribe declares what the saga consumes and emits.
func (g *Saga[S]) subscribe() {
	consumes := map[string]event.Typed{}
	g.all(func(s Step[S]) {
		for _, t := range []event.Typed{s.Done, s.Failed, s.Undone} {
			if t != nil {
				consumes[t.Info().Name] = t
			}
		}
		for _, c := range []*Command[S]{s.Command, s.Undo} {
			if c != nil {
				function.Emits(g.f, c.info)
			}
		}
	})
	g.router = routerOf(g.f)
	for name, t := range consumes {
		g.router.add(g.f, t.Info(), listener{g.d.Strict, g.look, g.answered})
		g.consumes = append(g.consumes, name)
	}
	if g.timer == nil {
		g.timer = g.ownTimer()
	}
	function.On(g.f, event.Raw(g.timer.info), func(ctx context.Context, tx *function.Tx, _ json.RawMessage) error {
		return g.expired(ctx, tx)
	})
	function.Emits(g.f, g.timer.info, event.SagaStuck)
	g.subscribeChild()
	function.Prefetch(g.f, func(e ce.Event) []store.Key {
		if consumes[e.Type()] == nil && e.Type() != g.timer.info.Name {
			return nil
		}
		return []store.Key{g.store.key(e.Subject())}
	})
}

// passed is the data of the kit's own timers.
type passed struct {
	ID string `json:"id" minLength:"1" maxLength:"200"`
}

// ownTimer returns the type of event for the deadlines of sagas whose author names none. It has the namespace of the
// saga's other types.
func (g *Saga[S]) ownTimer() *Command[S] {
	prefix, schemas := "dev.ebb", "https://ebb.dev/schemas/"
	g.all(func(s Step[S]) {
		if s.Command != nil {
			prefix = strings.TrimSuffix(s.Command.info.Name, "."+s.Command.info.Short)
			schemas = strings.TrimSuffix(s.Command.info.DataSchema, s.Command.info.Name+".json")
		}
	})
	t := event.Define(event.NewNamespace(prefix, schemas), g.f.Name()+"."+g.d.Name+"-deadline", 1, event.Command,
		"Look at the deadlines of a saga. The clock publishes it when the first is due.", passed{ID: "1"})
	return Send(t, func(s S) passed { return passed{g.instance(&s).ID} })
}

// Name returns the name of the saga.
func (g *Saga[S]) Name() string { return g.d.Name }

// Key returns the key of the document that a saga is stored in.
func (g *Saga[S]) Key(id string) store.Key { return g.store.key(id) }

// Find returns a saga, and whether it exists.
func (g *Saga[S]) Find(ctx context.Context, tx *function.Tx, id string) (S, bool, error) {
	s, ok, err := g.store.find(ctx, tx, id)
	if err == nil && ok {
		g.instance(&s).Saga.adopt(g.wasPivot)
	}
	return s, ok, err
}

func (g *Saga[S]) wasPivot(step string) bool {
	s := g.step(1, step)
	return s != nil && s.Pivot
}

// Get returns a saga; fault.NotFound if it does not exist.
func (g *Saga[S]) Get(ctx context.Context, tx *function.Tx, id string) (S, error) {
	s, ok, err := g.Find(ctx, tx, id)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "there is no %s %s", g.d.Name, id)
	}
	return s, err
}

// Query returns a page of sagas. Fields are those of the state as JSON; they need an index of the Store. The status is
// "saga.status" and the id "id", which an index covers together.
func (g *Saga[S]) Query(ctx context.Context, tx *function.Tx, find store.Find) (store.Page[S], error) {
	page, err := g.store.query(ctx, tx, find)
	for i := range page.Items {
		g.instance(&page.Items[i].Value).Saga.adopt(g.wasPivot)
	}
	return page, err
}

// Start begins a saga with the state, and returns it with its progress. It emits the first commands. An id that exists
// is fault.Conflict.
func (g *Saga[S]) Start(ctx context.Context, tx *function.Tx, id string, s S) (S, error) {
	in := g.instance(&s)
	asked := in.Asked
	*in = Instance{ID: id, Saga: planOf(g.d.Steps), Asked: asked}
	in.Saga.Version = g.d.Version
	r := g.run(tx, &s)
	r.start()
	return s, g.commit(ctx, tx, r, Change[S]{What: Started})
}

// Cancel begins to undo a saga, for a reason for people and a code for programs, which may be empty. It changes nothing
// if the pivot is done, if the saga is being undone, or if it has ended.
func (g *Saga[S]) Cancel(ctx context.Context, tx *function.Tx, id, reason, code string) (S, error) {
	return g.change(ctx, tx, id, Cancelled, func(r *run[S]) error {
		r.cancel(reason, code)
		return r.err
	})
}

// Complete tells a saga that a step which waits for a person is done, and lets that change the state; change may be
// nil. A step that does not wait is fault.Conflict.
func (g *Saga[S]) Complete(ctx context.Context, tx *function.Tx, id, step string, change func(*S)) (S, error) {
	return g.change(ctx, tx, id, Answered, func(r *run[S]) error { return r.resolve(step, Done, "", "", change) })
}

// Fail tells a saga that a step which waits for a person has failed, and why: it is undone. A step that does not wait
// is fault.Conflict.
func (g *Saga[S]) Fail(ctx context.Context, tx *function.Tx, id, step, reason, code string) (S, error) {
	return g.change(ctx, tx, id, Answered, func(r *run[S]) error { return r.resolve(step, Failed, reason, code, nil) })
}

// Await waits until a saga has ended, until passes or ctx ends, and returns the saga that was last seen, or the zero
// state. It is for function.Then, outside of any unit of work.
func (g *Saga[S]) Await(ctx context.Context, id string, until time.Time) (S, error) {
	var last S
	read := func(ctx context.Context, tx *function.Tx) (err error) {
		last, err = g.Get(ctx, tx, id)
		return err
	}
	ended := false
	err := function.Await(ctx, g.f, id, until, func(ctx context.Context, tx *function.Tx) (bool, error) {
		d, err := tx.StoreTx().Get(ctx, g.store.key(id))
		if err == nil && d.Version == 0 {
			return false, read(ctx, tx)
		}
		if ended = err == nil && g.store.ended(d.Data); ended {
			err = read(ctx, tx)
		}
		return ended, err
	})
	if err == nil && !ended {
		err = g.f.Read(context.WithoutCancel(ctx), read)
	}
	return last, err
}

// look implements listener.look.
func (g *Saga[S]) look(ctx context.Context, tx *function.Tx) (exists, asked bool, err error) {
	e := tx.Event()
	s, exists, err := g.Find(ctx, tx, e.Subject())
	_, asked = g.instance(&s).commandOf(event.Extension(e, event.CausationID))
	return exists, asked, err
}

// answered handles an event that may answer a command of the saga that it is about. The type is the one that the saga
// consumes: the event may be of an older version that is read as it. An event that may be meant for another saga with
// the id answers no command that did not cause it.
func (g *Saga[S]) answered(
	ctx context.Context, tx *function.Tx, as *event.Info, data json.RawMessage, alone bool,
) error {
	e := tx.Event()
	_, err := g.change(ctx, tx, e.Subject(), Answered, func(r *run[S]) error {
		r.strict = r.strict || !alone
		r.answered(reply{e, as.Name, data})
		return r.err
	})
	if g.d.Strict && fault.Is(err, fault.NotFound) {
		return nil // it is about the saga of another function
	}
	return err
}

// expired handles the event of a saga's timer.
func (g *Saga[S]) expired(ctx context.Context, tx *function.Tx) error {
	e := tx.Event()
	_, err := g.change(ctx, tx, e.Subject(), Expired, func(r *run[S]) error {
		if r.in.Saga.Status.Ended() {
			return nil
		}
		if r.in.Timer == e.ID() {
			r.in.Timer, r.in.TimerDue, r.changed = "", time.Time{}, true
			r.early = max(0, e.Time().Sub(r.now))
		}
		r.expired(r.now)
		return r.err
	})
	return err
}

func (g *Saga[S]) run(tx *function.Tx, s *S) *run[S] {
	r := &run[S]{
		steps: g.step, newest: g.versions[0], stuck: g.d.StuckAfter, strict: g.d.Strict, refuse: fault.Unavailable,
		now: tx.Now(), state: s, in: g.instance(s),
	}
	if tx.Event().Context != nil {
		r.refuse = fault.NotYet // an event waits for the newer build, and that is no failure of this one
	}
	return r
}

// change loads a saga, lets fn change it, and stores it if it has changed.
func (g *Saga[S]) change(
	ctx context.Context, tx *function.Tx, id string, what Happening, fn func(*run[S]) error,
) (S, error) {
	s, err := g.Get(ctx, tx, id)
	if err != nil {
		return s, err
	}
	r := g.run(tx, &s)
	if err := fn(r); err != nil {
		return s, err
	}
	if !r.changed {
		return s, nil
	}
	return s, g.commit(ctx, tx, r, Change[S]{What: what})
}

// commit emits what a change asks for and stores the saga.
func (g *Saga[S]) commit(ctx context.Context, tx *function.Tx, r *run[S], c Change[S]) error {
	if r.err != nil {
		return r.err
	}
	in := r.in
	for _, m := range r.sends {
		d := m.draft(in.ID, *r.state)
		d.ID = tx.NewID()
		in.note(sentKey(m.step, m.undo), d.ID)
		tx.Emit(d)
	}
	in.Saga.Reason = truncated(in.Saga.Reason)
	in.Saga.summarize()
	for _, stuck := range r.told {
		g.tell(ctx, tx, in, stuck)
	}
	c.Ended = in.Saga.Status.Ended() && in.EndedAt.IsZero()
	if c.Ended {
		in.EndedAt = tx.Now()
		g.ended.Add(ctx, 1, metric.WithAttributes(attribute.String("function", g.f.Name()),
			attribute.String("saga", g.d.Name), attribute.String("status", string(in.Saga.Status))))
		if !g.router.shared(g.consumes) { // a late answer to this saga must not count for another one
			in.Sent = nil
		}
		if g.d.Ended != nil {
			if err := g.d.Ended(ctx, tx, r.state); err != nil {
				return err
			}
		}
		g.answerParent(tx, r.state)
	}
	if err := g.setTimer(tx, r); err != nil {
		return err
	}
	c.At, c.By, c.Event, c.State = tx.Now(), tx.Principal().Subject, "", *r.state
	if tx.Event().Context != nil {
		c.Event = tx.Event().Type()
	}
	return g.store.save(ctx, tx, in.ID, c)
}

// lostAfter is how late the event of a timer may be before another timer is set.
const lostAfter = time.Minute

// setTimer has the clock look at the saga again at its next deadline. A timer that goes off before that stays: it is
// set again then. So a saga whose answers come in time sets one timer. A timer whose event should have come, and did
// not, is replaced: its event may be a dead letter.
func (g *Saga[S]) setTimer(tx *function.Tx, r *run[S]) error {
	in, due := r.in, r.in.Saga.nextDue()
	known := !in.TimerDue.IsZero()
	useless := in.Saga.Status.Ended() || r.rearm || known && earlier(due, in.TimerDue) ||
		known && in.TimerDue.Add(lostAfter).Before(r.now)
	if in.Timer != "" && useless {
		tx.CancelTimer(in.Timer, in.ID)
		in.Timer, in.TimerDue = "", time.Time{}
	}
	if in.Timer != "" || due.IsZero() {
		return nil
	}
	// The clock may be ahead of this instance: a timer for the same time would go off at once, again and again.
	due = due.Add(r.early)
	if !due.After(r.now) {
		due = r.now.Add(time.Second)
	}
	var err error
	in.Timer, err = tx.After(due, g.timer.draft(in.ID, *r.state))
	in.TimerDue = due
	return err
}

// tell reports a saga that has become stuck.
func (g *Saga[S]) tell(ctx context.Context, tx *function.Tx, in *Instance, stuck Stuck) {
	tx.Emit(event.SagaStuck.New(in.ID, event.StuckSaga{
		Function: g.f.Name(), Saga: g.d.Name, ID: in.ID, Status: string(in.Saga.Status), Step: stuck.Step,
		Reason: stuck.Reason, Since: stuck.Since,
	}))
	g.told.Add(ctx, 1, metric.WithAttributes(
		attribute.String("function", g.f.Name()), attribute.String("saga", g.d.Name), attribute.String("step", stuck.Step)))
	g.f.Env().Logger.ErrorContext(ctx, "a saga is stuck: retry it, skip the step or end it with the command sagas",
		"saga", g.d.Name, "id", in.ID, "status", in.Saga.Status, "step", stuck.Step, "reason", stuck.Reason)
}

// truncated returns a reason that an event can carry.
func truncated(reason string) string {
	const maxLength = 2000 // characters
	if len(reason) <= maxLength {
		return reason
	}
	if r := []rune(reason); len(r) > maxLength {
		return string(r[:maxLength])
	}
	return reason
}
