package gateway

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/jub0bs/cors"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/rpc/transcode"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// calls serves calls by gRPC, gRPC-Web and Connect of the services that functions declare. A call becomes a request for
// an operation, which goes through the whole chain: the policies of the operation hold for its calls, and its requests
// and calls are counted together. Health and reflection are the gateway's own.
type calls struct {
	g        *Gateway
	services []manifest.Service
	named    map[string]bool // the names of the services, with those of the gateway
	made     func() (http.Handler, error)
	browsers *cors.Middleware // nil: scripts of other sites may make no calls
}

// The services of the gateway itself.
const (
	health          = "grpc.health.v1.Health"
	reflection      = "grpc.reflection.v1.ServerReflection"
	reflectionAlpha = "grpc.reflection.v1alpha.ServerReflection"
)

// newCalls returns the calls of all functions; nil when no function has a service. The schemas are parsed when the
// first call comes, because that takes longer than most of what a gateway does before it is ready.
func (g *Gateway) newCalls() (*calls, []error) {
	c := &calls{g: g, named: map[string]bool{health: true, reflection: true, reflectionAlpha: true}}
	var errs []error
	for _, d := range g.cfg.System.Functions {
		for _, s := range d.Services {
			if c.named[s.Name] {
				errs = append(errs, fmt.Errorf("duplicate service %s", s.Name))
			}
			c.named[s.Name], c.services = true, append(c.services, s)
		}
	}
	if len(c.services) == 0 {
		return nil, nil
	}
	c.made = sync.OnceValues(c.make)
	var err error
	if c.browsers, err = g.callsFromBrowsers(); err != nil {
		errs = append(errs, err)
	}
	return c, errs
}

// make returns the handler of all services.
func (c *calls) make() (http.Handler, error) {
	operations, err := transcode.New(c.services, http.HandlerFunc(c.operation))
	if err != nil {
		return nil, err
	}
	names := func() []string {
		all := append(operations.Names(), health)
		for _, s := range c.g.table.Load().services {
			all = append(all, s.name)
		}
		return all
	}
	options := grpcreflect.WithDescriptorResolver(schemas{operations.Files(), c.g})
	reflector := grpcreflect.NewReflector(grpcreflect.NamerFunc(names), options)
	small := connect.WithReadMaxBytes(64 << 10)
	_, state := grpchealth.NewHandler(checker{c}, small)
	_, v1 := grpcreflect.NewHandlerV1(reflector, small)
	_, alpha := grpcreflect.NewHandlerV1Alpha(reflector, small)
	own := map[string]http.Handler{health: state, reflection: limitStream(v1), reflectionAlpha: limitStream(alpha)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := own[serviceOf(r.URL.Path)]; h != nil {
			h.ServeHTTP(w, r)
			return
		}
		operations.ServeHTTP(w, r)
	}), nil
}

// schemas finds descriptors in the schemas of the functions' services, and then in those of the services that the
// policies name.
type schemas struct {
	functions protodesc.Resolver
	g         *Gateway
}

// FindFileByPath implements protodesc.Resolver.
func (s schemas) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	return firstFound(s, protodesc.Resolver.FindFileByPath, path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (s schemas) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	return firstFound(s, protodesc.Resolver.FindDescriptorByName, name)
}

// firstFound returns what find returns for the first schema that has the key, or else its last error.
func firstFound[K, D any](s schemas, find func(protodesc.Resolver, K) (D, error), key K) (D, error) {
	found, err := find(s.functions, key)
	for _, service := range s.g.table.Load().services {
		if err == nil {
			break
		}
		found, err = find(service.handler.Files(), key)
	}
	return found, err
}

// knows reports whether there is a service of that name.
func (c *calls) knows(name string) bool {
	return c.named[name] || slices.ContainsFunc(c.g.table.Load().services, func(s *service) bool { return s.name == name })
}

// maxReflection is how long a stream of reflection may be open.
const maxReflection = time.Minute

// limitStream ends a stream that is open for too long.
func limitStream(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), maxReflection)
		defer cancel()
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(maxReflection)) // HTTP/2 has one for each stream
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// serviceOf returns the service of the path /SERVICE/METHOD; "" for another path.
func serviceOf(path string) string {
	if service, method, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/"); ok && !strings.Contains(method, "/") {
		return service
	}
	return ""
}

// callsFromBrowsers makes the middleware for calls that scripts of the listed origins make; nil without origins.
func (g *Gateway) callsFromBrowsers() (*cors.Middleware, error) {
	if len(g.cfg.Origins) == 0 {
		return nil, nil
	}
	return cors.NewMiddleware(corsConfig(g.cfg.Origins, true, http.MethodGet, http.MethodPost))
}

// reachedKey is the key of a *bool that tells whether a call became a request for an operation.
type reachedKey struct{}

// serve serves a call, and reports whether the request is one: whether its path is that of a declared service.
func (c *calls) serve(w http.ResponseWriter, r *http.Request) bool {
	if !c.named[serviceOf(r.URL.Path)] {
		return false
	}
	h := http.Handler(http.HandlerFunc(c.answer))
	if c.browsers != nil {
		h = c.browsers.Wrap(h)
	}
	begin, method, reached := time.Now(), r.Method, false
	x := &Exchange{
		Request: r, table: c.g.table.Load(), response: response{ResponseWriter: w},
		Route: &Route{Route: manifest.Route{Path: c.label(r.URL.Path)}},
	}
	x.Writer = &x.response
	identify(func(x *Exchange) {
		h.ServeHTTP(x.Writer, r.WithContext(context.WithValue(r.Context(), reachedKey{}, &reached)))
	})(x)
	if !reached {
		c.note(x, begin, method)
	}
	return true
}

// note counts a call that became no request for an operation, and writes its line in the log.
func (c *calls) note(x *Exchange, begin time.Time, method string) {
	c.g.cfg.Telemetry.HTTP(x.Request.Context(), telemetry.Request{
		Function: "gateway", Route: x.Route.Path, Method: method, TLS: x.Request.TLS != nil, Status: x.Status(),
	}, time.Since(begin))
	if len(x.table.proxies) > 0 {
		x.address = x.table.clientOf(x)
	}
	c.g.writeLine(x.Request.Context(), x, begin, method)
}

// answer answers a call.
func (c *calls) answer(w http.ResponseWriter, r *http.Request) {
	w.Header()["X-Content-Type-Options"] = nosniff
	delete(r.Header, "Origin") // the operation has nothing to add
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", "GET, OPTIONS, POST")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	served, err := c.made()
	if err != nil {
		c.g.cfg.Logger.ErrorContext(r.Context(), "calls cannot be served", "error", err)
		problem.Write(w, r, fault.Wrap(err, fault.Internal, "calls cannot be served"))
		return
	}
	served.ServeHTTP(w, r)
}

// label returns the path of a call as metrics have it, without a method that a stranger may have made up.
func (c *calls) label(path string) string { return "/" + serviceOf(path) + "/" }

// operation serves the request that a call has become.
func (c *calls) operation(w http.ResponseWriter, r *http.Request) {
	if reached, ok := r.Context().Value(reachedKey{}).(*bool); ok {
		*reached = true
	}
	c.g.serveOperation(w, r)
}

// checker tells the health of the gateway, under the empty name and under that of each service: /readyz for calls.
type checker struct{ calls *calls }

// Check implements grpchealth.Checker.
func (c checker) Check(ctx context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if r.Service != "" && !c.calls.knows(r.Service) {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no service %s", r.Service))
	}
	if err := c.calls.g.cfg.Discovery.Ready(ctx); err != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}
