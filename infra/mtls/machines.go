package mtls

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Roles are the roles that machines have, by their SPIFFE IDs.
type Roles map[string][]string

// ParseRoles parses ID=ROLE, with commas between. One ID may be there several times.
func ParseRoles(text string) (Roles, error) {
	roles := Roles{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		id, role, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if _, err := spiffeid.FromString(id); err != nil || !ok || role == "" {
			return nil, fmt.Errorf("invalid machine %q: want ID=ROLE such as spiffe://example.org/report=admin", pair)
		}
		if !slices.Contains(roles[id], role) {
			roles[id] = append(roles[id], role)
		}
	}
	return roles, nil
}

// Machines authenticates the machines of Roles by their client certificates. A request with an Authorization header,
// and one of any other client, is left to Next; nil accepts no credentials.
type Machines struct {
	Roles Roles
	Next  auth.Authenticator
}

var _ auth.Authenticator = Machines{}

// Authenticate implements auth.Authenticator. The subject of a machine is its SPIFFE ID.
func (m Machines) Authenticate(r *http.Request) (auth.Principal, error) {
	shown := len(r.Header["Authorization"]) > 0
	if !shown {
		if id, leaf, err := peerOf(r); err == nil && m.Roles[id] != nil {
			if time.Now().After(leaf.NotAfter) { // since the connection was opened
				return auth.Principal{}, fault.New(fault.Unauthenticated, "the client certificate has expired")
			}
			return auth.Principal{
				Subject: id, Roles: m.Roles[id], IssuedAt: leaf.NotBefore, ExpiresAt: leaf.NotAfter,
			}, nil
		}
	}
	switch {
	case m.Next != nil:
		return m.Next.Authenticate(r)
	case shown:
		return auth.Principal{}, fault.New(fault.Unauthenticated, "this function was given no keys to check tokens with")
	}
	return auth.Principal{}, nil
}
