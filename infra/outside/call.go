package outside

import (
	"context"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
)

// Policy says how a call is made. The zero Policy is a fine one.
type Policy struct {
	Deadline time.Duration // of one attempt; 0: 10 seconds
	Retry    Retry
	Breaker  Breaker

	// GiveUp is how long after its start a call that fails is given up: the failure is its result then. 0: a day,
	// negative: never.
	GiveUp time.Duration
}

// Retry says when a call that has failed is made again. A service that asks for a longer pause (fault.RetryAfter) gets
// it.
type Retry struct {
	AtOnce int           // attempts before the message that began the call is answered, within 10 seconds; 0: 3
	Delay  time.Duration // the pause after the first attempt, which doubles; 0: 100 ms
	Max    time.Duration // the longest pause between later attempts; 0: 10 minutes
}

// Breaker says when an instance stops calling a service that fails, for all calls of one name. It is known in memory
// only: it spares the service and the instance, and nothing depends on it.
type Breaker struct {
	Failures int           // in a row; 0: 10, negative: no breaker
	Pause    time.Duration // until one call tries whether the service is back; 0: 10 seconds
}

func (p Policy) withDefaults() Policy {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&p.Deadline, 10*time.Second)
	set(&p.GiveUp, 24*time.Hour)
	set(&p.Retry.Delay, 100*time.Millisecond)
	set(&p.Retry.Max, 10*time.Minute)
	set(&p.Breaker.Pause, 10*time.Second)
	if p.Retry.AtOnce == 0 {
		p.Retry.AtOnce = 3
	}
	if p.Breaker.Failures == 0 {
		p.Breaker.Failures = 10
	}
	return p
}

// firstPause is the shortest pause before an attempt that a timer begins.
const firstPause = time.Second

// pauseAfter returns the pause after a message's attempts, for the n-th message.
func (p Policy) pauseAfter(n int) time.Duration {
	return min(max(p.Retry.Delay, firstPause)<<min(n-1, 20), max(p.Retry.Max, firstPause))
}

// Request is what a service is called with.
type Request[In any] struct {
	ID  string // from Start
	Key string // the idempotency key: the same whenever this call is made, and no other call has it
	In  In
}

// Result is how a call has ended. Err is nil, or its final failure: a refusal, or the last failure of a call that was
// given up.
type Result[In, Out any] struct {
	ID  string
	In  In
	Out Out
	Err error
}

// Call is a declared call of a service.
type Call[In, Out any] struct {
	calls   *Calls
	name    string
	policy  Policy
	breaker breaker
	do      func(ctx context.Context, r Request[In]) (Out, error)
	then    func(ctx context.Context, tx *function.Tx, r Result[In, Out]) error

	personal *personal.Fields // of In; nil: none
}

// Declare declares a call.
//
// do makes it, outside of any unit of work. It ends when its context ends. It may be called concurrently, and again for
// the same request. The kind of its error says whether to call again: an error that a broker would not retry (see
// fault.Kind.Retryable), such as fault.Invalid, is a final refusal.
//
// then is the handler of the result, in the unit of work that ends the call. When it fails, the call is made again
// later. In is stored as JSON until then, with its personal fields encrypted.
func Declare[In, Out any](
	c *Calls, name string, p Policy, do func(ctx context.Context, r Request[In]) (Out, error),
	then func(ctx context.Context, tx *function.Tx, r Result[In, Out]) error,
) *Call[In, Out] {
	switch {
	case c.byName[name] != nil:
		panic("function " + c.f.Name() + " declares the call " + name + " twice")
	case name == "" || strings.Contains(name, "/"):
		panic("function " + c.f.Name() + " declares a call with the invalid name " + strconv.Quote(name))
	}
	p = p.withDefaults()
	hook := c.f.Instance().(interface{ DeclareCall(manifest.Call) })
	hook.DeclareCall(manifest.Call{Name: name, Deadline: p.Deadline.String(), GiveUp: max(p.GiveUp, 0).String()})
	call := &Call[In, Out]{
		calls: c, name: name, policy: p, breaker: breaker{policy: p.Breaker}, do: do, then: then,
		personal: c.personalOf(reflect.TypeFor[In]()),
	}
	c.byName[name], c.byName[name+sealedCall] = call, call
	return call
}

// Start starts the call when the unit commits. The id names it among all calls of this name, for ever: that of an
// entity which is called for once, or else tx.Key. While a call of the id has no result, starting it again is
// fault.Conflict. Start does nothing for a replayed event.
func (c *Call[In, Out]) Start(ctx context.Context, tx *function.Tx, id string, in In) error {
	sealed, name, err := c.seal(ctx, tx, in)
	if err != nil {
		return err
	}
	return c.calls.start(ctx, tx, name, id, sealed)
}

// Document returns the key of the document that a call has while it has no result, for function.Prefetch.
func (c *Call[In, Out]) Document(id string) store.Key { return c.calls.pending.Key(docID(c.name, id)) }

// Pending reports whether the call has been started and has no result yet.
func (c *Call[In, Out]) Pending(ctx context.Context, tx *function.Tx, id string) (bool, error) {
	version, err := c.calls.pending.Version(ctx, tx, docID(c.name, id))
	return version > 0, err
}

// Cancel forgets a call that has no result. It may have been made, or be under way; its result is then dropped.
func (c *Call[In, Out]) Cancel(ctx context.Context, tx *function.Tx, id string) error {
	return c.calls.pending.Delete(ctx, tx, docID(c.name, id))
}

// outcome is an Out.
type outcome any

func (c *Call[In, Out]) limits() Policy { return c.policy }

// make calls the service, a few times if it fails.
func (c *Call[In, Out]) make(ctx context.Context, p pending) (outcome, error) {
	in, err := c.read(ctx, p)
	if err != nil {
		return nil, err
	}
	r := Request[In]{ID: p.ID, Key: c.calls.key(p), In: in}
	env, pause := c.calls.f.Env(), c.policy.Retry.Delay
	var took time.Duration
	for n := 1; ; n++ {
		if !hasTime(ctx, env.Now(), commitTime) {
			return nil, fault.New(fault.Unavailable, "no time is left for the call of %s", c.name)
		}
		if wait := c.breaker.closedIn(env.Now()); wait > 0 {
			return nil, fault.New(fault.Unavailable, "the service of %s has failed too often", c.name).After(wait)
		}
		begun := env.Now()
		out, err := c.attempt(ctx, r)
		if d := env.Now().Sub(begun); d > 0 && d <= c.policy.Deadline+time.Second { // otherwise the clock was set
			took += d
		}
		failed := err != nil && fault.KindOf(err).Retryable()
		c.breaker.record(env.Now(), failed)
		pause = max(pause, fault.RetryAfter(err))
		if !failed || n >= c.policy.Retry.AtOnce || took+pause > atOnceFor ||
			!hasTime(ctx, env.Now(), pause+commitTime) {
			return out, err
		}
		env.Sleep(ctx, pause)
		took += pause
		pause *= 2
	}
}

func (c *Call[In, Out]) attempt(ctx context.Context, r Request[In]) (out Out, err error) {
	env, limit := c.calls.f.Env(), c.policy.Deadline
	if left, ok := timeLeft(ctx, env.Now()); ok {
		limit = min(limit, left-commitTime)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ctx, end := env.Telemetry.ClientSpan(ctx, c.calls.f.Name(), "call "+c.name)
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Internal, "the call %s panicked: %v", c.name, p)
		}
		end(err)
	}()
	return c.do(ctx, r)
}

// commitTime is left of a message's time to commit the result.
const commitTime = time.Second

// atOnceFor is how long after a message's first attempt another one may begin: its caller waits.
const atOnceFor = 10 * time.Second

// hasTime reports whether the message has more time left than d.
func hasTime(ctx context.Context, now time.Time, d time.Duration) bool {
	left, ok := timeLeft(ctx, now)
	return ctx.Err() == nil && (!ok || left > d)
}

// timeLeft returns the time until the deadline. When the deadline of a context that has not ended is past by the
// function's clock, that clock was set, and the machine's decides.
func timeLeft(ctx context.Context, now time.Time) (left time.Duration, ok bool) {
	deadline, ok := ctx.Deadline()
	if left = deadline.Sub(now); ok && left <= 0 && ctx.Err() == nil {
		left = time.Until(deadline)
	}
	return left, ok
}

func (c *Call[In, Out]) finish(ctx context.Context, tx *function.Tx, p pending, o outcome, failure error) error {
	r := Result[In, Out]{ID: p.ID, Err: failure}
	in, err := c.open(ctx, p, tx)
	if err != nil && failure == nil {
		return err
	}
	r.In = in
	r.Out, _ = o.(Out)
	return c.then(ctx, tx, r)
}
