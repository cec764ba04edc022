package gateway

import (
	"net/http"
	"strings"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/fault"
)

// authorize checks the credentials of the request and whether its caller may call the operation. The function checks
// both again. Of an API key only the checksum is checked here, and whether any key may call the operation: a function
// knows whose it is. It goes on as a bearer token, so that whatever looks for credentials finds it. Answers of
// operations that are not public are not stored by caches, unless the function says otherwise.
func (g *Gateway) authorize(next Handler) Handler {
	return func(x *Exchange) {
		if x.Route.document {
			next(x)
			return
		}
		who, err := g.authenticate(x.Request)
		if err == nil {
			err = x.Route.allow(who)
		}
		if err != nil {
			x.Refuse(err)
			return
		}
		x.Caller = who
		if shown := x.Request.Header[apikey.Header]; len(shown) > 0 {
			x.Request.Header["Authorization"] = []string{"Bearer " + shown[0]}
			delete(x.Request.Header, apikey.Header)
		}
		if !x.Route.public() {
			x.Writer.Header()["Cache-Control"] = noStore
		}
		next(x)
	}
}

// authenticate returns who sent the request, which is anonymous when it has no credentials.
func (g *Gateway) authenticate(r *http.Request) (auth.Principal, error) {
	if g.cfg.Authenticator == nil {
		if len(r.Header["Authorization"])+len(r.Header[apikey.Header]) == 0 {
			return auth.Principal{}, nil
		}
		return auth.Principal{}, fault.New(fault.Unauthenticated, "no tokens are accepted here")
	}
	return g.cfg.Authenticator.Authenticate(r)
}

// allow returns nil if the caller may call the operation.
func (r *Route) allow(who auth.Principal) error {
	switch {
	case r.public():
		return nil
	case (who.KeyHash != "" || who.Scoped) && r.Scope == "":
		return fault.New(fault.Denied, "no API key and no token with scopes may call this")
	case who.KeyHash != "":
		return nil // the function knows the key
	case who.Anonymous():
		return fault.New(fault.Unauthenticated, "this needs a bearer token")
	case len(r.Roles) == 0:
		return nil
	}
	for _, role := range r.Roles {
		if who.Is(role) {
			return nil
		}
	}
	return fault.New(fault.Denied, "this needs the role %s", strings.Join(r.Roles, " or "))
}
