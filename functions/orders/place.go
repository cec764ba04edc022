package orders

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// maxWait is the longest wait that Prefer: wait may ask for, in seconds.
const maxWait = 60

var placeOrder = function.Operation{
	Method: http.MethodPost, Path: "/api/orders", Summary: "Place an order", Status: http.StatusAccepted,
	Description: "The response comes at once; Location is where the order's progress can be read. With Prefer: " +
		"wait=N (RFC 7240, at most 60 seconds) the response comes when the order has ended, with 200, or " +
		"after that time, with 202. With expected_total an order that costs something else now is refused with 409.",
	Errors: []int{http.StatusConflict},
	Access: function.Only(auth.RoleCustomer), Idempotency: function.Required,
	Deadline: (maxWait + 15) * time.Second, Statuses: []int{http.StatusOK},
}

type orderedLine struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Quantity  int    `json:"quantity" minimum:"1" maximum:"1000000"`
}

type placeInput struct {
	Prefer string `header:"Prefer" doc:"wait=N: wait up to N seconds for the end of the order."`
	Body   struct {
		Lines   []orderedLine `json:"lines" minItems:"1" maxItems:"100" doc:"Each product once, all in one currency."`
		Payment struct {
			Token string `json:"token" minLength:"1" maxLength:"500" doc:"A one-time token of the payment provider."`
		} `json:"payment"`
		Expected *events.Money `json:"expected_total,omitempty" doc:"What the customer was shown; 409 if it is another."`
	}
}

type placeOutput struct {
	Status            int
	Location          string `header:"Location"`
	PreferenceApplied string `header:"Preference-Applied" doc:"wait=N: the server waited."`
	Body              Order
}

func (s *orders) place(ctx context.Context, tx *function.Tx, in *placeInput) (*placeOutput, error) {
	lines, total, err := s.price(ctx, tx, in.Body.Lines)
	if err != nil {
		return nil, err
	}
	if shown := in.Body.Expected; shown != nil && *shown != total {
		why := fmt.Sprintf("the order costs %d %s now, in minor units", total.Amount, total.Currency)
		return nil, fault.New(fault.Conflict, "%s", why).
			With(fault.Detail{Location: "body.expected_total", Message: why})
	}
	o := order{
		CustomerID: tx.Principal().Subject, Lines: lines, Total: total, Token: in.Body.Payment.Token, CreatedAt: tx.Now(),
		Status: Pending,
	}
	o.ID = tx.NewID()
	tx.Emit(o.placedEvent()) // before the commands of the saga
	if o, err = s.saga.Start(ctx, tx, o.ID, o); err != nil {
		return nil, err
	}
	return &placeOutput{Location: "/api/orders/" + o.ID, Body: o.shown()}, nil
}

// price returns the lines with their prices and the total, or one error with everything that is invalid in the lines.
func (s *orders) price(
	ctx context.Context, tx *function.Tx, asked []orderedLine,
) ([]events.OrderLine, events.Money, error) {
	ids := make([]string, len(asked))
	for i, l := range asked {
		ids[i] = l.ProductID
	}
	known, err := s.products.GetMany(ctx, tx, ids...)
	if err != nil {
		return nil, events.Money{}, err
	}
	return priced(asked, known)
}

// maxTotal is the largest amount that events.Money allows.
const maxTotal = 1_000_000_000_000_000

func priced(asked []orderedLine, known map[string]product) ([]events.OrderLine, events.Money, error) {
	var bad *fault.Error
	refuse := func(i int, field, format string, args ...any) {
		message := fmt.Sprintf(format, args...)
		if bad == nil {
			bad = fault.New(fault.Invalid, "%s", message)
		}
		bad = bad.With(fault.Detail{Location: fmt.Sprintf("body.lines[%d].%s", i, field), Message: message})
	}
	if len(asked) == 0 { // the schema's minItems lets JSON's null pass
		return nil, events.Money{}, fault.New(fault.Invalid, "an order needs lines").
			With(fault.Detail{Location: "body.lines", Message: "expected at least one"})
	}
	lines, total, seen := make([]events.OrderLine, 0, len(asked)), events.Money{}, make(map[string]bool, len(asked))
	for i, l := range asked {
		p, ok := known[l.ProductID]
		switch {
		case seen[l.ProductID]:
			refuse(i, "product_id", "product %s is there twice", l.ProductID)
			continue
		case !ok || p.Deleted:
			refuse(i, "product_id", "there is no product %s", l.ProductID)
			continue
		case total.Currency != "" && total.Currency != p.Price.Currency:
			refuse(i, "product_id", "product %s is sold for %s, others of this order for %s",
				l.ProductID, p.Price.Currency, total.Currency)
			continue
		}
		seen[l.ProductID], total.Currency = true, p.Price.Currency
		if p.Price.Amount > (maxTotal-total.Amount)/int64(l.Quantity) {
			refuse(i, "quantity", "the order is worth more than can be paid")
			continue
		}
		total.Amount += p.Price.Amount * int64(l.Quantity)
		lines = append(lines, events.OrderLine{
			ProductID: l.ProductID, Quantity: l.Quantity, UnitPrice: p.Price, Name: p.Name,
		})
	}
	if bad != nil {
		return nil, events.Money{}, bad
	}
	return lines, total, nil
}

// waitFor waits for the end of the order when the request prefers that, and returns the response with the order as it
// then is.
func (s *orders) waitFor(ctx context.Context, in *placeInput, out *placeOutput) (*placeOutput, error) {
	seconds := waitOf(in.Prefer)
	if seconds == 0 {
		return out, nil
	}
	o, err := s.saga.Await(ctx, out.Body.ID, time.Now().Add(time.Duration(seconds)*time.Second))
	if err != nil {
		return nil, err
	}
	if o.ID != "" {
		out.Body = o.shown()
	}
	out.PreferenceApplied = "wait=" + strconv.Itoa(seconds)
	out.Status = http.StatusAccepted
	if out.Body.Status.ended() {
		out.Status = http.StatusOK
	}
	return out, nil
}

// waitOf returns the wait preference of a Prefer header (RFC 7240 section 4.3) in seconds, at most maxWait; 0 when the
// header has none, or one that is not a number.
func waitOf(prefer string) int {
	for preference := range strings.SplitSeq(prefer, ",") {
		preference, _, _ = strings.Cut(preference, ";")
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		if err != nil {
			return 0
		}
		return min(int(n), maxWait) // the first one counts
	}
	return 0
}
