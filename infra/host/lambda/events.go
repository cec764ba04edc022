package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// item is one event of an invocation.
type item struct {
	id       string // of the message; "": it has none
	group    string // of a FIFO queue: the message group; "": none
	receives int    // how often SQS has handed it out, this time included; 0: not known
	event    ce.Event
	invalid  error // it is no event

	load func(ctx context.Context) (ce.Event, error) // returns the event with its data; nil: it is complete

	refused *broker.Result // it is a dead letter that the function does not get

	tried bool  // it was an attempt
	done  bool  // handled, or dead-lettered
	err   error // why it is not done
}

// keys returns the names of the orders that the item is in: later items with one of them wait for it.
func (it *item) keys() (keys []string) {
	if it.group != "" {
		keys = append(keys, "group "+it.group)
	}
	if it.invalid == nil {
		if key := event.Extension(it.event, event.PartitionKey); key != "" {
			keys = append(keys, "key "+key)
		}
	}
	return keys
}

func (h *Host) item(body []byte) *item {
	it := &item{}
	it.event, it.load, it.invalid = h.cfg.Decode(body)
	it.refuse()
	return it
}

// complete reads the data of the item's event that is not in its message.
func (it *item) complete(ctx context.Context) {
	if it.load == nil {
		return
	}
	it.event, it.invalid = it.load(ctx)
	it.load = nil
	it.refuse()
}

// refuse notes that the item is no event that can be handled, if that is so.
func (it *item) refuse() {
	var gone interface {
		error
		Refused() (ce.Event, broker.Result)
	}
	if errors.As(it.invalid, &gone) {
		e, result := gone.Refused()
		it.event, it.refused, it.invalid = e, &result, nil
	}
	it.err = it.invalid
}

// decode returns the event of a JSON text: a CloudEvent in the structured mode, or the notification of SNS, or the
// event of EventBridge, that has one.
func decode(body []byte) (ce.Event, func(context.Context) (ce.Event, error), error) {
	var around struct {
		Message *string         `json:"Message"`
		Detail  json.RawMessage `json:"detail"`
		Version string          `json:"specversion"`
	}
	if err := json.Unmarshal(body, &around); err != nil {
		return ce.Event{}, nil, fault.Wrap(err, fault.Invalid, "the message is no CloudEvent: it is not a JSON object")
	}
	switch {
	case around.Version != "":
	case around.Message != nil:
		body = []byte(*around.Message)
	case len(around.Detail) > 0:
		body = around.Detail
	}
	e, err := event.FromJSON(body)
	if err == nil {
		err = event.CheckAttributes(e)
	}
	if err != nil {
		return ce.Event{}, nil, fault.Wrap(err, fault.Invalid, "the message is no CloudEvent: %.200v", err)
	}
	return e, nil, nil
}

// queue handles a batch of an SQS queue, and returns the messages that SQS must hand out again.
func (h *Host) queue(ctx context.Context, data []byte) (events.SQSEventResponse, error) {
	var batch events.SQSEvent
	if err := json.Unmarshal(data, &batch); err != nil {
		return events.SQSEventResponse{}, fault.Wrap(err, fault.Invalid, "the batch of the queue is not valid")
	}
	items := make([]*item, len(batch.Records))
	for i, m := range batch.Records {
		it := h.item([]byte(m.Body))
		it.id = m.MessageId
		it.receives, _ = strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
		if strings.HasSuffix(m.EventSourceARN, ".fifo") {
			it.group = m.Attributes["MessageGroupId"]
		}
		if from := m.Attributes["DeadLetterQueueSourceArn"]; from != "" && it.invalid == nil && h.m.DeadLetters {
			it.event = redriven(it.event, from)
		}
		items[i] = it
	}
	h.receive(ctx, items)
	h.count(items)
	out := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for _, it := range items {
		if !it.done {
			out.BatchItemFailures = append(out.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: it.id})
		}
	}
	return out, nil
}

// redriven returns an event that a queue's redrive policy has moved, with the extensions of a dead letter, which it
// lacks when its last sandbox was killed.
func redriven(e ce.Event, from string) ce.Event {
	if event.Extension(e, broker.ErrorDest) != "" {
		return e
	}
	name := strings.TrimSuffix(from[strings.LastIndexByte(from, ':')+1:], ".fifo")
	return withExtensions(e, map[string]any{
		broker.ErrorDest: name, broker.ErrorCode: int32(http.StatusServiceUnavailable),
		broker.ErrorData: "the queue's redrive policy has moved it: no attempt was answered",
	})
}

// notifications handles the notifications of an SNS topic.
func (h *Host) notifications(ctx context.Context, data []byte) error {
	var batch events.SNSEvent
	if err := json.Unmarshal(data, &batch); err != nil {
		return fault.Wrap(err, fault.Invalid, "the notification is not valid")
	}
	items := make([]*item, len(batch.Records))
	for i, r := range batch.Records {
		items[i] = h.item([]byte(r.SNS.Message))
	}
	return h.invokeWith(ctx, items)
}

// invokeWith handles the events of an invocation that Lambda repeats as a whole, and returns the first failure.
func (h *Host) invokeWith(ctx context.Context, items []*item) error {
	h.receive(ctx, items)
	for _, it := range items {
		if it.done {
			continue
		}
		if it.err == nil {
			it.err = fault.New(fault.Unavailable,
				"the event was not tried: an earlier one of its key failed, or the time was up")
		}
		return it.err
	}
	return nil
}

// receive handles items in their order. After a failure the later items of its message group and of its partition key
// are not tried.
func (h *Host) receive(ctx context.Context, items []*item) {
	if err := h.Start(ctx); err != nil {
		h.cfg.Logger.ErrorContext(ctx, "events wait for the function", "events", len(items), "error", err)
		for _, it := range items {
			it.err = err
		}
		return
	}
	failed := map[string]bool{}
	for rest := h.filter(ctx, items); len(rest) > 0 && ctx.Err() == nil; {
		batch, later := h.next(ctx, rest, failed)
		if len(batch) == 0 {
			return
		}
		again := h.unit(ctx, batch, failed)
		if len(again) == len(batch) {
			return // the function has tried none
		}
		rest = append(again, later...)
	}
}

// filter returns the items that the function's trigger takes, with their data, and those that are no event. The others
// are done: what sends to Lambda cannot apply every filter. A dead letter is for the function that stores them,
// whatever it is.
func (h *Host) filter(ctx context.Context, items []*item) (taken []*item) {
	for _, it := range items {
		dead := h.m.DeadLetters && it.invalid == nil && event.Extension(it.event, broker.ErrorDest) != ""
		if it.invalid == nil && !dead && !h.matcher.Match(&it.event) {
			it.done = true
			continue
		}
		it.complete(ctx)
		taken = append(taken, it)
	}
	return taken
}

// next returns the items of the next unit of work, and those that come after it. Items that wait for a failed one are
// in neither; nor are those that the function does not get, which are dealt with when all before them are.
func (h *Host) next(ctx context.Context, items []*item, failed map[string]bool) (batch, later []*item) {
	size := 0
	for _, it := range items {
		switch {
		case blocked(it, failed):
		case len(later) > 0, len(batch) > 0 && (it.invalid != nil || it.refused != nil):
			later = append(later, it)
		case it.invalid != nil:
			h.cfg.Logger.Error("a message cannot be handled", "message", it.id, "receives", it.receives, "error", it.invalid)
			it.tried = true
			block(it, failed)
		case it.refused != nil:
			h.answer(ctx, it, *it.refused, failed)
		case len(batch) < max(h.cfg.Delivery.Batch, 1) && size < broker.MaxBatchBytes:
			batch = append(batch, it)
			size += len(it.event.DataEncoded)
		default:
			later = append(later, it)
		}
	}
	return batch, later
}

// unit handles the items of one unit of work. It returns those that the function hands back untried and that wait for
// no failed one.
func (h *Host) unit(ctx context.Context, batch []*item, failed map[string]bool) (again []*item) {
	in := make([]ce.Event, len(batch))
	for i, it := range batch {
		in[i] = it.event
	}
	for i, r := range h.f.Receive(ctx, in) {
		it := batch[i]
		switch {
		case blocked(it, failed):
		case r.Skipped:
			again = append(again, it)
		default:
			h.answer(ctx, it, r, failed)
		}
	}
	return again
}

// answer notes the answer to an attempt at the item.
func (h *Host) answer(ctx context.Context, it *item, r broker.Result, failed map[string]bool) {
	it.tried = true
	if r.OK() || h.deadLettered(ctx, it, r) {
		it.done = true
		return
	}
	it.err = fmt.Errorf("status %d: %s", r.Status, r.Message)
	block(it, failed)
}

func blocked(it *item, failed map[string]bool) bool {
	for _, k := range it.keys() {
		if failed[k] {
			return true
		}
	}
	return false
}

func block(it *item, failed map[string]bool) {
	for _, k := range it.keys() {
		failed[k] = true
	}
}

// deadLettered reports whether the item has failed for good and the dead-letter sink has taken it.
func (h *Host) deadLettered(ctx context.Context, it *item, r broker.Result) bool {
	attempts := it.receives - h.skips(it.id)
	if h.cfg.DeadLetter == nil || fault.RetryableStatus(r.Status) && attempts <= h.cfg.Delivery.Delivery.Retry {
		return false
	}
	dest := h.cfg.Delivery.Subscriber
	if dest == "" {
		dest = h.cfg.Delivery.Name
	}
	more := map[string]any{broker.ErrorDest: dest, broker.ErrorCode: int32(r.Status)}
	if text := errorData(r.Message); text != "" {
		more[broker.ErrorData] = text
	}
	if err := h.cfg.DeadLetter(ctx, withExtensions(it.event, more)); err != nil {
		h.cfg.Logger.ErrorContext(ctx, "the dead-letter sink does not take an event", "event", it.event.ID(), "error", err)
		return false
	}
	h.cfg.Telemetry.DeadLettered(h.m.Name)
	return true
}

// maxErrorData bounds knativeerrordata, in bytes.
const maxErrorData = 1024

// errorData returns the beginning of a message as the value of an attribute, which has no control characters.
func errorData(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxErrorData)], "")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r <= 0x9f {
			return ' '
		}
		return r
	}, s))
}

// withExtensions returns a copy of the event with further extensions.
func withExtensions(e ce.Event, more map[string]any) ce.Event {
	c := *e.Context.AsV1()
	c.Extensions = maps.Clone(c.Extensions)
	if c.Extensions == nil {
		c.Extensions = map[string]any{}
	}
	maps.Copy(c.Extensions, more)
	e.Context = &c
	return e
}

// maxSkipped is how many messages a sandbox counts the skips of.
const maxSkipped = 10_000

// count notes which messages were received and not tried. SQS counts these receives too, so that a message behind a
// poison one would be out of attempts before its first. Other sandboxes do not know the skips of this one: there such a
// message has fewer attempts, and at least one.
func (h *Host) count(items []*item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, it := range items {
		switch {
		case it.done:
			delete(h.skipped, it.id)
		case !it.tried && len(h.skipped) < maxSkipped:
			h.skipped[it.id]++
		}
	}
}

func (h *Host) skips(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.skipped[id]
}
