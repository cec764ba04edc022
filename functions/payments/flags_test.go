package payments_test

import (
	"encoding/json"
	"testing"

	"github.com/ebb-dev/ebb/functions/payments"
	"github.com/ebb-dev/ebb/infra/event"
)

// The flag payments-accepted declines new payments before the provider is asked, by currency and amount too, and leaves
// those that were authorized.
func TestPaymentsAccepted(t *testing.T) {
	told := func(version int, definition string) event.Draft {
		return event.FlagsChanged.New("payments-accepted", event.ChangedFlag{
			Key: "payments-accepted", Version: version, Definition: json.RawMessage(definition),
		})
	}
	flag := func(defaultVariant, rest string) string {
		return `{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"` + defaultVariant + `"` + rest + `}`
	}
	large := `,"targeting":{"if":[{"and":[{"===":[{"var":"currency"},"EUR"]},{">":[{"var":"amount"},1000]},` +
		`{"===":[{"var":"targetingKey"},"ada"]}]},"no"]}`
	for definition, accepted := range map[string]bool{
		flag("no", ""):     false,
		flag("yes", ""):    true,
		flag("yes", large): false,
		`{"state":"DISABLED","variants":{"no":false},"defaultVariant":"no"}`: true,
	} {
		b := newBank()
		h := with(t, b)
		h.MustDeliver(told(1, definition), authorize("tok_ok"))
		if accepted {
			wantEmitted(h, "authorized")
			wantStatus(h, payments.Authorized)
			h.MustDeliver(told(2, flag("no", "")), capture)
			wantEmitted(h, "captured")
			continue
		}
		wantEmitted(h, "declined")
		wantStatus(h, payments.Declined)
		if len(b.keys) > 0 {
			t.Errorf("%s: the provider was asked", definition)
		}
		h.MustDeliver(told(2, flag("yes", "")), authorize("tok_ok"))
		wantEmitted(h, "declined") // what was declined stays
	}
}
