package generate

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/manifest"
)

const schemaRef = "#/components/schemas/"

// OpenAPI returns one OpenAPI 3.1 document of the operations of all functions of a system. Different schemas with the
// same name in two functions get the function's name as a prefix.
func OpenAPI(product Product, system manifest.System) ([]byte, error) {
	m := merged{
		paths: object{}, schemas: object{}, operations: map[string]string{}, failures: map[string]bool{},
		tags: map[string][]string{},
	}
	for _, d := range system.Sorted() {
		raw, err := d.OpenAPI()
		if err != nil {
			return nil, fmt.Errorf("OpenAPI of %s: %w", d.Name, err)
		}
		if err := m.add(d, raw); err != nil {
			return nil, err
		}
	}
	if m.schemas["Problem"] == nil && len(m.failures) > 0 {
		m.schemas["Problem"] = problemSchema
	}
	headers, responses := m.components()
	return encode(object{
		"openapi":      "3.1.0",
		"info":         product.info(introduction, "identifier", product.License),
		"servers":      []any{object{"url": "/"}},
		"tags":         m.describeTags(),
		"paths":        m.paths,
		"x-undeclared": undeclared(),
		"components": object{
			"schemas": m.schemas, "headers": headers, "responses": responses,
			"securitySchemes": m.securitySchemes(),
		},
	})
}

// apiKeyScheme is the security scheme of API keys. An operation that takes them names the scope that a key needs.
const apiKeyScheme = "apiKey"

// metricsScheme is the security scheme of those who scrape metrics.
const metricsScheme = "metrics"

func (m *merged) securitySchemes() object {
	schemes := object{"bearer": object{
		"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
		"description": "An access token of POST /api/sessions.",
	}}
	if m.apiKeys {
		schemes[apiKeyScheme] = object{
			"type": "apiKey", "in": "header", "name": "X-API-Key",
			"description": "An API key. It may also be sent as Authorization: Bearer KEY.",
		}
	}
	if path, _ := m.paths["/metrics"].(object); path != nil {
		schemes[metricsScheme] = object{
			"type": "http", "scheme": "bearer", "description": "The token of the setting EBB_METRICS_TOKEN.",
		}
	}
	return schemes
}

// introduction is the description of the interface.
const introduction = "Everything that the functions of this system serve, through its gateway. Failures are problem " +
	"documents (RFC 9457). HEAD is answered like GET, without the body; OPTIONS with the methods of a path. What is " +
	"answered to requests for no operation, and with every answer, stands in x-undeclared."

type merged struct {
	paths, schemas object
	apiKeys        bool                // an operation takes API keys
	operations     map[string]string   // operationId → where
	failures       map[string]bool     // the statuses of the failures that operations have
	tags           map[string][]string // tag → the functions that have operations with it
}

func (m *merged) add(d *manifest.Declaration, raw []byte) error {
	name := d.Name
	var doc struct {
		Paths      object `json:"paths"`
		Components struct {
			Schemas object `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("openapi of %s: %w", name, err)
	}
	if len(doc.Paths) == 0 {
		return nil
	}
	renamed := m.clashes(name, doc.Components.Schemas)
	for old, schema := range doc.Components.Schemas {
		m.schemas[renameOf(renamed, old)] = rewrite(schema, renamed)
	}
	for path, item := range doc.Paths {
		if err := m.addPath(d, path, rewrite(item, renamed)); err != nil {
			return err
		}
	}
	return nil
}

func (m *merged) addPath(d *manifest.Declaration, path string, item any) error {
	name := d.Name
	into, _ := m.paths[path].(object)
	if into == nil {
		into = object{}
		m.paths[path] = into
	}
	operations, _ := item.(object)
	for _, method := range sortedKeys(operations) {
		if _, twice := into[method]; twice {
			return fmt.Errorf("openapi: %s %s is served by two functions, %s is one", strings.ToUpper(method), path, name)
		}
		operation, _ := operations[method].(object)
		id, _ := operation["operationId"].(string)
		if other := m.operations[id]; id != "" && other != "" {
			return fmt.Errorf("openapi: %s and %s have the operation id %s", other, method+" "+path, id)
		}
		m.operations[id] = method + " " + path
		if operation != nil && operation["security"] == nil {
			operation["security"] = []any{} // not left out: it may be called without credentials
		}
		if operation != nil {
			route := routeOf(d, method, path)
			m.complete(operation, route)
			describeAccess(operation, route)
			m.apiKeys = m.apiKeys || scopeOf(operation) != ""
			m.tag(operation, name)
		}
		into[method] = operations[method]
	}
	return nil
}

// routeOf returns the declaration of an operation; nil for one of the gateway itself.
func routeOf(d *manifest.Declaration, method, path string) *manifest.Route {
	for i, r := range d.Routes {
		if r.Path == path && strings.EqualFold(r.Method, method) {
			return &d.Routes[i]
		}
	}
	return nil
}

// tag notes the tags of an operation of the function.
func (m *merged) tag(operation object, function string) {
	tags, _ := operation["tags"].([]any)
	for _, t := range tags {
		if tag, ok := t.(string); ok && !slices.Contains(m.tags[tag], function) {
			m.tags[tag] = append(m.tags[tag], function)
		}
	}
}

// describeTags returns the tags with the functions that they stand for.
func (m *merged) describeTags() []any {
	all := []any{}
	for _, tag := range sortedKeys(m.tags) {
		served := "Served by the function " + m.tags[tag][0] + "."
		if strings.Contains(m.tags[tag][0], ".") { // which no function's name does
			served = "The service " + m.tags[tag][0] + " of a gRPC server."
		} else if len(m.tags[tag]) > 1 {
			served = "Served by the functions " + strings.Join(m.tags[tag], ", ") + ": each its own."
		}
		all = append(all, object{"name": tag, "description": served})
	}
	return all
}

// clashes returns the schemas whose name is taken by a different one; they may also differ in the schemas that they
// refer to.
func (m *merged) clashes(name string, schemas object) map[string]string {
	renamed := map[string]string{}
	prefix := strings.ToUpper(name[:1]) + name[1:]
	for again := true; again; {
		again = false
		for own, schema := range schemas {
			if there, ok := m.schemas[own]; ok && renamed[own] == "" && !reflect.DeepEqual(there, rewrite(schema, renamed)) {
				renamed[own] = prefix + own
				again = true
			}
		}
	}
	return renamed
}

func renameOf(renamed map[string]string, name string) string {
	if to := renamed[name]; to != "" {
		return to
	}
	return name
}

// rewrite returns a copy of v whose references to schemas have the new names.
func rewrite(v any, renamed map[string]string) any {
	switch v := v.(type) {
	case object:
		out := make(object, len(v))
		for key, value := range v {
			if ref, ok := value.(string); ok && key == "$ref" && strings.HasPrefix(ref, schemaRef) {
				out[key] = schemaRef + renameOf(renamed, strings.TrimPrefix(ref, schemaRef))
				continue
			}
			out[key] = rewrite(value, renamed)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = rewrite(v[i], renamed)
		}
		return out
	}
	return v
}
