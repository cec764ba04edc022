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
	"strings"
	"sync"

	"github.com/ebb-dev/ebb/infra/problem"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/httprequest"
)

// docs shows /openapi.json to a person. It needs nothing from elsewhere.
//
//go:embed docs.html
var docs []byte

// own describes what the gateway itself serves.
//
//go:embed openapi.json
var own []byte

// openAPI returns the description of what the gateway itself serves, the composed answer included.
func (c Config) openAPI() []byte {
	if len(c.Parts) == 0 {
		return own
	}
	var doc struct {
		Paths map[string]any `json:"paths"`
	}
	err := json.Unmarshal(own, &doc)
	doc.Paths[mePath] = map[string]any{"get": c.describeMe()}
	described, failed := json.Marshal(doc)
	if err = errors.Join(err, failed); err != nil {
		panic(err) // the document is embedded
	}
	return described
}

// addDocuments serves what describes the system, and the endpoints of those who monitor it.
func (g *Gateway) addDocuments(c Config, env function.Env) error {
	openAPI := func() ([]byte, error) { return generate.OpenAPI(c.Documents, env.System()) }
	asyncAPI := func() ([]byte, error) { return generate.AsyncAPI(c.Documents, env.System()) }
	ready := func(w http.ResponseWriter, r *http.Request) {
		if err := env.Discovery.Ready(r.Context()); err != nil {
			problem.Write(w, r, fault.Wrap(err, fault.Unavailable, "not ready: %s", fault.Public(err)))
			return
		}
		healthy(w, r)
	}
	return errors.Join(
		g.root.add(http.MethodGet, "/", &route{pattern: "/", span: "gateway GET /", handler: http.HandlerFunc(toDocs), document: true, maxBody: maxBody}),
		g.serveDocument("/openapi.json", document("application/vnd.oai.openapi+json;version=3.1", openAPI)),
		g.serveDocument("/asyncapi.json", document("application/vnd.aai.asyncapi+json;version=3.0.0", asyncAPI)),
		g.serveDocument("/docs", page(docs)),
		g.serveDocument("/healthz", healthy),
		g.serveDocument("/readyz", ready),
		g.serveDocument("/metrics", g.telemetry.MetricsHandler().ServeHTTP),
	)
}

func (g *Gateway) serveDocument(path string, h http.HandlerFunc) error {
	return g.tree.add(http.MethodGet, path, &route{pattern: path, span: "gateway GET " + path, handler: h, document: true, maxBody: maxBody})
}

// toDocs leads a person who has only the address to the documentation.
func toDocs(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Location", "/docs")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusTemporaryRedirect)
}

func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
}

// document serves bytes that do not change while the process runs. They are made when somebody first asks for them: it takes
// longer than all else that the gateway does before it is ready. Browsers and most tools want plain application/json, so only
// who asks for the registered type gets it.
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

// accepts reports whether an Accept field names the media type, with no weight of 0. A range such as */* does not name it.
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

// vary adds a field to those that the answer depends on, all in one line.
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

// page serves a page whose own script and style, and no others, a browser may run.
func page(body []byte) http.HandlerFunc {
	policy := "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" +
		"; script-src" + hashes(scripts, body) + "; style-src" + hashes(styles, body)
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		_, _ = w.Write(body)
	}
}

func hashes(which *regexp.Regexp, body []byte) (list string) {
	for _, found := range which.FindAllSubmatch(body, -1) {
		sum := sha256.Sum256(found[1])
		list += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return list
}
