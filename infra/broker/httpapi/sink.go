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
)

// sink hands events to one address.
type sink struct {
	api     *Handler
	url     string
	life    context.Context // of the subscription; a delivery does not outlive it
	replies bool            // what it answers is published
	longest *time.Duration  // Retry-After counts up to this; nil: as it is
}

// handle is a broker.Handler.
func (s *sink) handle(ctx context.Context, batch []event.Event) []broker.Result {
	results := make([]broker.Result, len(batch))
	for i := range batch {
		results[i] = s.deliver(ctx, batch[i])
	}
	return results
}

func (s *sink) deliver(ctx context.Context, e event.Event) broker.Result {
	limit := longest
	if at, ok := ctx.Deadline(); ok {
		limit = time.Until(at)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	r, err := s.request(ctx, e)
	if err != nil {
		return broker.Result{Status: http.StatusUnprocessableEntity, Message: "the event cannot be written: " + err.Error()}
	}
	answer, err := s.api.cfg.Client.Do(r)
	if err != nil {
		return s.unanswered(ctx, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, int64(s.api.cfg.MaxBody)+1))
	if err != nil {
		return s.unanswered(ctx, err)
	}
	return s.result(answer, body, e)
}

// unanswered is what a sink that cannot be reached, or is cut off, comes down to: a gateway's statuses. A
// delivery that was given up because its subscription is over counts as none.
func (s *sink) unanswered(ctx context.Context, err error) broker.Result {
	if s.life.Err() != nil {
		return broker.Result{Skipped: true}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return broker.Result{Status: http.StatusGatewayTimeout, Message: "no answer in time"}
	}
	return broker.Result{Status: http.StatusBadGateway, Message: "no answer: " + err.Error()}
}

// request is the event in the binary mode.
func (s *sink) request(ctx context.Context, e event.Event) (*http.Request, error) {
	r, err := httpevent.Request(ctx, s.url, e)
	if err == nil && s.replies {
		r.Header.Set("Prefer", "reply")
	}
	return r, err
}

// result is what an answer means.
func (s *sink) result(answer *http.Response, body []byte, to event.Event) broker.Result {
	wait := httpevent.RetryAfter(answer.Header.Get("Retry-After"), time.Now())
	out := broker.Result{Status: answer.StatusCode, RetryAfter: wait}
	if s.longest != nil {
		out.RetryAfter = min(out.RetryAfter, *s.longest)
	}
	if !out.OK() {
		out.Message = string(body)
		return out
	}
	if !s.replies || answer.StatusCode == http.StatusAccepted || empty(answer, body) {
		return out
	}
	reply, err := s.reply(answer, body)
	if err != nil { // as if the delivery had failed
		return broker.Result{Status: http.StatusBadGateway, Message: "the reply is no event: " + err.Error()}
	}
	trace(reply, to)
	out.Reply = reply
	return out
}

// empty reports whether an answer holds nothing: neither a body nor an event that needs none.
func empty(answer *http.Response, body []byte) bool {
	return len(bytes.TrimSpace(body)) == 0 && answer.Header.Get("Ce-Specversion") == ""
}

func (s *sink) reply(answer *http.Response, body []byte) (*event.Event, error) {
	if len(body) > s.api.cfg.MaxBody {
		return nil, fmt.Errorf("it is larger than %d bytes", s.api.cfg.MaxBody)
	}
	events, err := httpevent.Read(answer.Header, body)
	if err != nil {
		return nil, err
	}
	if len(events) != 1 {
		return nil, fmt.Errorf("it holds %d events", len(events))
	}
	return &events[0], nil
}

// trace has the reply be a part of the event's trace, unless it has one of its own.
func trace(reply *event.Event, to event.Event) {
	if _, own := reply.Extensions()["traceparent"]; own {
		return
	}
	for _, name := range []string{"traceparent", "tracestate"} {
		if value, ok := to.Extensions()[name]; ok {
			reply.SetExtension(name, value)
		}
	}
}
