package stripe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/functions/payments/stripe"
	"github.com/ebb-dev/ebb/infra/fault"
)

var payment = provider.Payment{OrderID: "o1", Ref: "pi_1", Amount: 1999, Currency: "EUR", Token: "tok_visa"}

type call func(*stripe.Provider, context.Context, provider.Payment) error

var calls = map[string]call{
	"open": func(s *stripe.Provider, ctx context.Context, p provider.Payment) error {
		_, err := s.Open(ctx, p)
		return err
	},
	"authorize": (*stripe.Provider).Authorize,
	"capture":   (*stripe.Provider).Capture,
	"void":      (*stripe.Provider).Void,
	"refund":    (*stripe.Provider).Refund,
}

// answering starts a server that gives one response to every request. It also returns the last request.
func answering(t *testing.T, status int, body string, header ...string) (*stripe.Provider, *string) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form, _ := io.ReadAll(r.Body)
		asked = fmt.Sprintf(
			"%s %s %s %s %s %s", r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Content-Type"),
			r.Header.Get("Idempotency-Key"), form,
		)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return stripe.New(server.URL+"/", "sk_test_1"), &asked
}

// Each call sends the request of Stripe's reference, with a key of its own for the order and operation.
func TestRequests(t *testing.T) {
	const head = "Bearer sk_test_1 application/x-www-form-urlencoded "
	byKey, byMethod := payment, payment
	byKey.Key = "payments/refund/o1"
	byMethod.Token = "pm_1"
	for name, tt := range map[string]struct {
		do   call
		with provider.Payment
		want string
	}{
		"open": {calls["open"], payment, "POST /v1/payment_intents " + head + "o1:open " +
			"amount=1999&capture_method=manual&currency=eur&metadata%5Border_id%5D=o1&payment_method_types%5B%5D=card"},
		"authorize": {
			calls["authorize"], payment, "POST /v1/payment_intents/pi_1/confirm " + head + "o1:authorize payment_method=pi_1",
		}, // the id of every response
		"authorize by method": {
			calls["authorize"], byMethod, "POST /v1/payment_intents/pi_1/confirm " + head + "o1:authorize payment_method=pm_1",
		},
		"capture": {calls["capture"], payment, "POST /v1/payment_intents/pi_1/capture " + head + "o1:capture "},
		"void":    {calls["void"], payment, "POST /v1/payment_intents/pi_1/cancel " + head + "o1:void "},
		"refund":  {calls["refund"], payment, "POST /v1/refunds " + head + "o1:refund payment_intent=pi_1"},
		"by key":  {calls["refund"], byKey, "POST /v1/refunds " + head + "payments/refund/o1 payment_intent=pi_1"},
	} {
		t.Run(name, func(t *testing.T) {
			s, asked := answering(t, 200, `{"id":"pi_1","status":"requires_capture"}`)
			if err := tt.do(s, t.Context(), tt.with); err != nil {
				t.Fatal(err)
			}
			if *asked != tt.want {
				t.Errorf("asked\n%s, want\n%s", *asked, tt.want)
			}
		})
	}
}

// A failure becomes a fault whose kind says whether to retry, and whose text shows callers no detail of Stripe.
func TestFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		kind   fault.Kind
	}{
		"rate limit": {
			429, `{"error":{"type":"invalid_request_error","code":"rate_limit","message":"slow down"}}`, fault.Exhausted,
		},
		"defect at stripe": {500, `{"error":{"type":"api_error"}}`, fault.Unavailable},
		"gateway":          {503, `<html>`, fault.Unavailable},
		"key in use":       {409, `{"error":{"type":"idempotency_error"}}`, fault.Unavailable},
		"wrong key": {
			401, `{"error":{"type":"invalid_request_error","message":"Invalid API Key sk_test_1"}}`, fault.Internal,
		},
		"redirect": {307, ``, fault.Internal},
		"not JSON": {200, `hello`, fault.Unavailable},
		"another state": {400, `{"error":{"type":"invalid_request_error","code":"payment_intent_unexpected_state",` +
			`"payment_intent":{"id":"pi_1","status":"unheard_of"}}}`, fault.Conflict},
	} {
		for operation, do := range calls {
			t.Run(name+", "+operation, func(t *testing.T) {
				s, _ := answering(t, tt.status, tt.body, "Retry-After", "3")
				err := do(s, t.Context(), payment)
				if !fault.Is(err, tt.kind) {
					t.Fatalf("got %v (%s), want %s", err, fault.KindOf(err), tt.kind)
				}
				if strings.Contains(fault.Public(err), "sk_test") || strings.Contains(fault.Public(err), "stripe") {
					t.Errorf("callers are told %q", fault.Public(err))
				}
				if want := 3 * time.Second; tt.kind == fault.Exhausted && fault.RetryAfter(err) != want {
					t.Errorf("retry after %s, want %s", fault.RetryAfter(err), want)
				}
			})
		}
	}
}

// A refused card is declined, for good.
func TestDeclined(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		want   provider.Declined
	}{
		"funds": {402, `{"error":{"type":"card_error","code":"card_declined","decline_code":"insufficient_funds",` +
			`"message":"Your card has insufficient funds."}}`, provider.Declined{
			Code: "insufficient_funds", Reason: "Your card has insufficient funds.",
		}},
		"expired": {
			402, `{"error":{"type":"card_error","code":"expired_card","message":"Your card has expired."}}`,
			provider.Declined{Code: "expired_card", Reason: "Your card has expired."},
		},
		"no message": {
			402, `{"error":{"type":"card_error","code":"card_declined"}}`,
			provider.Declined{Code: "card_declined", Reason: "the payment was declined"},
		},
		"amount too small": {
			400, `{"error":{"type":"invalid_request_error","code":"amount_too_small","param":"amount",` +
				`"message":"Amount must be at least 50 cents."}}`,
			provider.Declined{Code: "amount_too_small", Reason: "Amount must be at least 50 cents."},
		},
		"amount without code": {
			400, `{"error":{"type":"invalid_request_error","param":"currency","message":"Invalid currency: xts."}}`,
			provider.Declined{Code: "invalid_request_error", Reason: "Invalid currency: xts."},
		},
		"integer": {
			400, `{"error":{"type":"invalid_request_error","code":"parameter_invalid_integer","message":"Invalid integer"}}`,
			provider.Declined{Code: "parameter_invalid_integer", Reason: "Invalid integer"},
		},
		"unknown intent": {
			404, `{"error":{"type":"invalid_request_error","code":"resource_missing","param":"intent",` +
				`"message":"No such payment_intent: 'pi_1'"}}`,
			provider.Declined{Code: "resource_missing", Reason: "the payment provider does not know the payment"},
		},
		"action required": {200, `{"id":"pi_1","status":"requires_action"}`, provider.Declined{
			Code: "authentication_required", Reason: "the card needs its holder's confirmation, which this shop cannot ask for",
		}},
		"unknown token": {
			400, `{"error":{"type":"invalid_request_error","code":"resource_missing","param":"payment_method"}}`,
			provider.Declined{Code: "invalid_token", Reason: "unknown payment token"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := answering(t, tt.status, tt.body)
			err := s.Authorize(t.Context(), payment)
			var got *provider.Declined
			if !errors.As(err, &got) || *got != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func isDeclined(err error) bool {
	var no *provider.Declined
	return errors.As(err, &no)
}

// An operation on an intent that has the operation's final status succeeds; a captured intent cannot be voided; a
// voided one is never authorized.
func TestUnexpectedStates(t *testing.T) {
	state := func(status string) string {
		return `{"error":{"type":"invalid_request_error","code":"payment_intent_unexpected_state",` +
			`"payment_intent":{"id":"pi_1","status":"` + status + `"}}}`
	}
	for name, tt := range map[string]struct {
		operation string
		body      string
		check     func(error) bool
	}{
		"capture twice": {"capture", state("succeeded"), func(err error) bool { return err == nil }},
		"void twice":    {"void", state("canceled"), func(err error) bool { return err == nil }},
		"refund twice": {
			"refund", `{"error":{"type":"invalid_request_error","code":"charge_already_refunded"}}`,
			func(err error) bool { return err == nil },
		},
		"void what is captured": {
			"void", state("succeeded"), func(err error) bool { return errors.Is(err, provider.ErrCaptured) },
		},
		"authorize what is void": {
			"authorize", state("canceled"), isDeclined,
		},
		"capture what is void": {
			"capture", state("canceled"), isDeclined,
		},
		"authorize twice": {"authorize", state("requires_capture"), func(err error) bool { return err == nil }},
		"authorize what is captured": {
			"authorize", state("succeeded"), func(err error) bool { return err == nil },
		},
		"authorize what needs its holder": {"authorize", state("requires_action"), isDeclined},
		"authorize meanwhile": {
			"authorize", state("processing"), func(err error) bool { return fault.Is(err, fault.Unavailable) },
		},
		"capture what is not authorized": {"capture", state("requires_payment_method"), isDeclined},
		"void what is unknown": {
			"void", `{"error":{"type":"invalid_request_error","code":"resource_missing","param":"intent"}}`,
			func(err error) bool { return fault.Is(err, fault.Invalid) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := answering(t, 400, tt.body)
			p := payment
			p.Token = "pm_1"
			if err := calls[tt.operation](s, t.Context(), p); !tt.check(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A server that cannot be reached, or does not answer, is retried.
func TestUnreachable(t *testing.T) {
	gone := stripe.New("http://127.0.0.1:1", "sk_test_1")
	if err := gone.Capture(t.Context(), payment); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	hangs := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	defer server.Close()
	defer close(hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := stripe.New(server.URL, "sk_test_1").Capture(ctx, payment); !fault.Is(err, fault.Timeout) {
		t.Errorf("got %v, want a timeout", err)
	}
}

// Stripe's own mock checks every request against Stripe's specification. Its answers are always the same.
func TestAgainstStripeMock(t *testing.T) {
	base := os.Getenv("EBB_TEST_STRIPE")
	if base == "" {
		t.Skip("go install github.com/stripe/stripe-mock@v0.203.0; stripe-mock -http-addr 127.0.0.1:12111; then set " +
			"EBB_TEST_STRIPE=http://127.0.0.1:12111")
	}
	s := stripe.New(base, "sk_test_123")
	p := payment
	var err error
	if p.Ref, err = s.Open(t.Context(), p); err != nil || !strings.HasPrefix(p.Ref, "pi_") {
		t.Fatalf("open: %q, %v", p.Ref, err)
	}
	for _, token := range []string{"tok_visa", "pm_card_visa"} {
		p.Token = token
		var no *provider.Declined // the mock's intents never get a payment method
		if err := s.Authorize(t.Context(), p); err != nil && !errors.As(err, &no) {
			t.Errorf("authorize by %s: %v", token, err)
		}
	}
	for _, operation := range []string{"capture", "void", "refund"} {
		if err := calls[operation](s, t.Context(), p); err != nil {
			t.Errorf("%s: %v", operation, err)
		}
	}
}

// keyed starts a server that stores its first response to each key; its very first response is a failure of its own.
func keyed(t *testing.T) (*stripe.Provider, *atomic.Int64) {
	var done atomic.Int64
	kept := map[string]int{}
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		status, replayed := kept[r.Header.Get("Idempotency-Key")]
		if replayed {
			w.Header().Set("Idempotent-Replayed", "true")
		} else if status = http.StatusOK; done.Add(1) == 1 {
			status = http.StatusInternalServerError
		}
		kept[r.Header.Get("Idempotency-Key")] = status
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"id":"pi_1"}`)
	}))
	t.Cleanup(server.Close)
	return stripe.New(server.URL, "sk_test_1"), &done
}

// A failure of Stripe's own, which Stripe stores for a day with the key, does not last longer than the failure.
func TestStoredFailure(t *testing.T) {
	s, done := keyed(t)
	if err := s.Void(t.Context(), payment); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("got %v", err)
	}
	if err := s.Void(t.Context(), payment); err != nil || done.Load() != 2 {
		t.Errorf("got %v, and Stripe did something %d times", err, done.Load())
	}
}

// Amounts are sent in Stripe's units, and an amount that Stripe does not take is declined without a request.
func TestAmounts(t *testing.T) {
	for _, x := range []struct {
		currency     string
		amount, want int64 // 0: declined
	}{
		{"EUR", 1999, 1999}, {"JPY", 500, 500}, {"ISK", 5000, 500000}, {"MGA", 5000, 50}, {"MGA", 5001, 0},
		{"KWD", 5120, 5120}, {"KWD", 5124, 0}, {"UGX", 5, 0}, {"ISK", math.MaxInt64 / 10, 0},
	} {
		s, asked := answering(t, 200, `{"id":"pi_1"}`)
		p := payment
		p.Currency, p.Amount = x.currency, x.amount
		_, err := s.Open(t.Context(), p)
		var no *provider.Declined
		if x.want == 0 && (!errors.As(err, &no) || *asked != "") {
			t.Errorf("%d %s: got %v after %q", x.amount, x.currency, err, *asked)
		}
		if x.want > 0 && (err != nil || !strings.Contains(*asked, fmt.Sprintf("amount=%d&", x.want))) {
			t.Errorf("%d %s: got %v after %q", x.amount, x.currency, err, *asked)
		}
	}
}

// account is a server with the state of one intent. It stores its response to each key, answers every other call that
// takes effect with a failure of its own, and counts the calls that took effect.
type account struct {
	mu      sync.Mutex
	status  string
	stored  map[string][2]string // status and body
	effects []string
	lose    bool // drops the connection in place of the failure
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if s, replayed := a.stored[key]; replayed {
		w.Header().Set("Idempotent-Replayed", "true")
		w.WriteHeader(map[string]int{"200": 200, "400": 400, "500": 500}[s[0]])
		_, _ = io.WriteString(w, s[1])
		return
	}
	verb := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	from := map[string]string{"confirm": "requires_payment_method", "capture": "requires_capture",
		"cancel": "requires_capture", "refunds": "succeeded"}[verb]
	to := map[string]string{"confirm": "requires_capture", "capture": "succeeded", "cancel": "canceled",
		"refunds": "refunded"}[verb]
	code, body := "200", `{"id":"pi_1","status":"`+to+`"}`
	switch {
	case verb == "refunds" && a.status == "refunded":
		code, body = "400", `{"error":{"type":"invalid_request_error","code":"charge_already_refunded"}}`
	case a.status != from:
		code, body = "400", `{"error":{"type":"invalid_request_error","code":"payment_intent_unexpected_state",`+
			`"payment_intent":{"id":"pi_1","status":"`+a.status+`"}}}`
	default:
		a.status, a.effects = to, append(a.effects, verb)
		if !a.lose {
			code, body = "500", `{"error":{"type":"api_error"}}`
		}
	}
	a.stored[key] = [2]string{code, body}
	if a.lose && code == "200" {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(map[string]int{"200": 200, "400": 400, "500": 500}[code])
	_, _ = io.WriteString(w, body)
}

// A call that took effect, and whose answer is a failure or is lost, succeeds when it is made again, and takes effect
// once.
func TestLostAnswers(t *testing.T) {
	for _, lose := range []bool{false, true} {
		for operation, from := range map[string]string{
			"authorize": "requires_payment_method", "capture": "requires_capture", "void": "requires_capture",
			"refund": "succeeded",
		} {
			t.Run(fmt.Sprint(operation, " lost ", lose), func(t *testing.T) {
				a := &account{status: from, stored: map[string][2]string{}, lose: lose}
				server := httptest.NewUnstartedServer(a)
				server.Config.ErrorLog = log.New(io.Discard, "", 0)
				server.Start()
				t.Cleanup(server.Close)
				p := payment
				p.Token, p.Key = "pm_1", "payments/"+operation+"/o1"
				s := stripe.New(server.URL, "sk_test_1")
				if err := calls[operation](s, t.Context(), p); !fault.Is(err, fault.Unavailable) {
					t.Fatalf("the first answer is %v", err)
				}
				for range 2 {
					if err := calls[operation](s, t.Context(), p); err != nil {
						t.Errorf("made again: %v", err)
					}
				}
				if len(a.effects) != 1 {
					t.Errorf("took effect as %q", a.effects)
				}
			})
		}
	}
}

// A confirm that is answered before its result is known is looked at again.
func TestProcessing(t *testing.T) {
	status := "processing"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, `{"id":"pi_1","status":"processing"}`)
			return
		}
		_, _ = io.WriteString(w, `{"id":"pi_1","status":"`+status+`"}`)
	}))
	t.Cleanup(server.Close)
	s, p := stripe.New(server.URL, "sk_test_1"), payment
	p.Token = "pm_1"
	if err := s.Authorize(t.Context(), p); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	status = "requires_capture"
	if err := s.Authorize(t.Context(), p); err != nil {
		t.Errorf("got %v", err)
	}
}

// A token that was used by this very call, so long ago that Stripe has forgotten its key, is no unknown token.
func TestTokenUsedByThisCall(t *testing.T) {
	status := "requires_capture"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"type":"invalid_request_error","code":"token_already_used"}}`)
			return
		}
		_, _ = io.WriteString(w, `{"id":"pi_1","status":"`+status+`"}`)
	}))
	t.Cleanup(server.Close)
	s := stripe.New(server.URL, "sk_test_1")
	if err := s.Authorize(t.Context(), payment); err != nil {
		t.Errorf("got %v", err)
	}
	status = "requires_payment_method"
	if err := s.Authorize(t.Context(), payment); !isDeclined(err) {
		t.Errorf("got %v", err)
	}
}
