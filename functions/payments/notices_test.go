package payments_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/payments"
	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// tellingBank is a bank that sends notices. The signature of a notice is its id.
type tellingBank struct {
	openingBank
	looks int
}

func (b *tellingBank) Notice(signature string, body []byte, _ time.Time) (provider.Notice, error) {
	if signature == "" {
		return provider.Notice{}, fault.New(fault.Denied, "no signature").WithStatus(http.StatusBadRequest)
	}
	return provider.Notice{ID: signature, Ref: string(body)}, nil
}

func (b *tellingBank) Look(_ context.Context, ref string) (provider.Found, error) {
	b.looks++
	where := map[string]provider.Money{"held": provider.Held, "taken": provider.Taken, "gone": provider.Released}
	return provider.Found{
		OrderID: ref[len("pi_"):], Ref: ref, Amount: price.Amount, Currency: price.Currency, Money: where[b.holds()],
	}, nil
}

func withNotices(t *testing.T) (*functiontest.Harness, *tellingBank) {
	b := &tellingBank{openingBank: openingBank{newBank()}}
	b.opens = true
	h := functiontest.New(t, func(e function.Env) (*function.Function, error) { return payments.NewWith(e, b), nil })
	return h, b
}

func tell(h *functiontest.Harness, id string) *functiontest.Response {
	h.T.Helper()
	return h.Call("POST", "/api/payments/stripe/webhooks", functiontest.Nobody, "pi_o1",
		"Stripe-Signature", id, "Content-Type", "application/octet-stream")
}

// A notice without a valid signature is refused, and one that comes twice is taken once.
func TestNoticeOnce(t *testing.T) {
	h, b := withNotices(t)
	tell(h, "").Expect(http.StatusBadRequest)
	for range 3 {
		tell(h, "evt_1").Expect(http.StatusNoContent)
		h.Restart()
	}
	if b.looks != 1 {
		t.Errorf("looked %d times", b.looks)
	}
	h.Clock.Advance(30 * 24 * time.Hour)
	plain := with(t, newBank())
	tell(plain, "evt_1").Expect(http.StatusNotFound)
}

// A payment that the provider knows and we do not is found: it is shown, a second notice changes nothing, and a void
// gives the money back.
func TestUnknownPaymentIsFound(t *testing.T) {
	for money, by := range map[string]event.Draft{"held": void, "taken": refund} {
		h, b := withNotices(t)
		b.opened["pi_o1"], b.money["o1"] = true, money
		tell(h, "evt_1").Expect(http.StatusNoContent)
		tell(h, "evt_2").Expect(http.StatusNoContent)
		wantStatus(h, payments.Opened)
		wantEmitted(h, "")
		h.MustDeliver(by)
		if got := b.holds(); got != "gone" {
			t.Errorf("the money is %q", got)
		}
	}
}

// What has happened at the provider is learnt, and money that was to be given back is.
func TestNoticesBringInLine(t *testing.T) {
	for name, tt := range map[string]struct {
		before []event.Draft
		money  string // at the provider, by its own doing
		emits  string
		then   payments.Status
		end    string
	}{
		"authorized as known": {[]event.Draft{authorize("tok_ok")}, "held", "", payments.Authorized, "held"},
		"captured by hand":    {[]event.Draft{authorize("tok_ok")}, "taken", "captured", payments.Captured, "taken"},
		"canceled by hand":    {[]event.Draft{authorize("tok_ok")}, "gone", "voided", payments.Voided, "gone"},
		"held after all":      {[]event.Draft{authorize("tok_declined")}, "held", "voided", payments.Declined, "gone"},
		"taken after all":     {[]event.Draft{authorize("tok_declined")}, "taken", "refunded", payments.Declined, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			h, b := withNotices(t)
			for _, d := range tt.before {
				h.MustDeliver(d)
			}
			h.Emitted()
			b.money["o1"] = tt.money
			tell(h, "evt_1").Expect(http.StatusNoContent)
			wantEmitted(h, tt.emits)
			wantStatus(h, tt.then)
			if got := b.holds(); got != tt.end {
				t.Errorf("the money is %q, want %q", got, tt.end)
			}
		})
	}
}

// A notice about a payment that is being authorized changes nothing: the result of the call does.
func TestNoticeDuringACall(t *testing.T) {
	h, b := withNotices(t)
	b.during = func() { tell(h, "evt_1").Expect(http.StatusNoContent) }
	h.MustDeliver(authorize("tok_ok"))
	wantEmitted(h, "authorized")
	wantStatus(h, payments.Authorized)
	if b.looks != 1 {
		t.Errorf("looked %d times", b.looks)
	}
}
