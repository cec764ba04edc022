package clients_test

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/generate/clients"
)

const boats = `{
	"openapi": "3.1.0", "info": {"title": "Harbour"},
	"paths": {
		"/api/boats/{boat_id}": {"patch": {"operationId": "patch-boats-boat_id", "summary": "Change a boat",
			"parameters": [
				{"name": "type", "in": "query", "schema": {"type": "string"}},
				{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}},
				{"name": "boat_id", "in": "path", "required": true, "schema": {"type": "string"}}],
			"requestBody": {"required": true, "content": {"application/json": {
				"schema": {"$ref": "#/components/schemas/Boat"}}}},
			"responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Boat"}}}},
				"404": {"$ref": "#/components/responses/NotFound"}}}},
		"/metrics": {"get": {"operationId": "get-metrics", "responses": {"200": {"content": {"text/plain": {}}}}}}
	},
	"components": {"schemas": {
		"Problem": {"type": "object", "properties": {"detail": {"type": "string"}}},
		"Error": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}},
		"Boat": {"type": "object", "required": ["name"], "properties": {
			"name": {"type": "string"}, "crew": {"type": ["array", "null"], "items": {"type": "string"}},
			"sunk": {"type": "boolean"}, "kind": {"type": "string", "enum": ["sail", "motor"]}, "log": {}}}
	}}
}`

// A type is what the schema says, optional values that are sent are pointers, a schema gives way to a name of the
// client, and what is not JSON has no method.
func TestGo(t *testing.T) {
	raw, err := clients.Go([]byte(boats))
	if err != nil {
		t.Fatal(err)
	}
	source := strings.Join(strings.Fields(string(raw)), " ")
	for _, want := range []string{
		"func (c *Client) PatchBoatsBoatID( ctx context.Context, boatID string, body Boat, params PatchBoatsBoatIDParams, " +
			"options ...Option, ) (out Boat, err error) {",
		`method: "PATCH", takesKey: true, path: "/api/boats/" + url.PathEscape(boatID),`,
		`in.query("type", params.Type)`, "Crew []string `json:\"crew,omitzero\"`", "Name string `json:\"name\"`",
		"Sunk *bool `json:\"sunk,omitzero\"`", "Log json.RawMessage `json:\"log,omitzero\"`",
		"type ErrorBody struct { At time.Time `json:\"at,omitzero\"`",
	} {
		if !strings.Contains(source, want) {
			t.Errorf("there is no %s in\n%s", want, raw)
		}
	}
	if strings.Contains(source, "GetMetrics") {
		t.Error("there is a method for text")
	}
}

func TestTypeScript(t *testing.T) {
	module, types, err := clients.TypeScript([]byte(boats))
	if err != nil {
		t.Fatal(err)
	}
	const call = "patchBoatsBoatId(" +
		"input: { boatId: string; type?: string; body: Boat }, options?: Options): Promise<Boat>;"
	for _, want := range []string{call, `"kind"?: "sail" | "motor";`, `"crew"?: Array<string>;`, `"log"?: unknown;`} {
		if !strings.Contains(string(types), want) {
			t.Errorf("there is no %s in\n%s", want, types)
		}
	}
	const row = `["patchBoatsBoatId","PATCH","/api/boats/{boat_id}",{"boat_id":"boatId"},{"type":"type"},{},true]`
	if !strings.Contains(string(module), row) {
		t.Errorf("there is no %s in\n%s", row, module)
	}
}
