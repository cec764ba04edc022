package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/internal/httpevent"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

// sink delivers events to one URL.
type sink struct {
	api           *Handler
	url           string
	active        *lifetime.Lifetime // ends with the subscription, and so do running deliveries
	replies       bool               // whether events in answers are published
	retryAfterMax *time.Duration     // the limit for Retry-After; nil: no limit
}

// handle delivers a batch, one event after the other. It is a broker.Handler.
func (s *sink) handle(ctx context.Context, batch []event.Event) []broker.Result {
	results := make([]broker.Result, len(batch))
	for i := range batch {
		results[i] = s.deliver(ctx, batch[i])
	}
	return results
}

func (s *sink) deliver(ctx context.Context, e event.Event) broker.Result {
	limit := defaultTimeout
	if at, ok := ctx.Deadline(); ok {
		limit = time.Until(at)
	}
	ctx, release := s.active.BindTimeout(ctx, limit)
	defer release()
	r, err := s.request(ctx, e)
	if err != nil {
		return broker.Result{Status: http.StatusUnprocessableEntity, Message: "cannot encode the event: " + err.Error()}
	}
	answer, err := s.api.cfg.Client.Do(r)
	if err != nil {
		return s.noAnswer(ctx, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, int64(s.api.cfg.MaxBody)+1))
	if err != nil {
		return s.noAnswer(ctx, err)
	}
	return s.result(answer, body, e)
}

// noAnswer returns the result of a delivery without a complete answer: 504 after the timeout, otherwise 502. A
// delivery that was cancelled because its subscription has ended is skipped.
func (s *sink) noAnswer(ctx context.Context, err error) broker.Result {
	if s.active.Ended() {
		return broker.Result{Skipped: true}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return broker.Result{Status: http.StatusGatewayTimeout, Message: "no answer in time"}
	}
	return broker.Result{Status: http.StatusBadGateway, Message: "no answer: " + err.Error()}
}

// request returns a request with the event in the binary mode.
func (s *sink) request(ctx context.Context, e event.Event) (*http.Request, error) {
	r, err := httpevent.Request(ctx, s.url, e)
	if err == nil && s.replies {
		r.Header.Set("Prefer", "reply")
	}
	return r, err
}

// result converts the sink's answer.
func (s *sink) result(answer *http.Response, body []byte, to event.Event) broker.Result {
	wait := httpevent.RetryAfter(answer.Header.Get("Retry-After"), time.Now())
	out := broker.Result{Status: answer.StatusCode, RetryAfter: wait}
	if s.retryAfterMax != nil {
		out.RetryAfter = min(out.RetryAfter, *s.retryAfterMax)
	}
	if !out.OK() {
		out.Message = string(body)
		return out
	}
	if !s.replies || answer.StatusCode == http.StatusAccepted || empty(answer, body) {
		return out
	}
	reply, err := s.reply(answer, body)
	if err != nil { // counts as a failed delivery
		return broker.Result{Status: http.StatusBadGateway, Message: "invalid event in the reply: " + err.Error()}
	}
	copyTrace(reply, to)
	out.Reply = reply
	return out
}

// empty reports whether an answer holds no event: it has no body and no event attributes.
func empty(answer *http.Response, body []byte) bool {
	return len(bytes.TrimSpace(body)) == 0 && answer.Header.Get("Ce-Specversion") == ""
}

func (s *sink) reply(answer *http.Response, body []byte) (*event.Event, error) {
	if len(body) > s.api.cfg.MaxBody {
		return nil, fmt.Errorf("larger than %d bytes", s.api.cfg.MaxBody)
	}
	body, err := httpevent.Unpack(answer.Header, body, s.api.cfg.MaxBody)
	if err != nil {
		return nil, err
	}
	events, err := httpevent.Read(answer.Header, body)
	if err != nil {
		return nil, err
	}
	if len(events) != 1 {
		return nil, fmt.Errorf("want 1 event, got %d", len(events))
	}
	return &events[0], nil
}

// copyTrace adds the event's trace to its reply, unless the reply has one.
func copyTrace(reply *event.Event, to event.Event) {
	if _, own := reply.Extensions()["traceparent"]; own {
		return
	}
	for _, name := range []string{"traceparent", "tracestate"} {
		if value, ok := to.Extensions()[name]; ok {
			reply.SetExtension(name, value)
		}
	}
}
