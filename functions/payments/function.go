package payments

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/functions/payments/sandbox"
	"github.com/ebb-dev/ebb/functions/payments/stripe"
	"github.com/ebb-dev/ebb/infra/broker"
	flags "github.com/ebb-dev/ebb/infra/flag/provider"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

// Config holds the settings of payments.
type Config struct {
	Provider  string        `envconfig:"EBB_PAYMENTS_PROVIDER" default:"sandbox" desc:"the provider: sandbox or stripe"`
	Slow      time.Duration `envconfig:"EBB_PAYMENTS_SLOW" default:"500ms" desc:"how long the sandbox takes for tok_slow"`
	StripeKey string        `envconfig:"STRIPE_SECRET_KEY" secret:"true" desc:"the secret key of the Stripe account"`
	Webhooks  []string      `envconfig:"STRIPE_WEBHOOK_SECRETS" secret:"true" desc:"the secrets that Stripe signs webhooks with, with commas between; empty: none are accepted"`
	StripeAPI string        `envconfig:"STRIPE_API_BASE" default:"https://api.stripe.com" desc:"where Stripe's API is"`
}

// Validate returns one error for all invalid values.
func (c Config) Validate() error {
	var invalid []error
	switch c.Provider {
	case "sandbox":
		if c.Slow < 0 {
			invalid = append(invalid, errors.New("EBB_PAYMENTS_SLOW must not be negative"))
		}
	case "stripe":
		if c.StripeKey == "" {
			invalid = append(invalid, errors.New("EBB_PAYMENTS_PROVIDER=stripe needs STRIPE_SECRET_KEY"))
		}
		if u, err := url.Parse(c.StripeAPI); err != nil || u.Host == "" {
			invalid = append(invalid, errors.New("STRIPE_API_BASE must be a URL such as https://api.stripe.com"))
		}
	default:
		invalid = append(invalid, errors.New("EBB_PAYMENTS_PROVIDER must be sandbox or stripe"))
	}
	return errors.Join(invalid...)
}

func (c Config) provider(memory sandbox.Memory) provider.Provider {
	if c.Provider == "stripe" {
		return stripe.New(c.StripeAPI, c.StripeKey).WithWebhooks(c.Webhooks...)
	}
	return sandbox.New(memory, c.Slow)
}

// The events of a batch share a unit of work and make their calls at the same time: these are 64 calls at most.
const (
	batch       = 16
	concurrency = 4
)

// New declares the payments function.
func New(env function.Env) (*function.Function, error) {
	f := function.New("payments", env)
	c, err := function.Configure[Config](f)
	if err != nil {
		return nil, err
	}
	return declare(f, c.provider), nil
}

// NewWith declares the payments function with the given provider.
func NewWith(env function.Env, p provider.Provider) *function.Function {
	return declare(function.New("payments", env), func(sandbox.Memory) provider.Provider { return p })
}

func declare(f *function.Function, driver func(sandbox.Memory) provider.Provider) *function.Function {
	function.Deliver(f, broker.Tuning{Batch: batch, Concurrency: concurrency})
	s := &payments{
		f: f,
		payments: function.Collection[Payment](f, "payments", store.Entity, byCustomer,
			store.Admin{ReadOnly: true}),
		failures: function.Collection[failure](f, "sandbox_failures"),
		notices:  function.Collection[notice](f, "notices", store.Retain("at", noticeRetention)),
		flags:    flags.New(f),
	}
	s.provider = driver(s)
	s.opener, _ = s.provider.(provider.Opener)
	s.notifier, _ = s.provider.(provider.Notifier)
	s.declareCalls(f)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/payments/{id}", Owner: manifest.OwnerHidden,
		Summary:     "Show the payment of an order",
		Description: "For the customer who pays and for admins; 404 for others.",
	}, s.get)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/payments", Owner: manifest.OwnerDenied,
		Summary: "List your payments", Person: "customer_id",
		Description: "The newest first.", Errors: []int{http.StatusForbidden},
	}, s.list)
	function.Serve(f, function.Operation{
		Method: http.MethodPost, Path: "/api/payments/stripe/webhooks", Summary: "Take a webhook of Stripe",
		Description: "The signature is checked against STRIPE_WEBHOOK_SECRETS. 400: it is not valid, or older than five " +
			"minutes.",
		Status: http.StatusNoContent, Access: function.Public,
		Errors: []int{http.StatusBadRequest, http.StatusNotFound},
	}, s.webhook)
	function.Prefetch(f, s.prefetch)
	function.On(f, events.PaymentAuthorize, s.authorize)
	function.On(f, events.PaymentCapture, s.capture)
	function.On(f, events.PaymentVoid, s.void)
	function.On(f, events.PaymentRefund, s.refund)
	function.Prewarm(f, events.OrderPlaced) // its authorize follows when the stock is reserved
	function.Emits(f, events.PaymentAuthorized, events.PaymentDeclined, events.PaymentCaptured,
		events.PaymentVoided, events.PaymentRefunded)
	return f
}
