package function

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/internal/timeoutheader"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// newAPI makes the typed HTTP side: Huma on the standard library's mux.
func (f *Function) newAPI() {
	f.mux = http.NewServeMux()
	f.mux.HandleFunc(unmatched, f.refuseUnmatched)
	c := huma.DefaultConfig(f.name, "1")
	c.Transformers = append(c.Transformers, asProblem)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", "", nil
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
		"apiKey": {Type: "apiKey", In: "header", Name: "X-API-Key"},
	}
	f.api = humago.New((*guarded)(f), c)
}

// guarded is the mux as Huma sees it: every handler gets the checks that come before parsing.
type guarded Function

func (g *guarded) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	f := (*Function)(g)
	op := f.routes[len(f.routes)-1].op // Serve has just declared it
	span := telemetry.Operation{Function: f.name, Method: op.Method, Route: op.Path}
	rule := f.bodyRuleOf(op)
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { f.guard(&op, rule, &span, h, w, r) })
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.mux.ServeHTTP(w, r) }

// request is what the kit knows of a request beside what Huma parses.
type request struct {
	body []byte
	key  string // Idempotency-Key
	http *http.Request

	apiKey  store.Document // of the API key that was shown; zero: none
	keyUsed int64          // the last day on which the function has noted a use of that key, Unix seconds
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// refuseUnmatched answers requests that no operation is declared for: 405 where another method is, 404 elsewhere.
func (f *Function) refuseUnmatched(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPatch,
		http.MethodPost, http.MethodPut} {
		other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := f.mux.Handler(other); pattern != unmatched {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		err := fault.New(fault.Invalid, "%s is not allowed here", r.Method)
		problem.Write(w, r, err.WithStatus(http.StatusMethodNotAllowed))
		return
	}
	problem.Write(w, r, fault.New(fault.NotFound, "there is nothing at %s", r.URL.Path))
}

// unmatched is the pattern of requests that no operation is declared for.
const unmatched = "/"

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

func (f *Function) guard(
	op *Operation, rule func() bodyRule, span *telemetry.Operation, h http.HandlerFunc, w http.ResponseWriter,
	r *http.Request,
) {
	begin := time.Now()
	out := &status{ResponseWriter: w}
	limit := op.Deadline
	if left, ok := timeoutheader.Get(r.Header); ok && left < limit {
		limit = left
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	if parent := r.Header.Get(event.TraceParent); parent != "" && telemetry.Traceparent(ctx) == "" {
		ctx = telemetry.WithTrace(ctx, parent, strings.Join(r.Header.Values(event.TraceState), ","))
	}
	ctx = telemetry.WithFunction(ctx, f.name)
	ctx, end := f.env.Telemetry.ServerSpan(ctx, *span, r, f.cold())
	var err error
	defer func() {
		if p := recover(); p != nil {
			err = f.panicked(ctx, p)
			problem.Write(out, r, err)
		}
		end(out.code, err)
		f.env.Telemetry.HTTP(ctx, telemetry.Request{
			Function: f.name, Route: op.Path, Method: op.Method, TLS: r.TLS != nil, Status: out.code,
		}, time.Since(begin))
	}()
	ctx, err = f.admit(ctx, op, rule, r)
	if err != nil {
		f.logError(ctx, err)
		problem.Write(out, r, err)
		return
	}
	h(out, r.WithContext(ctx))
}

// cold reports whether this is the first request or event of the instance, and is true once.
func (f *Function) cold() bool { return !f.warm.Load() && !f.warm.Swap(true) }

// admit checks the token, the key and the body before anything is parsed.
func (f *Function) admit(
	ctx context.Context, op *Operation, rule func() bodyRule, r *http.Request,
) (context.Context, error) {
	rq := &request{http: r}
	who, err := f.authenticate(r)
	if err == nil && who.KeyHash != "" {
		who, err = f.identify(ctx, rq, who.KeyHash)
	}
	if err == nil {
		err = op.allow(who)
	}
	if err != nil {
		return ctx, err
	}
	ctx = auth.With(ctx, who)
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

// authenticate returns who sent the request; anonymous when it has no credentials.
func (f *Function) authenticate(r *http.Request) (auth.Principal, error) {
	if f.env.Authenticator == nil {
		if len(r.Header["Authorization"])+len(r.Header[apikey.Header]) == 0 {
			return auth.Principal{}, nil
		}
		return auth.Principal{}, fault.New(fault.Unauthenticated, "this function was given no keys to check tokens with")
	}
	return f.env.Authenticator.Authenticate(r)
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
		err := fault.New(fault.Invalid, "the Idempotency-Key is longer than %d bytes", maxKey)
		return "", err.WithStatus(http.StatusBadRequest)
	}
	return key, nil
}

func (f *Function) panicked(ctx context.Context, p any) error {
	f.env.Logger.ErrorContext(ctx, "a handler panicked", "function", f.name, "panic", fmt.Sprint(p),
		"stack", string(debug.Stack()))
	return fault.New(fault.Internal, "a handler panicked: %v", p)
}

// logError logs a failure that operators should know of, once, where the request leaves the function.
func (f *Function) logError(ctx context.Context, err error) {
	switch fault.KindOf(err) {
	case fault.Internal:
		f.env.Logger.ErrorContext(ctx, "a request failed", "function", f.name, "error", err)
	case fault.Unavailable, fault.Timeout, fault.Conflict:
		f.env.Logger.WarnContext(ctx, "a request failed", "function", f.name, "kind", fault.KindOf(err).String(),
			"error", err)
	}
}

// asProblem makes Huma's own errors, which are those of validation, problem documents like the kit's. The values that
// were sent are left out of them: one may be a password.
func asProblem(ctx huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &problem.Problem{Title: http.StatusText(e.Status), Status: e.Status, Detail: e.Detail, Instance: ctx.URL().Path}
	for _, d := range e.Errors[:min(len(e.Errors), problem.MaxErrors)] {
		p.Errors = append(p.Errors, detailOf(d))
	}
	return p, nil
}
