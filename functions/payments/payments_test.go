package payments_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/payments"
	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/functions/payments/sandbox"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

var types = event.NewCatalogue(events.Types()...)

var price = events.Money{Amount: 1999, Currency: "EUR"}

func authorize(token string) event.Draft {
	return events.PaymentAuthorize.New(
		"o1", events.AuthorizePayment{OrderID: "o1", CustomerID: "ada", Amount: price, Token: token},
	)
}

var (
	capture = events.PaymentCapture.New("o1", events.CapturePayment{OrderID: "o1"})
	void    = events.PaymentVoid.New("o1", events.VoidPayment{OrderID: "o1"})
	refund  = events.PaymentRefund.New("o1", events.RefundPayment{OrderID: "o1"})
)

// bank is a provider in memory, which records the state of each order's money. openingBank is also an Opener.
type bank struct {
	mu     sync.Mutex
	opens  bool
	opened map[string]bool
	money  map[string]string // held, taken or gone (final)
	fail   error             // what every call answers after it has done its work
	closed error             // what Open answers
	during func()            // what happens while an authorize is under way, once
	keys   []string          // of the calls that were made
}

func newBank() *bank { return &bank{opened: map[string]bool{}, money: map[string]string{}} }

type openingBank struct{ *bank }

func (b openingBank) Open(_ context.Context, p provider.Payment) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return "", b.closed
	}
	b.opened["pi_"+p.OrderID] = true
	return "pi_" + p.OrderID, nil
}

func (b *bank) do(p provider.Payment, from, to string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys = append(b.keys, p.Key)
	if b.opens && !b.opened[p.Ref] {
		return fault.New(fault.Internal, "there is no %q", p.Ref)
	}
	switch b.money[p.OrderID] {
	case from:
		b.money[p.OrderID] = to
	case to:
	case "taken":
		return provider.ErrCaptured
	default:
		return fault.New(fault.Conflict, "the payment is %q", b.money[p.OrderID])
	}
	return b.fail
}

func (b *bank) Authorize(_ context.Context, p provider.Payment) error {
	if p.Token == "tok_declined" {
		return &provider.Declined{Code: "card_declined", Reason: "no money"}
	}
	err := b.do(p, "", "held")
	if during := b.during; during != nil {
		b.during = nil
		during()
	}
	return err
}
func (b *bank) Capture(_ context.Context, p provider.Payment) error { return b.do(p, "held", "taken") }
func (b *bank) Refund(_ context.Context, p provider.Payment) error  { return b.do(p, "taken", "gone") }
func (b *bank) Void(_ context.Context, p provider.Payment) error {
	if b.holds() == "" {
		return b.do(p, "", "gone")
	}
	return b.do(p, "held", "gone")
}

func (b *bank) holds() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.money["o1"]
}

func with(t testing.TB, b *bank, options ...functiontest.Option) *functiontest.Harness {
	return functiontest.New(t, func(env function.Env) (*function.Function, error) {
		if b.opens {
			return payments.NewWith(env, openingBank{b}), nil
		}
		return payments.NewWith(env, b), nil
	}, options...)
}

func wantEmitted(h *functiontest.Harness, want string) {
	h.T.Helper()
	var emitted []string
	for _, e := range h.Emitted() {
		if info, known := types.Lookup(e.Type()); known { // not a timer of the kit
			emitted = append(emitted, info.What)
		}
	}
	if got := strings.Join(emitted, " "); got != want {
		h.T.Errorf("emitted %q, want %q", got, want)
	}
}

func wantStatus(h *functiontest.Harness, want payments.Status) {
	h.T.Helper()
	var p payments.Payment
	if r := h.Call("GET", "/api/payments/o1", functiontest.Admin(), nil); r.Status == http.StatusOK {
		r.JSON(&p)
	}
	if p.Status != want {
		h.T.Errorf("the payment is %q, want %q", p.Status, want)
	}
}

// Every command in every state of a payment: the status code, the emitted events, the payment's status and the state of
// the money after it. All are the same with and without an Opener.
func TestEveryCommandInEveryState(t *testing.T) {
	states := map[string][]event.Draft{
		"none":       nil,
		"authorized": {authorize("tok_ok")},
		"declined":   {authorize("tok_declined")},
		"captured":   {authorize("tok_ok"), capture},
		"voided":     {authorize("tok_ok"), void},
		"void early": {void},
		"refunded":   {authorize("tok_ok"), capture, refund},
		"given back": {authorize("tok_ok"), refund}, // before it was captured
	}
	ask := authorize("tok_ok")
	tests := []struct {
		state   string
		command event.Draft
		answer  int
		emits   string
		then    payments.Status
		money   string
	}{
		{"none", ask, 200, "authorized", payments.Authorized, "held"},
		{"none", authorize("tok_declined"), 200, "declined", payments.Declined, ""},
		{"none", capture, 503, "", "", ""},
		{"none", void, 200, "voided", payments.Voided, ""},
		{"none", refund, 503, "", "", ""},

		{"authorized", ask, 200, "authorized", payments.Authorized, "held"},
		{"authorized", capture, 200, "captured", payments.Captured, "taken"},
		{"authorized", void, 200, "voided", payments.Voided, "gone"},
		{"authorized", refund, 200, "refunded", payments.Refunded, "gone"},

		{"declined", ask, 200, "declined", payments.Declined, ""},
		{"declined", capture, 200, "declined", payments.Declined, ""},
		{"declined", void, 200, "voided", payments.Declined, ""},
		{"declined", refund, 200, "refunded", payments.Declined, ""},

		{"captured", ask, 200, "captured", payments.Captured, "taken"},
		{"captured", capture, 200, "captured", payments.Captured, "taken"},
		{"captured", void, 503, "", payments.Captured, "taken"},
		{"captured", refund, 200, "refunded", payments.Refunded, "gone"},

		{"voided", ask, 200, "voided", payments.Voided, "gone"},
		{"voided", capture, 200, "voided", payments.Voided, "gone"},
		{"voided", void, 200, "voided", payments.Voided, "gone"},
		{"voided", refund, 200, "refunded", payments.Voided, "gone"},

		{"void early", ask, 200, "voided", payments.Voided, ""},
		{"void early", capture, 200, "voided", payments.Voided, ""},
		{"void early", void, 200, "voided", payments.Voided, ""},
		{"void early", refund, 422, "", payments.Voided, ""},

		{"refunded", ask, 200, "refunded", payments.Refunded, "gone"},
		{"refunded", capture, 200, "refunded", payments.Refunded, "gone"},
		{"refunded", void, 200, "voided", payments.Refunded, "gone"},
		{"refunded", refund, 200, "refunded", payments.Refunded, "gone"},

		{"given back", ask, 200, "refunded", payments.Refunded, "gone"},
		{"given back", capture, 200, "refunded", payments.Refunded, "gone"},
		{"given back", void, 200, "voided", payments.Refunded, "gone"},
		{"given back", refund, 200, "refunded", payments.Refunded, "gone"},
	}
	for _, opens := range []bool{false, true} {
		for _, tt := range tests {
			name := tt.command.Info.What + " when " + tt.state
			if opens {
				name += ", opened"
			}
			t.Run(name, func(t *testing.T) {
				b := newBank()
				b.opens = opens
				h := with(t, b)
				for _, d := range states[tt.state] {
					h.MustDeliver(d)
				}
				h.Emitted()
				if got := h.Deliver(tt.command)[0]; got.Status != tt.answer {
					t.Errorf("answered %+v, want %d", got, tt.answer)
				}
				wantEmitted(h, tt.emits)
				wantStatus(h, tt.then)
				if got := b.holds(); got != tt.money {
					t.Errorf("the money is %q, want %q", got, tt.money)
				}
			})
		}
	}
}

// A void that comes during the provider's authorize wins: no money stays reserved, although the authorize succeeded
// there.
func TestVoidOvertakesAuthorize(t *testing.T) {
	b := newBank()
	b.opens = true
	h := with(t, b)
	b.during = func() { h.MustDeliver(void) }
	e := h.Event(authorize("tok_ok"))
	if got := h.Receive(e)[0]; got.Status != http.StatusServiceUnavailable { // another message has ended its call
		t.Errorf("an authorize whose call was cancelled is answered %+v", got)
	}
	b.during = nil
	if got := h.Receive(e)[0]; !got.OK() {
		t.Errorf("when it comes again it is answered %+v", got)
	}
	wantEmitted(h, "voided")
	wantStatus(h, payments.Voided)
	if got := b.holds(); got != "gone" {
		t.Errorf("the money is %q, want gone", got)
	}
}

// The answer to an authorize that succeeded is lost: a void finds the payment, and the authorize is not made again.
func TestVoidFindsWhatACrashLeft(t *testing.T) {
	b := newBank()
	b.opens, b.fail = true, fault.New(fault.Unavailable, "the answer is lost")
	h := with(t, b)
	h.MustDeliver(authorize("tok_ok"))
	if b.holds() != "held" {
		t.Fatalf("the money is %q", b.holds())
	}
	wantStatus(h, payments.Opened)
	b.fail = nil
	h.Restart()
	if got := h.Deliver(capture)[0]; got.Status != http.StatusServiceUnavailable {
		t.Errorf("a capture too early is answered %+v", got)
	}
	h.MustDeliver(void)
	h.Advance(time.Hour)
	if got := b.holds(); got != "gone" {
		t.Errorf("the money is %q, want gone", got)
	}
	h.MustDeliver(authorize("tok_ok"))
	wantEmitted(h, "voided voided")
}

// A capture succeeded at the provider but was not committed when the refund comes: the money is refunded, and the late
// capture charges nothing. A void of what was captured is answered when it is refunded.
func TestRefundFindsWhatACrashLeft(t *testing.T) {
	b := newBank()
	h := with(t, b)
	h.MustDeliver(authorize("tok_ok"))
	b.fail = fault.New(fault.Unavailable, "the answer is lost")
	h.MustDeliver(capture)
	b.fail = nil
	h.MustDeliver(void)
	if b.holds() != "taken" {
		t.Errorf("the money is %q", b.holds())
	}
	wantEmitted(h, "authorized")
	h.MustDeliver(refund)
	h.MustDeliver(capture)
	wantEmitted(h, "refunded refunded")
	h.Advance(time.Hour)
	wantEmitted(h, "voided")
	if got := b.holds(); got != "gone" {
		t.Errorf("the money is %q, want gone", got)
	}
}

// Each call of the provider is made once, although every unit of work runs twice, and each has a key of its own.
func TestOneCall(t *testing.T) {
	b := newBank()
	h := with(t, b)
	for _, d := range []event.Draft{authorize("tok_ok"), capture, refund, authorize("tok_ok"), capture, refund} {
		h.MustDeliver(d)
	}
	want := "payments/authorize/o1 payments/capture/o1 payments/refund/o1"
	if got := strings.Join(b.keys, " "); got != want {
		t.Errorf("called with %s, want %s", got, want)
	}
}

// A command that comes again while its call has no result is answered by that result.
func TestCommandDuringItsCall(t *testing.T) {
	b := newBank()
	h := with(t, b)
	b.fail = fault.New(fault.Unavailable, "down")
	h.MustDeliver(authorize("tok_ok"))
	h.MustDeliver(authorize("tok_ok"))
	b.fail = nil
	h.Advance(time.Hour)
	b.fail = fault.New(fault.Unavailable, "down")
	for range 3 {
		h.MustDeliver(void)
	}
	b.fail = nil
	h.Advance(time.Hour)
	wantEmitted(h, "authorized voided")
}

// A request that Stripe refuses for good is declined at once, with Stripe's reason.
func TestRefusedForGood(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":{"type":"invalid_request_error","code":"amount_too_small",`+
			`"message":"Amount must be at least 50 cents."}}`)
	}))
	t.Cleanup(server.Close)
	h := functiontest.New(t, payments.New, functiontest.Set(map[string]string{
		"EBB_PAYMENTS_PROVIDER": "stripe", "STRIPE_SECRET_KEY": "sk_test_1", "STRIPE_API_BASE": server.URL,
	}))
	h.MustDeliver(authorize("pm_1"))
	var p payments.Payment
	h.Call("GET", "/api/payments/o1", functiontest.Admin(), nil).Expect(http.StatusOK).JSON(&p)
	if p.Status != payments.Declined || p.Reason != "Amount must be at least 50 cents." || p.Code != "amount_too_small" {
		t.Errorf("the payment is %+v", p)
	}
	wantEmitted(h, "declined")
	if requests != 1 {
		t.Errorf("sent %d requests", requests)
	}
}

// An order for nothing asks the provider for no payment.
func TestFree(t *testing.T) {
	for _, end := range []struct {
		by   event.Draft
		want string
	}{{void, "authorized voided"}, {capture, "authorized captured"}, {refund, "authorized refunded"}} {
		b := newBank()
		h := with(t, b)
		h.MustDeliver(events.PaymentAuthorize.New("o1", events.AuthorizePayment{
			OrderID: "o1", CustomerID: "ada", Amount: events.Money{Currency: "EUR"}, Token: "tok_ok",
		}))
		h.MustDeliver(end.by)
		wantEmitted(h, end.want)
		if len(b.keys) > 0 {
			t.Errorf("called with %q", b.keys)
		}
	}
}

// A replayed command moves no money and emits nothing.
func TestReplay(t *testing.T) {
	b := newBank()
	h := with(t, b)
	e := h.Event(authorize("tok_ok"))
	e.SetExtension(event.Replay, "r1")
	if r := h.Receive(e)[0]; !r.OK() || b.holds() != "" {
		t.Errorf("answered %+v, the money is %q", r, b.holds())
	}
	wantEmitted(h, "")
}

// Each token of the sandbox has its documented result.
func TestSandboxTokens(t *testing.T) {
	for token, want := range map[string]struct{ emits, reason string }{
		"tok_ok":       {"authorized", ""},
		"tok_slow":     {"authorized", ""},
		"tok_declined": {"declined", "the card was declined"},
		"tok_whatever": {"declined", "unknown payment token"},
	} {
		t.Run(token, func(t *testing.T) {
			h := functiontest.New(t, payments.New, functiontest.Set(map[string]string{"EBB_PAYMENTS_SLOW": "1ms"}))
			h.MustDeliver(authorize(token))
			wantEmitted(h, want.emits)
			var p payments.Payment
			h.Call("GET", "/api/payments/o1", functiontest.As("ada"), nil).Expect(http.StatusOK).JSON(&p)
			if p.Reason != want.reason || p.Amount != price || p.ID != "o1" || p.CustomerID != "ada" || p.CreatedAt.IsZero() {
				t.Errorf("the payment is %+v", p)
			}
		})
	}
}

// A payment that the provider declines in Open is declined as in Authorize: the provider is not called again, and the
// event has the reason.
func TestDeclinedInOpen(t *testing.T) {
	b := newBank()
	b.opens, b.closed = true, &provider.Declined{Code: "unsupported_amount", Reason: "not this amount"}
	h := with(t, b)
	h.MustDeliver(authorize("tok_ok"))
	wantEmitted(h, "declined")
	wantStatus(h, payments.Declined)
	if len(b.money) != 0 {
		t.Errorf("the bank has %v", b.money)
	}
	h.MustDeliver(void)
	wantEmitted(h, "voided")
}

// tok_error_once fails once per order, and is then authorized by the second attempt.
func TestErrorOnce(t *testing.T) {
	h := functiontest.New(t, payments.New)
	before := h.Clock.Now()
	h.MustDeliver(authorize("tok_error_once"))
	wantEmitted(h, "authorized")
	if !h.Clock.Now().After(before) {
		t.Error("there was no pause before a second attempt")
	}
}

// tok_slow ends when its context ends.
func TestSlowEndsWithContext(t *testing.T) {
	s := sandbox.New(nil, time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Authorize(ctx, provider.Payment{OrderID: "o1", Token: "tok_slow"}); !fault.Is(err, fault.Timeout) {
		t.Errorf("got %v, want a timeout", err)
	}
}

// A payment is visible to its customer and to admins.
func TestVisibility(t *testing.T) {
	h := functiontest.New(t, payments.New)
	h.MustDeliver(authorize("tok_ok"))
	h.Call("GET", "/api/payments/o1", functiontest.As("ada"), nil).Expect(http.StatusOK)
	h.Call("GET", "/api/payments/o1", functiontest.Admin(), nil).Expect(http.StatusOK)
	h.Call("GET", "/api/payments/o1", functiontest.As("bob"), nil).Expect(http.StatusNotFound)
	h.Call("GET", "/api/payments/o2", functiontest.As("ada"), nil).Expect(http.StatusNotFound)
	h.Call("GET", "/api/payments/o1", functiontest.Nobody, nil).Expect(http.StatusUnauthorized)
	h.Call("GET", "/api/payments?customer_id=ada", functiontest.As("bob"), nil).Expect(http.StatusForbidden)
	for path, who := range map[string]auth.Principal{
		"/api/payments": functiontest.As("ada"), "/api/payments?customer_id=ada": functiontest.Admin(),
	} {
		var page struct{ Items []payments.Payment }
		h.Call("GET", path, who, nil).Expect(http.StatusOK).JSON(&page)
		if len(page.Items) != 1 || page.Items[0].OrderID != "o1" {
			t.Errorf("%s: got %+v", path, page)
		}
	}
}

// An invalid configuration is refused, with one error for all invalid values.
func TestConfig(t *testing.T) {
	for name, tt := range map[string]struct {
		vars map[string]string
		want string
	}{
		"unknown provider": {map[string]string{"EBB_PAYMENTS_PROVIDER": "paypal"}, "sandbox or stripe"},
		"no key":           {map[string]string{"EBB_PAYMENTS_PROVIDER": "stripe"}, "STRIPE_SECRET_KEY"},
		"no address": {
			map[string]string{"EBB_PAYMENTS_PROVIDER": "stripe", "STRIPE_SECRET_KEY": "sk", "STRIPE_API_BASE": "api"},
			"STRIPE_API_BASE",
		},
		"negative": {map[string]string{"EBB_PAYMENTS_SLOW": "-1s"}, "EBB_PAYMENTS_SLOW"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := payments.New(function.Env{Lookup: func(key string) (string, bool) { v, ok := tt.vars[key]; return v, ok }})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a fault about %s", err, tt.want)
			}
		})
	}
}
