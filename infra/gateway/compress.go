package gateway

import (
	"context"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

// minCompressed is the smallest answer that is compressed, in bytes.
const minCompressed = 1 << 10

// encoded is the suffix of the entity tags of compressed answers, without its quote: a strong tag names other bytes
// when the answer is compressed. The library puts zstd in the place of gzip.
const encoded = "-gzip"

type exchangeKey struct{}

// compress sends the answers of operations that allow it with zstd or gzip, as the client takes it, unless they are
// small or of a kind that is compressed already. Requests with an entity tag of a compressed answer reach the function
// with the tag that it gave.
func compress(next Handler) Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(minCompressed), gzhttp.SuffixETag(encoded), gzhttp.EnableZstd(true),
		gzhttp.PreferZstd(true))
	if err != nil {
		panic(err) // the options are constants
	}
	h := wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := r.Context().Value(exchangeKey{}).(*Exchange)
		before := x.Writer
		x.Writer = &transformed{ResponseWriter: w}
		next(x)
		x.Writer = before
	}))
	return func(x *Exchange) {
		if !x.Route.Policy.Compress || x.Request.Header.Get("Upgrade") != "" {
			next(x)
			return
		}
		for _, name := range []string{"If-None-Match", "If-Match", "If-Range"} {
			if tags := x.Request.Header.Get(name); strings.Contains(tags, "-") {
				x.Request.Header.Set(name, strings.NewReplacer(encoded+`"`, `"`, `-zstd"`, `"`).Replace(tags))
			}
		}
		h.ServeHTTP(x.Writer, x.Request.WithContext(context.WithValue(x.Request.Context(), exchangeKey{}, x)))
	}
}

// transformed is the writer of an answer that is compressed, unless the answer says no-transform (RFC 9110, 7.7).
type transformed struct {
	http.ResponseWriter
	wrote bool
}

// WriteHeader implements http.ResponseWriter.
func (w *transformed) WriteHeader(status int) {
	if !w.wrote && status >= 200 {
		w.wrote = true
		if h := w.Header(); directivesOf(h).has("no-transform") {
			h.Set(gzhttp.HeaderNoCompression, "true") // which the library takes out
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *transformed) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *transformed) Flush() {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *transformed) Unwrap() http.ResponseWriter { return w.ResponseWriter }
