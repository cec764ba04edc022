package auth

import (
	"net/http"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Authenticator is the port that authenticates requests. It may be used concurrently.
type Authenticator interface {
	// Authenticate returns who sent the request: the anonymous Principal when it has no credentials, and
	// fault.Unauthenticated when it has some that are not accepted. It reads header fields and the connection's state,
	// never the body.
	Authenticate(r *http.Request) (Principal, error)
}

var _ Authenticator = (*Verifier)(nil)

// Authenticate implements Authenticator: it verifies the bearer token of the Authorization header.
func (v *Verifier) Authenticate(r *http.Request) (Principal, error) {
	shown := r.Header["Authorization"]
	if len(shown) > 1 {
		return Principal{}, fault.New(fault.Unauthenticated, "there is more than one Authorization header")
	}
	if len(shown) == 0 {
		return Principal{}, nil
	}
	return v.FromHeader(shown[0])
}
