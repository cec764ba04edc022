package gateway

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/problem"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// maxBody is the most that a request may carry unless its operation says otherwise.
const maxBody = 1 << 20

// Gateway routes requests. It is safe for concurrent use.
type Gateway struct {
	tree          node
	root          place              // of the path /
	authenticator auth.Authenticator // nil: none is accepted
	telemetry     *telemetry.Telemetry
	logger        *slog.Logger
	waker         discovery.Waker // nil: functions start in no time
	origins       map[string]bool // that other sites' scripts may come from; "*": any
}

// Header values that are the same for every answer. Sharing a slice saves an allocation;
// nobody changes one in place, and appending to it copies.
var (
	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	noStore    = []string{"no-store"}
	noFrame    = []string{"DENY"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
)

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	id := requestID(r.Header)
	h := w.Header()
	h["X-Request-Id"] = []string{id}
	h["X-Content-Type-Options"] = nosniff
	h["Referrer-Policy"] = noReferrer
	h["X-Frame-Options"] = noFrame
	h["Content-Security-Policy"] = noContent

	a := &response{ResponseWriter: w}
	pattern := g.route(a, r, id)
	g.telemetry.HTTP("gateway", pattern, r.Method, a.code(), time.Since(began))
}

// route finds who answers, and says under which pattern.
func (g *Gateway) route(w *response, r *http.Request, id string) (pattern string) {
	if err := httprequest.Check(r); err != nil {
		problem.Write(w, r, err)
		return ""
	}
	path := r.URL.Path
	if r.URL.RawPath != "" {
		path = r.URL.RawPath // an escaped slash does not part segments
	}
	if r.Header.Get("Origin") != "" {
		g.allowOrigin(w.Header(), r)
	}
	if r.Method == http.MethodOptions && path == "*" {
		w.WriteHeader(http.StatusNoContent)
		return "*"
	}
	p := g.tree.find(strings.TrimPrefix(path, "/"))
	if path == "/" {
		p = &g.root
	}
	if p == nil {
		problem.Write(w, r, fault.New(fault.NotFound, "nothing is served at this path"))
		return ""
	}
	to := p.of(r.Method)
	switch {
	case to != nil:
		g.serve(w, r, to, id)
		return to.pattern
	case r.Method == http.MethodOptions:
		g.preflight(w, r, p)
		return "OPTIONS"
	}
	w.Header().Set("Allow", p.allow)
	problem.Write(w, r, fault.New(fault.Invalid, "this path answers %s", p.allow).WithStatus(http.StatusMethodNotAllowed))
	return ""
}

// serve checks what can be checked at the door and hands the request over.
func (g *Gateway) serve(w *response, r *http.Request, to *route, id string) {
	defer func() {
		if cause := recover(); cause != nil {
			g.panicked(w, r, to, cause)
		}
	}()
	if err := g.admit(r, to); err != nil {
		problem.Write(w, r, err)
		return
	}
	if !to.access.public && !to.document {
		w.Header()["Cache-Control"] = noStore // unless the function knows better
	}
	if r.ContentLength > to.maxBody {
		w.Header().Set("Connection", "close") // what is under way is not worth reading
		problem.Write(w, r, tooLarge(to.maxBody))
		return
	}
	ctx := telemetry.WithTraceparent(r.Context(), r.Header.Get("Traceparent"))
	ctx, end := g.telemetry.Span(ctx, to.span)
	r2 := r.WithContext(ctx)
	if r2.Method == http.MethodHead {
		r2.Method = http.MethodGet
	}
	if r.ContentLength < 0 {
		r2.Body = http.MaxBytesReader(w.ResponseWriter, r.Body, to.maxBody)
	}
	r2.Header["X-Request-Id"] = []string{id}
	if trace := telemetry.Traceparent(ctx); trace != "" {
		r2.Header["Traceparent"] = []string{trace}
	}
	if len(to.wakes) > 0 {
		g.waker.Wake(to.wakes...)
	}
	to.handler.ServeHTTP(w, r2)
	end(w.failure())
}

// admit is the check at the door. The function behind makes its own.
func (g *Gateway) admit(r *http.Request, to *route) error {
	if to.document {
		return nil
	}
	who, err := g.authenticate(r)
	switch {
	case err != nil:
		return err
	case to.access.public:
		return nil
	case who.Anonymous():
		return fault.New(fault.Unauthenticated, "this needs a bearer token")
	case len(to.access.roles) == 0:
		return nil
	}
	for _, role := range to.access.roles {
		if who.Is(role) {
			return nil
		}
	}
	return fault.New(fault.Denied, "this needs the role %s", strings.Join(to.access.roles, " or "))
}

// authenticate returns who sent the request; anonymous when it has no credentials.
func (g *Gateway) authenticate(r *http.Request) (auth.Principal, error) {
	if g.authenticator == nil {
		if r.Header.Get("Authorization") == "" {
			return auth.Principal{}, nil
		}
		return auth.Principal{}, fault.New(fault.Unauthenticated, "no tokens are accepted here")
	}
	return g.authenticator.Authenticate(r)
}

func tooLarge(limit int64) error {
	return fault.New(fault.TooLarge, "the body is over the limit of %d bytes", limit)
}

func (g *Gateway) panicked(w *response, r *http.Request, to *route, cause any) {
	if cause == http.ErrAbortHandler {
		panic(cause)
	}
	g.logger.ErrorContext(r.Context(), "a handler panicked", "route", to.pattern, "panic", cause, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is out: all that is left is to break off
	}
	problem.Write(w, r, fault.New(fault.Internal, "panic"))
}

// requestID is the caller's, if it is fit for headers and logs, or a new one.
func requestID(h http.Header) string {
	if given := h["X-Request-Id"]; len(given) == 1 && plain(given[0]) {
		return given[0]
	}
	const digits = "0123456789abcdef"
	var b [32]byte
	for i := 0; i < len(b); i += 16 {
		n := rand.Uint64()
		for j := range 16 {
			b[i+j] = digits[n&15]
			n >>= 4
		}
	}
	return string(b[:])
}

func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// response notes what was answered.
type response struct {
	http.ResponseWriter
	status int // 0: nothing yet
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher, for answers that come in pieces.
func (w *response) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// failure is what a span is marked with.
func (w *response) failure() error {
	if w.status < 500 {
		return nil
	}
	return errors.New(strconv.Itoa(w.status))
}
