package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/ratelimit"
	"github.com/ebb-dev/ebb/infra/ratelimit/memory"
)

// limits counts requests in the store that all processes share, or in memory while that is away.
type limits struct {
	shared ratelimit.Limiter // nil: only local
	local  *memory.Limiter
	keys   acceptedKeys
	now    func() time.Time
	away   atomic.Int64 // until this time in nanoseconds the shared store is not asked
}

// awayFor is how long the store of the counters is not asked after it has failed, so that requests do not wait for it.
const awayFor = time.Second

// quotaExceeded is the type of the problem (draft-ietf-httpapi-ratelimit-headers-11).
const quotaExceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded"

// limitRate refuses a request that is over a limit of its operation with 429. All limits decide in one step before the
// function is called, and every answer tells what they have left.
func (g *Gateway) limitRate(next Handler) Handler {
	return func(x *Exchange) {
		if len(x.Route.Policy.Rate) == 0 {
			next(x)
			return
		}
		if key := x.Caller.KeyHash; key != "" && x.Route.Scope != "" {
			defer func() { g.limits.keys.judge(key, x.Status()) }()
		}
		decision, counted, err := g.limits.take(x, g.cfg.Logger.WarnContext)
		if err != nil {
			x.Refuse(err)
			return
		}
		h := x.Writer.Header()
		h.Set("RateLimit-Policy", x.Route.quotas)
		if len(counted) > 0 {
			h.Set("RateLimit", left(counted, decision))
		}
		if decision.Allowed() {
			next(x)
			return
		}
		p := problem.Of(fault.New(fault.Exhausted, "too many requests").After(decision.Wait))
		p.Type, p.Instance = quotaExceeded, x.Request.URL.Path
		for i, s := range decision.States {
			if s.Wait > 0 {
				p.ViolatedPolicies = append(p.ViolatedPolicies, counted[i].Name)
				g.cfg.Telemetry.Limited(x.Route.Function, x.Route.Path, counted[i].Name)
			}
		}
		p.Write(x.Writer, x.Request)
	}
}

// take asks for one request under the limits of its operation. It returns those that were asked.
func (l *limits) take(x *Exchange, warn func(context.Context, string, ...any)) (
	ratelimit.Decision, []policy.Rate, error,
) {
	rates, ctx := x.Route.Policy.Rate, x.Request.Context()
	if l.shared != nil && l.now().UnixNano() >= l.away.Load() {
		d, err := l.shared.Take(ctx, l.limitsOf(x, rates))
		if err == nil {
			if l.away.Load() != 0 {
				l.away.Store(0)
			}
			return d, rates, nil
		}
		if ctx.Err() != nil { // the caller has gone away
			return d, nil, ctx.Err()
		}
		if l.away.Swap(l.now().Add(awayFor).UnixNano()) == 0 {
			warn(ctx, "rate limits are not shared: their store cannot be reached", "error", err)
		}
	}
	if l.shared != nil {
		if slices.ContainsFunc(rates, func(r policy.Rate) bool { return r.Away == policy.AwayClosed }) {
			return ratelimit.Decision{}, nil, fault.New(fault.Unavailable, "requests cannot be counted just now").After(awayFor)
		}
		rates = slices.DeleteFunc(slices.Clone(rates), func(r policy.Rate) bool { return r.Away == policy.AwayOpen })
	}
	d, err := l.local.Take(ctx, l.limitsOf(x, rates))
	return d, rates, err
}

// limitsOf returns the limits of a request with the keys of their counters.
func (l *limits) limitsOf(x *Exchange, rates []policy.Rate) []ratelimit.Limit {
	all := make([]ratelimit.Limit, len(rates))
	for i, r := range rates {
		operation := ""
		if !r.Shared {
			operation = x.Route.Method + " " + x.Route.Path
		}
		all[i] = ratelimit.Limit{
			Key: key(r.Name, operation, counted(x, r.By, l.keys.has)), Quota: r.Quota, Window: time.Duration(r.Window),
		}
	}
	return all
}

// key returns the name of a counter. It is a hash, so that a store has no addresses or ids of persons, and that no
// caller can choose the counter of another one.
func key(parts ...string) string {
	var text strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&text, "%d %s", len(p), p)
	}
	sum := sha256.Sum256([]byte(text.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}

// counted returns whose requests a request is counted with. An API key that is not looked up counts by itself if it is
// accepted, and by the address otherwise: a stranger could make a new one up for each request.
func counted(x *Exchange, by string, accepted func(keyHash string) bool) string {
	claim, isClaim := strings.CutPrefix(by, policy.ByClaim)
	switch {
	case by == policy.ByOperation:
		return "all"
	case by != policy.ByAddress && x.Caller.Anonymous() && x.Caller.KeyHash != "" && accepted(x.Caller.KeyHash):
		return "key " + x.Caller.KeyHash
	case by == policy.ByAddress || x.Caller.Anonymous():
		return "address " + network(x.client())
	case by == policy.ByKey && x.Caller.Key != "":
		return "key " + x.Caller.Key
	case isClaim && x.Caller.Claims[claim] != "":
		return "claim " + claim + "=" + x.Caller.Claims[claim]
	}
	return "user " + x.Caller.Subject
}

// network returns the address, or the network that one customer has (RFC 6177) of an IPv6 address.
func network(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		p, _ := a.Prefix(64)
		return p.String()
	}
	return a.String()
}

// quotas returns the RateLimit-Policy field of an operation.
func quotas(rates []policy.Rate) string {
	items := make([]string, len(rates))
	for i, r := range rates {
		items[i] = fmt.Sprintf("%q;q=%d;w=%d", r.Name, r.Quota, time.Duration(r.Window)/time.Second)
	}
	return strings.Join(items, ", ")
}

// left returns the RateLimit field: what each limit has left, and the seconds until it has its whole quota.
func left(rates []policy.Rate, d ratelimit.Decision) string {
	var b []byte
	for i, r := range rates {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendQuote(b, r.Name)
		b = strconv.AppendInt(append(b, ";r="...), d.States[i].Remaining, 10)
		seconds := (d.States[i].Reset + time.Second - 1) / time.Second
		b = strconv.AppendInt(append(b, ";t="...), int64(seconds), 10)
	}
	return string(b)
}
