package lambda

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/problem"
)

// maxResponse is the most bytes of a response that is not streamed, in Lambda's encoding.
const maxResponse = 6 << 20

// request serves one HTTP request.
func (h *Host) request(ctx context.Context, data []byte) (any, error) {
	var in events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the request is not valid")
	}
	r, err := httpRequest(ctx, &in)
	if err != nil {
		w := newBuffered("")
		problem.Write(w, &http.Request{URL: &url.URL{Path: in.RawPath}}, err)
		return w.encode()
	}
	if h.cfg.Stream {
		return h.stream(r), nil
	}
	w := newBuffered(r.Method)
	if p := h.recovered(w, r); p != nil {
		h.cfg.Logger.ErrorContext(ctx, "a handler panicked", "path", r.URL.Path, "panic", p)
		w = newBuffered(r.Method)
		problem.Write(w, r, fault.New(fault.Internal, "the handler panicked"))
	}
	body, err := w.encode()
	if err == nil && len(body) > maxResponse {
		h.cfg.Logger.ErrorContext(ctx, "a response is too large", "path", r.URL.Path, "bytes", len(body))
		w = newBuffered(r.Method)
		problem.Write(w, r, fault.New(fault.TooLarge, "the response has %d bytes; Lambda carries %d at most: ask for less",
			len(body), maxResponse).WithStatus(http.StatusInternalServerError))
		return w.encode()
	}
	return body, err
}

// recovered has the function serve a request, and returns what its handler panicked with; nil: it did not.
func (h *Host) recovered(w http.ResponseWriter, r *http.Request) (panicked any) {
	defer func() { panicked = recover() }()
	h.serve(w, r)
	return nil
}

// serve has the function serve a request, once the function is started.
func (h *Host) serve(w http.ResponseWriter, r *http.Request) {
	if err := h.Start(r.Context()); err != nil {
		h.cfg.Logger.ErrorContext(r.Context(), "a request finds the function not ready", "error", err)
		problem.Write(w, r, fault.New(fault.Unavailable, "the function is not ready; try again"))
		return
	}
	h.f.ServeHTTP(w, r)
}

// httpRequest returns the request that an HTTP API or a function URL has received.
func httpRequest(ctx context.Context, in *events.APIGatewayV2HTTPRequest) (*http.Request, error) {
	body := []byte(in.Body)
	if in.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(in.Body); err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "the body is not base64, as its envelope says")
		}
	}
	u, err := target(in)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, in.RequestContext.HTTP.Method, "/", bytes.NewReader(body))
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid request")
	}
	r.URL, r.RequestURI = u, u.RequestURI()
	for name, value := range in.Headers { // several lines of a field are one, with commas between
		r.Header.Set(name, value)
	}
	if len(in.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(in.Cookies, "; "))
	}
	r.Host = r.Header.Get("Host")
	r.Header.Del("Host")
	if r.Host == "" {
		r.Host = in.RequestContext.DomainName
	}
	r.RemoteAddr = net.JoinHostPort(in.RequestContext.HTTP.SourceIP, "0")
	return r, nil
}

// target returns the URL of a request, without the stage that an HTTP API's path begins with.
func target(in *events.APIGatewayV2HTTPRequest) (*url.URL, error) {
	path := in.RawPath
	if stage := in.RequestContext.Stage; stage != "" && stage != "$default" {
		if rest, ok := strings.CutPrefix(path, "/"+stage); ok && (rest == "" || rest[0] == '/') {
			path = "/" + strings.TrimPrefix(rest, "/")
		}
	}
	u := &url.URL{Path: path, RawQuery: in.RawQueryString}
	if decoded, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = decoded, path
	}
	if !strings.HasPrefix(path, "/") {
		return nil, fault.New(fault.Invalid, "invalid path: want one that begins with a slash")
	}
	return u, nil
}

// buffered is the writer of a response that is sent when it is complete.
type buffered struct {
	method string
	header http.Header
	sent   http.Header // as it was at WriteHeader
	status int
	body   bytes.Buffer
}

func newBuffered(method string) *buffered { return &buffered{method: method, header: http.Header{}} }

func (w *buffered) Header() http.Header { return w.header }

func (w *buffered) WriteHeader(status int) {
	if w.status == 0 && status >= 200 { // an HTTP API carries no 1xx
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *buffered) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.method == http.MethodHead {
		return len(p), nil
	}
	return w.body.Write(p)
}

// encode returns the response in Lambda's encoding. A body that is text is sent as it is, any other in base64.
func (w *buffered) encode() (json.RawMessage, error) {
	w.WriteHeader(http.StatusOK)
	out := events.APIGatewayV2HTTPResponse{StatusCode: w.status}
	if w.body.Len() > 0 && w.sent.Get("Content-Type") == "" {
		w.sent.Set("Content-Type", http.DetectContentType(w.body.Bytes()))
	}
	out.Headers, out.Cookies = fields(w.sent)
	if w.sent.Get("Content-Encoding") == "" && utf8.Valid(w.body.Bytes()) {
		out.Body = w.body.String()
	} else {
		out.Body, out.IsBase64Encoded = base64.StdEncoding.EncodeToString(w.body.Bytes()), true
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(out)
	return text.Bytes(), err
}

// fields returns a header in Lambda's form: one line for each field, and the cookies apart. Those about the connection
// are the platform's.
func fields(header http.Header) (one map[string]string, cookies []string) {
	one = make(map[string]string, len(header))
	for name, lines := range header {
		switch name {
		case "Set-Cookie":
			cookies = lines
		case "Connection", "Content-Length", "Transfer-Encoding", "Trailer", "Upgrade":
		default:
			one[name] = strings.Join(lines, ", ")
		}
	}
	return one, cookies
}

// stream returns a response whose body is sent while the function writes it.
func (h *Host) stream(r *http.Request) *events.LambdaFunctionURLStreamingResponse {
	from, to := io.Pipe()
	ctx, cancel := context.WithoutCancel(r.Context()), context.CancelFunc(func() {}) // Invoke returns before it ends
	if end, ok := r.Context().Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, end)
	}
	w := &streamed{method: r.Method, header: http.Header{}, begun: make(chan struct{}), to: to}
	go func() {
		defer cancel()
		var err error
		defer func() {
			if p := recover(); p != nil {
				h.cfg.Logger.Error("a handler panicked", "path", r.URL.Path, "panic", p)
				if w.status != 0 {
					err = errors.New("the handler panicked") // the response breaks off
				} else {
					w.header = http.Header{}
					problem.Write(w, r, fault.New(fault.Internal, "the handler panicked"))
				}
			}
			w.WriteHeader(http.StatusOK)
			h.flush(ctx) // the sandbox is frozen when the response has ended
			_ = to.CloseWithError(err)
		}()
		h.serve(w, r.WithContext(ctx))
	}()
	<-w.begun
	out := &events.LambdaFunctionURLStreamingResponse{StatusCode: w.status, Body: from}
	out.Headers, out.Cookies = fields(w.sent)
	return out
}

// streamed is the writer of a response whose parts are sent as they are written.
type streamed struct {
	method string
	header http.Header
	sent   http.Header
	status int
	begun  chan struct{} // closed by the first WriteHeader
	to     *io.PipeWriter
}

func (w *streamed) Header() http.Header { return w.header }

func (w *streamed) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	}
}

func (w *streamed) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.method == http.MethodHead {
		return len(p), nil
	}
	return w.to.Write(p)
}

// Flush does nothing: each write is sent at once.
func (w *streamed) Flush() { w.WriteHeader(http.StatusOK) }
