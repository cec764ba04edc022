package gateway

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/problem"
)

// docsPage is the page that shows /openapi.json to a person. It loads nothing from other servers.
//
//go:embed docs.html
var docsPage []byte

// ownOperations is the description of the documents and endpoints below, as a part of an OpenAPI document.
//
//go:embed openapi.json
var ownOperations []byte

// OpenAPI returns the OpenAPI description of what a gateway itself serves, with the compositions.
func OpenAPI(compositions ...Composition) []byte {
	var doc struct {
		Paths      map[string]any `json:"paths"`
		Components map[string]any `json:"components"`
	}
	err := json.Unmarshal(ownOperations, &doc)
	for _, c := range compositions {
		doc.Paths[c.Path] = map[string]any{"get": c.describe()}
	}
	described, marshalErr := json.Marshal(doc)
	if err = errors.Join(err, marshalErr); err != nil {
		panic(err) // the document is embedded, and compositions are text
	}
	return described
}

// newDocuments returns the routes of the documents that describe the system, and of the endpoints of those who monitor
// it.
func (g *Gateway) newDocuments() []*Route {
	asyncAPI := func() ([]byte, error) { return generate.AsyncAPI(g.cfg.Documents, g.cfg.System) }
	return []*Route{
		documentRoute("/", redirectToDocs),
		openAPIRoute(),
		documentRoute("/asyncapi.json", document("application/vnd.aai.asyncapi+json;version=3.0.0", asyncAPI)),
		documentRoute("/docs", page(docsPage)),
		documentRoute("/healthz", alive),
		documentRoute("/readyz", g.ready),
		g.metricsRoute(),
	}
}

// documentRoute returns a route of the gateway's own that is open to every request.
func documentRoute(path string, h http.HandlerFunc) *Route {
	declared := manifest.Route{Method: http.MethodGet, Path: path, Access: manifest.AccessPublic}
	r := newRoute("", declared, func(x *Exchange) { h(x.Writer, x.Request) })
	r.document = true
	return r
}

// openAPIRoute returns the route of the description of the operations, with those of the services that the policies of
// the environment name.
func openAPIRoute() *Route {
	r := documentRoute("/openapi.json", nil)
	r.handler = func(x *Exchange) { x.table.openAPI(x.Writer, x.Request) }
	return r
}

// openAPI returns the handler of the description of the operations in an environment.
func (g *Gateway) openAPI(env environment) http.HandlerFunc {
	system := g.cfg.System
	for _, s := range env.services {
		system.Functions = append(slices.Clip(system.Functions), s.declaration(env))
	}
	return document("application/vnd.oai.openapi+json;version=3.1", func() ([]byte, error) {
		return generate.OpenAPI(g.cfg.Documents, system)
	})
}

// metricsRoute returns the route of the metrics, which are not for every request. Behind named proxies no request
// counts as one of this machine, because the header fields that show a proxy are taken out of requests of other ones.
func (g *Gateway) metricsRoute() *Route {
	metrics := g.cfg.Telemetry.MetricsHandler()
	r := documentRoute("/metrics", nil)
	r.handler = func(x *Exchange) {
		request := x.Request
		if len(x.table.proxies) > 0 {
			request = request.WithContext(request.Context())
			request.RemoteAddr = ""
		}
		metrics.ServeHTTP(x.Writer, request)
	}
	return r
}

// redirectToDocs leads a person who has only the address to the documentation.
func redirectToDocs(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Location", "/docs")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// ready answers whether requests can be expected to reach their functions.
func (g *Gateway) ready(w http.ResponseWriter, r *http.Request) {
	if err := g.cfg.Discovery.Ready(r.Context()); err != nil {
		problem.Write(w, r, fault.Wrap(err, fault.Unavailable, "not ready: %s", fault.Public(err)))
		return
	}
	alive(w, r)
}

// alive answers that the process runs.
func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
}

// document serves bytes that do not change while the process runs. They are made for the first request, because that
// takes longer than all else that the gateway does before it is ready. Browsers and most tools want plain
// application/json, so the registered media type is used only for requests that name it.
func document(contentType string, content func() ([]byte, error)) http.HandlerFunc {
	type made struct {
		body []byte
		tag  string
	}
	once := sync.OnceValues(func() (made, error) {
		body, err := content()
		sum := sha256.Sum256(body)
		return made{body, `"` + hex.EncodeToString(sum[:8]) + `"`}, err
	})
	return func(w http.ResponseWriter, r *http.Request) {
		doc, err := once()
		if err != nil {
			problem.Write(w, r, fault.Wrap(err, fault.Internal, "the document could not be made"))
			return
		}
		h := w.Header()
		h.Set("ETag", doc.tag)
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Type", "application/json")
		if accepts(r.Header.Get("Accept"), contentType) {
			h.Set("Content-Type", contentType)
		}
		vary(h, "Accept")
		if httprequest.NoneMatch(r.Header.Get("If-None-Match"), doc.tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(doc.body)
	}
}

// accepts reports whether an Accept field names the media type, with no weight of 0. A range such as */* does not name
// it.
func accepts(field, contentType string) bool {
	want, _, _ := mime.ParseMediaType(contentType)
	for item := range strings.SplitSeq(field, ",") {
		media, parameters, err := mime.ParseMediaType(item)
		if err != nil || media != want {
			continue
		}
		weight, has := parameters["q"]
		return !has || strings.Trim(weight, "0.") != ""
	}
	return false
}

// vary adds a field to the Vary header, which stays one line.
func vary(h http.Header, name string) {
	if before := h.Get("Vary"); before != "" {
		name = before + ", " + name
	}
	h.Set("Vary", name)
}

var (
	scripts = regexp.MustCompile(`(?s)<script>(.*?)</script>`)
	styles  = regexp.MustCompile(`(?s)<style>(.*?)</style>`)
)

// page serves an HTML page. Its policy lets a browser use the page's own scripts and styles only.
func page(body []byte) http.HandlerFunc {
	policy := "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'" +
		"; frame-ancestors 'none'; script-src" + hashes(scripts, body) + "; style-src" + hashes(styles, body)
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		_, _ = w.Write(body)
	}
}

// hashes returns the sources of a policy that allow what the expression finds in the page.
func hashes(which *regexp.Regexp, body []byte) (list string) {
	for _, found := range which.FindAllSubmatch(body, -1) {
		sum := sha256.Sum256(found[1])
		list += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return list
}
