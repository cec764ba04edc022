package gateway

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// mirrorTimeout is how long a copy of a request may take.
const mirrorTimeout = 10 * time.Second

// maxMirrored is how many copies are on their way at most. Beyond that none are sent.
const maxMirrored = 64

// mirroredBody is the most bytes of a body that is copied, unless the operation says otherwise.
const mirroredBody = 64 << 10

// mirror sends a copy of the request to the function that the operation names, and does not wait for the answer. The
// body is kept while the function reads it; the copy of a request with a body is sent when the request was answered,
// and none is sent when the function has not read the whole body or when it is longer than the operation allows.
func (g *Gateway) mirror(next Handler) Handler {
	free := g.copies
	return func(x *Exchange) {
		m := x.Route.Policy.Mirror
		if m == nil || x.Route.mirror == nil || x.Request.Header.Get("Upgrade") != "" ||
			!share(x, m.Function, m.Percent) {
			next(x)
			return
		}
		most := cmp.Or(m.MaxBody, mirroredBody)
		if x.Request.ContentLength > most {
			next(x)
			return
		}
		select {
		case free <- struct{}{}:
		default:
			next(x)
			return
		}
		r := x.Request.Clone(context.WithoutCancel(x.Request.Context()))
		r.Body, r.ContentLength, r.TransferEncoding = http.NoBody, 0, nil
		shadow := &Exchange{Request: r, own: true, Route: x.Route.mirror, Caller: x.Caller, table: x.table}
		send := func() {
			go func() {
				defer func() { <-free }()
				g.copyTo(shadow)
			}()
		}
		if bodyless(x.Request) {
			send()
			next(x)
			return
		}
		kept := &keptBody{ReadCloser: x.Request.Body, length: x.Request.ContentLength, most: most}
		x.Own().Body = kept
		done := false
		defer func() {
			body, ok := kept.whole()
			if !ok || !done {
				<-free
				return
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			send()
		}()
		next(x)
		done = true
	}
}

// copyTo has the function of the mirror serve a request, and throws the answer away.
func (g *Gateway) copyTo(x *Exchange) {
	defer func() {
		if cause := recover(); cause != nil && cause != http.ErrAbortHandler {
			g.cfg.Logger.WarnContext(x.Request.Context(), "a mirrored request panicked", "panic", cause)
		}
	}()
	ctx, cancel := context.WithTimeout(x.Request.Context(), mirrorTimeout)
	defer cancel()
	x.Request = x.Request.WithContext(ctx)
	x.Writer = discard{header: http.Header{}}
	x.Route.handler(x)
}

// keptBody keeps what is read of a body. A transport may still read while the kept part is asked for.
type keptBody struct {
	io.ReadCloser
	length int64 // that the request says; -1: unknown
	most   int64

	mu   sync.Mutex
	kept []byte
	over bool // more than most was read, or reading failed
	all  bool // the body was read to its end
}

// Read implements io.Reader.
func (b *keptBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.over:
	case int64(len(b.kept)+n) > b.most || err != nil && err != io.EOF:
		b.over, b.kept = true, nil
	default:
		b.kept = append(b.kept, p[:n]...)
		b.all = err == io.EOF || int64(len(b.kept)) == b.length
	}
	return n, err
}

// whole returns the body; false if it was not read to its end or is too long.
func (b *keptBody) whole() ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept, b.all && !b.over
}

// discard is a writer that throws an answer away.
type discard struct{ header http.Header }

// Header implements http.ResponseWriter.
func (d discard) Header() http.Header { return d.header }

// WriteHeader implements http.ResponseWriter.
func (d discard) WriteHeader(int) {}

// Write implements io.Writer.
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
