package lambda_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	hostport "github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/host/hosttest"
	"github.com/ebb-dev/ebb/infra/host/lambda"
)

// mapping is the host as Lambda's event source mapping of a FIFO queue sees it.
type mapping struct {
	h    *lambda.Host
	dead *[]string // ids of dead letters
}

func newMapping(_ *testing.T, f hostport.Instance, manifest string) hosttest.Host {
	var dead []string
	return mapping{lambda.New(f, lambda.Config{
		Manifest: manifest, Logger: slog.New(slog.DiscardHandler),
		DeadLetter: func(_ context.Context, e ce.Event) error {
			dead = append(dead, e.ID())
			return nil
		},
	}), &dead}
}

// batch invokes the function with messages, and returns the ids of those that come again.
func (p mapping) batch(t *testing.T, messages ...events.SQSMessage) (again []string) {
	t.Helper()
	data, err := json.Marshal(events.SQSEvent{Records: messages})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.h.Invoke(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range out.(events.SQSEventResponse).BatchItemFailures {
		again = append(again, f.ItemIdentifier)
	}
	return again
}

func sqsMessage(id, group, body string) events.SQSMessage {
	return events.SQSMessage{
		MessageId: id, Body: body, EventSource: "aws:sqs",
		EventSourceARN: "arn:aws:sqs:eu-central-1:123456789012:shop-shipping.fifo",
		Attributes:     map[string]string{"ApproximateReceiveCount": "1", "MessageGroupId": group},
	}
}

func (p mapping) Deliver(t *testing.T, all ...ce.Event) (out []hosttest.Outcome) {
	var messages []events.SQSMessage
	for i, e := range all {
		text, err := event.ToJSON(e)
		if err != nil {
			t.Fatal(err)
		}
		group := event.Extension(e, event.PartitionKey)
		if group == "" {
			group = e.ID()
		}
		messages = append(messages, sqsMessage(fmt.Sprint(i), group, string(text)))
	}
	*p.dead = nil
	again := p.batch(t, messages...)
	for i, e := range all {
		switch {
		case slices.Contains(again, fmt.Sprint(i)):
			out = append(out, hosttest.Again)
		case slices.Contains(*p.dead, e.ID()):
			out = append(out, hosttest.Refused)
		default:
			out = append(out, hosttest.Done)
		}
	}
	return out
}

func (p mapping) DeliverText(t *testing.T, text string) hosttest.Outcome {
	if len(p.batch(t, sqsMessage("text", "text", text))) > 0 {
		return hosttest.Again
	}
	return hosttest.Done
}

func (p mapping) Tick(t *testing.T) error {
	_, err := p.h.Invoke(t.Context(), json.RawMessage(`{"ebb":"tick"}`))
	return err
}

// The host passes the suite for batches of an SQS FIFO queue.
func TestHost(t *testing.T) { hosttest.Run(t, hosttest.Harness{New: newMapping}) }
