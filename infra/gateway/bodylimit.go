package gateway

import (
	"net/http"

	"github.com/ebb-dev/ebb/infra/fault"
)

// limitBody refuses a request whose body is larger than its operation takes. A body of unknown length can be read up to
// the limit, and reading on is a *http.MaxBytesError.
func limitBody(next Handler) Handler {
	return func(x *Exchange) {
		limit := x.Route.MaxBody
		switch length := x.Request.ContentLength; {
		case length > limit:
			x.Writer.Header().Set("Connection", "close") // the server would read the body to use the connection again
			x.Refuse(fault.New(fault.TooLarge, "the body is over the limit of %d bytes", limit))
			return
		case length < 0:
			r := x.Own()
			r.Body = http.MaxBytesReader(x.response.ResponseWriter, r.Body, limit)
		}
		next(x)
	}
}
