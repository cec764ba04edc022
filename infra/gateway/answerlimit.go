package gateway

import (
	"net/http"
	"strconv"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/problem"
)

// limitAnswer answers 502 in place of an answer whose length is over the limit of the operation, and breaks off one
// that only turns out to be longer while it is sent.
func limitAnswer(next Handler) Handler {
	return func(x *Exchange) {
		limit := x.Route.Policy.MaxAnswer
		if limit == 0 {
			next(x)
			return
		}
		before := x.Writer
		x.Writer = &limitedWriter{ResponseWriter: before, request: x.Request, left: limit}
		next(x)
		x.Writer = before
	}
}

// limitedWriter is a writer that takes a limited number of bytes.
type limitedWriter struct {
	http.ResponseWriter
	request *http.Request
	left    int64
	wrote   bool
	refused bool // the answer was replaced by a problem
}

// WriteHeader implements http.ResponseWriter.
func (w *limitedWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	if status >= 200 {
		w.wrote = true
		length, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
		if err == nil && length > w.left {
			w.refuse()
			return
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// describing are the header fields that describe the content of an answer.
var describing = []string{
	"Content-Encoding", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified", "Expires",
}

// refuse answers with a problem, without the header fields that describe the content that is left out.
func (w *limitedWriter) refuse() {
	w.refused = true
	h := w.Header()
	for _, name := range describing {
		h.Del(name)
	}
	err := fault.New(fault.Unavailable, "the answer is over the limit of %d bytes", w.left)
	problem.Write(w.ResponseWriter, w.request, err.WithStatus(http.StatusBadGateway))
}

// Write implements io.Writer.
func (w *limitedWriter) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.refused {
		return len(b), nil
	}
	if w.left -= int64(len(b)); w.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *limitedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
