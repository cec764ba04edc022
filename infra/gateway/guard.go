package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/policy"
)

// guard refuses requests of one operation that its function would not answer well. What it knows is of this process.
type guard struct {
	function string                             // that it guards
	policy   policy.Policy                      // that it was made for
	breaker  circuitbreaker.CircuitBreaker[any] // nil: none
	most     bulkhead.Bulkhead[any]             // nil: any number of requests
	adaptive *adaptive                          // nil: none
	shed     func(reason string)
}

// The defaults of a breaker, and its fixed parts.
const (
	breakerRequests = 20
	breakerPause    = 5 * time.Second
	breakerWindow   = 10 * time.Second
	breakerProbes   = 3 // requests after a pause that must succeed
)

// retryShed is how long a caller is asked to wait before it repeats a request that was shed.
const retryShed = time.Second

// guardOf returns the guard of an operation; nil when its policy asks for none. A guard stays when the policies are
// replaced and its part of them is the same: what is under way and what has failed still count.
func (g *Gateway) guardOf(r *Route) *guard {
	p := policy.Policy{Breaker: r.Policy.Breaker, Concurrency: r.Policy.Concurrency, Adaptive: r.Policy.Adaptive}
	key, function := name(r.Route), r.Function
	if p.IsZero() {
		return nil
	}
	guarded := function + " " + key
	g.guarding.Lock()
	defer g.guarding.Unlock()
	if last := g.guards[guarded]; last != nil && last.policy.Breaker == p.Breaker && last.policy.Adaptive == p.Adaptive &&
		last.policy.Concurrency == p.Concurrency {
		return last
	}
	shed := func(reason string) { g.cfg.Telemetry.Shed(function, r.Path, reason) }
	made := &guard{function: function, policy: p, shed: shed}
	if b := p.Breaker; b.Failures > 0 {
		made.breaker = circuitbreaker.NewBuilder[any]().
			WithFailureRateThreshold(b.Failures, uint(cmp.Or(b.Requests, breakerRequests)), breakerWindow).
			WithSuccessThreshold(breakerProbes).
			WithDelay(cmp.Or(time.Duration(b.Pause), breakerPause)).
			OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
				g.cfg.Telemetry.Breaker(function, key, e.NewState.String())
				g.cfg.Logger.Warn("the breaker of an operation changed", "operation", key, "function", function,
					"state", e.NewState.String())
			}).Build()
	}
	if p.Concurrency > 0 {
		made.most = bulkhead.New[any](uint(p.Concurrency))
	}
	if p.Adaptive {
		made.adaptive = newAdaptive()
	}
	if g.guards == nil {
		g.guards = map[string]*guard{}
	}
	g.guards[guarded] = made
	return made
}

// shedLoad refuses requests with 503 and Retry-After, at once, while the breaker of the operation is open, when as many
// as may be are under way, or when more than the function answers without getting slower.
func shedLoad(next Handler) Handler {
	return func(x *Exchange) {
		if x.Route.guard == nil {
			next(x)
			return
		}
		x.Route.guard.serve(x, next)
	}
}

func (g *guard) serve(x *Exchange, next Handler) {
	if g.most != nil {
		if !g.most.TryAcquirePermit() {
			g.refuse(x, "concurrency", retryShed)
			return
		}
		defer g.most.ReleasePermit()
	}
	done := false // unless next returns, it has panicked or was not called
	if g.adaptive != nil {
		end := x.admit(g.adaptive)
		if end == nil {
			g.refuse(x, "adaptive", retryShed)
			return
		}
		defer func() { end(done) }()
	}
	if g.breaker != nil {
		if !g.breaker.TryAcquirePermit() {
			g.refuse(x, "breaker", max(g.breaker.RemainingDelay(), time.Second))
			return
		}
		defer func() { g.note(x, !done) }()
	}
	next(x)
	done = true
}

// gone reports whether the caller went away, or gave a call less time than it took.
func gone(x *Exchange) bool {
	asked := cmp.Or(x.asked, x.Request)
	return x.hurried || errors.Is(asked.Context().Err(), context.Canceled)
}

// note tells the breaker how a request has ended. A caller who went away says nothing, but may have been a probe, which
// the breaker must hear of.
func (g *guard) note(x *Exchange, panicked bool) {
	switch gone := gone(x); {
	case gone && !g.breaker.IsHalfOpen():
	case gone || panicked || failedAnswer(x):
		g.breaker.RecordFailure()
	default:
		g.breaker.RecordSuccess()
	}
}

// failedAnswer reports whether the answer says that the function has failed.
func failedAnswer(x *Exchange) bool {
	return x.failed || failedStatus(x.Status())
}

// failedStatus reports whether a status says that the function has failed.
func failedStatus(status int) bool {
	return status >= http.StatusInternalServerError && status != http.StatusNotImplemented
}

// refuse answers that the function is not asked now.
func (g *guard) refuse(x *Exchange, reason string, after time.Duration) {
	g.shed(reason)
	x.shed = true
	x.Refuse(fault.New(fault.Unavailable, "the function that answers this has too much to do").After(after))
}
