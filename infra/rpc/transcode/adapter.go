package transcode

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/problem"
)

// timeoutField has the seconds that a call has left, as the transcoder tells an operation.
const timeoutField = "X-Server-Timeout"

// adapter is an operation as the transcoder sees it: the requests and responses that the transcoder makes and takes are
// not quite those of an operation.
type adapter struct{ operations http.Handler }

// ServeHTTP implements http.Handler.
func (a adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil { // the transcoder has an answer only for some of these errors, and no other can follow it
		answer := newRecorder()
		problem.Write(answer, r, fault.Wrap(err, fault.Invalid, "the message cannot be written as JSON"))
		answer.send(w)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ctx, late := after(ctx, r.Header.Get(timeoutField), cancel)
	answer := newRecorder()
	a.operations.ServeHTTP(answer, request(ctx, r, body))
	answer.WriteHeader(http.StatusOK) // if the operation has written nothing
	if late() && answer.status/100 != 2 {
		answer = newRecorder()
		problem.Write(answer, r, fault.New(fault.Timeout, "the time of the call is over"))
	}
	answer.send(w)
}

// after cancels when the time is over, in seconds, which Deadline returns for the context. late stops the clock and
// reports whether the time was over.
func after(ctx context.Context, seconds string, cancel context.CancelFunc) (_ context.Context, late func() bool) {
	s, err := strconv.ParseFloat(seconds, 64)
	if err != nil || s > float64(1<<30) {
		return ctx, func() bool { return false }
	}
	left := time.Duration(s * float64(time.Second))
	ctx = context.WithValue(ctx, deadlineKey{}, time.Now().Add(left))
	timer := time.AfterFunc(left, cancel)
	return ctx, func() bool { return !timer.Stop() }
}

// deadlineKey is the key of the time at which the time of a call is over.
type deadlineKey struct{}

// Deadline returns when the time of the call is over that has become the request with the context. Then the context is
// canceled, as when a client has gone, and not by a deadline, which would be the operation's. It reports false for a
// call without a limit, and for a request that was no call.
func Deadline(ctx context.Context) (time.Time, bool) {
	at, ok := ctx.Value(deadlineKey{}).(time.Time)
	return at, ok
}

// request returns the request for the operation.
func request(ctx context.Context, r *http.Request, body []byte) *http.Request {
	out := r.Clone(ctx)
	if path, err := url.PathUnescape(r.URL.Path); err == nil { // the transcoder leaves it escaped
		out.URL.RawPath, out.URL.Path = r.URL.Path, path
	}
	out.RequestURI = out.URL.RequestURI()
	for name := range out.Header {
		if strings.HasPrefix(name, "Grpc-") || strings.HasPrefix(name, "Connect-") {
			delete(out.Header, name)
		}
	}
	for _, name := range []string{
		timeoutField, "Accept-Encoding", "Te", "Trailer", "Transfer-Encoding", "X-Grpc-Web", "X-User-Agent",
	} {
		delete(out.Header, name)
	}
	out.Header.Set("Accept", "application/json")
	out.TransferEncoding, out.Trailer = nil, nil
	out.ContentLength, out.Body = int64(len(body)), io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 {
		delete(out.Header, "Content-Type")
		out.Body = http.NoBody
	}
	return out
}

// recorder stores the response of an operation.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
	failed error // of all further writes
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

// Header implements http.ResponseWriter.
func (w *recorder) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

// Write implements io.Writer. A response that is longer than a message fails.
func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.failed != nil {
		return 0, w.failed
	}
	if w.body.Len()+len(b) > maxMessage {
		err := fault.New(fault.TooLarge, "the response is over %d bytes", maxMessage)
		w.status, w.header = 0, http.Header{}
		w.body.Reset()
		problem.Write(w, &http.Request{URL: &url.URL{}}, err)
		w.failed = err
		return 0, err
	}
	return w.body.Write(b)
}

// Flush implements http.Flusher: a message is sent when it is whole.
func (w *recorder) Flush() {}

// unsaid are header fields that say nothing about a message.
var unsaid = []string{
	"Content-Length", "Content-Type", "Content-Encoding", "Connection", "Trailer", "Transfer-Encoding",
	"Content-Security-Policy", "Referrer-Policy", "X-Frame-Options",
}

// send gives the response to the transcoder.
func (w *recorder) send(to http.ResponseWriter) {
	for _, name := range unsaid {
		delete(w.header, name)
	}
	h, body := to.Header(), w.body.Bytes()
	for name, values := range w.header {
		h[name] = values
	}
	h.Set("Content-Type", "application/json")
	switch {
	case w.status/100 != 2:
		body = status(w.status, w.header, body)
	case len(body) == 0:
		body = []byte("{}")
	}
	to.WriteHeader(w.status)
	_, _ = to.Write(body) // a caller that has gone away needs no answer
}

// status returns the google.rpc.Status of a failure, in JSON.
func status(code int, header http.Header, document []byte) []byte {
	type object = map[string]any
	message, details := http.StatusText(code), []any{}
	var p problem.Problem
	var members object
	if json.Unmarshal(document, &members) == nil && json.Unmarshal(document, &p) == nil {
		if p.Detail != "" {
			message = p.Detail
		}
		details = append(details, object{"@type": "type.googleapis.com/google.protobuf.Struct", "value": members})
	}
	if n, err := strconv.ParseUint(header.Get("Retry-After"), 10, 31); err == nil {
		details = append(details, object{
			"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": strconv.FormatUint(n, 10) + "s",
		})
	}
	body, err := json.Marshal(object{"code": int(CodeOf(code)), "message": message, "details": details})
	if err != nil {
		return []byte(`{"code":13,"message":"the failure cannot be told"}`)
	}
	return body
}
