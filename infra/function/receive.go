package function

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// handler takes one event, decoded or not.
type handler func(ctx context.Context, tx *Tx, e event) error

// On subscribes to a type of event. The data is checked against its schema before the handler
// runs; data that fails is a dead letter. A type is heard by one handler.
func On[T any](f *Function, t events.Type[T], h func(ctx context.Context, tx *Tx, data T) error) {
	if _, twice := f.hears[t.Name()]; twice {
		panic("function " + f.name + " hears " + t.Name() + " twice")
	}
	f.hears[t.Name()] = func(ctx context.Context, tx *Tx, e event) error {
		data, err := t.Decode(e)
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "%s", err.Error())
		}
		return h(ctx, tx, data)
	}
}

// OnAny subscribes to every event there is, whatever its type.
func OnAny(f *Function, h func(ctx context.Context, tx *Tx, e event) error) { f.any = h }

// OnDeadLetter takes the events that no attempt could deliver, from every trigger.
func OnDeadLetter(f *Function, h func(ctx context.Context, tx *Tx, e event) error) { f.dead = h }

// Prefetch names documents that handling an event will read, so that those of a whole batch are read in
// one call of the store. It is a hint: what it does not name is read when it is asked for.
func Prefetch(f *Function, keys func(e event) []store.Key) { f.prefetch = keys }

// OnTick runs when the host's clock ticks. Ticks come straight from the host and may come late, twice or not at all.
func OnTick(f *Function, h func(ctx context.Context, tx *Tx, now time.Time) error) { f.tick = h }

// Receive handles a batch of deliveries as broker.Handler says. The events of a batch share one unit
// of work: what one handler writes the next one reads, and one commit makes all of it durable. An event that fails
// leaves nothing of its own, and the later ones of its key in the batch are skipped. A commit that the store refuses for good
// is tried again in halves, so that only what is to blame fails.
func (f *Function) Receive(ctx context.Context, batch []event) []broker.Result {
	ctx = telemetry.WithFunction(ctx, f.name)
	return f.receive(ctx, batch, map[string]bool{})
}

// receive handles a batch. Events of blocked keys are skipped, and the keys of those that fail become blocked.
func (f *Function) receive(ctx context.Context, batch []event, blocked map[string]bool) []broker.Result {
	r := reception{f: f, batch: batch, ids: make([][]string, len(batch)), before: blocked, now: f.env.Now().UTC()}
	err := f.commit(ctx, r.handle)
	if r.results == nil {
		r.reset() // it did not come to that
	}
	if err != nil && len(batch) > 1 && r.handled && !fault.KindOf(err).Retryable() {
		half := len(batch) / 2
		return append(f.receive(ctx, batch[:half], blocked), f.receive(ctx, batch[half:], blocked)...)
	}
	if err == nil && f.outbox.left.stands() {
		err = f.publishLeft(ctx)
	}
	if err != nil {
		r.fail(err)
	}
	for i, e := range batch {
		f.observe(ctx, e, r.results[i], r.took[i], r.errs[i])
	}
	maps.Copy(blocked, r.blocked)
	return r.results
}

type reception struct {
	f       *Function
	batch   []event
	ids     [][]string
	before  map[string]bool // keys that were blocked before the batch
	now     time.Time
	handled bool // every event has been looked at: what fails then is the commit of all of them

	// of an attempt
	results []broker.Result
	errs    []error
	took    []time.Duration
	blocked map[string]bool // keys of events that failed and will come again
}

func (r *reception) reset() {
	r.results, r.errs, r.took = make([]broker.Result, len(r.batch)), make([]error, len(r.batch)), make([]time.Duration, len(r.batch))
	r.blocked, r.handled = maps.Clone(r.before), false
}

// fail answers every event that had succeeded, or that nobody came to: without the commit nothing has happened.
func (r *reception) fail(err error) {
	for i := range r.results {
		if res := &r.results[i]; res.OK() || res.Status == 0 && !res.Skipped {
			r.failed(i, err)
		}
	}
}

func (r *reception) failed(i int, err error) {
	r.results[i], r.errs[i] = broker.ResultOf(err), err
	if key := keyOf(r.batch[i]); key != "" && fault.KindOf(err).Retryable() {
		r.blocked[key] = true
	}
}

func (r *reception) handle(ctx context.Context, db *store.Tx) ([]event, error) {
	r.reset()
	inbox := make([]store.Key, len(r.batch))
	var keys []store.Key
	for i, e := range r.batch {
		if e.Context == nil {
			continue
		}
		inbox[i] = store.Key{Collection: inboxName, ID: inboxID(e)}
		keys = append(keys, inbox[i])
		if r.f.prefetch != nil {
			keys = append(keys, r.f.prefetch(e)...)
		}
	}
	if err := db.Load(ctx, keys...); err != nil {
		return nil, err
	}
	var sealed []event
	for i, e := range r.batch {
		if key := keyOf(e); key != "" && r.blocked[key] {
			r.results[i] = broker.Result{Skipped: true}
			continue
		}
		said, err := r.one(ctx, db, inbox[i], i)
		if err != nil {
			r.failed(i, err)
			continue
		}
		r.results[i] = broker.ResultOf(nil)
		sealed = append(sealed, said...)
	}
	r.handled = true
	return sealed, r.f.prune(ctx, db, r.now)
}

// one handles one event in a transaction inside the batch's.
func (r *reception) one(ctx context.Context, db *store.Tx, inbox store.Key, i int) (said []event, err error) {
	e, begin := r.batch[i], time.Now()
	defer func() { r.took[i] = time.Since(begin) }()
	h, err := r.f.handlerOf(e)
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, nil // it has woken the function, which is all
	}
	// A dead letter may die again after it was mended, with the same id: its handler knows it by its subscriber.
	remember := !r.f.isDead(e)
	if d, err := db.Get(ctx, inbox); err != nil || remember && d.Version > 0 {
		if err == nil {
			r.f.env.Telemetry.Duplicate(r.f.name)
			// Whoever handled it may have stopped before it published: have the outbox looked through.
			r.f.outbox.left.give()
		}
		return nil, err
	}
	if e.Type() == events.ClockSwept.Name() {
		r.f.outbox.left.give() // another instance may have left something
	}
	ctx, end := r.f.within(ctx, e)
	defer func() { end(err) }()
	nested := db.Nest()
	tx := r.f.newTx(ctx, nested, r.now, e.Source()+" "+e.ID())
	tx.cause, tx.ids = e, r.ids[i]
	err = r.f.guarded(ctx, tx, h, e)
	if err == nil {
		said, err = tx.seal(ctx)
	}
	r.ids[i] = tx.ids
	if err == nil && remember {
		err = nested.Create(ctx, inbox, inboxEntry(inbox.ID, r.now))
	}
	if err != nil {
		return nil, err
	}
	nested.Merge()
	return said, nil
}

// noted is an inbox entry. At says in Unix seconds when an event came that was past its time already.
type noted struct {
	At int64 `json:"at,omitempty"`
}

var onTime = json.RawMessage(`{}`)

func inboxEntry(id string, now time.Time) json.RawMessage {
	if id >= inboxHorizon(now) {
		return onTime
	}
	data, _ := json.Marshal(noted{At: now.Unix()}) // a number always marshals
	return data
}

// forgotten reports whether an inbox entry is past its time: that of its event, or of when that came if it was late.
func forgotten(d store.Document, now time.Time) bool {
	var entry noted
	if d.ID >= inboxHorizon(now) || len(d.Data) > len(onTime) && json.Unmarshal(d.Data, &entry) != nil {
		return false
	}
	return now.Sub(time.Unix(entry.At, 0)) > inboxKept
}

func inboxHorizon(now time.Time) string { return hourOf(now.Add(-inboxKept)) }

// within puts the event's trace and correlation into the context and begins a span.
func (f *Function) within(ctx context.Context, e event) (context.Context, func(error)) {
	if parent := extension(e, TraceParent); parent != "" {
		ctx = telemetry.WithTraceparent(ctx, parent)
	}
	correlation := extension(e, CorrelationID)
	if correlation == "" {
		correlation = e.ID()
	}
	ctx = telemetry.WithCorrelation(ctx, correlation)
	return f.env.Telemetry.Span(ctx, f.name+" "+f.label(e.Type()))
}

// guarded runs a handler and turns a panic into a fault.
func (f *Function) guarded(ctx context.Context, tx *Tx, h handler, e event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = f.panicked(ctx, p)
		}
	}()
	return h(ctx, tx, e)
}

// handlerOf finds who takes an event, or says why nobody does. It is nil for one that only wakes the function.
func (f *Function) handlerOf(e event) (handler, error) {
	if e.Context == nil {
		return nil, fault.New(fault.Invalid, "this is not a CloudEvent")
	}
	if err := events.Valid(e); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "this is not a valid CloudEvent: %v", err)
	}
	if f.isDead(e) {
		return f.dead, nil
	}
	if h, ok := f.hears[e.Type()]; ok {
		return h, nil
	}
	if f.any != nil {
		return f.any, nil
	}
	if e.Type() == events.ClockSwept.Name() {
		return nothingToDo, nil
	}
	if slices.Contains(f.wakes, e.Type()) {
		return nil, nil
	}
	if _, known := events.Lookup(e.Type()); !known {
		return nil, fault.New(fault.Invalid, "no event is of the type %q", e.Type())
	}
	return nil, fault.New(fault.Invalid, "function %s does not hear %s", f.name, e.Type())
}

func nothingToDo(context.Context, *Tx, event) error { return nil }

// isDead reports whether e is a dead letter that the function keeps.
func (f *Function) isDead(e event) bool { return f.dead != nil && extension(e, broker.ErrorDest) != "" }

func (f *Function) observe(ctx context.Context, e event, res broker.Result, took time.Duration, err error) {
	if res.Skipped || e.Context == nil {
		return
	}
	outcome := "ok"
	if err != nil {
		outcome = fault.KindOf(err).String()
		ctx, end := f.within(ctx, e)
		end(nil)
		log := f.env.Logger.WarnContext
		if res.Status == http.StatusInternalServerError {
			log = f.env.Logger.ErrorContext
		}
		log(ctx, "an event was not handled", "type", short(e.Type()), "event", short(e.ID()), "kind", outcome, "error", err)
	}
	f.env.Telemetry.Handled(f.name, f.label(e.Type()), outcome, took)
}

// label is a type as metrics and traces carry it: never what a sender made up.
func (f *Function) label(eventType string) string {
	if _, heard := f.hears[eventType]; heard {
		return eventType
	}
	if _, known := events.Lookup(eventType); known {
		return eventType
	}
	return "_OTHER" // as OpenTelemetry's conventions call what is not known
}

// short is the beginning of what a sender wrote.
func short(text string) string { return text[:min(len(text), 200)] }

// Inbox entries are kept for three days from the event's own time, or from when it came if that was later still: longer
// than any broker tries.
const (
	inboxKept  = 72 * time.Hour
	pruneEvery = 15 * time.Second
	pruneMost  = 200
)

// prune takes a few entries that are past their time out of the inbox and the kept
// answers, now and then, in a transaction that commits anyway.
func (f *Function) prune(ctx context.Context, db *store.Tx, now time.Time) error {
	next := f.outbox.prune.Load()
	if now.UnixNano() < next || !f.outbox.prune.CompareAndSwap(next, now.Add(pruneEvery).UnixNano()) {
		return nil
	}
	old, more, err := db.Query(ctx, store.Query{Collection: inboxName, Limit: pruneMost})
	if err != nil {
		return err
	}
	gone := 0
	for _, d := range old {
		if forgotten(d, now) {
			db.Discard(d.Key)
			gone++
		}
	}
	answers, _, err := db.Query(ctx, store.Query{Collection: keysName, Limit: pruneMost, Order: []store.Order{{Field: "at"}},
		Where: []store.Filter{{Field: "at", Op: store.Less, Value: now.Add(-keptFor).Unix()}}})
	if err != nil {
		return err
	}
	for _, d := range answers {
		db.Discard(d.Key)
	}
	if more && gone == pruneMost || len(answers) == pruneMost {
		f.outbox.prune.Store(0) // the next unit goes on
	}
	return nil
}
