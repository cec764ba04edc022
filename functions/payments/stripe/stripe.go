// Package stripe is Stripe as a payment provider: a PaymentIntent per order, with manual capture.
//
// An intent is created without being confirmed, which sets nothing aside; confirming it authorizes, and a
// cancelled one can never be confirmed. Every call carries an Idempotency-Key made of the
// order and the operation. Tokens are ids of payment methods (pm_…) or card tokens (tok_…).
//
// The client is our own, since six calls of form-encoded HTTP are less to carry than Stripe's SDK.
package stripe

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/fault"
)

// DefaultBase is where Stripe's API is.
const DefaultBase = "https://api.stripe.com"

// callTimeout bounds one call, below what a delivery may take.
const callTimeout = 20 * time.Second

// Provider talks to Stripe.
type Provider struct {
	base, key string
	client    *http.Client
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Opener   = (*Provider)(nil)
)

// New makes a provider that uses this secret key. The base is DefaultBase, or a mock's address.
func New(base, secretKey string) *Provider {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32 // as many as there are handlers at once
	return &Provider{
		base: strings.TrimSuffix(base, "/"), key: secretKey,
		client: &http.Client{Transport: transport, Timeout: callTimeout},
	}
}

// Open creates the intent.
func (s *Provider) Open(ctx context.Context, p provider.Payment) (string, error) {
	amount, err := amountOf(p)
	if err != nil {
		return "", err
	}
	intent, err := s.call(ctx, "/v1/payment_intents", p.OrderID+":open", url.Values{
		"amount":                 {strconv.FormatInt(amount, 10)},
		"currency":               {strings.ToLower(p.Currency)},
		"capture_method":         {"manual"},
		"payment_method_types[]": {"card"},
		"metadata[order_id]":     {p.OrderID},
	})
	if err == nil && intent.ID == "" {
		err = fault.New(fault.Internal, "stripe created a payment intent without an id")
	}
	return intent.ID, err
}

// amountOf is an amount as Stripe counts it, which for some currencies is not in the minor units of ISO 4217
// (https://docs.stripe.com/currencies#minor-units). What Stripe cannot take, or is not clear about, is declined.
func amountOf(p provider.Payment) (int64, error) {
	no := &provider.Declined{Code: "unsupported_amount", Reason: "the payment provider does not take this amount of " + p.Currency}
	switch p.Currency {
	case "ISK":
		if p.Amount > math.MaxInt64/100 {
			return 0, no
		}
		return p.Amount * 100, nil
	case "MGA":
		if p.Amount%100 != 0 {
			return 0, no
		}
		return p.Amount / 100, nil
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		if p.Amount%10 != 0 {
			return 0, no
		}
	case "UGX":
		return 0, no
	}
	return p.Amount, nil
}

// Authorize confirms the intent.
func (s *Provider) Authorize(ctx context.Context, p provider.Payment) error {
	method, err := s.method(ctx, p)
	if err != nil {
		return unknownToken(err)
	}
	intent, err := s.call(ctx, intentPath(p, "confirm"), p.OrderID+":authorize", url.Values{"payment_method": {method}})
	if err != nil {
		return unknownToken(err)
	}
	switch intent.Status {
	case "requires_action":
		return &provider.Declined{Code: "authentication_required", Reason: "the card wants its holder to confirm, which this shop cannot ask for"}
	case "requires_payment_method":
		return &provider.Declined{Code: "card_declined", Reason: "the card was declined"}
	case "canceled":
		return fault.New(fault.Conflict, "the payment was voided")
	}
	return nil
}

// method is the payment method that the token is, or stands for.
func (s *Provider) method(ctx context.Context, p provider.Payment) (string, error) {
	if !strings.HasPrefix(p.Token, "tok_") {
		return p.Token, nil
	}
	m, err := s.call(ctx, "/v1/payment_methods", p.OrderID+":method", url.Values{"type": {"card"}, "card[token]": {p.Token}})
	return m.ID, err
}

// unknownToken declines what failed because Stripe does not know the token, or knows it no more.
func unknownToken(err error) error {
	var e *Error
	if errors.As(err, &e) && (e.Code == "resource_missing" && e.Param != "intent" || e.Code == "token_already_used") {
		return &provider.Declined{Code: "invalid_token", Reason: "unknown payment token"}
	}
	return err
}

// Capture takes the money.
func (s *Provider) Capture(ctx context.Context, p provider.Payment) error {
	_, err := s.call(ctx, intentPath(p, "capture"), p.OrderID+":capture", nil)
	return already(err, "succeeded")
}

// Void cancels the intent.
func (s *Provider) Void(ctx context.Context, p provider.Payment) error {
	_, err := s.call(ctx, intentPath(p, "cancel"), p.OrderID+":void", nil)
	var e *Error
	if errors.As(err, &e) && e.status() == "succeeded" {
		return provider.ErrCaptured
	}
	return already(err, "canceled")
}

// Refund gives everything back.
func (s *Provider) Refund(ctx context.Context, p provider.Payment) error {
	_, err := s.call(ctx, "/v1/refunds", p.OrderID+":refund", url.Values{"payment_intent": {p.Ref}})
	var e *Error
	if errors.As(err, &e) && e.Code == "charge_already_refunded" {
		return nil
	}
	return err
}

func intentPath(p provider.Payment, verb string) string {
	return "/v1/payment_intents/" + url.PathEscape(p.Ref) + "/" + verb
}

// already forgives an operation on an intent that is where the operation would bring it.
func already(err error, status string) error {
	var e *Error
	if errors.As(err, &e) && e.status() == status {
		return nil
	}
	return err
}

// object is what is read of an answer.
type object struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

// Error is Stripe's own account of a failure: the cause of the fault that is returned. It is for operators.
type Error struct {
	Type        string  `json:"type"`
	Code        string  `json:"code"`
	DeclineCode string  `json:"decline_code"`
	Message     string  `json:"message"`
	Param       string  `json:"param"`
	Intent      *object `json:"payment_intent"`
	HTTP        int     `json:"-"`
	RequestID   string  `json:"-"`

	copied bool // it is the answer to an earlier request of the same key
}

func (e *Error) Error() string {
	return "stripe " + strconv.Itoa(e.HTTP) + " " + e.Type + " " + e.Code + " (" + e.RequestID + "): " + e.Message
}

// status is that of the intent that was not in the right one.
func (e *Error) status() string {
	if e.Code != "payment_intent_unexpected_state" || e.Intent == nil {
		return ""
	}
	return e.Intent.Status
}

// largest is more than any answer that is read.
const largest = 1 << 20

// call makes a request under its key. Stripe keeps the first answer to a key for a day, whatever it was, once it has begun to do
// what was asked, and gives it again: a failure of Stripe's own would last as long. So a failure that is only a copy is asked
// for once more under a new key. What is asked for twice then moves no money twice: the intent's state, or that it is
// refunded already, stands against it, and an intent that nobody confirms is nothing.
func (s *Provider) call(ctx context.Context, path, idempotencyKey string, form url.Values) (object, error) {
	o, err := s.ask(ctx, path, idempotencyKey, form)
	var e *Error
	if errors.As(err, &e) && e.copied {
		return s.ask(ctx, path, idempotencyKey+":"+rand.Text(), form)
	}
	return o, err
}

func (s *Provider) ask(ctx context.Context, path, idempotencyKey string, form url.Values) (object, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return object{}, fault.Wrap(err, fault.Internal, "make a request to stripe")
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Idempotency-Key", idempotencyKey)
	res, err := s.client.Do(r)
	if err != nil {
		return object{}, unreachable(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, largest))
	if err != nil {
		return object{}, unreachable(err)
	}
	if res.StatusCode >= 300 {
		return object{}, refused(res, body)
	}
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return object{}, fault.Wrap(err, fault.Unavailable, "the payment provider answered what nobody understands")
	}
	return o, nil
}

// unreachable is for a call of which nobody knows what it did; it is safe to make it again.
func unreachable(err error) error {
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		return fault.Wrap(err, fault.Timeout, "the payment provider did not answer in time")
	}
	return fault.Wrap(err, fault.Unavailable, "the payment provider cannot be reached")
}

// refused maps Stripe's errors to kinds.
func refused(res *http.Response, body []byte) error {
	var answer struct {
		Error Error `json:"error"`
	}
	_ = json.Unmarshal(body, &answer) // a proxy's page has no such thing
	e := &answer.Error
	e.HTTP, e.RequestID, e.copied = res.StatusCode, res.Header.Get("Request-Id"), res.Header.Get("Idempotent-Replayed") == "true"
	switch {
	case e.Type == "card_error":
		code := e.DeclineCode
		if code == "" {
			code = e.Code
		}
		return &provider.Declined{Code: code, Reason: reason(e.Message)}
	case res.StatusCode == http.StatusTooManyRequests:
		f := fault.Wrap(e, fault.Exhausted, "the payment provider asks for patience")
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
			f = f.After(time.Duration(s) * time.Second)
		}
		return f
	case res.StatusCode >= 500 || res.StatusCode == http.StatusConflict:
		return fault.Wrap(e, fault.Unavailable, "the payment provider is not available just now")
	case e.status() != "":
		return fault.Wrap(e, fault.Conflict, "the payment is in another state than expected")
	}
	return fault.Wrap(e, fault.Internal, "the payment provider refused the request")
}

// reason fits what the event's schema allows.
func reason(message string) string {
	if message == "" {
		return "the card was declined"
	}
	const most = 1000
	if r := []rune(message); len(r) > most {
		return string(r[:most])
	}
	return message
}
