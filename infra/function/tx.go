package function

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

type event = ce.Event

// The extensions that the kit stamps and reads. ReplayTo addresses an event to one function; Replay names the
// replay that a past event is part of, so that projections take it and side effects do not happen again.
const (
	PartitionKey  = "partitionkey"
	Sequence      = "sequence"
	CorrelationID = "correlationid"
	CausationID   = "causationid"
	TraceParent   = "traceparent"
	ReplayTo      = "ebbreplayto"
	Replay        = "ebbreplay"
)

// Tx is a handler's unit of work: what it reads and writes, emits and schedules commits
// together or not at all. It belongs to the one call of the handler.
type Tx struct {
	ctx     context.Context // of the handler: its trace and correlation
	f       *Function
	db      *store.Tx
	now     time.Time
	ids     []string
	drawn   int
	cause   event // what is being handled; zero for HTTP
	message string
	who     auth.Principal
	drafts  []events.Draft
	raw     []event
	more    bool
	read    bool
}

// StoreTx is the transaction on the function's collections.
func (tx *Tx) StoreTx() *store.Tx { return tx.db }

// Now is the time of the unit of work, in UTC, the same however often the handler runs.
func (tx *Tx) Now() time.Time { return tx.now }

// NewID makes an id, a UUIDv7 unless Env says otherwise. When the handler runs again it gets the same ids in the same order.
func (tx *Tx) NewID() string {
	if tx.drawn == len(tx.ids) {
		tx.ids = append(tx.ids, tx.f.env.NewID())
	}
	tx.drawn++
	return tx.ids[tx.drawn-1]
}

// Event is the event being handled; a zero one for an HTTP request.
func (tx *Tx) Event() event { return tx.cause }

// Replayed reports whether the event is a past one, played again for projections.
func (tx *Tx) Replayed() bool { return extension(tx.cause, Replay) != "" }

// Key is an idempotency key for a remote call, the same however often the message comes: it
// names the message and the operation.
func (tx *Tx) Key(op string) string { return tx.message + "/" + op }

// Emit says an event when the unit commits. The kit stamps id, source, time and the extensions.
func (tx *Tx) Emit(drafts ...events.Draft) { tx.drafts = append(tx.drafts, drafts...) }

// EmitRaw says a complete event as it is.
func (tx *Tx) EmitRaw(e event) { tx.raw = append(tx.raw, e) }

// Again asks the host to call the tick handler once more, because work is left.
func (tx *Tx) Again() { tx.more = true }

// After says an event when it is due, and returns the timer's id. The timer is durable: the clock capability
// keeps it. The event has its id from now on, so that it is handled once however often it is published. Its time is when it is
// due.
func (tx *Tx) After(due time.Time, d events.Draft) (timer string, err error) {
	e, err := tx.stamp(tx.ctx, d)
	if err != nil {
		return "", err
	}
	if due.After(tx.now) {
		e.SetTime(due.UTC())
	}
	data, err := json.Marshal(e)
	if err != nil {
		return "", fault.Wrap(err, fault.Internal, "encode the event of a timer")
	}
	tx.Emit(events.ClockSchedule.New(e.ID(), events.ScheduleEvent{TimerID: e.ID(), Due: due.UTC(), Event: data}).Keyed(d.Key))
	return e.ID(), nil
}

// CancelTimer forgets a timer that was set with an event of this partition key; one that has gone off is no fault.
func (tx *Tx) CancelTimer(timer, key string) {
	tx.Emit(events.ClockCancel.New(timer, events.CancelTimer{TimerID: timer}).Keyed(key))
}

// Principal is who is asking; anonymous in event handlers.
func (tx *Tx) Principal() auth.Principal { return tx.who }

// seal turns what was emitted into events and puts them into the outbox of the transaction.
func (tx *Tx) seal(ctx context.Context) ([]event, error) {
	if len(tx.drafts)+len(tx.raw) == 0 {
		return nil, nil
	}
	if tx.read {
		return nil, fault.New(fault.Internal, "an operation that only reads emitted an event")
	}
	sealed := make([]event, 0, len(tx.drafts)+len(tx.raw))
	for _, d := range tx.drafts {
		e, err := tx.stamp(ctx, d)
		if err != nil {
			return nil, err
		}
		sealed = append(sealed, e)
	}
	for _, e := range tx.raw {
		if err := Sayable(e); err != nil {
			return nil, err
		}
		sealed = append(sealed, e)
	}
	return sealed, tx.f.fits(sealed)
}

// Sayable refuses a complete event that EmitRaw could not say: fault.Invalid.
func Sayable(e ce.Event) error {
	if err := events.Valid(e); err != nil {
		return fault.Wrap(err, fault.Invalid, "the event to publish is not a valid CloudEvent: %s", strings.TrimSpace(err.Error()))
	}
	if e.DataMediaType() == ce.ApplicationJSON && len(e.Data()) > 0 && !json.Valid(e.Data()) {
		return fault.New(fault.Invalid, "the data of the event to publish is not JSON")
	}
	return nil
}

// fits refuses what the broker would not take: once it is committed it could never be published.
func (f *Function) fits(sealed []event) error {
	limited, ok := f.env.Publisher.(broker.Limiter)
	if !ok {
		return nil
	}
	for i := range sealed {
		if size := len(sealed[i].DataEncoded) + attributesSize + len(sealed[i].Subject()) + len(keyOf(sealed[i])); size > limited.MaxEvent() {
			return fault.New(fault.Invalid, "the event %s has %d bytes, and the broker takes %d at most", sealed[i].Type(), size, limited.MaxEvent())
		}
	}
	return nil
}

func (tx *Tx) stamp(ctx context.Context, d events.Draft) (event, error) {
	if d.Info == nil || !tx.f.says[d.Info.Name] && d.Info.Capability != "clock" {
		return event{}, fault.New(fault.Internal, "function %s emits %v without having declared it", tx.f.name, d.Info)
	}
	data, err := d.Encode()
	if err != nil {
		return event{}, fault.Wrap(err, fault.Internal, "emit %s", d.Info.Name)
	}
	c := ce.EventContextV1{}
	e := event{Context: &c, DataEncoded: data}
	ext := make(map[string]any, 5)
	c.Extensions = ext
	c.ID = tx.NewID()
	_ = c.SetSource(tx.f.Source())
	c.Type = d.Info.Name
	c.Subject = &d.Subject
	_ = c.SetTime(tx.now)
	c.DataContentType = &jsonType
	_ = c.SetDataSchema(d.Info.DataSchema)
	ext[PartitionKey] = d.Key
	if v := tx.db.Written(d.Key); v > 0 && d.Info.Kind == events.Fact {
		ext[Sequence] = strconv.FormatInt(v, 10)
	}
	ext[CorrelationID] = tx.correlation(ctx)
	if tx.cause.Context != nil {
		ext[CausationID] = tx.cause.ID()
	}
	if parent := telemetry.Traceparent(ctx); parent != "" {
		ext[TraceParent] = parent
	} else if parent := extension(tx.cause, TraceParent); parent != "" {
		ext[TraceParent] = parent
	}
	if err := publishable(e, d); err != nil {
		return event{}, fault.Wrap(err, fault.Invalid, "%s cannot be said: %s", d.Info.Name, strings.TrimSpace(err.Error()))
	}
	return e, nil
}

// publishable refuses a draft's event that a broker would: once it is committed it could never be published.
func publishable(e event, d events.Draft) error {
	for _, text := range []string{d.Subject, d.Key} {
		if strings.ContainsFunc(text, unicode.IsControl) { // CloudEvents 1.0.2, section 3.1
			return fault.New(fault.Invalid, "there is a control character in %q", text)
		}
	}
	return events.Valid(e)
}

var jsonType = "application/json"

// correlation is that of the message, or the message itself when it is the first of its story.
func (tx *Tx) correlation(ctx context.Context) string {
	if tx.cause.Context == nil {
		if id := telemetry.Correlation(ctx); id != "" {
			return id
		}
		return tx.message
	}
	if id := extension(tx.cause, CorrelationID); id != "" {
		return id
	}
	return tx.cause.ID()
}

// Extension reads an extension of an event as text; empty when there is none.
func Extension(e ce.Event, name string) string { return extension(e, name) }

func extension(e event, name string) string {
	if e.Context == nil {
		return ""
	}
	var value any
	if c, ok := e.Context.(*ce.EventContextV1); ok {
		value = c.Extensions[name] // Extensions copies all of them
	} else {
		value = e.Extensions()[name]
	}
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case int32:
		return strconv.Itoa(int(v))
	default:
		text, _ := e.Context.GetExtension(name)
		s, _ := text.(string)
		return s
	}
}

// keyOf is what the event is ordered by.
func keyOf(e event) string { return extension(e, PartitionKey) }

// inboxID names an event in the inbox. It begins with the hour of the event, or of the replay that
// it is part of, so that what is old enough is found at the front and removed without an index.
func inboxID(e event) string {
	replay := extension(e, Replay)
	id := inboxHour(e, replay) + " " + e.Source() + " " + e.ID()
	if replay != "" {
		id += " " + replay
	}
	return id
}

func inboxHour(e event, replay string) string {
	at := e.Time()
	if id, err := uuid.Parse(replay); err == nil && id.Version() == 7 {
		at = time.Unix(id.Time().UnixTime())
	}
	if at.IsZero() {
		return "ffffffff" // kept for good: nothing tells its age
	}
	return hourOf(at)
}

func hourOf(t time.Time) string {
	h := strconv.FormatInt(max(t.Unix()/3600, 0), 16)
	return strings.Repeat("0", max(8-len(h), 0)) + h
}
