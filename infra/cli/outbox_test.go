package cli

import (
	"net/http"
	"testing"
)

// The command finds the outboxes in the operations of the system, and acts on the entry with the id.
func TestOutbox(t *testing.T) {
	f := newFake(t)
	f.mux = http.NewServeMux()
	f.answer("POST /api/sessions", 201, `{"access_token":"sesame"}`)
	f.answer("GET /openapi.json", 200, `{"paths":{"/api/outbox/orders":{"get":{"operationId":"a"}},
		"/api/outbox/users":{"get":{"operationId":"b"}},"/api/outbox/users/{id}":{"get":{"operationId":"c"}}}}`)
	one := `{"id":"e1","at":"2026-01-02T03:04:05Z","reason":"too large","events":[{"id":"1","type":"users.changed"}]}`
	f.answer("GET /api/outbox/orders", 200, `{"items":[]}`)
	f.answer("GET /api/outbox/users", 200, `{"items":[`+one+`]}`)
	f.answer("GET /api/outbox/orders/{id}", 404, `{"detail":"there is none"}`)
	f.answer("GET /api/outbox/users/{id}", 200, one)
	f.answer("POST /api/outbox/users/{id}/retry", 204, "")
	f.answer("POST /api/outbox/users/{id}/drop", 204, "")
	f.steps(t, map[string]step{
		"the list": {[]string{"outbox"}, 0, "users.changed  too large", "", "GET /api/outbox/users?limit=50"},
		"none":     {[]string{"outbox", "--function", "orders"}, 0, "No quarantined entries", "", "GET /api/outbox/orders"},
		"show":     {[]string{"outbox", "show", "e1"}, 0, "too large", "", "GET /api/outbox/users/e1"},
		"retry":    {[]string{"outbox", "retry", "e1"}, 0, "e1 is released", "", "POST /api/outbox/users/e1/retry"},
		"drop": {
			[]string{"outbox", "drop", "e1", "--reason", "a test"}, 0, "e1 is dropped", "",
			`POST /api/outbox/users/e1/drop Bearer sesame {"reason":"a test"}`,
		},
		"without a reason": {[]string{"outbox", "drop", "e1"}, 2, "", "needs --reason", ""},
	})
}
