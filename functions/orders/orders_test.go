package orders_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/orders"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

var ada = functiontest.As("ada")

func product(id string, version int, amount int64, currency string) events.ChangedProduct {
	return events.ChangedProduct{
		ProductID: id, Name: "a " + id, Price: events.Money{Amount: amount, Currency: currency}, Version: version,
	}
}

func changed(p events.ChangedProduct) event.Draft { return events.ProductChanged.New(p.ProductID, p) }

// shop returns a function that knows apples at 1.50 EUR, pears at 2.00 EUR, plums in dollars, and coconuts, which are
// deleted.
func shop(t testing.TB) *functiontest.Harness {
	h := functiontest.New(t, orders.New, functiontest.Set(map[string]string{"EBB_ORDERS_STEP_DEADLINE": "10s"}))
	deleted := product("coconut", 2, 900, "EUR")
	deleted.Deleted = true
	h.MustDeliver(changed(product("apple", 1, 150, "EUR")), changed(product("pear", 1, 200, "EUR")),
		changed(product("plum", 1, 100, "USD")), changed(product("coconut", 1, 900, "EUR")), changed(deleted),
		changed(product("yacht", 1, 1_000_000_000_000, "EUR")))
	return h
}

type line = map[string]any

func body(lines ...line) map[string]any {
	return map[string]any{"lines": lines, "payment": map[string]string{"token": "tok_ok"}}
}

func of(product string, quantity int) line { return line{"product_id": product, "quantity": quantity} }

var keys int

func post(h *functiontest.Harness, body any, headers ...string) *functiontest.Response {
	h.T.Helper()
	keys++
	return h.Call("POST", "/api/orders", ada, body, append(headers, "Idempotency-Key", fmt.Sprint("key-", keys))...)
}

// place places an order of two apples and a pear.
func place(h *functiontest.Harness) orders.Order {
	h.T.Helper()
	var o orders.Order
	post(h, body(of("apple", 2), of("pear", 1))).Expect(http.StatusAccepted).JSON(&o)
	return o
}

func get(h *functiontest.Harness, id string) orders.Order {
	h.T.Helper()
	var o orders.Order
	h.Call("GET", "/api/orders/"+id, ada, nil).Expect(http.StatusOK).JSON(&o)
	return o
}

func cancel(h *functiontest.Harness, id string) *functiontest.Response {
	h.T.Helper()
	return h.Call("POST", "/api/orders/"+id+"/cancellation", ada, nil)
}

// emitted writes events as text: "orders.placed inventory.reserve".
func emitted(es []ce.Event) string {
	var all []string
	for _, e := range es {
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(e.Type(), "dev.ebb."), ".v1"))
	}
	return strings.Join(all, " ")
}

func wantEmitted(h *functiontest.Harness, want string) []ce.Event {
	h.T.Helper()
	es := h.Emitted()
	if got := emitted(es); got != want {
		h.T.Errorf("emitted %q, want %q", got, want)
	}
	return es
}

// answer returns an event of another function about an order.
func answer(what, id string) event.Draft {
	money := events.Money{Amount: 500, Currency: "EUR"}
	switch what {
	case "reserved":
		return events.InventoryReserved.New(id, events.ReservedStock{
			OrderID: id, Lines: []events.StockLine{{ProductID: "apple", Quantity: 2}, {ProductID: "pear", Quantity: 1}},
		})
	case "refused":
		return events.InventoryRefused.New(
			id, events.RefusedStock{OrderID: id, Reason: "insufficient stock of pear", ProductID: "pear"},
		)
	case "released":
		return events.InventoryReleased.New(id, events.ReleasedStock{OrderID: id})
	case "authorized":
		return events.PaymentAuthorized.New(id, events.AuthorizedPayment{OrderID: id, PaymentID: id, Amount: money})
	case "declined":
		return events.PaymentDeclined.New(
			id, events.DeclinedPayment{OrderID: id, Reason: "the card was declined", Code: "card_declined"},
		)
	case "captured":
		return events.PaymentCaptured.New(id, events.CapturedPayment{OrderID: id, PaymentID: id, Amount: money})
	case "voided":
		return events.PaymentVoided.New(id, events.VoidedPayment{OrderID: id})
	case "refunded":
		return events.PaymentRefunded.New(id, events.RefundedPayment{OrderID: id, Amount: money})
	}
	panic(what)
}

// A new order has its prices, its total and all steps of its saga.
func TestPlace(t *testing.T) {
	h := shop(t)
	r := post(h, body(of("apple", 2), of("pear", 1))).Expect(http.StatusAccepted)
	var o orders.Order
	r.JSON(&o)
	if got, want := r.Header.Get("Location"), "/api/orders/"+o.ID; got != want {
		t.Errorf("location %q, want %q", got, want)
	}
	if o.Status != orders.Pending || o.Total != (events.Money{Amount: 500, Currency: "EUR"}) || o.CustomerID != "ada" ||
		len(o.Lines) != 2 ||
		o.Lines[0].UnitPrice.Amount != 150 || o.Lines[0].Name != "a apple" || !o.CreatedAt.Equal(h.Clock.Now()) {
		t.Errorf("the order is %s", r.Body)
	}
	var steps []string
	for _, s := range o.Saga.Steps {
		steps = append(steps, s.Name+":"+string(s.State))
	}
	if got, want := strings.Join(steps, " "), "reserve:running authorize:todo capture:todo"; got != want {
		t.Errorf("the steps are %q, want %q", got, want)
	}
	if strings.Contains(string(r.Body), "tok_ok") {
		t.Error("the response shows the payment's token")
	}
	es := wantEmitted(h, "orders.placed inventory.reserve clock.schedule")
	for _, e := range es {
		if e.Extensions()[event.CorrelationID] != es[0].Extensions()[event.CorrelationID] ||
			e.Extensions()[event.PartitionKey] != o.ID {
			t.Errorf("%s is %v", e.Type(), e.Extensions())
		}
	}
	if e := es[0]; e.Subject() != o.ID || e.Extensions()[event.Sequence] != "1" {
		t.Errorf("placed is of %s, %v", e.Subject(), e.Extensions())
	}
	if got := get(h, o.ID); got.Total != o.Total || got.Status != orders.Pending {
		t.Errorf("got %+v", got)
	}
}

// The ways an order may go. Each step has an input and the events that the function then emits. The input is an event,
// "+11s" (the clock advances and the timer fires), "cancel" (the customer cancels) or "restart" (a new instance).
func TestSaga(t *testing.T) {
	const (
		confirmed = "orders.confirmed inventory.ship clock.cancel"
		ended     = "orders.cancelled clock.cancel"
		again     = " clock.schedule"
	)
	type step struct{ in, emits string }
	for name, tt := range map[string]struct {
		steps  []step
		status orders.Status
		reason string
		code   string
	}{
		"everything works": {
			[]step{{"reserved", "payments.authorize"}, {"authorized", "payments.capture"}, {"captured", confirmed}},
			orders.Confirmed, "", "",
		},
		"everything works, with a new instance after each step": {
			[]step{
				{"restart", ""}, {"reserved", "payments.authorize"}, {"restart", ""}, {"authorized", "payments.capture"},
				{"restart", ""}, {"captured", confirmed}, {"restart", ""},
			},
			orders.Confirmed, "", "",
		},
		"every answer comes twice": {
			[]step{
				{"reserved", "payments.authorize"}, {"reserved", ""}, {"authorized", "payments.capture"}, {"authorized", ""},
				{"captured", confirmed}, {"captured", ""},
			},
			orders.Confirmed, "", "",
		},
		"no stock": {
			[]step{{"refused", ended}},
			orders.Cancelled, "insufficient stock of pear", "out_of_stock",
		},
		"declined: the stock is released before the order is cancelled": {
			[]step{{"reserved", "payments.authorize"}, {"declined", "inventory.release"}, {"released", ended}},
			orders.Cancelled, "payment declined: the card was declined", "card_declined",
		},
		"capture declined: the authorization is voided too": {
			[]step{
				{"reserved", "payments.authorize"}, {"authorized", "payments.capture"}, {"declined", "payments.void"},
				{"voided", "inventory.release"}, {"released", ended},
			},
			orders.Cancelled, "payment declined: the card was declined", "card_declined",
		},
		"no answer from inventory": {
			[]step{{"+11s", "inventory.release" + again}, {"reserved", ""}, {"released", ended}},
			orders.Cancelled, "step reserve timed out", "deadline",
		},
		"no answer from payments: the command is repeated until it answers": {
			[]step{
				{"reserved", "payments.authorize"}, {"+11s", "payments.void" + again}, {"+11s", "payments.void" + again},
				{"authorized", ""}, {"voided", "inventory.release"}, {"+11s", "inventory.release" + again}, {"released", ended},
			},
			orders.Cancelled, "step authorize timed out", "deadline",
		},
		"the capture is in doubt: refund, then void, then release": {
			[]step{
				{"reserved", "payments.authorize"}, {"authorized", "payments.capture"}, {"+11s", "payments.refund" + again},
				{"captured", ""}, {"refunded", "payments.void"}, {"voided", "inventory.release"}, {"released", ended},
			},
			orders.Cancelled, "step capture timed out", "deadline",
		},
		"the timer fires for a step that is done: the next step has its own deadline": {
			[]step{
				{"+9s", again[1:]}, {"reserved", "payments.authorize"}, {"+9s", again[1:]}, {"authorized", "payments.capture"},
				{"+9s", again[1:]}, {"captured", confirmed}, {"+9s", ""},
			},
			orders.Confirmed, "", "",
		},
		"the customer cancels at once": {
			[]step{{"cancel", "inventory.release"}, {"cancel", ""}, {"released", ended}, {"cancel", ""}},
			orders.Cancelled, "cancelled by the customer", "cancelled_by_customer",
		},
		"the customer cancels during the authorization": {
			[]step{
				{"reserved", "payments.authorize"}, {"cancel", "payments.void"}, {"authorized", ""},
				{"voided", "inventory.release"}, {"released", ended},
			},
			orders.Cancelled, "cancelled by the customer", "cancelled_by_customer",
		},
		"the customer cancels during the capture": {
			[]step{
				{"reserved", "payments.authorize"}, {"authorized", "payments.capture"}, {"cancel", "payments.refund"},
				{"captured", ""}, {"refunded", "payments.void"}, {"voided", "inventory.release"}, {"released", ended},
			},
			orders.Cancelled, "cancelled by the customer", "cancelled_by_customer",
		},
		"the first failure is the reason": {
			[]step{
				{"reserved", "payments.authorize"}, {"declined", "inventory.release"}, {"cancel", ""},
				{"+11s", "inventory.release" + again}, {"released", ended},
			},
			orders.Cancelled, "payment declined: the card was declined", "card_declined",
		},
		"late answers to an order that has ended": {
			[]step{{"refused", ended}, {"reserved", ""}, {"released", ""}, {"declined", ""}, {"+11s", ""}},
			orders.Cancelled, "insufficient stock of pear", "out_of_stock",
		},
		"answers out of order": {
			[]step{{"captured", ""}, {"authorized", ""}, {"voided", ""}, {"reserved", "payments.authorize"}, {"captured", ""}},
			orders.Pending, "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := shop(t)
			o := place(h)
			timer := pending(t, h.Emitted())
			for n, b := range tt.steps {
				switch {
				case b.in == "restart":
					h.Restart()
				case b.in == "cancel":
					cancel(h, o.ID).Expect(http.StatusAccepted)
				case b.in[0] == '+':
					d, _ := time.ParseDuration(b.in[1:])
					h.Clock.Advance(d)
					if r := h.Receive(timer)[0]; !r.OK() {
						t.Fatalf("the timer: got %+v", r)
					}
				default:
					h.MustDeliver(answer(b.in, o.ID))
				}
				es := h.Emitted()
				if got := emitted(es); got != b.emits {
					t.Fatalf("step %d (%s) emits %q, want %q", n, b.in, got, b.emits)
				}
				if strings.Contains(b.emits, "clock.schedule") {
					timer = pending(t, es)
				}
			}
			got := get(h, o.ID)
			if got.Status != tt.status || got.Saga.Reason != tt.reason || got.Reason != tt.reason || got.Code != tt.code {
				t.Errorf(
					"the order is %s because %q (%s), want %s, %q (%s)", got.Status, got.Reason, got.Code, tt.status, tt.reason,
					tt.code,
				)
			}
			if ended := got.Status != orders.Pending; ended == got.EndedAt.IsZero() {
				t.Errorf("%s, ended at %v", got.Status, got.EndedAt)
			}
			for _, s := range got.Saga.Steps {
				if got.Status == orders.Cancelled && s.State != "undone" && s.State != "todo" && s.State != "failed" {
					t.Errorf("cancelled, yet step %s is %s", s.Name, s.State)
				}
			}
		})
	}
}

// pending returns the event of the timer that was set.
func pending(t testing.TB, es []ce.Event) ce.Event {
	t.Helper()
	for _, e := range es {
		if e.Type() != event.ClockSchedule.Name() {
			continue
		}
		s, err := event.ClockSchedule.Decode(e)
		if err != nil {
			t.Fatal(err)
		}
		var timer ce.Event
		if err := json.Unmarshal(s.Event, &timer); err != nil {
			t.Fatal(err)
		}
		return timer
	}
	t.Fatal("no timer was set")
	return ce.Event{}
}

func deadlineOf(id string) event.Draft {
	return events.OrderDeadline.New(id, events.OrderDeadlinePassed{OrderID: id})
}

// An order for nothing asks for no payment: it is confirmed when its stock is reserved.
func TestFree(t *testing.T) {
	h := shop(t)
	h.MustDeliver(changed(product("leaflet", 1, 0, "EUR")))
	h.Emitted()
	var o orders.Order
	post(h, body(of("leaflet", 1))).Expect(http.StatusAccepted).JSON(&o)
	wantEmitted(h, "orders.placed inventory.reserve clock.schedule")
	h.MustDeliver(events.InventoryReserved.New(o.ID, events.ReservedStock{
		OrderID: o.ID, Lines: []events.StockLine{{ProductID: "leaflet", Quantity: 1}},
	}))
	wantEmitted(h, "orders.confirmed inventory.ship clock.cancel")
	if got := get(h, o.ID); got.Status != orders.Confirmed || got.Total.Amount != 0 {
		t.Errorf("the order is %+v", got)
	}
}

// A deadline event that is not of the order's present timer expires the step too, but sets no second timer.
func TestOtherTimer(t *testing.T) {
	h := shop(t)
	o := place(h)
	h.Emitted()
	foreign := deadlineOf(o.ID)
	h.MustDeliver(foreign)
	wantEmitted(h, "")
	h.Clock.Advance(11 * time.Second)
	h.MustDeliver(foreign)
	wantEmitted(h, "inventory.release")
}

// The final events have all data that consumers need, and the present timer is cancelled.
func TestFinalEvents(t *testing.T) {
	h := shop(t)
	o := place(h)
	timer := pending(t, h.Emitted())
	h.MustDeliver(answer("reserved", o.ID))
	authorize, err := functiontest.Decode(events.PaymentAuthorize, h.Emitted()[0])
	if want := (events.AuthorizePayment{OrderID: o.ID, CustomerID: "ada", Amount: o.Total, Token: "tok_ok"}); err != nil ||
		authorize != want {
		t.Errorf("asked to authorize %+v, want %+v", authorize, want)
	}
	h.MustDeliver(answer("authorized", o.ID), answer("captured", o.ID)) // in one batch
	es := h.Emitted()
	confirmed, err := events.OrderConfirmed.Decode(es[1])
	if err != nil || confirmed.Total != o.Total || confirmed.CustomerID != "ada" ||
		es[1].Extensions()[event.Sequence] != "4" {
		t.Errorf("confirmed with %+v, %v, %v", confirmed, es[1].Extensions(), err)
	}
	if c, err := event.ClockCancel.Decode(es[3]); err != nil || c.TimerID != timer.ID() {
		t.Errorf("the clock forgets %q, want %q (%v)", c.TimerID, timer.ID(), err)
	}

	o = place(h)
	h.Emitted()
	h.MustDeliver(answer("refused", o.ID))
	c, err := events.OrderCancelled.Decode(h.Emitted()[0])
	if err != nil || c.Reason != "insufficient stock of pear" || c.Code != "out_of_stock" || c.OrderID != o.ID ||
		c.CustomerID != "ada" {
		t.Errorf("cancelled with %+v, %v", c, err)
	}
}

// A cancellation may have a reason. A confirmed order cannot be cancelled, nor can another customer's.
func TestCancel(t *testing.T) {
	h := shop(t)
	o := place(h)
	h.Call("POST", "/api/orders/"+o.ID+"/cancellation", functiontest.As("bob"), nil).Expect(http.StatusNotFound)
	h.Call("POST", "/api/orders/nothing/cancellation", ada, nil).Expect(http.StatusNotFound)
	h.Call(
		"POST", "/api/orders/"+o.ID+"/cancellation", ada, map[string]string{"reason": "found it cheaper"},
	).Expect(http.StatusAccepted)
	if got, want := get(h, o.ID).Reason, "cancelled by the customer: found it cheaper"; got != want {
		t.Errorf("the reason is %q, want %q", got, want)
	}
	o = place(h)
	h.Call("POST", "/api/orders/"+o.ID+"/cancellation", functiontest.Admin(), nil).Expect(http.StatusAccepted)
	if got, want := get(h, o.ID).Reason, "cancelled by the shop"; got != want {
		t.Errorf("the reason is %q, want %q", got, want)
	}
	o = place(h)
	h.MustDeliver(answer("reserved", o.ID), answer("authorized", o.ID), answer("captured", o.ID))
	r := cancel(h, o.ID).Expect(http.StatusConflict)
	if !strings.Contains(string(r.Body), "cannot be cancelled any more") {
		t.Errorf("answered %s", r.Body)
	}
}

// An operator sees the orders that are on their way and skips a step. The customer does not see what the operator
// wrote.
func TestOperators(t *testing.T) {
	h := shop(t)
	o := place(h)
	cancel(h, o.ID)
	h.Emitted()
	body := map[string]string{"step": "reserve", "reason": "the shelf is gone"}
	h.Call("POST", "/api/sagas/order/"+o.ID+"/skip", ada, body).Expect(http.StatusForbidden)
	h.Call("POST", "/api/sagas/order/"+o.ID+"/skip", functiontest.Admin(), body).Expect(http.StatusOK)
	wantEmitted(h, "orders.cancelled clock.cancel")
	if got := get(h, o.ID); got.Status != orders.Cancelled || got.Saga.Steps[0].Skipped != "" {
		t.Errorf("got %+v", got)
	}
	seen := string(h.Call("GET", "/api/sagas/order/"+o.ID, functiontest.Admin(), nil).Expect(http.StatusOK).Body)
	if !strings.Contains(seen, "the shelf is gone") || strings.Contains(seen, "tok_ok") {
		t.Errorf("the operator sees %s", seen)
	}
}

// An invalid order is refused, and the problem names the invalid part.
func TestRefusedOrders(t *testing.T) {
	many := make([]line, 101)
	for i := range many {
		many[i] = of(fmt.Sprint("p", i), 1)
	}
	for name, tt := range map[string]struct {
		body any
		want string
	}{
		"unknown product":    {body(of("apple", 1), of("durian", 1)), "there is no product durian"},
		"deleted product":    {body(of("coconut", 1)), "there is no product coconut"},
		"its place":          {body(of("apple", 1), of("durian", 1)), "body.lines[1].product_id"},
		"same product twice": {body(of("apple", 1), of("apple", 1)), "product apple is there twice"},
		"two currencies":     {body(of("apple", 1), of("plum", 1)), "product plum is sold for USD"},
		"total too large":    {body(of("yacht", 600), of("apple", 1), of("pear", 1000000)), ""},
		"total over the top": {body(of("yacht", 1001)), "worth more than can be paid"},
		"total overflows":    {body(of("yacht", 1_000_000)), "worth more than can be paid"},
		"no lines":           {`{"lines":[],"payment":{"token":"tok_ok"}}`, "lines"},
		"null lines":         {`{"lines":null,"payment":{"token":"tok_ok"}}`, "lines"},
		"null line":          {`{"lines":[null],"payment":{"token":"tok_ok"}}`, "lines"},
		"null product":       {`{"lines":[{"product_id":null,"quantity":1}],"payment":{"token":"tok_ok"}}`, "product_id"},
		"null quantity": {
			`{"lines":[{"product_id":"apple","quantity":null}],"payment":{"token":"tok_ok"}}`, "quantity",
		},
		"null payment":        {`{"lines":[{"product_id":"apple","quantity":1}],"payment":null}`, "payment"},
		"null token":          {`{"lines":[{"product_id":"apple","quantity":1}],"payment":{"token":null}}`, "token"},
		"too many lines":      {body(many...), "lines"},
		"nothing of it":       {body(of("apple", 0)), "quantity"},
		"too much of it":      {body(of("apple", 1_000_001)), "quantity"},
		"no payment":          {map[string]any{"lines": []line{of("apple", 1)}}, "payment"},
		"an empty token":      {map[string]any{"lines": []line{of("apple", 1)}, "payment": line{"token": ""}}, "token"},
		"a fraction of apple": {body(line{"product_id": "apple", "quantity": 0.5}), "quantity"},
	} {
		t.Run(name, func(t *testing.T) {
			h := shop(t)
			if tt.want == "" {
				post(h, tt.body).Expect(http.StatusAccepted)
				return
			}
			r := post(h, tt.body).Expect(http.StatusUnprocessableEntity)
			if !strings.Contains(string(r.Body), tt.want) {
				t.Errorf("answered %s, want something of %q", r.Body, tt.want)
			}
			wantEmitted(h, "")
		})
	}
}

// An order needs a key, and each repetition with the same key gets the same order.
func TestIdempotencyKey(t *testing.T) {
	h := shop(t)
	h.Call("POST", "/api/orders", ada, body(of("apple", 1))).Expect(http.StatusBadRequest)
	var first, second orders.Order
	h.Call(
		"POST", "/api/orders", ada, body(of("apple", 1)), "Idempotency-Key", "k",
	).Expect(http.StatusAccepted).JSON(&first)
	h.Restart()
	r := h.Call("POST", "/api/orders", ada, body(of("apple", 1)), "Idempotency-Key", "k").Expect(http.StatusAccepted)
	r.JSON(&second)
	if first.ID != second.ID || r.Header.Get("Location") != "/api/orders/"+first.ID {
		t.Errorf("orders %s and %s, at %s", first.ID, second.ID, r.Header.Get("Location"))
	}
	wantEmitted(h, "orders.placed inventory.reserve clock.schedule")
	h.Call("POST", "/api/orders", ada, body(of("apple", 2)), "Idempotency-Key", "k").Expect(http.StatusUnprocessableEntity)
	h.Call(
		"POST", "/api/orders", functiontest.Nobody, body(of("apple", 1)), "Idempotency-Key", "k",
	).Expect(http.StatusUnauthorized)
}

// With Prefer: wait the response has the ended order, also with a repeated key; when the wait is too short, the pending
// one.
func TestPreferWait(t *testing.T) {
	h := shop(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			for _, e := range h.Emitted() {
				if e.Type() == events.OrderPlaced.Name() {
					for _, what := range []string{"reserved", "authorized", "captured"} {
						h.Deliver(answer(what, e.Subject()))
					}
					return
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	begin := time.Now()
	r := h.Call(
		"POST", "/api/orders", ada, body(of("apple", 1)), "Idempotency-Key", "k", "Prefer", "wait=10",
	).Expect(http.StatusOK)
	<-done
	var o orders.Order
	r.JSON(&o)
	if o.Status != orders.Confirmed || r.Header.Get("Preference-Applied") != "wait=10" || r.Header.Get("Location") == "" {
		t.Errorf("answered %s, %v", r.Body, r.Header)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	h.Call(
		"POST", "/api/orders", ada, body(of("apple", 1)), "Idempotency-Key", "k", "Prefer", "wait=10",
	).Expect(http.StatusOK)
	r = h.Call("POST", "/api/orders", ada, body(of("apple", 1)), "Idempotency-Key", "k").Expect(http.StatusAccepted)
	if r.Header.Get("Preference-Applied") != "" {
		t.Error("a wait that nobody asked for was applied")
	}
	r = post(h, body(of("apple", 1)), "Prefer", "respond-async, wait=1").Expect(http.StatusAccepted)
	if r.Header.Get("Preference-Applied") != "wait=1" {
		t.Errorf("applied %q", r.Header.Get("Preference-Applied"))
	}
	r = post(h, body(of("apple", 1)), "Prefer", "wait=soon").Expect(http.StatusAccepted)
	if r.Header.Get("Preference-Applied") != "" {
		t.Errorf("applied %q", r.Header.Get("Preference-Applied"))
	}
}

// The copy of the catalogue takes the newest version and never goes back.
func TestPrices(t *testing.T) {
	h := shop(t)
	total := func() int64 {
		var o orders.Order
		post(h, body(of("apple", 1))).Expect(http.StatusAccepted).JSON(&o)
		return o.Total.Amount
	}
	h.MustDeliver(changed(product("apple", 3, 170, "EUR")), changed(product("apple", 2, 160, "EUR")))
	if got := total(); got != 170 {
		t.Errorf("an apple costs %d, want 170", got)
	}
	h.MustDeliver(changed(product("apple", 4, 180, "EUR")))
	if got := total(); got != 180 {
		t.Errorf("an apple costs %d, want 180", got)
	}
}

// A price that has changed since the customer saw it is not charged: the order is refused if the total is another one.
func TestExpectedTotal(t *testing.T) {
	h := shop(t)
	expecting := func(amount int64, currency string) map[string]any {
		b := body(of("apple", 2))
		b["expected_total"] = events.Money{Amount: amount, Currency: currency}
		return b
	}
	post(h, expecting(300, "EUR")).Expect(http.StatusAccepted)
	wantEmitted(h, "orders.placed inventory.reserve clock.schedule")
	h.MustDeliver(changed(product("apple", 3, 170, "EUR")))
	for _, b := range []map[string]any{expecting(300, "EUR"), expecting(340, "USD")} {
		r := post(h, b).Expect(http.StatusConflict)
		if !strings.Contains(string(r.Body), "340 EUR") || !strings.Contains(string(r.Body), "body.expected_total") {
			t.Errorf("got %s", r.Body)
		}
		wantEmitted(h, "")
	}
	post(h, expecting(340, "EUR")).Expect(http.StatusAccepted)
}

// An order is visible to its customer and to admins; a list has the caller's own orders, newest first, in pages.
func TestVisibility(t *testing.T) {
	h := shop(t)
	var ids []string
	for range 5 {
		ids = append([]string{place(h).ID}, ids...)
	}
	h.Call("GET", "/api/orders/"+ids[0], functiontest.Admin(), nil).Expect(http.StatusOK)
	h.Call("GET", "/api/orders/"+ids[0], functiontest.As("bob"), nil).Expect(http.StatusNotFound)
	h.Call("GET", "/api/orders/"+ids[0], functiontest.Nobody, nil).Expect(http.StatusUnauthorized)
	var page struct {
		Items []orders.Order `json:"items"`
		Next  string         `json:"next"`
	}
	var got []string
	for path := "/api/orders?limit=2"; ; path = "/api/orders?limit=2&cursor=" + page.Next {
		page.Next = ""
		h.Call("GET", path, ada, nil).Expect(http.StatusOK).JSON(&page)
		for _, o := range page.Items {
			got = append(got, o.ID)
		}
		if page.Next == "" {
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(ids) {
		t.Errorf("listed %v, want %v", got, ids)
	}
	h.Call("GET", "/api/orders", functiontest.As("bob"), nil).Expect(http.StatusOK).JSON(&page)
	if len(page.Items) != 0 {
		t.Errorf("bob sees %d orders", len(page.Items))
	}
	h.Call("GET", "/api/orders?customer_id=ada", functiontest.As("bob"), nil).Expect(http.StatusForbidden)
	h.Call("GET", "/api/orders?customer_id=ada", functiontest.Admin(), nil).Expect(http.StatusOK).JSON(&page)
	if len(page.Items) != 5 {
		t.Errorf("an admin sees %d orders of ada", len(page.Items))
	}
	h.Call("GET", "/api/orders?cursor=x", ada, nil).Expect(http.StatusUnprocessableEntity)
}

// The token of a customer who was deleted orders nothing and sees nothing, and so nothing is charged.
func TestDeletedCustomer(t *testing.T) {
	h := shop(t)
	o := place(h)
	h.Emitted()
	until := h.Clock.Now().Add(15 * time.Minute)
	h.MustDeliver(event.AccessRevoked.New("ada", event.RevokedAccess{Subject: "ada", IssuedBefore: until, Until: until}))
	post(h, body(of("apple", 1))).Expect(http.StatusUnauthorized)
	cancel(h, o.ID).Expect(http.StatusUnauthorized)
	h.Call("GET", "/api/orders/"+o.ID, ada, nil).Expect(http.StatusUnauthorized)
	h.Call("GET", "/api/orders", ada, nil).Expect(http.StatusUnauthorized)
	wantEmitted(h, "")
}

// A fact about an unknown order is refused for good.
func TestUnknownOrder(t *testing.T) {
	h := shop(t)
	if r := h.Deliver(answer("reserved", "nothing"))[0]; r.Status != http.StatusUnprocessableEntity {
		t.Errorf("answered %+v, want 422", r)
	}
}

// The declaration draws the saga.
func TestPicture(t *testing.T) {
	picture := orders.Picture()
	for _, want := range []string{
		"s1 --> s2: reserved", `"capture (pivot)"`, "u3 --> u2: refunded", "u2 --> u1: voided", "u1 --> undone: released",
	} {
		if !strings.Contains(picture, want) {
			t.Errorf("want %q in\n%s", want, picture)
		}
	}
}

// A configuration that cannot work is refused.
func TestConfig(t *testing.T) {
	_, err := orders.New(function.Env{Lookup: func(string) (string, bool) { return "0s", true }})
	if err == nil || !strings.Contains(err.Error(), "EBB_ORDERS_STEP_DEADLINE") {
		t.Errorf("got %v", err)
	}
}
