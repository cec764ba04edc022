// Package stripe implements a payment provider with Stripe: one PaymentIntent per order, with manual capture.
//
// An intent is created without being confirmed, which reserves no money; confirming it authorizes, and a cancelled one
// can never be confirmed. Every call has an Idempotency-Key made of the order and the operation. Tokens are ids of
// payment methods (pm_…) or card tokens (tok_…).
//
// The client is written here, because six calls of form-encoded HTTP need less code than Stripe's SDK brings.
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

// DefaultBase is the address of Stripe's API.
const DefaultBase = "https://api.stripe.com"

// callTimeout is the timeout of one call, shorter than that of an event delivery.
const callTimeout = 20 * time.Second

// Provider is a client of Stripe's API.
type Provider struct {
	base, key string
	client    *http.Client
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Opener   = (*Provider)(nil)
)

// New returns a provider that uses this secret key. The base is DefaultBase, or the address of a mock.
func New(base, secretKey string) *Provider {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32 // as many as concurrent handlers
	return &Provider{
		base: strings.TrimSuffix(base, "/"), key: secretKey,
		client: &http.Client{Transport: transport, Timeout: callTimeout},
	}
}

// Open creates the intent and returns its id.
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

// amountOf returns the amount in Stripe's units, which for some currencies are not the minor units of ISO 4217
// (https://docs.stripe.com/currencies#minor-units). An amount that Stripe does not take, or documents unclearly, is
// declined.
func amountOf(p provider.Payment) (int64, error) {
	declined := &provider.Declined{
		Code: "unsupported_amount", Reason: "the payment provider does not take this amount of " + p.Currency,
	}
	switch p.Currency {
	case "ISK":
		if p.Amount > math.MaxInt64/100 {
			return 0, declined
		}
		return p.Amount * 100, nil
	case "MGA":
		if p.Amount%100 != 0 {
			return 0, declined
		}
		return p.Amount / 100, nil
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		if p.Amount%10 != 0 {
			return 0, declined
		}
	case "UGX":
		return 0, declined
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
		return &provider.Declined{
			Code: "authentication_required", Reason: "the card needs its holder's confirmation, which this shop cannot ask for",
		}
	case "requires_payment_method":
		return &provider.Declined{Code: "card_declined", Reason: "the card was declined"}
	case "canceled":
		return fault.New(fault.Conflict, "the payment was voided")
	}
	return nil
}

// method returns the payment method of the token.
func (s *Provider) method(ctx context.Context, p provider.Payment) (string, error) {
	if !strings.HasPrefix(p.Token, "tok_") {
		return p.Token, nil
	}
	form := url.Values{"type": {"card"}, "card[token]": {p.Token}}
	m, err := s.call(ctx, "/v1/payment_methods", p.OrderID+":method", form)
	return m.ID, err
}

// unknownToken returns a *provider.Declined for an error about an unknown or used token, and any other error unchanged.
func unknownToken(err error) error {
	var e *Error
	if errors.As(err, &e) && (e.Code == "resource_missing" && e.Param != "intent" || e.Code == "token_already_used") {
		return &provider.Declined{Code: "invalid_token", Reason: "unknown payment token"}
	}
	return err
}

// Capture captures the intent.
func (s *Provider) Capture(ctx context.Context, p provider.Payment) error {
	_, err := s.call(ctx, intentPath(p, "capture"), p.OrderID+":capture", nil)
	return ignoreStatus(err, "succeeded")
}

// Void cancels the intent.
func (s *Provider) Void(ctx context.Context, p provider.Payment) error {
	_, err := s.call(ctx, intentPath(p, "cancel"), p.OrderID+":void", nil)
	var e *Error
	if errors.As(err, &e) && e.status() == "succeeded" {
		return provider.ErrCaptured
	}
	return ignoreStatus(err, "canceled")
}

// Refund refunds the whole amount.
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

// ignoreStatus returns nil for the error of an operation on an intent that has the operation's final status already.
func ignoreStatus(err error, status string) error {
	var e *Error
	if errors.As(err, &e) && e.status() == status {
		return nil
	}
	return err
}

// object holds the used fields of a response.
type object struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

// Error is an error response of Stripe. It is the cause of the returned fault and is shown to operators only.
type Error struct {
	Type        string  `json:"type"`
	Code        string  `json:"code"`
	DeclineCode string  `json:"decline_code"`
	Message     string  `json:"message"`
	Param       string  `json:"param"`
	Intent      *object `json:"payment_intent"`
	HTTP        int     `json:"-"`
	RequestID   string  `json:"-"`

	stored bool // a stored response to an earlier request with the same key
}

func (e *Error) Error() string {
	return "stripe " + strconv.Itoa(e.HTTP) + " " + e.Type + " " + e.Code + " (" + e.RequestID + "): " + e.Message
}

// status returns the status of the intent when it does not allow the operation, and otherwise an empty string.
func (e *Error) status() string {
	if e.Code != "payment_intent_unexpected_state" || e.Intent == nil {
		return ""
	}
	return e.Intent.Status
}

// maxResponse is the most bytes of a response that are read.
const maxResponse = 1 << 20

// call sends a request with its idempotency key. Once Stripe has begun to carry out a request it stores the response
// for a day, also a failure of its own, and returns it for each request with the same key. So when the response is a
// stored failure, call repeats the request once with a new key. That cannot move money twice: the intent's status, or
// the refund that exists already, prevents it, and an intent that is created twice is not confirmed twice.
func (s *Provider) call(ctx context.Context, path, idempotencyKey string, form url.Values) (object, error) {
	o, err := s.send(ctx, path, idempotencyKey, form)
	var e *Error
	if errors.As(err, &e) && e.stored {
		return s.send(ctx, path, idempotencyKey+":"+rand.Text(), form)
	}
	return o, err
}

func (s *Provider) send(ctx context.Context, path, idempotencyKey string, form url.Values) (object, error) {
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
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse))
	if err != nil {
		return object{}, unreachable(err)
	}
	if res.StatusCode >= 300 {
		return object{}, refused(res, body)
	}
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return object{}, fault.Wrap(err, fault.Unavailable, "the payment provider sent an invalid response")
	}
	return o, nil
}

// unreachable returns the fault of a call without a response. The call may have succeeded; repeating it is safe.
func unreachable(err error) error {
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		return fault.Wrap(err, fault.Timeout, "the payment provider did not answer in time")
	}
	return fault.Wrap(err, fault.Unavailable, "the payment provider cannot be reached")
}

// refused returns the fault of an error response.
func refused(res *http.Response, body []byte) error {
	var response struct {
		Error Error `json:"error"`
	}
	_ = json.Unmarshal(body, &response) // the page of a proxy has no such member
	e := &response.Error
	e.HTTP, e.RequestID = res.StatusCode, res.Header.Get("Request-Id")
	e.stored = res.Header.Get("Idempotent-Replayed") == "true"
	switch {
	case e.Type == "card_error":
		code := e.DeclineCode
		if code == "" {
			code = e.Code
		}
		return &provider.Declined{Code: code, Reason: reason(e.Message)}
	case res.StatusCode == http.StatusTooManyRequests:
		f := fault.Wrap(e, fault.Exhausted, "the payment provider limits the rate of requests")
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

// reason returns the message, cut to the length that the event's schema allows.
func reason(message string) string {
	if message == "" {
		return "the card was declined"
	}
	const maxLength = 1000
	if r := []rune(message); len(r) > maxLength {
		return string(r[:maxLength])
	}
	return message
}
