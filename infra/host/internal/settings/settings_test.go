package settings_test

import (
	"encoding/base64"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/internal/settings"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Another issuer is enough to check tokens, and a setting of it that is not valid is named.
func TestAnotherIssuer(t *testing.T) {
	served := manifest.Function{Routes: []manifest.Route{{Method: "GET", Path: "/api/a"}}}
	none := settings.Ports{Function: "a"}
	if err := none.Missing(served); err == nil || !strings.Contains(err.Error(), "EBB_VERIFICATION_KEYS") {
		t.Errorf("no keys and no issuer: %v", err)
	}
	const issuer = "https://127.0.0.1:1/realm" // where nothing listens
	vars := map[string]string{"EBB_OIDC_ISSUER": issuer}
	p := settings.Ports{Function: "a", Lookup: config.Map(vars)}
	var env function.Env
	if err := p.Open(&env, nil); err == nil || !strings.Contains(err.Error(), "EBB_OIDC_ISSUER") {
		t.Errorf("without an audience: %v", err)
	}
	vars["EBB_OIDC_AUDIENCE"] = "shop"
	if err := p.Open(&env, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Missing(served); err != nil {
		t.Error(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"` + issuer + `"}`))
	r.Header.Set("Authorization", "Bearer e30."+claims+".e30")
	if _, err := env.Authenticator.Authenticate(r); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}
