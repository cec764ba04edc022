package cli

import (
	"net/http"
	"testing"
)

// The command creates a key with the password that it signs in with, lists keys and revokes one.
func TestAPIKeys(t *testing.T) {
	f := newFake(t)
	f.mux = http.NewServeMux()
	f.answer("POST /api/sessions", 201, `{"access_token":"sesame"}`)
	one := `"id":"k1","user_id":"u1","name":"reports","roles":["admin"],"scopes":["orders:read"],` +
		`"expires_at":"2026-06-02T03:04:05Z","last_used":"2026-01-02T00:00:00Z","revoked_at":"2026-01-03T00:00:00Z"`
	f.answer("POST /api/api-keys", 201, `{`+one+`,"key":"ebb_secret"}`)
	f.answer("GET /api/api-keys", 200, `{"items":[{`+one+`}]}`)
	f.answer("DELETE /api/api-keys/k1", 204, "")
	f.answer("DELETE /api/api-keys/k2", 404, `{"detail":"there is no such API key"}`)
	create := []string{"apikeys", "create", "--name", "reports", "--scope", "orders:read", "--scope", "views:read"}
	f.steps(t, map[string]step{
		"create": {
			append(create, "--role", "admin"), 0, "ebb_secret\n", "not shown again",
			`POST /api/api-keys Bearer sesame {"current_password":"secret","days":90,"name":"reports","roles":["admin"],` +
				`"scopes":["orders:read","views:read"]}`,
		},
		"create as JSON":  {append(create, "-o", "json"), 0, `"key": "ebb_secret"`, "", "POST /api/api-keys"},
		"without a name":  {[]string{"apikeys", "create", "--scope", "orders:read"}, 2, "", "--name", ""},
		"without a scope": {[]string{"apikeys", "create", "--name", "x"}, 2, "", "--scope", ""},
		"list":            {[]string{"apikeys", "list"}, 0, "2026-01-02       revoked", "", "GET /api/api-keys?limit=100"},
		"of one user": {[]string{"apikeys", "list", "--user", "u1", "-o", "json"}, 0, `"id":"k1"`, "",
			"GET /api/api-keys?limit=100&user_id=u1"},
		"revoke":         {[]string{"apikeys", "revoke", "k1"}, 0, "k1 is revoked", "", "DELETE /api/api-keys/k1"},
		"revoke another": {[]string{"apikeys", "revoke", "k2"}, 1, "", "there is no such API key", "DELETE /api/api-keys/k2"},
		"alone":          {[]string{"apikeys"}, 2, "", "create", ""},
	})
}

// The command lists the acts of staff of every function that has some.
func TestAudit(t *testing.T) {
	f := newFake(t)
	f.mux = http.NewServeMux()
	f.answer("POST /api/sessions", 201, `{"access_token":"sesame"}`)
	f.answer("GET /openapi.json", 200, `{"paths":{"/api/audit/orders":{"get":{"operationId":"a"}},
		"/api/audit/users":{"get":{"operationId":"b"}}}}`)
	one := `{"act_id":"a1","at":"2026-01-02T03:04:05Z","function":"users","operation":"PATCH /api/users/{id}",` +
		`"target":"/api/users/u2","by":"u1","key_id":"k1","from":"192.0.2.0/24","status":200,"reason":"asked for"}`
	f.answer("GET /api/audit/orders", 200, `{"items":[]}`)
	f.answer("GET /api/audit/users", 200, `{"items":[`+one+`]}`)
	f.steps(t, map[string]step{
		"all": {[]string{"audit"}, 0, "u1 by key k1  192.0.2.0/24  PATCH /api/users/u2  200     asked for", "",
			"GET /api/audit/users?limit=50"},
		"none": {[]string{"audit", "--function", "orders"}, 0, "No acts of staff", "", "GET /api/audit/orders"},
		"of one": {[]string{"audit", "--by", "u1", "-o", "json"}, 0, `"act_id":"a1"`, "",
			"GET /api/audit/users?by=u1&limit=50"},
	})
}
