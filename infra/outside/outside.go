// Package outside calls services outside of the system: payment providers, mail relays, the APIs of others.
//
// A handler only decides and may run several times, so it makes no such call. It starts a declared one, which commits
// with everything else that the handler does:
//
//	s.calls = outside.New(f)
//	s.charge = outside.Declare(s.calls, "charge", outside.Policy{Deadline: 5 * time.Second}, s.callBank, s.charged)
//
//	func (s *sales) placed(ctx context.Context, tx *function.Tx, e events.PlacedOrder) error {
//		return s.charge.Start(ctx, tx, e.OrderID, charge{Amount: e.Total})
//	}
//
// When the unit has committed, and before its event or request is answered, the kit makes the call, outside of any
// transaction (callBank), and commits its result in a unit of work of its own, together with what the handler of the
// result (charged) writes and emits. The events of that unit have the causation and correlation of the message that
// started the call.
//
// What a crash leaves, and who goes on:
//
//   - before the first commit: nothing was decided; the message comes again.
//   - between the two commits: the call, which was perhaps made. The message comes again, as a duplicate, or else the
//     clock sweeps; then it is made again, under the same key.
//   - after the second commit: events in the outbox, as after every unit.
//
// So a call is made at least once, and the service must take a call that comes again under its key as the same call.
// Its result is committed once. Nothing runs between two messages: a call that has failed is made again when the timer
// goes off that its failure has set. An operator lists the calls without a result, makes one now, or gives one up, with
// the operations below [PathPrefix], which the function serves, or with the command "ebb calls".
//
// The events of a batch make their calls at the same time, and the results that are there together share a unit of
// work. The next batch waits for the slowest call, so a function whose calls are slow declares a concurrency with
// function.Deliver, and a batch: both multiplied are the most calls that an instance makes at the same time.
package outside

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/metric"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/internal/cause"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Collection is the name of the collection that holds the calls without a result.
const Collection = "_calls"

const (
	// handover is how long a call that another message has begun is left to it.
	handover = time.Second

	// lostAfter is how long after its time a call is taken for lost: longer than a broker tries to deliver the message
	// that began it.
	lostAfter = 2 * time.Minute

	// lateAfter is the age from which on a failing call is logged as an error.
	lateAfter = 10 * time.Minute

	sweepLimit = 200 // calls that one sweep finds
)

// Calls holds the calls that a function declares.
type Calls struct {
	f       *function.Function
	pending *store.Collection[pending]
	byName  map[string]made
	mu      sync.Mutex
	busy    map[string]bool // by id of the document: those that this instance makes just now
	metrics
}

// made is a Call without its types.
type made interface {
	make(ctx context.Context, p pending) (outcome, error)
	finish(ctx context.Context, tx *function.Tx, p pending, o outcome, failure error) error
	limits() Policy
}

// pending is a call without a result.
type pending struct {
	Call     string          `json:"call"`
	ID       string          `json:"id"`
	Run      string          `json:"run"` // tells this call from a later one of the same id
	In       json.RawMessage `json:"in"`
	At       time.Time       `json:"at"`                // when it was started
	Due      int64           `json:"due"`               // when to make it, Unix milliseconds
	Claimed  int64           `json:"claimed,omitempty"` // when a message took it up, Unix ms; 0: its timer will
	Attempts int             `json:"attempts,omitempty"`
	Error    string          `json:"error,omitempty"`  // of the last attempt
	Ending   string          `json:"ending,omitempty"` // why an operator ends it

	Message     string          `json:"message"`
	Correlation string          `json:"correlation,omitempty"`
	Cause       json.RawMessage `json:"cause,omitempty"` // the event that started it, without data
}

// claimedWithin reports whether a message has taken the call up less than d ago. The clocks of two instances differ.
func (p pending) claimedWithin(d time.Duration, now time.Time) bool {
	return p.Claimed != 0 && now.Sub(time.UnixMilli(p.Claimed)).Abs() < d
}

func (p pending) doc() string { return docID(p.name(), p.ID) }

// name returns the declared name of the call.
func (p pending) name() string { return strings.TrimSuffix(p.Call, sealedCall) }

// cause returns the event that started the call, without its data; a zero one for a request.
func (p pending) cause() (e ce.Event) {
	if p.Cause != nil && json.Unmarshal(p.Cause, &e) != nil {
		return ce.Event{} // its events are then of no event's cause
	}
	return e
}

func docID(call, id string) string { return call + "/" + id }

// New declares that the function calls other services. A function has one Calls.
func New(f *function.Function) *Calls {
	c := &Calls{f: f, byName: map[string]made{}, busy: map[string]bool{}}
	// Each call has a Run of its own, so that no id is used again.
	c.pending = function.Collection[pending](f, Collection, store.On("due"), store.SingleUse, store.Large)
	function.Follow(f, Collection, c.follow, c.sweep)
	function.On(f, event.CallDue, c.due)
	function.Emits(f, event.CallDue)
	c.meter()
	c.serveOperators()
	return c
}

// key returns the idempotency key of a call.
func (c *Calls) key(p pending) string { return c.f.Name() + "/" + p.doc() }

// start writes the call into the unit.
func (c *Calls) start(ctx context.Context, tx *function.Tx, name, id string, in any) error {
	if tx.Replayed() {
		return nil
	}
	p := pending{
		Call: name, ID: id, Run: tx.NewID(), At: tx.Now(),
		Due: tx.Now().UnixMilli(), Claimed: tx.Now().UnixMilli(), Correlation: telemetry.Correlation(ctx),
	}
	p.Message = tx.Key(p.doc())
	var err error
	if p.In, err = json.Marshal(in); err != nil {
		return fault.Wrap(err, fault.Internal, "encode what %s is called with", name)
	}
	if e := tx.Event(); e.Context != nil {
		if p.Cause, err = json.Marshal(causeOf(e)); err != nil {
			return fault.Wrap(err, fault.Internal, "encode the event that starts %s", name)
		}
	}
	return c.pending.Create(ctx, tx, p.doc(), p)
}

// follow makes a call that a unit has begun, or that a message has left which comes again, and returns what is to be
// committed. It returns an error when the message is to come again.
func (c *Calls) follow(ctx context.Context, d store.Document, again bool) (rest cause.Rest[*function.Tx], err error) {
	var p pending
	if err := json.Unmarshal(d.Data, &p); err != nil {
		return rest, fault.Wrap(err, fault.Unavailable, "the call %s cannot be decoded", d.ID)
	}
	if p.Claimed == 0 {
		return rest, nil // it has failed, and its timer goes off
	}
	inProgress := fault.New(fault.Unavailable, "the call %s is being made", d.ID).After(handover)
	if again && p.claimedWithin(handover, c.f.Env().Now()) || !c.enter(d.ID) {
		return rest, inProgress
	}
	rest.End = func() { c.leave(d.ID) }
	declared := c.byName[p.Call]
	if declared == nil { // another version of the function has started it
		c.f.Env().Logger.ErrorContext(ctx, "a call is not declared", "function", c.f.Name(), "call", d.ID)
		return rest, nil
	}
	rest.Cause = cause.Cause{Event: p.cause(), Message: p.Message, Correlation: p.Correlation}
	c.make(ctx, declared, p, d, &rest)
	return rest, nil
}

func (c *Calls) enter(doc string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[doc] {
		return false
	}
	c.busy[doc] = true
	return true
}

func (c *Calls) leave(doc string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, doc)
}

// make makes the call. What is to be committed is its result, or when to make it again.
func (c *Calls) make(
	ctx context.Context, declared made, p pending, d store.Document, rest *cause.Rest[*function.Tx],
) {
	if p.Correlation != "" {
		ctx = telemetry.WithCorrelation(ctx, p.Correlation)
	}
	policy := declared.limits()
	unfinished := func(_ context.Context, err error) error {
		return fault.Wrap(err, fault.Unavailable, "the call %s is not finished; try again", p.doc())
	}
	var out outcome
	failure := error(fault.New(fault.Invalid, "given up by an operator: %s", p.Ending))
	if p.Ending == "" {
		out, failure = declared.make(ctx, p)
	}
	gaveUp := policy.GiveUp > 0 && c.f.Env().Now().Sub(p.At) >= policy.GiveUp
	if failure == nil || !fault.KindOf(failure).Retryable() || gaveUp {
		rest.Commit = c.finish(declared, p, d, out, failure)
		rest.Failed = func(ctx context.Context, err error) error {
			if errors.Is(err, errEnded) {
				return unfinished(ctx, err)
			}
			c.report(ctx, p, err)
			if c.f.Update(ctx, c.postpone(p, policy, err)) != nil {
				return unfinished(ctx, err)
			}
			return nil
		}
		return
	}
	c.report(ctx, p, failure)
	rest.Commit = c.postpone(p, policy, failure)
	rest.Failed = unfinished
}

// errEnded is why a result is not committed of a call that has one. The message comes again then, as a duplicate, which
// is acknowledged only when the events are published of the unit that had the result.
var errEnded = fault.New(fault.Unavailable, "it has ended in the meantime")

// finish returns what commits the result.
func (c *Calls) finish(
	declared made, p pending, d store.Document, out outcome, failure error,
) func(context.Context, *function.Tx) error {
	first := true
	return func(ctx context.Context, tx *function.Tx) (err error) {
		if first { // it was just read; when it has changed since, the commit fails and it is read again
			tx.StoreTx().Presume(d) // unless another result of the unit has changed it
			first = false
		}
		defer func() {
			if r := recover(); r != nil {
				err = fault.New(fault.Internal, "the handler of the result of %s panicked: %v", p.doc(), r)
			}
		}()
		known, ok, err := c.pending.Find(ctx, tx, p.doc())
		switch {
		case err != nil:
			return err
		case ok && known.Run == p.Run:
		case tx.StoreTx().Written(c.pending.Key(p.doc())) > 0:
			return nil // another result of the unit has cancelled it
		default:
			return errEnded // another unit was first, and what that has emitted is perhaps not published
		}
		if err := c.pending.Delete(ctx, tx, p.doc()); err != nil {
			return err
		}
		return declared.finish(ctx, tx, p, out, failure)
	}
}

// postpone returns what commits that the call has failed and when it is made again. It returns an error when the call
// has a result by now, or another unit has taken it up or postponed it: perhaps one of this message, of which the store
// could not tell whether it had committed. An operator's end that the function refuses for good is withdrawn.
func (c *Calls) postpone(made pending, policy Policy, failure error) func(context.Context, *function.Tx) error {
	return func(ctx context.Context, tx *function.Tx) error {
		p, ok, err := c.pending.Find(ctx, tx, made.doc())
		if err != nil {
			return err
		}
		if !ok || p.Run != made.Run || p.Claimed != made.Claimed { // what followed was perhaps not published
			return failure
		}
		if !fault.KindOf(failure).Retryable() {
			p.Ending = ""
		}
		p.Attempts++
		p.Error = failure.Error()
		due := tx.Now().Add(max(policy.pauseAfter(p.Attempts), fault.RetryAfter(failure)))
		p.Due, p.Claimed = due.UnixMilli(), 0
		if err := c.pending.Put(ctx, tx, p.doc(), p); err != nil {
			return err
		}
		_, err = tx.After(due, event.CallDue.New(p.doc(), event.DueCall{Function: c.f.Name(), Call: p.doc()}))
		return err
	}
}

// report logs that a call has failed and will be made again.
func (c *Calls) report(ctx context.Context, p pending, failure error) {
	env := c.f.Env()
	c.failures.Add(ctx, 1, metric.WithAttributes(c.attributes(p.name())...))
	log, age := env.Logger.WarnContext, env.Now().Sub(p.At)
	if age > lateAfter {
		log = env.Logger.ErrorContext
	}
	log(ctx, "a call of another service has failed and will be made again", "function", c.f.Name(), "call", p.doc(),
		"attempts", p.Attempts+1, "age", age.String(), "error", failure)
}

// due takes up a call whose time has come: it is made when the unit has committed. A call that another message has
// taken up is left to that one, which comes again as long as it is not done.
func (c *Calls) due(ctx context.Context, tx *function.Tx, d event.DueCall) error {
	if d.Function != c.f.Name() || tx.Replayed() {
		return nil
	}
	p, ok, err := c.pending.Find(ctx, tx, d.Call)
	if err != nil || !ok || p.claimedWithin(lostAfter, tx.Now()) {
		return err
	}
	p.Due, p.Claimed = tx.Now().UnixMilli(), tx.Now().UnixMilli()
	return c.pending.Put(ctx, tx, d.Call, p)
}

// sweep has the calls made that are lost: their message does not come again, or their timer was not set.
func (c *Calls) sweep(ctx context.Context, tx *function.Tx) error {
	if err := c.observe(ctx, tx); err != nil {
		return err
	}
	lost, err := c.pending.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "due", Op: store.Less, Value: tx.Now().Add(-lostAfter).UnixMilli()}},
		Order: []store.Order{{Field: "due"}}, Limit: sweepLimit,
	})
	if err != nil {
		return err
	}
	for _, i := range lost.Items {
		tx.Emit(event.CallDue.New(i.ID, event.DueCall{Function: c.f.Name(), Call: i.ID}))
	}
	return nil
}
