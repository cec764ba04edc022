package stripe

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/fault"
)

// tolerance is how far the time of a signature may be from now: what is older may be a message that was recorded.
const tolerance = 5 * time.Minute

// maxSignatures is how many signatures of a message are looked at.
const maxSignatures = 16

// SignatureHeader is the header field with the signature of a webhook.
const SignatureHeader = "Stripe-Signature"

var _ provider.Notifier = (*Provider)(nil)

// WithWebhooks returns a provider that also accepts webhooks which are signed with one of the secrets (whsec_…). While
// a secret is rotated there are two. Spaces around a secret are cut off. An empty one is left out: everyone can sign
// with that.
func (s *Provider) WithWebhooks(secrets ...string) *Provider {
	c := *s
	c.webhooks = nil
	for _, secret := range secrets {
		if secret = strings.TrimSpace(secret); secret != "" {
			c.webhooks = append(c.webhooks, secret)
		}
	}
	return &c
}

// Notice returns which payment a webhook is about. Webhooks come in any order, so it does not return what they tell:
// see Look. A signature that is missing, wrong or too old is fault.Denied, and without secrets every message is
// fault.NotFound.
func (s *Provider) Notice(signature string, body []byte, now time.Time) (provider.Notice, error) {
	if len(s.webhooks) == 0 {
		return provider.Notice{}, fault.New(fault.NotFound, "webhooks are not set up")
	}
	if err := s.verify(signature, body, now); err != nil {
		return provider.Notice{}, err
	}
	var e struct {
		ID   string `json:"id"`
		Data struct {
			Object struct {
				ID       string            `json:"id"`
				Object   string            `json:"object"`
				Intent   string            `json:"payment_intent"`
				Metadata map[string]string `json:"metadata"`
			} `json:"object"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil || e.ID == "" {
		return provider.Notice{}, fault.New(fault.Invalid, "this is not an event of Stripe")
	}
	n := provider.Notice{ID: e.ID}
	switch e.Data.Object.Object {
	case "payment_intent":
		n.Ref = e.Data.Object.ID
	case "charge", "refund", "dispute":
		n.Ref = e.Data.Object.Intent
	}
	return n, nil
}

// verify checks a Stripe-Signature field: t=SECONDS,v1=HEX, where v1 may come several times, and schemes other than v1
// are ignored.
func (s *Provider) verify(signature string, body []byte, now time.Time) error {
	refused := fault.New(fault.Denied, "the signature is not valid").WithStatus(http.StatusBadRequest)
	var at string
	var given [][]byte
	for part := range strings.SplitSeq(signature, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			at = value
		case "v1":
			if sum, err := hex.DecodeString(value); err == nil && len(given) < maxSignatures {
				given = append(given, sum)
			}
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return refused
	}
	valid := false
	for _, secret := range s.webhooks {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(at + "."))
		mac.Write(body)
		want := mac.Sum(nil)
		for _, sum := range given {
			valid = hmac.Equal(sum, want) || valid
		}
	}
	if !valid {
		return refused
	}
	if now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return fault.New(fault.Denied, "the signature is too old, or a clock is wrong").WithStatus(http.StatusBadRequest)
	}
	return nil
}

// Look returns what Stripe knows of an intent.
func (s *Provider) Look(ctx context.Context, ref string) (provider.Found, error) {
	o, err := s.do(ctx, http.MethodGet, "/v1/payment_intents/"+url.PathEscape(ref)+"?expand[]=latest_charge", "", nil)
	if err != nil {
		return provider.Found{}, err
	}
	f := provider.Found{OrderID: o.Metadata["order_id"], Ref: o.ID, Currency: strings.ToUpper(o.Currency)}
	f.Amount = amountFrom(f.Currency, o.Amount)
	switch {
	case o.Charge.Refunded:
		f.Money = provider.Returned
	case o.Status == "requires_capture":
		f.Money = provider.Held
	case o.Status == "succeeded":
		f.Money = provider.Taken
	case o.Status == "canceled":
		f.Money = provider.Released
	}
	return f, nil
}

// amountFrom is the reverse of amountOf.
func amountFrom(currency string, amount int64) int64 {
	switch currency {
	case "ISK":
		return amount / 100
	case "MGA":
		return amount * 100
	}
	return amount
}

// charge is the part of a charge that is used. Unless it is expanded Stripe sends its id.
type charge struct {
	Refunded bool `json:"refunded"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *charge) UnmarshalJSON(data []byte) error {
	type plain charge
	if len(data) > 0 && data[0] == '{' {
		return json.Unmarshal(data, (*plain)(c))
	}
	return nil
}
