package function

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// receive handles a batch, in units of work of as many events as fit one commit. Events of blocked keys are skipped,
// and the keys of those that fail become blocked. When half of the time has passed, no further unit is begun.
func (f *Function) receive(ctx context.Context, events []ce.Event, blocked map[string]bool) []broker.Result {
	var until time.Time
	if deadline, ok := ctx.Deadline(); ok {
		now := f.env.Now()
		until = now.Add(deadline.Sub(now) / 2)
	}
	results := make([]broker.Result, 0, len(events))
	for rest := events; len(rest) > 0; rest = events[len(results):] {
		if len(results) > 0 && !until.IsZero() && f.env.Now().After(until) {
			for _, e := range rest {
				results = append(results, handedBack(e, blocked))
			}
			break
		}
		results = append(results, f.receiveUnit(ctx, rest[:f.fits.of(len(rest))], blocked)...)
	}
	return results
}

// handedBack returns the result of an event that is not tried, and blocks its key.
func handedBack(e ce.Event, blocked map[string]bool) broker.Result {
	if key := partitionKey(e); key != "" {
		blocked[key] = true
	}
	return broker.Result{Skipped: true}
}

// receiveUnit handles events in one unit of work; in halves when their commit is refused.
func (f *Function) receiveUnit(ctx context.Context, events []ce.Event, blocked map[string]bool) []broker.Result {
	b := batch{
		f: f, events: events, ids: make([][]string, len(events)), before: blocked, now: f.env.Now().UTC(),
	}
	if deadline, ok := ctx.Deadline(); ok {
		b.until = b.now.Add(deadline.Sub(b.now) / 2)
	}
	unpublished, err := f.commit(ctx, b.handle)
	if b.results == nil {
		b.reset() // it did not come to that
	}
	if err != nil && len(events) > 1 && b.handled && !fault.KindOf(err).Retryable() {
		half := len(events) / 2
		if fault.Is(err, fault.TooLarge) {
			f.fits.refused(len(events))
		}
		return append(f.receive(ctx, events[:half], blocked), f.receive(ctx, events[half:], blocked)...)
	}
	if err != nil {
		b.fail(err)
	} else {
		f.fits.committed(len(events))
		b.relay(ctx, unpublished)
		b.followUp(ctx)
	}
	for i, e := range events {
		f.observe(b.contextOf(ctx, i), e, b.results[i], b.took[i], b.errs[i])
	}
	maps.Copy(blocked, b.blocked)
	return b.results
}

// batch is the events that share one unit of work.
type batch struct {
	f       *Function
	events  []ce.Event
	ids     [][]string
	before  map[string]bool // keys that were blocked before the batch
	now     time.Time
	until   time.Time // no further event is begun afterwards, to leave time for the commit and the publish; zero: no end
	handled bool      // every event has been handled: what fails then is the commit of all of them

	// Of one attempt.
	results []broker.Result
	errs    []error
	took    []time.Duration
	scopes  []telemetry.Scope // with the span of the delivery; zero: there was none
	blocked map[string]bool   // keys of events that failed and will come again
	emitted []bool
	follow  [][]followed
	names   naming   // of what follows
	refused []bool   // by its handler, on reads that the commit of the batch confirms
	repeats []repeat // duplicates
	swept   bool     // the clock's sweep is among the events

	presumed bool // an attempt took the events for new ones
}

// repeat is a duplicate in a batch, the outbox entry with its events, see relayFor, and what it left to do.
type repeat struct {
	event  int
	entry  *string
	follow follows
}

func (b *batch) reset() {
	n := len(b.events)
	b.results, b.errs, b.took = make([]broker.Result, n), make([]error, n), make([]time.Duration, n)
	b.scopes = make([]telemetry.Scope, n)
	b.emitted, b.follow, b.refused = make([]bool, n), make([][]followed, n), make([]bool, n)
	b.blocked, b.handled, b.repeats, b.swept = maps.Clone(b.before), false, nil, false
	b.names = naming{newID: b.f.env.NewID}
}

// contextOf returns the context in which an event was handled; for one that was not, a context with its trace.
func (b *batch) contextOf(ctx context.Context, i int) context.Context {
	switch {
	case !b.scopes[i].IsZero():
		return b.scopes[i].In(ctx)
	case b.errs[i] != nil && b.events[i].Context != nil:
		return withTrace(ctx, b.events[i])
	}
	return ctx
}

// fail fails every event that had succeeded or was not handled: without the commit nothing has happened. It also fails
// those that were refused: what they were decided on may be what another event of the batch has written.
func (b *batch) fail(err error) {
	for i := range b.results {
		if res := &b.results[i]; res.OK() || res.Status == 0 && !res.Skipped || b.refused[i] {
			b.failOne(i, err)
		}
	}
}

func (b *batch) failOne(i int, err error) {
	b.results[i], b.errs[i] = broker.ResultOf(err), err
	if key := partitionKey(b.events[i]); key != "" && fault.KindOf(err).Retryable() {
		b.blocked[key] = true
	}
}

// handle runs the handlers of all events in one transaction, and returns what they emitted.
func (b *batch) handle(ctx context.Context, db *store.Tx, entry string) ([]ce.Event, error) {
	b.reset()
	inbox := make([]store.Key, len(b.events))
	news := make([]store.Document, 0, len(b.events))
	var keys []store.Key
	for i, e := range b.events {
		if e.Context == nil {
			continue
		}
		inbox[i] = store.Key{Collection: inboxName, ID: inboxID(e)}
		news = append(news, store.Document{Key: inbox[i]})
		keys = append(keys, inbox[i])
		if b.f.prefetch != nil {
			keys = append(keys, b.f.prefetched(ctx, e)...)
		}
	}
	b.presume(db, news)
	if err := db.Load(ctx, keys...); err != nil {
		return nil, err
	}
	var sealed []ce.Event
	tried := false
	for i, e := range b.events {
		if tried && b.late() {
			b.handBack(i)
			break
		}
		if key := partitionKey(e); key != "" && b.blocked[key] {
			b.results[i] = broker.Result{Skipped: true}
			continue
		}
		tried = true
		emitted, err := b.handleOne(ctx, db, inbox[i], i, entry)
		if err != nil {
			b.failOne(i, err)
			continue
		}
		b.results[i], b.emitted[i] = broker.ResultOf(nil), b.emitted[i] || len(emitted) > 0
		sealed = append(sealed, emitted...)
	}
	if b.f.followUp != nil {
		last := lastOf(db)
		for i := range b.follow {
			b.follow[i] = last.take(b.follow[i])
		}
	}
	b.handled = true
	return sealed, nil
}

// watchful is how many batches after a duplicate read their inbox entries first.
const watchful = 64

// presume takes the events for new ones, which saves reading their inbox entries: the commit fails if one is a
// duplicate, and the next attempt reads them. Duplicates seldom come alone, so for a while after one no events are
// presumed to be new.
func (b *batch) presume(db *store.Tx, news []store.Document) {
	if b.f.watchful.Add(-1) >= 0 {
		return
	}
	b.f.watchful.Store(0)
	if presumed := db.Presume(news...); !presumed && b.presumed {
		b.f.watchful.Store(watchful)
	} else {
		b.presumed = presumed
	}
}

// late reports whether the batch has used its share of the time. At least one event is tried in any case, so that a
// batch always gets on.
func (b *batch) late() bool { return !b.until.IsZero() && b.f.env.Now().After(b.until) }

// handBack skips the events from the i-th on, and later ones of their keys: they come again without having been tried.
func (b *batch) handBack(i int) {
	for ; i < len(b.events); i++ {
		b.results[i] = handedBack(b.events[i], b.blocked)
	}
}

// handleOne handles one event in a transaction inside the batch's. What it emits goes into the named outbox entry.
func (b *batch) handleOne(
	ctx context.Context, db *store.Tx, inbox store.Key, i int, entry string,
) (emitted []ce.Event, err error) {
	e, begin := b.events[i], time.Now()
	defer func() { b.took[i] = time.Since(begin) }()
	h, err := b.f.handlerOf(e)
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, nil // it has started the function, which is all
	}
	// A dead letter may fail again after it was mended, with the same id: its handler knows it by its subscriber.
	remember := !b.f.isDeadLetter(e)
	if d, err := db.Get(ctx, inbox); err != nil || remember && d.Version > 0 {
		if err == nil {
			b.f.env.Telemetry.Duplicate(b.f.name)
			err = b.repeated(i, d, entry)
		}
		return nil, err
	}
	b.swept = b.swept || e.Type() == event.ClockSwept.Name()
	ctx, end := b.f.traced(ctx, e)
	defer func() { end(err) }()
	b.scopes[i] = telemetry.ScopeOf(ctx)
	nested := db.Nest()
	tx := b.f.newTx(ctx, nested, b.now, e.Source()+" "+e.ID())
	tx.cause, tx.ids = e, b.ids[i]
	err = b.f.recovered(ctx, func() (err error) {
		if err = h(ctx, tx, e); err == nil {
			emitted, err = tx.seal(ctx)
		}
		return err
	})
	b.ids[i] = tx.ids
	if err == nil && remember {
		if len(emitted) == 0 {
			entry = ""
		}
		b.follow[i] = b.newFollowed(b.f.toFollow(nested, &b.names))
		err = nested.Create(ctx, inbox, newInboxEntry(inbox.ID, b.now, entry, namesOf(b.follow[i])))
	}
	if err != nil {
		if !fault.KindOf(err).Retryable() {
			b.refused[i] = true
			nested.MergeReads()
		}
		return nil, err
	}
	nested.Merge()
	return emitted, nil
}

// repeated notes a duplicate. The instance that handled the event before may have stopped before it published.
func (b *batch) repeated(i int, d store.Document, own string) error {
	var known inboxEntry
	if err := json.Unmarshal(d.Data, &known); err != nil {
		return fault.Wrap(err, fault.Internal, "decode the inbox entry %s", d.ID)
	}
	b.f.watchful.Store(watchful)
	entry := known.Outbox
	if entry != nil && *entry != "" && *entry == own {
		entry = new(string)
		b.emitted[i] = true // this batch publishes it: for the first copy and for this one
	}
	if entry == nil || *entry != "" || len(known.Follow) > 0 {
		b.repeats = append(b.repeats, repeat{i, entry, known.Follow})
	}
	return nil
}

// relay deals with events that are not published after the commit. An event whose own events could not be published
// fails: when it comes again, as a duplicate, they are published first. So no event is acknowledged before its events
// are published. A failed relay after a sweep fails nothing, since the next sweep comes anyway.
func (b *batch) relay(ctx context.Context, unpublished error) {
	for i, emitted := range b.emitted {
		if emitted && unpublished != nil {
			b.failOne(i, unpublished)
		}
	}
	errs := map[string]error{} // one entry holds the events of a whole batch
	for _, r := range b.repeats {
		name := ""
		if r.entry != nil {
			name = *r.entry
		}
		err, done := errs[name]
		if !done {
			err = b.f.relayFor(ctx, r.entry)
			errs[name] = err
		}
		if err != nil {
			b.failOne(r.event, err)
		}
	}
	if b.swept {
		_ = b.f.relayAll(ctx, false) // it reports what is left
	}
}

// withTrace returns a context with the event's trace and correlation.
func withTrace(ctx context.Context, e ce.Event) context.Context {
	if parent := event.Extension(e, event.TraceParent); parent != "" {
		ctx = telemetry.WithTrace(ctx, parent, event.Extension(e, event.TraceState))
	}
	correlation := event.Extension(e, event.CorrelationID)
	if correlation == "" {
		correlation = e.ID()
	}
	return telemetry.WithCorrelation(ctx, correlation)
}

// traced does the same, in a new span for the delivery of the event.
func (f *Function) traced(ctx context.Context, e ce.Event) (context.Context, func(error)) {
	ctx = withTrace(ctx, e)
	return f.env.Telemetry.ProcessSpan(ctx, f.name, f.shown(e), f.cold())
}

// shown returns an event as spans show it.
func (f *Function) shown(e ce.Event) telemetry.Message {
	return telemetry.Message{
		Type: f.label(e.Type()), ID: e.ID(), Source: e.Source(), SpecVersion: e.SpecVersion(), Subject: e.Subject(),
		Conversation: event.Extension(e, event.CorrelationID), Size: len(e.DataEncoded),
	}
}

// recovered runs code of the function's author and turns a panic into an error.
func (f *Function) recovered(ctx context.Context, run func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = f.panicked(ctx, p)
		}
	}()
	return run()
}

// prefetched returns the keys of the documents that the handler of an event will read. When that panics there are none,
// and the handler finds out for itself.
func (f *Function) prefetched(ctx context.Context, e ce.Event) (keys []store.Key) {
	_ = f.recovered(ctx, func() error {
		keys = f.prefetch(e)
		return nil
	})
	return keys
}

// handOver gives events to the handler that consumes them by itself.
func (f *Function) handOver(ctx context.Context, events []ce.Event) []broker.Result {
	begin := f.env.Now()
	results, errs := make([]broker.Result, len(events)), make([]error, len(events))
	known := f.consumes()
	var own []ce.Event
	var at []int
	for i, e := range events {
		if e.Context == nil || event.Valid(e) != nil || !slices.Contains(known, e.Type()) {
			errs[i] = fault.New(fault.Invalid, "this is no event that function %s consumes", f.name)
			results[i] = broker.ResultOf(errs[i])
			continue
		}
		own, at = append(own, e), append(at, i)
	}
	for n, result := range f.received(ctx, own) {
		results[at[n]] = result
	}
	took := f.env.Now().Sub(begin)
	for i, e := range events {
		if errs[i] == nil && !results[i].OK() {
			kind := fault.Unavailable
			if results[i].Status == http.StatusInternalServerError {
				kind = fault.Internal
			}
			errs[i] = fault.New(kind, "%s", results[i].Message)
		}
		ctx := ctx
		if errs[i] != nil && e.Context != nil {
			ctx = withTrace(ctx, e)
		}
		f.observe(ctx, e, results[i], took, errs[i])
	}
	return results
}

// received returns the handler's answers to events, one for each. A panic does not tell which event of a batch is to
// blame: each is then handed over by itself, and those of its key that come after one that failed are skipped.
func (f *Function) received(ctx context.Context, events []ce.Event) (results []broker.Result) {
	if len(events) == 0 {
		return nil
	}
	err := f.recovered(ctx, func() error {
		results = f.receiver.Receive(ctx, events)
		return nil
	})
	switch {
	case err != nil && len(events) == 1:
		return []broker.Result{broker.ResultOf(err)}
	case err == nil:
		return append(results, make([]broker.Result, max(0, len(events)-len(results)))...)[:len(events)]
	}
	results, blocked := nil, map[string]bool{}
	for i, e := range events {
		key := partitionKey(e)
		if key != "" && blocked[key] || ctx.Err() != nil {
			results = append(results, handedBack(e, blocked))
			continue
		}
		results = append(results, f.received(ctx, events[i:i+1])...)
		if r := results[i]; key != "" && !r.OK() && fault.RetryableStatus(r.Status) {
			blocked[key] = true
		}
	}
	return results
}

// observe counts a delivery, and logs one that failed.
func (f *Function) observe(ctx context.Context, e ce.Event, res broker.Result, took time.Duration, err error) {
	if res.Skipped || e.Context == nil {
		return
	}
	outcome := "ok"
	if err != nil {
		outcome = fault.KindOf(err).String()
		log := f.env.Logger.WarnContext
		if res.Status == http.StatusInternalServerError {
			log = f.env.Logger.ErrorContext
		}
		log(ctx, "an event was not handled",
			"type", shortened(e.Type()), "event", shortened(e.ID()), "kind", outcome, "error", err)
	}
	f.env.Telemetry.Handled(ctx, f.name, f.label(e.Type()), outcome, took)
}

// shortened returns the beginning of text that a sender wrote.
func shortened(text string) string { return text[:min(len(text), 200)] }
