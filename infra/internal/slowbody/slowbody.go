// Package slowbody bounds how long a request's body may take to arrive.
//
// A ReadTimeout of http.Server would go on while a handler runs and end the contexts of later requests of the connection, and
// a deadline that a handler sets itself is over when it refuses a request without reading the body: the server then reads
// what is left of it before it sends the answer, for as long as the client likes.
package slowbody

import (
	"io"
	"net/http"
	"time"
)

// Limit is how long every server of ours gives a body.
const Limit = 30 * time.Second

// Handler makes a body that has not arrived after d an error for whoever reads it, the server included. The deadline is lifted when
// the body has been read to its end.
func Handler(h http.Handler, d time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			h.ServeHTTP(w, r)
			return
		}
		c := http.NewResponseController(w)
		if c.SetReadDeadline(time.Now().Add(d)) == nil {
			// The server looks at the body of its own request when it answers: replaced there, it would ask a client that
			// expects "100 Continue" for the body, and wait for it before it sends a refusal.
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
