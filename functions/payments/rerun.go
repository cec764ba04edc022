package payments

import (
	"context"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/rerun"
)

// Rerun tells how past payments are made again: with a provider that answers as the recorded one did, so that no money
// moves.
func Rerun() *rerun.Recipe {
	return &rerun.Recipe{Doubles: func(env function.Env, past rerun.Past) (*function.Function, error) {
		return NewWith(env, recorded{past, env.Now}), nil
	}}
}

// recorded is a provider that answers what the events tell that one has answered.
type recorded struct {
	past rerun.Past
	now  func() time.Time
}

// errUnanswered is what a call gets to which no answer was recorded, or only later: it fails, and is made again.
var errUnanswered = fault.New(fault.Unavailable, "no answer of the payment provider was recorded")

// Authorize answers as it was answered: with the recorded refusal, or with success when a payment was authorized.
func (r recorded) Authorize(_ context.Context, p provider.Payment) error {
	return r.answer(p.OrderID, events.PaymentAuthorize.Name(), events.PaymentAuthorized.Name())
}

// Capture answers as Authorize does.
func (r recorded) Capture(_ context.Context, p provider.Payment) error {
	return r.answer(p.OrderID, events.PaymentCapture.Name(), events.PaymentCaptured.Name())
}

// Void succeeds: a double holds no money.
func (recorded) Void(context.Context, provider.Payment) error { return nil }

// Refund succeeds too.
func (recorded) Refund(context.Context, provider.Payment) error { return nil }

// answer returns the recorded answer to a command about an order. An order with no command of this type in the past is
// one that another build has paid for: it is answered with success.
func (r recorded) answer(orderID, command, done string) error {
	asked := map[string]bool{} // the ids of the commands
	for _, e := range r.past.About(orderID) {
		cause := event.Extension(e, event.CausationID)
		switch {
		case e.Type() == command:
			asked[e.ID()] = true
		case e.Type() == done:
			return r.inTime(e, nil)
		case e.Type() == events.PaymentDeclined.Name() && asked[cause]:
			return r.inTime(e, declinedAs(e))
		}
	}
	if len(asked) > 0 {
		return errUnanswered
	}
	return nil
}

// inTime returns an answer not earlier than it was given.
func (r recorded) inTime(e ce.Event, answer error) error {
	if wait := e.Time().Sub(r.now()); wait > 0 {
		return fault.New(fault.Unavailable, "the payment provider has answered later").After(wait)
	}
	return answer
}

func declinedAs(e ce.Event) error {
	d, err := events.PaymentDeclined.Decode(e)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "the recorded refusal cannot be read")
	}
	return &provider.Declined{Code: d.Code, Reason: d.Reason}
}
