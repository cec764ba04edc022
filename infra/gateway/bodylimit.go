package gateway

import (
	"errors"
	"io"
	"net/http"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/proxy"
)

// limitBody refuses a request whose body is larger than its operation takes. A body of unknown length can be read up to
// the limit, and reading on is a *http.MaxBytesError; one whose chunks are not valid is a *proxy.BodyError.
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
			r.Body = chunked{http.MaxBytesReader(x.response.ResponseWriter, r.Body, limit)}
		}
		next(x)
	}
}

// chunked is a body that comes in chunks.
type chunked struct{ io.ReadCloser }

// Read implements io.Reader.
func (c chunked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	var large *http.MaxBytesError
	if err == nil || err == io.EOF || errors.As(err, &large) {
		return n, err
	}
	return n, &proxy.BodyError{Cause: err}
}
