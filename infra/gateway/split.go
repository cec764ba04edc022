package gateway

import (
	"context"
	"hash/fnv"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/policy"
)

// split sends the requests that a rule of the operation matches to the function of the rule.
func split(x *Exchange) Handler {
	for i, rule := range x.Route.Policy.Split {
		if matches(x, rule) && share(x, rule.Function, rule.Percent) {
			return x.Route.others[i]
		}
	}
	return x.Route.handler
}

func matches(x *Exchange, rule policy.Split) bool {
	for name, value := range rule.Header {
		if x.Request.Header.Get(name) != value {
			return false
		}
	}
	return rule.Host == "" || strings.EqualFold(hostOf(x.Request), rule.Host)
}

// hostOf returns the host that a request was sent to, without the port.
func hostOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

// share reports whether the caller of a request is among the percentage of all callers. It is the same at every
// request, for all operations and in every process: a caller that sees a new version does not see the old one again.
func share(x *Exchange, of string, percent float64) bool {
	if percent == 0 {
		return true
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(of + "\x00" + counted(x, policy.ByUser)))
	return float64(mix(h.Sum64())%10_000) < percent*100
}

// mix spreads the bits of a hash, so that its remainders are even.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// mirrorTimeout is how long a copy of a request may take.
const mirrorTimeout = 10 * time.Second

// maxMirrored is how many copies are on their way at most. Beyond that none are sent.
const maxMirrored = 64

// mirror sends a copy of the request to the function that the operation names, and does not wait for the answer.
func (g *Gateway) mirror(next Handler) Handler {
	free := make(chan struct{}, maxMirrored)
	return func(x *Exchange) {
		if m := x.Route.Policy.Mirror; m != nil && share(x, m.Function, m.Percent) {
			select {
			case free <- struct{}{}:
				r, route := x.Request.Clone(context.WithoutCancel(x.Request.Context())), x.Route
				r.Body, r.ContentLength = http.NoBody, 0
				caller := x.Caller
				go func() {
					defer func() { <-free }()
					g.copyTo(&Exchange{Request: r, own: true, Route: route, Caller: caller})
				}()
			default:
			}
		}
		next(x)
	}
}

// copyTo has the function of the mirror serve a request, and throws the answer away.
func (g *Gateway) copyTo(x *Exchange) {
	defer func() {
		if cause := recover(); cause != nil && cause != http.ErrAbortHandler {
			g.cfg.Logger.WarnContext(x.Request.Context(), "a mirrored request panicked", "panic", cause)
		}
	}()
	ctx, cancel := context.WithTimeout(x.Request.Context(), mirrorTimeout)
	defer cancel()
	x.Request = x.Request.WithContext(ctx)
	x.Writer = discard{header: http.Header{}}
	x.Route.mirror(x)
}

// discard is a writer that throws an answer away.
type discard struct{ header http.Header }

// Header implements http.ResponseWriter.
func (d discard) Header() http.Header { return d.header }

// WriteHeader implements http.ResponseWriter.
func (d discard) WriteHeader(int) {}

// Write implements io.Writer.
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
