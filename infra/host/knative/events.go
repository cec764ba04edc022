package knative

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/ebb-dev/ebb/infra/problem"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/httpevent"
)

// pingType is what a PingSource sends.
const pingType = "dev.knative.sources.ping"

// events takes deliveries.
func (h *Host) events(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		problem.Write(w, r, fault.New(fault.Invalid, "events are posted").WithStatus(http.StatusMethodNotAllowed))
		return
	}
	if h.cfg.Senders != nil {
		if err := h.cfg.Senders.Check(r); err != nil {
			h.cfg.Logger.WarnContext(r.Context(), "a delivery was refused", "error", err)
			problem.Write(w, r, err)
			return
		}
	}
	if err := h.Ready(); err != nil {
		problem.Write(w, r, fault.New(fault.Unavailable, "the function is not ready").After(time.Second))
		return
	}
	body, err := httpevent.Body(w, r, h.cfg.MaxBody)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	batch, err := httpevent.Read(r.Header, body)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	h.answer(w, r, worst(h.take(r.Context(), batch)))
}

// take hands events over: ticks to the clock's side of the function, all others to its handlers.
func (h *Host) take(ctx context.Context, batch []ce.Event) []broker.Result {
	if len(batch) == 1 && batch[0].Type() == pingType && h.m.Ticks {
		return []broker.Result{h.tick(ctx)}
	}
	return h.inlet.take(ctx, batch)
}

// tick tells the function the time, as often as it has more to do.
func (h *Host) tick(ctx context.Context) broker.Result {
	for {
		more, err := h.f.Tick(ctx, h.cfg.Now())
		if err != nil || !more {
			return broker.ResultOf(err)
		}
	}
}

// worst is the one answer to a request of several events. All of them come again when one is to be tried again, and
// then the inbox knows those that are done; otherwise what was refused for good decides.
func worst(results []broker.Result) broker.Result {
	out := broker.Result{Status: http.StatusOK}
	for _, r := range results {
		if r.Skipped || r.Status == 0 {
			r = broker.Result{Status: http.StatusServiceUnavailable, Message: "an earlier event of the same key has failed"}
		}
		switch {
		case out.OK() && !r.OK():
			out = r
		case out.OK() && r.Reply != nil && len(results) == 1:
			out = r
		case !r.OK() && fault.RetryableStatus(r.Status) && !fault.RetryableStatus(out.Status):
			out = r
		}
	}
	return out
}

func (h *Host) answer(w http.ResponseWriter, r *http.Request, res broker.Result) {
	switch {
	case res.OK() && res.Reply == nil:
		w.WriteHeader(http.StatusOK) // and no body: any other than an event would count as a failure
	case res.OK():
		if err := httpevent.WriteReply(r.Context(), w, *res.Reply); err != nil {
			h.cfg.Logger.ErrorContext(r.Context(), "a reply could not be written", "error", err)
		}
	default:
		if res.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.FormatFloat(math.Ceil(res.RetryAfter.Seconds()), 'f', 0, 64))
		}
		// Knative keeps the beginning of this with a dead letter, in knativeerrordata.
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(res.Status)
		_, _ = w.Write([]byte(res.Message))
	}
}
