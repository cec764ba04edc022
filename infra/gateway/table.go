package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/policy"
)

// table is the routes with the policies that hold at one time. It is not changed: Configure makes another one, and a
// request keeps the one that it began with.
type table struct {
	tree      node
	root      pathItem // of the path /
	redirects []redirect
	events    map[string][]invalidation // by their types
	cached    []string                  // the tags of the operations whose answers are stored
	proxies   []prefix                  // whose header fields about the client count; none: those with a private address
	hosts     []string                  // that requests may be sent to; none: any
	versions  versions
	openAPI   http.HandlerFunc
	services  []*service

	clientField string // in which the proxies tell the address of the client
}

// environment is the file that changes the policies of the operations; see Gateway.Configure.
type environment struct {
	Proxies    []prefix             `json:"proxies"`
	ClientIn   string               `json:"client_in"` // of clientFields; "": the first
	Hosts      []string             `json:"hosts"`
	Redirects  []redirect           `json:"redirects"`
	Versions   versions             `json:"versions"`
	Upstreams  map[string][]address `json:"upstreams"`
	Services   map[string]service   `json:"services"`
	Defaults   policy.Policy        `json:"defaults"`
	Operations map[string]operation `json:"operations" strict:"known"`

	services []*service // with their schemas
}

// operation is what the file may change of an operation, by its method and path: "GET /api/users/{id}".
type operation struct {
	Access  string   `json:"access"`
	Roles   []string `json:"roles"`
	MaxBody int64    `json:"max_body"`
	Hosts   []string `json:"hosts"` // that requests for the operation are sent to; none: any
	policy.Policy
}

// name returns the method and the path of a route, as the file names the operation.
func name(r manifest.Route) string { return r.Method + " " + r.Path }

// Configure replaces what the last call has set by what a YAML or JSON document says: policies for this environment.
// The fields of "defaults" hold for each operation that does not declare them, and the fields of "operations" replace
// what the operation declares. An empty document leaves every policy as it was declared.
//
// A document with a fault is refused as a whole and changes nothing; the error names the file, and the line and the
// field of each fault. The requests that are being served keep the policies that they began with. The stored answers of
// operations that are not cached any more are invalidated. Configure may be called at any time.
func (g *Gateway) Configure(file string, document []byte) error {
	g.configuring.Lock()
	defer g.configuring.Unlock()
	next, err := g.read(file, document)
	if err != nil {
		return err
	}
	last := g.table.Swap(next)
	closed := slices.DeleteFunc(slices.Clone(last.cached), func(t string) bool { return slices.Contains(next.cached, t) })
	if len(closed) > 0 { // nothing else invalidates their answers, which would be given when they are cached again
		g.caches.invalidate(context.Background(), closed, 0)
	}
	return nil
}

// read returns the routes with the policies of a document.
func (g *Gateway) read(file string, document []byte) (*table, error) {
	declared := map[string]manifest.Route{}
	for _, d := range g.cfg.System.Functions {
		if !d.Gateway {
			for _, r := range d.Routes {
				declared[name(r)] = r
			}
		}
	}
	for _, c := range g.cfg.Compositions {
		declared[name(c.route())] = c.route()
	}
	declared[name(exportRoute)], declared[name(settingsRoute)] = exportRoute, settingsRoute
	// The first pass finds the defaults and the services, which the operations of the second begin with.
	env := environment{Operations: operations(declared, policy.Policy{})}
	strictyaml.Decode(file, document, &env)
	services, faults := g.readServices(file, env, declared)
	env.services = services
	env.Operations = operations(declared, env.Defaults)
	doc := strictyaml.Decode(file, document, &env)
	for _, f := range faults {
		doc.Report(f[0], f[1])
	}
	env.Defaults.Check(reporter(doc, "defaults"))
	checkShares(env.Defaults, "defaults", doc)
	for _, key := range slices.Sorted(maps.Keys(env.Operations)) {
		o, field := env.Operations[key], "operations."+key
		if d, known := declared[key]; known && doc.Has(field) {
			o.check(d, doc.Has(field+".access"), reporter(doc, field))
			if doc.Has(field+".roles") && !doc.Has(field+".access") {
				o.Access = manifest.AccessRoles
			}
			if o.Access != manifest.AccessPublic && !doc.Has(field+".cache") {
				o.Cache = nil // its declaration was for answers that anyone may have
			}
			env.Operations[key] = o
		}
	}
	env.checkShared(doc)
	env.checkCaches(declared, g.cfg.Events, doc)
	checkRedirects(env.Redirects, doc)
	checkHosts(env.Hosts, "hosts", doc)
	env.Versions.check(declared, doc)
	g.checkUpstreams(env, doc)
	if env.ClientIn != "" && (!slices.Contains(clientFields, env.ClientIn) || len(env.Proxies) == 0) {
		doc.Report("client_in", "want "+strings.Join(clientFields, " or ")+", and proxies that write it")
	}
	g.checkTargets(env, declared, doc)
	checkServices(env.services, env, doc)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	t, err := g.build(env)
	g.forget(env)
	return t, err
}

// apply returns a route with the access, limits and policy of this environment.
func (e environment) apply(r manifest.Route) manifest.Route {
	o := e.Operations[name(r)]
	r.Access, r.Roles, r.MaxBody, r.Policy = o.Access, o.Roles, o.MaxBody, &o.Policy
	return r
}

// invalidate connects operations with those whose stored answers they invalidate.
func (t *table) invalidate(env environment) {
	for of, o := range env.Operations {
		if o.Cache == nil {
			continue
		}
		t.cached = append(t.cached, tagOf(of))
		for _, e := range o.Cache.InvalidatedByEvents {
			t.events[e.Type] = append(t.events[e.Type], invalidation{of, e.Subject})
		}
		for _, by := range append(t.changesOf(of), o.Cache.InvalidatedBy...) {
			method, path, _ := strings.Cut(by, " ")
			item := t.tree.find(strings.TrimPrefix(path, "/"))
			if item == nil || item.methods[method] == nil {
				continue
			}
			for _, r := range append([]*Route{item.methods[method]}, item.methods[method].others...) {
				if !slices.Contains(r.invalidates, tagOf(of)) {
					r.invalidates = append(r.invalidates, tagOf(of))
				}
			}
		}
	}
}

// changesOf returns the operations with the path of another one that do not only read (RFC 9111, 4.4).
func (t *table) changesOf(operation string) (all []string) {
	_, path, _ := strings.Cut(operation, " ")
	if item := t.tree.find(strings.TrimPrefix(path, "/")); item != nil {
		for method, r := range item.methods {
			if !r.Safe() && !r.call { // a call reads or not, whatever its method
				all = append(all, method+" "+path)
			}
		}
	}
	return all
}

// checkCaches reports operations that cannot be cached, and operations that do not exist.
func (e environment) checkCaches(declared map[string]manifest.Route, consumed []string, doc *strictyaml.Document) {
	names := slices.Sorted(maps.Keys(declared))
	for _, key := range slices.Sorted(maps.Keys(e.Operations)) {
		o, field := e.Operations[key], "operations."+key+".cache"
		if o.Cache == nil {
			continue
		}
		if o.Access != manifest.AccessPublic || !declared[key].Safe() {
			doc.Report(field, "want a public operation that only reads: others' answers are private")
		}
		for i, by := range o.Cache.InvalidatedBy {
			if !slices.Contains(names, by) {
				doc.Report(fmt.Sprintf("%s.invalidated_by[%d]", field, i), "want the method and the path of an operation")
			}
		}
		for i, event := range o.Cache.InvalidatedByEvents {
			field := fmt.Sprintf("%s.invalidated_by_events[%d]", field, i)
			if !slices.Contains(consumed, event.Type) {
				doc.Report(field+".type", "want a type of event that the gateway consumes: "+strings.Join(consumed, ", "))
			}
			if event.Subject != "" && !strings.Contains(declared[key].Path+"/", "/{"+event.Subject+"}/") {
				doc.Report(field+".subject", "want a parameter of the operation's path")
			}
		}
	}
}

// checkTargets reports functions that do not exist, and operations that cannot be mirrored.
func (g *Gateway) checkTargets(env environment, declared map[string]manifest.Route, doc *strictyaml.Document) {
	for _, key := range slices.Sorted(maps.Keys(env.Operations)) {
		o, field := env.Operations[key], "operations."+key
		checkHosts(o.Hosts, field+".hosts", doc)
		g.checkSplit(env, o, reporter(doc, field))
		checkShares(o.Policy, field, doc)
		if m := o.Mirror; m != nil {
			if m.Function != "" && !g.isTarget(m.Function, env) {
				doc.Report(field+".mirror.function", noFunction(m.Function))
			}
			if d, known := declared[key]; known && !d.Safe() && !m.Writes {
				doc.Report(field+".mirror", "want an operation that only reads, or writes: true: a copy does it twice")
			}
		}
	}
}

// checkShared reports limits that are shared by name and differ.
func (e environment) checkShared(doc *strictyaml.Document) {
	first := map[string]policy.Rate{}
	for _, key := range slices.Sorted(maps.Keys(e.Operations)) {
		for i, r := range e.Operations[key].Rate {
			if other, known := first[r.Name]; r.Shared && known && r != other {
				doc.Report(fmt.Sprintf("operations.%s.rate[%d]", key, i),
					fmt.Sprintf("the shared limit %q is another one elsewhere", r.Name))
			} else if r.Shared {
				first[r.Name] = r
			}
		}
	}
}

func reporter(doc *strictyaml.Document, of string) policy.Report {
	return func(field, problem string) { doc.Report(of+"."+field, problem) }
}

// operations returns the operations as they are declared, with the defaults for what they do not declare.
func operations(declared map[string]manifest.Route, defaults policy.Policy) map[string]operation {
	all := make(map[string]operation, len(declared))
	for key, r := range declared {
		o := operation{Access: r.Access, Roles: r.Roles, MaxBody: bodyLimit(r)}
		if r.Policy != nil {
			o.Policy = *r.Policy
		}
		o.Policy = o.Or(defaults)
		all[key] = o
	}
	return all
}

// check reports what is not valid for an operation that is declared so. The function checks access and size again, so
// that a document can only ask for more than the function does.
func (o operation) check(declared manifest.Route, access bool, report policy.Report) {
	o.Policy.Check(report)
	switch o.Access {
	case manifest.AccessPublic, manifest.AccessAuthenticated, manifest.AccessRoles:
		if order := slices.Index(accesses, o.Access); order < slices.Index(accesses, declared.Access) {
			report("access", fmt.Sprintf("want %s or more, which the function asks for", declared.Access))
		}
	default:
		report("access", "want "+strings.Join(accesses, ", "))
	}
	if access && (o.Access == manifest.AccessRoles) != (len(o.Roles) > 0) {
		report("roles", "want roles with the access roles, and only with it")
	}
	for _, role := range o.Roles {
		if len(declared.Roles) > 0 && !slices.Contains(declared.Roles, role) {
			report("roles", fmt.Sprintf("the function does not let the role %s call this", role))
		}
	}
	if o.MaxBody < 1 || o.MaxBody > bodyLimit(declared) {
		report("max_body", fmt.Sprintf("want 1 to %d bytes, which the function takes", bodyLimit(declared)))
	}
}

// accesses are sorted by how much they ask for.
var accesses = []string{manifest.AccessPublic, manifest.AccessAuthenticated, manifest.AccessRoles}

// bodyLimit returns how many bytes the body of a request has at most.
func bodyLimit(r manifest.Route) int64 {
	if r.MaxBody == 0 {
		return manifest.DefaultMaxBody
	}
	return r.MaxBody
}

// build returns the routes of the functions, of the compositions and of the gateway itself.
func (g *Gateway) build(env environment) (*table, error) {
	t := &table{
		redirects: env.Redirects, events: map[string][]invalidation{}, proxies: env.Proxies, clientField: env.ClientIn,
		hosts: env.Hosts, versions: env.Versions, openAPI: g.openAPI(env), services: env.services,
	}
	var errs []error
	for _, d := range g.cfg.System.Functions {
		errs = append(errs, g.addFunction(t, d.Function, env))
	}
	for _, c := range g.cfg.Compositions {
		errs = append(errs, g.addComposition(t, c, env))
	}
	errs = append(errs, g.addExport(t, env), g.addSettings(t, env), g.addServices(t, env))
	t.invalidate(env)
	for _, r := range g.documents {
		if r.Path == "/" {
			errs = append(errs, t.root.add(r))
		} else {
			errs = append(errs, t.tree.add(r))
		}
	}
	return t, errors.Join(errs...)
}
