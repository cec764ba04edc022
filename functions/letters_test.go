package functions

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// A customer is told how an order ended, once, and the event names the order.
func TestLetters(t *testing.T) {
	d, _ := System().Lookup("notifications")
	h := functiontest.New(t, d.New, functiontest.Once())
	h.MustDeliver(
		events.UserRegistered.New("ada", events.RegisteredUser{UserID: "ada", Name: "Ada", Email: "ada@example.com"}),
	)
	h.Emitted()
	h.MustDeliver(events.OrderConfirmed.New("o1", events.ConfirmedOrder{
		OrderID: "o1", CustomerID: "ada", ConfirmedAt: h.Clock.Now(),
		Total: events.Money{Amount: 3998, Currency: "EUR"},
	}))
	h.MustDeliver(
		events.OrderCancelled.New(
			"o2",
			events.CancelledOrder{
				OrderID:     "o2",
				CustomerID:  "ada",
				Reason:      "the card was declined",
				CancelledAt: h.Clock.Now(),
			},
		),
	)
	var got []string
	for _, e := range h.Emitted() {
		sent, err := events.NotificationSent.Decode(e)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, sent.Template+" "+sent.OrderID+" "+sent.UserID)
	}
	if text := strings.Join(got, ", "); text != "order-confirmed o1 ada, order-cancelled o2 ada" {
		t.Errorf("sent %s", text)
	}
}

// The letters read as they should.
func TestLetterTexts(t *testing.T) {
	for i, want := range []struct {
		about         orderFacts
		subject, text string
	}{
		{
			orderFacts{OrderID: "o1", Total: price(events.Money{Amount: 3998, Currency: "EUR"})},
			"Your order o1 is confirmed", "(39.98 EUR)",
		},
		{
			orderFacts{OrderID: "o2", Reason: "the card was declined"},
			"Your order o2 is cancelled", "o2 was cancelled: the card was declined.",
		},
	} {
		subject, body, err := letters[i].Preview("Ebb", "Ada", want.about)
		if err != nil || subject != want.subject || !strings.Contains(body, want.text) ||
			!strings.HasSuffix(body, "\n\nEbb\n") {
			t.Errorf("got %q, %q, %v", subject, body, err)
		}
	}
}

// Amounts are written with the decimals of their currency.
func TestPrice(t *testing.T) {
	for want, m := range map[string]events.Money{
		"39.98 EUR": {Amount: 3998, Currency: "EUR"}, "0.05 EUR": {Amount: 5, Currency: "EUR"},
		"500 JPY": {Amount: 500, Currency: "JPY"}, "1.234 KWD": {Amount: 1234, Currency: "KWD"},
	} {
		if got := price(m); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
