package stripe_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/functions/payments/stripe"
	"github.com/ebb-dev/ebb/infra/fault"
)

const hook = `{"id":"evt_1","data":{"object":{"id":"pi_1","object":"payment_intent"}}}`

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func signed(secret, body string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return hex.EncodeToString(mac.Sum(nil))
}

// A webhook is taken when one of its v1 signatures is of one of the secrets and is not too old.
func TestSignatures(t *testing.T) {
	s := stripe.New("http://127.0.0.1:1", "sk_test_1").WithWebhooks("whsec_new", "whsec_old")
	head := func(at time.Time) string { return fmt.Sprint("t=", at.Unix()) }
	after := func(d time.Duration) string {
		return head(noon.Add(d)) + ",v1=" + signed("whsec_new", hook, noon.Add(d))
	}
	for name, tt := range map[string]struct {
		signature string
		ok        bool
	}{
		"one":            {head(noon) + ",v1=" + signed("whsec_new", hook, noon), true},
		"the old secret": {head(noon) + ",v1=" + signed("whsec_old", hook, noon), true},
		"several": {
			head(noon) + ",v1=" + strings.Repeat("00", 32) + ", v1=" + signed("whsec_old", hook, noon) + ",v0=00", true,
		},
		"a minute ago":   {after(-time.Minute), true},
		"ten minutes":    {after(-10 * time.Minute), false},
		"in ten minutes": {after(10 * time.Minute), false},
		"another secret": {head(noon) + ",v1=" + signed("whsec_x", hook, noon), false},
		"another time":   {head(noon) + ",v1=" + signed("whsec_new", hook, noon.Add(time.Second)), false},
		"another body":   {head(noon) + ",v1=" + signed("whsec_new", hook+" ", noon), false},
		"another scheme": {head(noon) + ",v0=" + signed("whsec_new", hook, noon), false},
		"too short":      {head(noon) + ",v1=" + signed("whsec_new", hook, noon)[:62], false},
		"too many": {
			head(noon) + strings.Repeat(",v1=00", 100) + ",v1=" + signed("whsec_new", hook, noon), false,
		},
		"no time": {"v1=" + signed("whsec_new", hook, noon), false},
		"no hex":  {head(noon) + ",v1=zz", false},
		"none":    {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := s.Notice(tt.signature, []byte(hook), noon)
			switch {
			case tt.ok && (err != nil || n != provider.Notice{ID: "evt_1", Ref: "pi_1"}):
				t.Errorf("got %+v, %v", n, err)
			case !tt.ok && (!fault.Is(err, fault.Denied) || fault.HTTPStatus(err) != 400):
				t.Errorf("got %+v, %v", n, err)
			}
		})
	}
	bare := stripe.New("http://127.0.0.1:1", "sk_test_1")
	if _, err := bare.Notice("", []byte(hook), noon); !fault.Is(err, fault.NotFound) {
		t.Errorf("without secrets: %v", err)
	}
}

// An empty secret, as "whsec_1, " in the settings would be, lets nobody in.
func TestEmptySecret(t *testing.T) {
	s := stripe.New("http://127.0.0.1:1", "sk_test_1").WithWebhooks("whsec_1", " whsec_2", " ", "")
	notice := func(secret string) error {
		_, err := s.Notice(fmt.Sprintf("t=%d,v1=%s", noon.Unix(), signed(secret, hook, noon)), []byte(hook), noon)
		return err
	}
	for _, secret := range []string{"", " "} {
		if err := notice(secret); !fault.Is(err, fault.Denied) {
			t.Errorf("signed with %q: got %v", secret, err)
		}
	}
	if err := notice("whsec_2"); err != nil {
		t.Error(err)
	}
	bare := stripe.New("http://127.0.0.1:1", "sk_test_1").WithWebhooks("")
	if _, err := bare.Notice("", []byte(hook), noon); !fault.Is(err, fault.NotFound) {
		t.Errorf("without secrets: %v", err)
	}
}

// A webhook names the intent that it is about, in whichever object.
func TestNotices(t *testing.T) {
	s := stripe.New("http://127.0.0.1:1", "sk_test_1").WithWebhooks("whsec_1")
	for body, want := range map[string]provider.Notice{
		hook: {ID: "evt_1", Ref: "pi_1"},
		`{"id":"evt_2","data":{"object":{"id":"ch_1","object":"charge","payment_intent":"pi_2"}}}`: {
			ID: "evt_2", Ref: "pi_2",
		},
		`{"id":"evt_3","data":{"object":{"id":"cus_1","object":"customer"}}}`: {ID: "evt_3"},
	} {
		n, err := s.Notice(fmt.Sprintf("t=%d,v1=%s", noon.Unix(), signed("whsec_1", body, noon)), []byte(body), noon)
		if err != nil || n != want {
			t.Errorf("%s: got %+v, %v", body, n, err)
		}
	}
	for _, body := range []string{"", "hello", "{}"} {
		signature := fmt.Sprintf("t=%d,v1=%s", noon.Unix(), signed("whsec_1", body, noon))
		if _, err := s.Notice(signature, []byte(body), noon); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v", body, err)
		}
	}
}

// Look returns where the money is.
func TestLook(t *testing.T) {
	for body, want := range map[string]provider.Found{
		`{"id":"pi_1","status":"requires_capture","amount":1999,"currency":"eur","metadata":{"order_id":"o1"},` +
			`"latest_charge":"ch_1"}`: {OrderID: "o1", Ref: "pi_1", Amount: 1999, Currency: "EUR", Money: provider.Held},
		`{"id":"pi_1","status":"succeeded","amount":500000,"currency":"isk","metadata":{"order_id":"o1"},` +
			`"latest_charge":{"id":"ch_1","refunded":false}}`: {
			OrderID: "o1", Ref: "pi_1", Amount: 5000, Currency: "ISK", Money: provider.Taken,
		},
		`{"id":"pi_1","status":"succeeded","latest_charge":{"id":"ch_1","refunded":true}}`: {
			Ref: "pi_1", Money: provider.Returned,
		},
		`{"id":"pi_1","status":"canceled","latest_charge":null}`: {Ref: "pi_1", Money: provider.Released},
		`{"id":"pi_1","status":"requires_payment_method"}`:       {Ref: "pi_1"},
	} {
		s, asked := answering(t, 200, body)
		got, err := s.Look(t.Context(), "pi_1")
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", body, got, err)
		}
		if !strings.HasPrefix(*asked, "GET /v1/payment_intents/pi_1 Bearer sk_test_1") {
			t.Errorf("asked %s", *asked)
		}
	}
}
