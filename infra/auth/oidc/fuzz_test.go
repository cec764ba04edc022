package oidc

import (
	"encoding/base64"
	"strings"
	"testing"
)

// FuzzClaimedIssuer reads the issuer that a stranger's token claims, and parses the settings of roles. Neither panics,
// and an issuer is claimed by a text of three parts alone.
func FuzzClaimedIssuer(f *testing.F) {
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://login.example.com"}`))
	for _, seed := range []string{
		"", "a.b.c", "Bearer x." + claims + ".y", "..", strings.Repeat(".", 99), "*=customer,x=admin",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got := claimedIssuer([]string{text}); got != "" && strings.Count(text, ".") != 2 {
			t.Errorf("%q claims %q", text, got)
		}
		if roles, err := parseRoles(text); err == nil && len(roles) == 0 {
			t.Errorf("%q gives no role, and is accepted", text)
		}
	})
}
