package gateway

import "github.com/ebb-dev/ebb/infra/httprequest"

// checkSyntax refuses requests that two handlers could read differently, and joins lists that came in several header
// lines.
func checkSyntax(next Handler) Handler {
	return func(x *Exchange) {
		if err := httprequest.Check(x.Request); err != nil {
			x.Refuse(err)
			return
		}
		next(x)
	}
}
