// Package bodydeadline limits how long a request's body may take to arrive.
//
// A ReadTimeout of http.Server would also run while a handler works and end the contexts of later requests of the
// connection. A deadline that a handler sets does not help when the handler refuses a request without reading the body:
// the server then reads the rest of the body before it sends the response, without a limit of time.
package bodydeadline

import (
	"io"
	"net/http"
	"time"
)

// Limit is how long a body may take on every server of the kit.
const Limit = 30 * time.Second

// Handler returns h with a deadline for the body: after d each read of the body fails, also the server's own. The
// deadline is removed when the body has been read to its end.
func Handler(h http.Handler, d time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			h.ServeHTTP(w, r)
			return
		}
		c := http.NewResponseController(w)
		if c.SetReadDeadline(time.Now().Add(d)) == nil {
			// The server uses the body of its own request when it responds. If that were replaced, the server would ask a
			// client that expects "100 Continue" for the body, and wait for it before it sends a refusal.
			mine := *r
			mine.Body = &body{ReadCloser: r.Body, arrived: func() { _ = c.SetReadDeadline(time.Time{}) }}
			r = &mine
		}
		h.ServeHTTP(w, r)
	})
}

type body struct {
	io.ReadCloser
	arrived func()
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && b.arrived != nil {
		b.arrived()
		b.arrived = nil
	}
	return n, err
}
