// Package stripe implements a payment provider with Stripe: one PaymentIntent per order, with manual capture.
//
// An intent is created without being confirmed, which reserves no money; confirming it authorizes, and a cancelled one
// can never be confirmed. Every call has an Idempotency-Key made of the order and the operation. Tokens are ids of
// payment methods (pm_…) or card tokens (tok_…).
//
// The answer to a call may be lost, or be a failure although the call took effect. The status of the intent tells then:
// a call that finds the status which it is for succeeds. A request that Stripe refuses for good, for the card or for
// the request itself, is declined with Stripe's reason.
//
// The client is written here, because six calls of form-encoded HTTP need less code than Stripe's SDK brings.
package stripe

import (
	"cmp"
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
	webhooks  []string // the secrets that webhooks are signed with
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
		client: &http.Client{Transport: transport, Timeout: callTimeout, CheckRedirect: noRedirect},
	}
}

// noRedirect makes a redirect the response: Stripe sends none, and the key is for no other host.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// keyOf returns the idempotency key of an operation.
func keyOf(p provider.Payment, operation string) string {
	return cmp.Or(p.Key, p.OrderID+":"+operation)
}

// Open creates the intent and returns its id.
func (s *Provider) Open(ctx context.Context, p provider.Payment) (string, error) {
	amount, err := amountOf(p)
	if err != nil {
		return "", err
	}
	intent, err := s.call(ctx, "/v1/payment_intents", keyOf(p, "open"), url.Values{
		"amount":                 {strconv.FormatInt(amount, 10)},
		"currency":               {strings.ToLower(p.Currency)},
		"capture_method":         {"manual"},
		"payment_method_types[]": {"card"},
		"metadata[order_id]":     {p.OrderID},
	})
	if err == nil && intent.ID == "" {
		err = fault.New(fault.Internal, "stripe created a payment intent without an id")
	}
	return intent.ID, declined(err)
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
	var used *Error
	if errors.As(err, &used) && used.Code == "token_already_used" { // perhaps by this call, days ago
		if status, lookErr := s.look(ctx, p); lookErr != nil || status == "requires_capture" || status == "succeeded" {
			return lookErr
		}
	}
	if err != nil {
		return declined(unknownToken(err))
	}
	intent, err := s.call(ctx, intentPath(p, "confirm"), keyOf(p, "authorize"), url.Values{"payment_method": {method}})
	status := intent.Status
	if err == nil && status == "processing" { // the same key would give the same answer
		status, err = s.look(ctx, p)
	} else if known := statusIn(err); known != "" {
		status = known
	}
	switch status {
	case "requires_capture", "succeeded":
		return nil
	case "requires_action":
		return &provider.Declined{
			Code: "authentication_required", Reason: "the card needs its holder's confirmation, which this shop cannot ask for",
		}
	case "canceled":
		return canceled
	case "processing":
		return fault.New(fault.Unavailable, "the payment is still being processed").After(2 * time.Second)
	case "requires_payment_method":
		if err == nil {
			return &provider.Declined{Code: "card_declined", Reason: "the card was declined"}
		}
	}
	return declined(unknownToken(err))
}

// canceled is the answer about an intent that was canceled, which is final.
var canceled = &provider.Declined{Code: "payment_canceled", Reason: "the payment was canceled"}

// method returns the payment method of the token.
func (s *Provider) method(ctx context.Context, p provider.Payment) (string, error) {
	if !strings.HasPrefix(p.Token, "tok_") {
		return p.Token, nil
	}
	form := url.Values{"type": {"card"}, "card[token]": {p.Token}}
	m, err := s.call(ctx, "/v1/payment_methods", cmp.Or(p.Key, p.OrderID)+":method", form)
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

// declined returns a *provider.Declined for a request that Stripe refuses for good, and any other error unchanged.
func declined(err error) error {
	var e *Error
	if !errors.As(err, &e) || !e.final() {
		return err
	}
	if e.Code == "resource_missing" { // its message names what is missing
		return &provider.Declined{Code: e.Code, Reason: "the payment provider does not know the payment"}
	}
	return &provider.Declined{Code: cmp.Or(e.DeclineCode, e.Code, e.Type), Reason: reason(e.Message)}
}

// Capture captures the intent.
func (s *Provider) Capture(ctx context.Context, p provider.Payment) error {
	_, err := s.call(ctx, intentPath(p, "capture"), keyOf(p, "capture"), nil)
	switch statusIn(err) {
	case "succeeded":
		return nil
	case "canceled":
		return canceled
	case "requires_payment_method", "requires_confirmation", "requires_action":
		return &provider.Declined{Code: "payment_not_authorized", Reason: "no money is reserved for the payment"}
	}
	return declined(err)
}

// Void cancels the intent.
func (s *Provider) Void(ctx context.Context, p provider.Payment) error {
	_, err := s.call(ctx, intentPath(p, "cancel"), keyOf(p, "void"), nil)
	switch statusIn(err) {
	case "succeeded":
		return provider.ErrCaptured
	case "canceled":
		return nil
	}
	return err
}

// Refund refunds the whole amount.
func (s *Provider) Refund(ctx context.Context, p provider.Payment) error {
	_, err := s.call(ctx, "/v1/refunds", keyOf(p, "refund"), url.Values{"payment_intent": {p.Ref}})
	var e *Error
	if errors.As(err, &e) && e.Code == "charge_already_refunded" {
		return nil
	}
	return err
}

func intentPath(p provider.Payment, verb string) string {
	return "/v1/payment_intents/" + url.PathEscape(p.Ref) + "/" + verb
}

// statusIn returns the status of the intent that did not allow the operation; "": err is another one.
func statusIn(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.status()
	}
	return ""
}

// look returns the present status of the intent.
func (s *Provider) look(ctx context.Context, p provider.Payment) (string, error) {
	o, err := s.do(ctx, http.MethodGet, "/v1/payment_intents/"+url.PathEscape(p.Ref), "", nil)
	return o.Status, err
}

// object holds the used fields of a response.
type object struct {
	ID       string            `json:"id"`
	Status   string            `json:"status"`
	Amount   int64             `json:"amount"`
	Currency string            `json:"currency"`
	Metadata map[string]string `json:"metadata"`
	Charge   charge            `json:"latest_charge"`
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

// final reports whether Stripe refuses the request itself, so that it would refuse it again.
func (e *Error) final() bool {
	switch e.HTTP {
	case http.StatusBadRequest, http.StatusPaymentRequired, http.StatusNotFound:
		return e.status() == "" && (e.Type == "invalid_request_error" || e.Type == "card_error")
	}
	return false
}

// maxResponse is the most bytes of a response that are read.
const maxResponse = 1 << 20

// maxKeys is how many keys with a number a call may have.
const maxKeys = 8

// call sends a request with its idempotency key. Once Stripe has begun to carry out a request it stores the response
// for a day, also a failure of its own, and returns it for each request with the same key. So when the response is a
// stored failure, call repeats the request with the next key: the same key with a number, so that the call has
// the same keys when it is made again. That cannot move money twice: the intent's status, or the refund that exists
// already, prevents it, and an intent that is created twice is not confirmed twice.
func (s *Provider) call(ctx context.Context, path, idempotencyKey string, form url.Values) (object, error) {
	key := idempotencyKey
	for n := 2; ; n++ {
		o, err := s.do(ctx, http.MethodPost, path, key, form)
		var e *Error
		if !errors.As(err, &e) || !e.stored || e.final() || n > maxKeys+1 {
			return o, err
		}
		key = idempotencyKey + ":" + strconv.Itoa(n)
		if n > maxKeys {
			key = idempotencyKey + ":" + rand.Text()
		}
	}
}

func (s *Provider) do(ctx context.Context, method, path, idempotencyKey string, form url.Values) (object, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return object{}, fault.Wrap(err, fault.Internal, "make a request to stripe")
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Idempotency-Key", idempotencyKey)
	}
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
	case e.final():
		return fault.Wrap(e, fault.Invalid, "the payment provider refuses the request")
	}
	return fault.Wrap(e, fault.Internal, "the payment provider refused the request")
}

// reason returns the message, cut to the length that the event's schema allows.
func reason(message string) string {
	if message == "" {
		return "the payment was declined"
	}
	const maxLength = 1000
	if r := []rune(message); len(r) > maxLength {
		return string(r[:maxLength])
	}
	return message
}
