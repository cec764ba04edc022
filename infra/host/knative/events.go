package knative

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/httpevent"
	"github.com/ebb-dev/ebb/infra/problem"
)

// pingType is the type of a PingSource's events.
const pingType = "dev.knative.sources.ping"

// events handles event deliveries.
func (h *Host) events(w http.ResponseWriter, r *http.Request) { h.deliveries(w, r, httpevent.Read) }

// deliveries handles event deliveries whose messages read understands.
func (h *Host) deliveries(
	w http.ResponseWriter, r *http.Request, read func(header http.Header, body []byte) ([]ce.Event, error),
) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		problem.Write(w, r, fault.New(fault.Invalid, "events must be sent by POST").WithStatus(http.StatusMethodNotAllowed))
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
	batch, err := read(r.Header, body)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	if len(batch) == 0 {
		h.respond(w, r, broker.Result{Status: http.StatusOK})
		return
	}
	h.respond(w, r, combined(h.receive(r.Context(), batch)))
}

// receive delivers events: a PingSource's event to the tick handler, all others to their handlers.
func (h *Host) receive(ctx context.Context, batch []ce.Event) []broker.Result {
	if len(batch) == 1 && batch[0].Type() == pingType && h.m.Ticks {
		return []broker.Result{h.tick(ctx)}
	}
	return h.batcher.receive(ctx, batch)
}

// tick calls the function's tick handler until no work is left.
func (h *Host) tick(ctx context.Context) broker.Result {
	for {
		more, err := h.f.Tick(ctx, h.cfg.Now())
		if err != nil || !more {
			return broker.ResultOf(err)
		}
	}
}

// combined returns the result of a request with several events. When one of them must be retried, the sender repeats
// all, and the inbox drops those that are done; otherwise a final refusal decides.
func combined(results []broker.Result) broker.Result {
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

// respond writes the response of a delivery.
func (h *Host) respond(w http.ResponseWriter, r *http.Request, res broker.Result) {
	switch {
	case res.OK() && res.Reply == nil:
		w.WriteHeader(http.StatusOK) // without a body: one that is not an event would count as a failure
	case res.OK():
		if err := httpevent.WriteReply(r.Context(), w, *res.Reply); err != nil {
			h.cfg.Logger.ErrorContext(r.Context(), "a reply could not be written", "error", err)
		}
	default:
		if res.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.FormatFloat(math.Ceil(res.RetryAfter.Seconds()), 'f', 0, 64))
		}
		// Knative stores the beginning of the message with a dead letter, in knativeerrordata.
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(res.Status)
		_, _ = w.Write([]byte(res.Message))
	}
}
