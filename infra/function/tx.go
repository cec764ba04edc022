package function

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Tx is a handler's unit of work: what it reads and writes, emits and schedules commits together or not at all. It
// belongs to one call of the handler and must not be used by several goroutines at once.
type Tx struct {
	f           *Function
	db          *store.Tx
	now         time.Time
	ids         []string
	drawn       int
	cause       ce.Event // that is being handled; zero for HTTP
	message     string   // names the event or the request; see messageOf
	trace       string   // traceparent of the handler's span
	traceState  string   // that belongs to trace
	correlation string   // that the caller gave
	principal   auth.Principal
	drafts      []event.Draft
	timers      map[int]timed // whose commands are among the drafts, by their place there
	raw         []ce.Event
	tickAgain   bool
	readOnly    bool
	failed      error // of Fail
}

// newTx returns the handler's view of one attempt.
func (f *Function) newTx(ctx context.Context, db *store.Tx, now time.Time, message string) *Tx {
	return &Tx{
		f: f, db: db, now: now, message: message,
		trace: telemetry.Traceparent(ctx), traceState: telemetry.Tracestate(ctx), correlation: telemetry.Correlation(ctx),
	}
}

// StoreTx returns the transaction on the function's collections.
func (tx *Tx) StoreTx() *store.Tx { return tx.db }

// Now returns the time of the unit of work, in UTC, the same however often the handler runs.
func (tx *Tx) Now() time.Time { return tx.now }

// NewID returns a new id, a UUIDv7 unless Env has another source. When the handler runs again it gets the same ids in
// the same order.
func (tx *Tx) NewID() string {
	if tx.drawn == len(tx.ids) {
		tx.ids = append(tx.ids, tx.f.env.NewID())
	}
	tx.drawn++
	return tx.ids[tx.drawn-1]
}

// Event returns the event being handled; a zero one for an HTTP request.
func (tx *Tx) Event() ce.Event { return tx.cause }

// Replayed reports whether the event is a past one that is replayed for projections.
func (tx *Tx) Replayed() bool { return event.Extension(tx.cause, event.Replay) != "" }

// Key returns an idempotency key for a remote call, the same however often the message comes: it names the message and
// the operation. The tries of an HTTP request are one message when they have the same Idempotency-Key; each request
// without one is a message of its own.
func (tx *Tx) Key(op string) string { return tx.message + "/" + op }

// Emit publishes events when the unit commits. The kit sets id, source, time and the extensions.
func (tx *Tx) Emit(drafts ...event.Draft) { tx.drafts = append(tx.drafts, drafts...) }

// EmitRaw publishes a complete event unchanged when the unit commits.
func (tx *Tx) EmitRaw(e ce.Event) { tx.raw = append(tx.raw, e) }

// RequestTick asks the host to call the tick handler once more, because work is left.
func (tx *Tx) RequestTick() { tx.tickAgain = true }

// Fail makes the unit of work fail with err instead of committing, also when the handler returns nil: for an error of
// the store below code that does not pass errors on.
func (tx *Tx) Fail(err error) { tx.failed = cmp.Or(tx.failed, err) }

// Principal returns who sent the request; anonymous in event handlers.
func (tx *Tx) Principal() auth.Principal { return tx.principal }

// seal turns what was emitted into complete events. It returns the error of a unit that must not commit.
func (tx *Tx) seal(ctx context.Context) ([]ce.Event, error) {
	if tx.failed != nil {
		return nil, tx.failed
	}
	if len(tx.drafts)+len(tx.raw) == 0 {
		return nil, nil
	}
	if tx.readOnly {
		return nil, fault.New(fault.Internal, "an operation that only reads emitted an event")
	}
	if err := tx.storeRevocations(ctx); err != nil {
		return nil, err
	}
	if err := tx.storeKeys(ctx); err != nil {
		return nil, err
	}
	sealed := make([]ce.Event, 0, len(tx.drafts)+len(tx.raw))
	for i, d := range tx.drafts {
		if t, ok := tx.timers[i]; ok {
			var err error
			if d, err = tx.schedule(ctx, d, t); err != nil {
				return nil, err
			}
		}
		e, err := tx.stamp(ctx, d)
		if err != nil {
			return nil, err
		}
		sealed = append(sealed, e)
	}
	for _, e := range tx.raw {
		if err := event.CheckAttributes(e); err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "cannot publish the event: %v", err)
		}
		sealed = append(sealed, e)
	}
	return sealed, tx.f.checkSize(sealed)
}

// checkSize refuses events that are larger than the broker takes: once committed, one could never be published.
func (f *Function) checkSize(sealed []ce.Event) error {
	limited, ok := f.env.Publisher.(broker.Limiter)
	if !ok {
		return nil
	}
	for i := range sealed {
		e := &sealed[i]
		size := len(e.DataEncoded) + attributesSize + len(e.Subject()) + len(partitionKey(*e))
		if size > limited.MaxEvent() {
			return fault.New(fault.Invalid, "the event %s has %d bytes, and the broker takes %d at most",
				e.Type(), size, limited.MaxEvent())
		}
	}
	return nil
}

// stamp returns the complete event of a draft.
func (tx *Tx) stamp(ctx context.Context, d event.Draft) (ce.Event, error) {
	e, err := tx.begin(d)
	if err != nil {
		return ce.Event{}, err
	}
	return tx.complete(ctx, d, e)
}

// begin returns the event of a draft without what complete adds. Its data is not encrypted yet.
func (tx *Tx) begin(d event.Draft) (ce.Event, error) {
	if !tx.f.mayEmit(d.Info) {
		return ce.Event{}, fault.New(fault.Internal, "function %s emits %s without having declared it",
			tx.f.name, nameOf(d.Info))
	}
	data, err := d.Encode()
	if err != nil {
		return ce.Event{}, fault.Wrap(err, fault.Internal, "emit %s", d.Info.Name)
	}
	c := ce.EventContextV1{}
	e := ce.Event{Context: &c, DataEncoded: data}
	extensions := make(map[string]any, 6)
	c.Extensions = extensions
	if c.ID = d.ID; c.ID == "" {
		c.ID = tx.NewID()
	}
	_ = c.SetSource(tx.f.Source())
	c.Type = d.Info.Name
	c.Subject = &d.Subject
	_ = c.SetTime(tx.now)
	c.DataContentType = &jsonType
	_ = c.SetDataSchema(d.Info.DataSchema)
	extensions[event.PartitionKey] = d.Key
	if d.Info.Kind == event.Fact {
		v, err := tx.sequence(d.Key)
		if err != nil {
			return ce.Event{}, err
		}
		if v > 0 {
			extensions[event.Sequence] = strconv.FormatInt(v, 10)
		}
	}
	extensions[event.CorrelationID] = tx.correlationID()
	if d.SentAs != "" {
		extensions[event.SentAs] = d.SentAs
	}
	if d.Cause != "" {
		extensions[event.CausationID] = d.Cause
	} else if tx.cause.Context != nil {
		extensions[event.CausationID] = tx.cause.ID()
	}
	return e, nil
}

// complete adds the trace to an event and encrypts personal data in it. It refuses an event that no broker would take.
func (tx *Tx) complete(ctx context.Context, d event.Draft, e ce.Event) (_ ce.Event, err error) {
	extensions := e.Context.(*ce.EventContextV1).Extensions
	trace, state := cmp.Or(tx.f.announce(ctx, e.ID()), tx.trace), tx.traceState
	if trace == "" {
		trace, state = event.Extension(tx.cause, event.TraceParent), event.Extension(tx.cause, event.TraceState)
	}
	if trace != "" {
		extensions[event.TraceParent] = trace
		if state != "" {
			extensions[event.TraceState] = state
		}
	}
	if e.DataEncoded, err = tx.conceal(ctx, d, e, e.DataEncoded); err != nil {
		return ce.Event{}, err
	}
	if err := checkPublishable(e, d); err != nil {
		return ce.Event{}, fault.Wrap(err, fault.Invalid, "cannot emit %s: %s", d.Info.Name, strings.TrimSpace(err.Error()))
	}
	return e, nil
}

// mayEmit reports whether the function has declared that it emits the type. Every function may set timers.
func (f *Function) mayEmit(info *event.Info) bool {
	return info != nil && (f.emits[info.Name] != nil || info == event.ClockSchedule.Info() ||
		info == event.ClockCancel.Info() || slices.Contains(f.emittedByKit(), info))
}

func nameOf(info *event.Info) string {
	if info == nil {
		return "a draft without a type"
	}
	return info.Name
}

// checkPublishable refuses an event that a broker would refuse: once committed, it could never be published.
func checkPublishable(e ce.Event, d event.Draft) error {
	for _, text := range []string{d.Subject, d.Key} {
		if strings.ContainsFunc(text, unicode.IsControl) { // CloudEvents 1.0.2, section 3.1
			return fault.New(fault.Invalid, "%q has a control character", text)
		}
	}
	return event.Valid(e)
}

var jsonType = event.ContentType

// correlationID returns the correlation of the message, or the id of the message when it is the first of its
// correlation.
func (tx *Tx) correlationID() string {
	if tx.cause.Context == nil {
		if tx.correlation != "" {
			return tx.correlation
		}
		return tx.message
	}
	if id := event.Extension(tx.cause, event.CorrelationID); id != "" {
		return id
	}
	return tx.cause.ID()
}

// partitionKey returns the key that the event is ordered by; empty: it has no order.
func partitionKey(e ce.Event) string { return event.Extension(e, event.PartitionKey) }
