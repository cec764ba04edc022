package oidc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
)

// The settings of an issuer. Without IssuerVariable there is none.
const (
	IssuerVariable     = "EBB_OIDC_ISSUER"
	audienceVariable   = "EBB_OIDC_AUDIENCE"
	rolesClaimVariable = "EBB_OIDC_ROLES_CLAIM"
	rolesVariable      = "EBB_OIDC_ROLES"
	scopesVariable     = "EBB_OIDC_SCOPES_CLAIM"
	staffACRVariable   = "EBB_OIDC_STAFF_ACR"
)

// Beside returns an Authenticator that accepts the tokens of the issuer that the settings name, and all others as own
// does, which may be nil. Without an issuer it returns own.
func Beside(
	own auth.Authenticator, lookup func(key string) (value string, ok bool), now func() time.Time,
) (auth.Authenticator, error) {
	get := func(key string) string {
		if lookup == nil {
			return ""
		}
		value, _ := lookup(key)
		return strings.TrimSpace(value)
	}
	if get(IssuerVariable) == "" {
		return own, nil
	}
	roles, err := parseRoles(get(rolesVariable))
	if err != nil {
		return nil, err
	}
	issuer, err := New(Config{
		Issuer: get(IssuerVariable), Audience: get(audienceVariable), RolesClaim: get(rolesClaimVariable), Roles: roles,
		ScopesClaim: get(scopesVariable), StaffACR: split(get(staffACRVariable)), Now: now,
	})
	if err != nil {
		return nil, err
	}
	return choice{own: own, issuer: issuer}, nil
}

// split returns the texts of a list with commas between.
func split(list string) (texts []string) {
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.TrimSpace(text); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

// parseRoles parses VALUE=ROLE, with commas between. Empty is *=customer.
func parseRoles(text string) (map[string]string, error) {
	if text == "" {
		return map[string]string{"*": auth.RoleCustomer}, nil
	}
	roles := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		value, role, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || value == "" || role == "" {
			return nil, fmt.Errorf("invalid %s %q: want VALUE=ROLE, with commas between", rolesVariable, pair)
		}
		if before, twice := roles[value]; twice && before != role {
			return nil, fmt.Errorf("invalid %s: %q is there twice", rolesVariable, value)
		}
		roles[value] = role
	}
	return roles, nil
}

// choice is two issuers. The iss claim, which is not verified yet, only chooses who verifies the token.
type choice struct {
	own    auth.Authenticator // nil: no tokens but those of the issuer are accepted
	issuer *Issuer
}

// Authenticate implements auth.Authenticator.
func (c choice) Authenticate(r *http.Request) (auth.Principal, error) {
	if c.own == nil || claimedIssuer(r.Header["Authorization"]) == c.issuer.cfg.Issuer {
		return c.issuer.Authenticate(r)
	}
	return c.own.Authenticate(r)
}

// maxHeader is the most bytes of an Authorization field that is looked into.
const maxHeader = 16 << 10

// claimedIssuer returns the iss claim of a token that is not verified; "" if there is none.
func claimedIssuer(authorization []string) string {
	if len(authorization) != 1 || len(authorization[0]) > maxHeader {
		return ""
	}
	parts := strings.Split(authorization[0], ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Issuer
}
