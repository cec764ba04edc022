package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/gateway"
)

// Staff see the settings of the gateway as those of any function; others are refused.
func TestSettings(t *testing.T) {
	f := newFixture(t, func(cfg *gateway.Config) {
		cfg.Settings = func() config.Report {
			return config.Report{Settings: []config.Setting{{Variable: "EBB_CACHE", Value: "***", Origin: "environment"}}}
		}
	})
	token := func(role string) string {
		text, _, err := f.issuer.Issue(auth.Grant{Subject: "ada", Roles: []string{role}, TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for who, want := range map[string]int{"": 401, token("customer"): 403, token("viewer"): 200, token("admin"): 200} {
		w := f.call("GET", "/api/settings/gateway", who, nil)
		body := w.Body.String()
		if w.Code != want || (want == 200) != strings.Contains(body, `{"variable":"EBB_CACHE","value":"***"`) {
			t.Errorf("want %d, got %d %s", want, w.Code, body)
		}
		if want == 200 && !strings.Contains(w.Header().Get("Cache-Control"), "no-store") {
			t.Errorf("it may be stored: %v", w.Header())
		}
	}
}
