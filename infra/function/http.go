package function

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// serveWith sets up the typed HTTP side: Huma on the standard library's mux.
func (f *Function) serveWith(name string) {
	f.mux = http.NewServeMux()
	f.mux.HandleFunc(anything, f.nothing)
	c := huma.DefaultConfig(name, "1")
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", "", nil
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
	}
	f.api = humago.New((*guarded)(f), c)
}

// OpenAPI is the description of what the function serves. It needs no Start.
func (f *Function) OpenAPI() *huma.OpenAPI { return f.api.OpenAPI() }

// guarded is the mux as Huma sees it: every handler gets the checks that come before parsing.
type guarded Function

func (g *guarded) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	f := (*Function)(g)
	op := f.routes[len(f.routes)-1].op // Serve has just declared it
	span := f.name + " " + op.Method + " " + op.Path
	rule := f.bodyRuleOf(op)
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { f.guard(&op, rule, span, h, w, r) })
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.mux.ServeHTTP(w, r) }

// request is what the kit knows of a request beside what Huma parses.
type request struct {
	body []byte
	key  string // Idempotency-Key
	http *http.Request
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// ServeHTTP serves the declared operations. It checks tokens itself and trusts no header but Authorization.
func (f *Function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.front != nil {
		f.front.ServeHTTP(w, r)
		return
	}
	if err := httprequest.Check(r); err != nil {
		WriteProblem(w, r, err)
		return
	}
	f.mux.ServeHTTP(w, r)
}

// nothing answers what no operation is declared for: 405 where another method is, 404 elsewhere.
func (f *Function) nothing(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPatch, http.MethodPost, http.MethodPut} {
		other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := f.mux.Handler(other); pattern != anything {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		WriteProblem(w, r, fault.New(fault.Invalid, "%s is not allowed here", r.Method).WithStatus(http.StatusMethodNotAllowed))
		return
	}
	WriteProblem(w, r, fault.New(fault.NotFound, "there is nothing at %s", r.URL.Path))
}

// anything is the pattern of what no operation is declared for.
const anything = "/"

// status remembers what was answered, for metrics.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (f *Function) guard(op *Operation, rule func() bodyRule, span string, h http.HandlerFunc, w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	out := &status{ResponseWriter: w}
	ctx, cancel := context.WithTimeout(r.Context(), op.Deadline)
	defer cancel()
	if parent := r.Header.Get(TraceParent); parent != "" && telemetry.Traceparent(ctx) == "" {
		ctx = telemetry.WithTraceparent(ctx, parent)
	}
	ctx = telemetry.WithFunction(ctx, f.name)
	ctx, end := f.env.Telemetry.Span(ctx, span)
	var err error
	defer func() {
		if p := recover(); p != nil {
			err = f.panicked(ctx, p)
			WriteProblem(out, r, err)
		}
		end(err)
		f.env.Telemetry.HTTP(f.name, op.Path, op.Method, out.code, time.Since(begin))
	}()
	ctx, err = f.admit(ctx, op, rule, r)
	if err != nil {
		f.logFault(ctx, err)
		WriteProblem(out, r, err)
		return
	}
	h(out, r.WithContext(ctx))
}

// admit checks the token, the key and the body before anything is parsed.
func (f *Function) admit(ctx context.Context, op *Operation, rule func() bodyRule, r *http.Request) (context.Context, error) {
	who, err := f.authenticate(r)
	if err == nil {
		err = op.Access.Allow(who)
	}
	if err != nil {
		return ctx, err
	}
	ctx = auth.With(ctx, who)
	rq := &request{http: r}
	if op.unsafe() {
		if rq.body, err = readBody(r, rule()); err != nil {
			return ctx, err
		}
		if rq.key, err = idempotencyKey(op, r); err != nil {
			return ctx, err
		}
	}
	return context.WithValue(ctx, requestKey{}, rq), nil
}

func (f *Function) authenticate(r *http.Request) (auth.Principal, error) {
	header := r.Header.Get("Authorization")
	switch {
	case len(r.Header["Authorization"]) > 1:
		return auth.Principal{}, fault.New(fault.Unauthenticated, "there is more than one Authorization header")
	case header == "":
		return auth.Principal{}, nil
	}
	if f.env.Tokens == nil {
		return auth.Principal{}, fault.New(fault.Unauthenticated, "this function was given no keys to check tokens with")
	}
	return f.env.Tokens.FromHeader(header)
}

// readBody reads the whole body. How long it may take to arrive is the server's to say.
func readBody(r *http.Request, rule bodyRule) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	tooLarge := fault.New(fault.TooLarge, "the body is larger than %d bytes", rule.max)
	if r.ContentLength > rule.max {
		return nil, tooLarge
	}
	if rule.json {
		if err := httprequest.JSON(r.Header); err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json") // as Huma knows it
	}
	body, err := readAll(r.Body, r.ContentLength, rule.max)
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the body could not be read").WithStatus(http.StatusBadRequest)
	}
	if !utf8.Valid(body) {
		return nil, fault.New(fault.Invalid, "the body is not valid UTF-8").WithStatus(http.StatusBadRequest)
	}
	if err := rule.check(body); err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return body, nil
}

const maxKey = 255

func idempotencyKey(op *Operation, r *http.Request) (string, error) {
	if op.Idempotency == Off {
		return "", nil
	}
	key := strings.Trim(r.Header.Get("Idempotency-Key"), `"`)
	switch {
	case key == "" && op.Idempotency == Required:
		return "", fault.New(fault.Invalid, "this needs an Idempotency-Key header").WithStatus(http.StatusBadRequest)
	case len(key) > maxKey:
		return "", fault.New(fault.Invalid, "the Idempotency-Key is longer than %d bytes", maxKey).WithStatus(http.StatusBadRequest)
	}
	return key, nil
}

func (f *Function) panicked(ctx context.Context, p any) error {
	f.env.Logger.ErrorContext(ctx, "a handler panicked", "function", f.name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return fault.New(fault.Internal, "a handler panicked: %v", p)
}

// logFault logs what operators should know of, once, at the edge.
func (f *Function) logFault(ctx context.Context, err error) {
	switch fault.KindOf(err) {
	case fault.Internal:
		f.env.Logger.ErrorContext(ctx, "a request failed", "function", f.name, "error", err)
	case fault.Unavailable, fault.Timeout, fault.Conflict:
		f.env.Logger.WarnContext(ctx, "a request failed", "function", f.name, "kind", fault.KindOf(err).String(), "error", err)
	}
}

// Problem is an RFC 9457 problem document. It never holds a cause or a stack.
type Problem struct {
	Title    string         `json:"title"`
	Status   int            `json:"status"`
	Detail   string         `json:"detail,omitempty"`
	Instance string         `json:"instance,omitempty"`
	Errors   []fault.Detail `json:"errors,omitempty"`

	retryAfter time.Duration
}

// ProblemOf is what the outside is told of an error.
func ProblemOf(err error) *Problem {
	code := fault.HTTPStatus(err)
	return &Problem{Title: http.StatusText(code), Status: code, Detail: fault.Public(err),
		Errors: capped(fault.DetailsOf(err)), retryAfter: fault.RetryAfter(err)}
}

func (p *Problem) Error() string           { return p.Detail }
func (p *Problem) GetStatus() int          { return p.Status }
func (*Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders are the header fields that belong to the problem.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer") // RFC 6750 section 3
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
	return h
}

// Huma's own validation problems take our shape too. What was sent is left out of them: it may be a password.
func init() {
	// Names are compared without regard to case by encoding/json: what is validated must be what is decoded.
	huma.ValidateStrictCasing = true
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		p := &Problem{Title: http.StatusText(status), Status: status, Detail: msg}
		for _, err := range errs[:min(len(errs), maxErrors)] {
			if err != nil {
				p.Errors = append(p.Errors, detailOf(err))
			}
		}
		return p
	}
}

// problemOf turns err into what Huma writes.
func problemOf(ctx context.Context, err error) error {
	if rq := requestOf(ctx); rq != nil {
		p := ProblemOf(err)
		p.Instance = rq.http.URL.Path
		return p
	}
	return ProblemOf(err)
}

// WriteProblem answers a request with the problem document of err.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := ProblemOf(err)
	p.Instance = r.URL.Path
	h := w.Header()
	for name, values := range p.GetHeaders() {
		h[name] = values
	}
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	data, _ := json.Marshal(p) // its fields always marshal
	_, _ = w.Write(data)
}
