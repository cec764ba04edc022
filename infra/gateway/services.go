package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/proxy"
	"github.com/ebb-dev/ebb/infra/rpc/transcode"
)

// service is what the file says of a service of a gRPC server, by its full name. Its methods become operations: for
// each google.api.http option one of plain JSON, and for each method the calls by gRPC, gRPC-Web and Connect.
type service struct {
	Upstream string   `json:"upstream"` // whose instances are gRPC servers
	Schema   string   `json:"schema"`   // a file with a FileDescriptorSet, beside the file
	Access   string   `json:"access"`   // "": authenticated
	Roles    []string `json:"roles"`

	name     string
	handler  *transcode.Upstream
	bindings map[string]transcode.Binding // by the names of the operations
}

// The largest schema, and the largest body of a call; a stream may be longer.
const (
	maxSchema = 8 << 20
	maxCall   = 4 << 20
	maxStream = 1 << 50
)

// readServices reads the schemas of the services, and adds their operations to those that are declared. It returns
// the fields that are at fault, each with what is expected of it.
func (g *Gateway) readServices(
	file string, env environment, declared map[string]manifest.Route,
) (all []*service, faults [][2]string) {
	report := func(field, problem string) { faults = append(faults, [2]string{field, problem}) }
	taken := map[string]string{}
	for operation := range declared {
		taken[shape(operation)] = operation
	}
	for _, r := range g.documents {
		taken[shape(name(r.Route))] = name(r.Route)
	}
	for _, name := range slices.Sorted(maps.Keys(env.Services)) {
		s, field := env.Services[name], "services."+name
		s.name = name
		if s.Access == "" {
			s.Access = manifest.AccessAuthenticated
		}
		switch {
		case len(env.Upstreams[s.Upstream]) == 0:
			report(field+".upstream", "want the name of an upstream")
		case !slices.Contains(accesses, s.Access):
			report(field+".access", "want "+strings.Join(accesses, ", "))
		case (s.Access == manifest.AccessRoles) != (len(s.Roles) > 0):
			report(field+".roles", "want roles with the access roles, and only with it")
		case g.rpc != nil && g.rpc.named[name]:
			report(field, "want another service: a function serves this one")
		case s.Schema == "":
			report(field+".schema", "want a file with the schema of the service")
		default:
			if err := s.open(file); err != nil {
				report(field+".schema", err.Error())
			}
		}
		for _, operation := range slices.Sorted(maps.Keys(s.bindings)) {
			if other := taken[shape(operation)]; other != "" {
				report(field+".schema", fmt.Sprintf("the operation %s is declared already: %s", operation, other))
			}
			b := s.bindings[operation]
			taken[shape(operation)] = operation
			r := manifest.Route{Method: b.Method, Path: b.Path, Access: s.Access, Roles: s.Roles, MaxBody: maxCall}
			if b.Streams {
				r.MaxBody = maxStream
			}
			declared[operation] = r
		}
		all = append(all, &s)
	}
	return all, faults
}

// parameters are those of a path.
var parameters = regexp.MustCompile(`\{[^/}]*?(\.\.\.)?\}`)

// shape returns the name of an operation without those of its parameters: requests cannot tell apart operations with
// the same.
func shape(operation string) string { return parameters.ReplaceAllString(operation, "{$1}") }

// open reads the schema.
func (s *service) open(file string) error {
	path := s.Schema
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(file), path)
	}
	f, err := os.Open(path)
	if err != nil {
		return errors.New("the file cannot be read: " + unwrapped(err).Error())
	}
	defer f.Close()
	schema, err := io.ReadAll(io.LimitReader(f, maxSchema+1))
	if err != nil || len(schema) > maxSchema {
		return fmt.Errorf("want a file of at most %d bytes that can be read", maxSchema)
	}
	s.handler, err = transcode.NewUpstream(manifest.Service{Name: s.name, Schema: schema}, http.HandlerFunc(sendCall))
	if err != nil {
		return err
	}
	s.bindings = map[string]transcode.Binding{}
	for _, b := range s.handler.Bindings() {
		s.bindings[b.Method+" "+b.Path] = b
	}
	return nil
}

// declaration returns the service as generate.OpenAPI has a function: the operations of plain JSON, with the policies
// of the environment. Calls are described by the schema.
func (s *service) declaration(env environment) *manifest.Declaration {
	d := &manifest.Declaration{Function: manifest.Function{Name: s.name}}
	for _, operation := range slices.Sorted(maps.Keys(s.bindings)) {
		if b := s.bindings[operation]; !b.Call {
			d.Routes = append(d.Routes, env.apply(manifest.Route{Method: b.Method, Path: b.Path}))
		}
	}
	d.OpenAPI = func() ([]byte, error) {
		doc := s.handler.OpenAPI()
		for _, r := range d.Routes {
			item, _ := doc["paths"].(map[string]any)[r.Path].(map[string]any)
			if described, _ := item[strings.ToLower(r.Method)].(map[string]any); described != nil &&
				r.Access != manifest.AccessPublic {
				described["security"] = []any{map[string]any{"bearer": []any{}}}
			}
		}
		return json.Marshal(doc)
	}
	return d
}

func unwrapped(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// checkServices reports operations of services whose policies cannot be carried out.
func checkServices(services []*service, env environment, doc *strictyaml.Document) {
	for _, s := range services {
		for _, operation := range slices.Sorted(maps.Keys(s.bindings)) {
			if o := env.Operations[operation]; len(o.Split) > 0 || o.Mirror != nil {
				doc.Report("operations."+operation, "want no split and no mirror: it is served by a gRPC server")
			}
		}
	}
}

// addServices adds the operations of the services.
func (g *Gateway) addServices(t *table, env environment) error {
	var errs []error
	for _, s := range env.services {
		p := g.callsTo(s.Upstream, env)
		for _, operation := range slices.Sorted(maps.Keys(s.bindings)) {
			b := s.bindings[operation]
			declared := env.apply(manifest.Route{Method: b.Method, Path: b.Path})
			r := g.newRoute(s.Upstream, declared, nil, env)
			r.call, r.streams = b.Call, b.Streams
			r.handler = func(x *Exchange) {
				if b.Streams { // what a client sends in a stream may take longer than a body
					_ = http.NewResponseController(x.response.ResponseWriter).SetReadDeadline(time.Time{})
				}
				x.call(s.handler, p)
			}
			errs = append(errs, t.tree.add(r))
		}
	}
	return errors.Join(errs...)
}

// callsTo returns the proxy to the gRPC servers of an upstream. One with the same instances as before keeps what is
// known of their load and their health.
func (g *Gateway) callsTo(name string, env environment) *proxy.Proxy {
	key := upstreamKey(name, env.Upstreams[name])
	if p := g.servers[key]; p != nil {
		return p
	}
	g.servers[key] = g.newProxy(name, fixedInstances(env.Upstreams[name]), g.http2)
	return g.servers[key]
}

// pending is a request that becomes a call.
type pending struct {
	x *Exchange
	p *proxy.Proxy
}

type pendingKey struct{}

// call answers the request by a call of a gRPC server.
func (x *Exchange) call(h http.Handler, p *proxy.Proxy) {
	r := x.Own()
	ctx := context.WithValue(r.Context(), pendingKey{}, &pending{x, p})
	if x.Route.call {
		h.ServeHTTP(x.Writer, r.Clone(ctx)) // it is still needed for an answer of the gateway's own
		return
	}
	plain := r.Clone(ctx) // the transcoder makes a call of it
	delete(plain.Header, "Accept-Encoding")
	plain.URL.Path, plain.URL.RawPath = x.transcodedPath(), ""
	w := &restAnswer{heldAnswer{ResponseWriter: x.Writer}}
	h.ServeHTTP(w, plain)
	w.finish(x)
}

// transcodedPath returns the path of the request as the transcoder expects it: it decodes the parameters of a path that
// is decoded already, and takes what follows a colon in the last segment for a verb.
func (x *Exchange) transcodedPath() string {
	segments := strings.Split(x.Route.Path, "/")
	given := strings.Split(x.Request.URL.EscapedPath(), "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") && i < len(given) {
			value, _ := url.PathUnescape(given[i]) // the path was matched, so that it is valid
			segments[i] = strings.ReplaceAll(url.PathEscape(value), ":", "%3A")
		}
	}
	return strings.Join(segments, "/")
}

// sendCall sends a call to an instance of a gRPC server.
func sendCall(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(pendingKey{}).(*pending)
	answer := &callAnswer{heldAnswer{ResponseWriter: w}}
	r.Header.Set("Te", "trailers")
	given, limited := callTime(r.Header.Get("Grpc-Timeout"))
	began := time.Now()
	c.x.sent = c.p.Serve(answer, r, c.x.Route.tries)
	answer.finish(r)
	c.x.hurried = limited && time.Since(began) >= given && r.Context().Err() == nil
	switch status := w.Header().Get("Grpc-Status") + w.Header().Get(http.TrailerPrefix+"Grpc-Status"); status {
	case "2", "4", "13", "14", "15": // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS
		c.x.failed = true
	}
}

// isRefused reports whether the header of an answer says that a gRPC server has refused a call, whose status is 200
// then too. A refusal at the end of an answer, or of a stream, does not count: something may have been done before.
func (r *Route) isRefused(h http.Header) bool {
	if !r.call || r.streams {
		return false
	}
	switch h.Get("Grpc-Status") {
	case "3", "5", "6", "7", "8", "9", "10", "11", "12", "16": // INVALID_ARGUMENT, NOT_FOUND to UNIMPLEMENTED, …
		return true
	}
	return false
}

// callTime returns the time that a client gives a call, and false if it gives none: a number of at most eight digits
// and a unit.
func callTime(text string) (time.Duration, bool) {
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond,
		'n': time.Nanosecond,
	}
	if text == "" || len(text) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	unit := units[text[len(text)-1]]
	return time.Duration(min(n, uint64(time.Duration(math.MaxInt64)/max(unit, 1)))) * unit, err == nil && unit > 0
}

// callTransport sends calls. A server may end a call before the client has ended its stream, and closing the answer
// waits for the rest of that stream, for which the client waits in vain: so the stream of the client is closed first.
type callTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t callTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.RoundTripper.RoundTrip(r)
	if c, ok := r.Context().Value(pendingKey{}).(*pending); ok && err == nil && c.x.Request.ProtoMajor == 2 {
		answer.Body = &endOfCall{answer.Body, c.x.Request.Body}
	}
	return answer, err
}

// endOfCall is the body of an answer, with that of the request.
type endOfCall struct {
	io.ReadCloser
	request io.Closer
}

// Close implements io.Closer.
func (e *endOfCall) Close() error {
	_ = e.request.Close()
	return e.ReadCloser.Close()
}

// heldAnswer is a writer that keeps an answer which is replaced by another one.
type heldAnswer struct {
	http.ResponseWriter
	status int // of the answer that is kept; 0: none is, and it is written
	body   []byte
}

// Write implements io.Writer.
func (w *heldAnswer) Write(b []byte) (int, error) {
	if w.status != 0 {
		w.body = append(w.body, b...)
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// callAnswer is a writer of the answer to a call. A problem document of the proxy becomes the end of the call.
type callAnswer struct{ heldAnswer }

// WriteHeader implements http.ResponseWriter.
func (w *callAnswer) WriteHeader(status int) {
	if w.Header().Get("Content-Type") == problem.ContentType {
		w.status = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *callAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher.
func (w *callAnswer) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// finish writes the end of a call that was not carried.
func (w *callAnswer) finish(r *http.Request) {
	if w.status == 0 {
		return
	}
	h := w.Header()
	delete(h, "Content-Length")
	delete(h, "Cache-Control")
	h.Set("Content-Type", r.Header.Get("Content-Type"))
	h.Set("Grpc-Status", strconv.Itoa(int(transcode.CodeOf(w.status))))
	h.Set("Grpc-Message", url.PathEscape(detailOf(w.body)))
	w.ResponseWriter.WriteHeader(http.StatusOK)
}

// detailOf returns the detail of a problem document.
func detailOf(document []byte) string {
	var p problem.Problem
	_ = json.Unmarshal(document, &p) // its own text is enough
	return p.Detail
}

// restAnswer is a writer of the JSON answer to a request. A google.rpc.Status becomes a problem document.
type restAnswer struct{ heldAnswer }

// WriteHeader implements http.ResponseWriter.
func (w *restAnswer) WriteHeader(status int) {
	if status >= 400 {
		w.status = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Flush implements http.Flusher: there is one message, which is written when it is whole.
func (w *restAnswer) Flush() {}

// finish answers a failure.
func (w *restAnswer) finish(x *Exchange) {
	if w.status == 0 {
		return
	}
	h := w.Header()
	for _, name := range []string{"Content-Encoding", "Content-Length", "Content-Type", "Accept-Encoding"} {
		delete(h, name)
	}
	var s struct {
		Message string `json:"message"`
		Details []struct {
			Type  string `json:"@type"`
			Delay string `json:"retryDelay"`
		} `json:"details"`
	}
	if json.Unmarshal(w.body, &s) != nil || s.Message == "" || w.status == http.StatusInternalServerError {
		s.Message = http.StatusText(w.status) // what a server says of a fault of its own is not for callers
	}
	err := fault.New(kindOf(w.status), "%s", s.Message).WithStatus(w.status)
	for _, d := range s.Details {
		if delay, bad := time.ParseDuration(d.Delay); bad == nil && d.Type == "type.googleapis.com/google.rpc.RetryInfo" {
			err = err.After(delay)
		}
	}
	x.Refuse(err)
}

// kindOf returns the kind of a failure by its HTTP status.
func kindOf(status int) fault.Kind {
	switch transcode.CodeOf(status) {
	case connect.CodeUnauthenticated:
		return fault.Unauthenticated
	case connect.CodePermissionDenied:
		return fault.Denied
	case connect.CodeNotFound:
		return fault.NotFound
	case connect.CodeAborted:
		return fault.Conflict
	case connect.CodeResourceExhausted:
		return fault.Exhausted
	case connect.CodeUnavailable:
		return fault.Unavailable
	case connect.CodeDeadlineExceeded:
		return fault.Timeout
	}
	if status < 500 {
		return fault.Invalid
	}
	return fault.Internal
}

// callErrors writes refusals in the protocol of a call.
var callErrors = connect.NewErrorWriter()

// refuseCall answers a call that is refused, and reports whether the request is one.
func (x *Exchange) refuseCall(err error) bool {
	if x.Route == nil || !x.Route.call || !callErrors.IsSupported(x.Request) {
		return false
	}
	refused := connect.NewError(transcode.CodeOf(problem.Of(err).Status), errors.New(fault.Public(err)))
	if after := fault.RetryAfter(err); after > 0 {
		x.Writer.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	_ = callErrors.Write(x.Writer, x.Request, refused) // a caller that has gone needs no answer
	return true
}
