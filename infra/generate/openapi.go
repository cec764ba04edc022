package generate

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/ebb-dev/ebb/infra/manifest"
)

const schemaRef = "#/components/schemas/"

// OpenAPI returns one OpenAPI 3.1 document of the operations of all functions of a system. Different schemas with the
// same name in two functions get the function's name as a prefix.
func OpenAPI(product Product, system manifest.System) ([]byte, error) {
	m := merged{paths: object{}, schemas: object{}, operations: map[string]string{}}
	for _, d := range system.Sorted() {
		raw, err := d.OpenAPI()
		if err != nil {
			return nil, fmt.Errorf("OpenAPI of %s: %w", d.Name, err)
		}
		if err := m.add(d.Name, raw); err != nil {
			return nil, err
		}
	}
	return encode(object{
		"openapi": "3.1.0",
		"info": product.info("Everything that the functions of this system serve, through its gateway. Failures are problem "+
			"documents (RFC 9457).", "identifier", product.License),
		"servers": []any{object{"url": "/"}},
		"tags":    m.tags,
		"paths":   m.paths,
		"components": object{
			"schemas": m.schemas,
			"securitySchemes": object{"bearer": object{
				"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
				"description": "An access token of POST /api/sessions.",
			}},
		},
	})
}

type merged struct {
	paths, schemas object
	operations     map[string]string // operationId → where
	tags           []any
}

func (m *merged) add(name string, raw []byte) error {
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
		if err := m.addPath(name, path, rewrite(item, renamed)); err != nil {
			return err
		}
	}
	m.tags = append(m.tags, object{"name": name})
	return nil
}

func (m *merged) addPath(name, path string, item any) error {
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
		into[method] = operations[method]
	}
	return nil
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
