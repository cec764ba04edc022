package cli

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// The command lists and ends the sessions of the signed-in admin, or of a user that --user names.
func TestSessions(t *testing.T) {
	f := newFake(t)
	f.mux = http.NewServeMux()
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"admin-1"}`))
	f.answer("POST /api/sessions", 201, `{"access_token":"x.`+claims+`.y"}`)
	f.answer("GET /api/users/{id}/sessions", 200, `{"items":[{"id":"s-2","device":"Laptop","current":true,
		"created_at":"2026-11-30T10:11:12Z","last_used_at":"2026-11-30T11:00:00Z","expires_at":"2026-12-30T10:00:00Z"}]}`)
	f.answer("DELETE /api/users/{id}/sessions", 204, "")
	f.answer("DELETE /api/users/{id}/sessions/{session}", 204, "")
	for name, c := range map[string]struct {
		args            []string
		code            int
		out, errs, call string
	}{
		"own": {[]string{"sessions"}, 0, "  " + timestamp(time.Date(2026, 11, 30, 11, 0, 0, 0, time.UTC)) + "  Laptop",
			"", "GET /api/users/admin-1/sessions"},
		"of a user": {[]string{"sessions", "list", "--user", "u/1"}, 0, "this command", "", "GET /api/users/u%2F1/sessions"},
		"as JSON":   {[]string{"sessions", "-o", "json"}, 0, `"id":"s-2"`, "", "GET /api/users/admin-1/sessions"},
		"end one":   {[]string{"sessions", "end", "s-2"}, 0, "", "", "DELETE /api/users/admin-1/sessions/s-2"},
		"end all": {[]string{"sessions", "end", "--all", "--user", "u"}, 0, "", "",
			"DELETE /api/users/u/sessions"},
		"end what":     {[]string{"sessions", "end"}, 2, "", "wants one id, or --all", ""},
		"end too much": {[]string{"sessions", "end", "s-2", "--all"}, 2, "", "wants one id, or --all", ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs, asked := f.run(t, c.args...)
			called := c.call == "" && len(asked) == 0 || slices.ContainsFunc(asked, func(a string) bool {
				return strings.HasPrefix(a, c.call+" ")
			})
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || !called {
				t.Errorf("got %d\n%s\n%s\n%v", code, out, errs, asked)
			}
		})
	}
}

// An admin with a second factor gives its code by EBB_ADMIN_CODE.
func TestAdminCode(t *testing.T) {
	f := newFake(t)
	f.answer("GET /api/persons/u-1/export", 200, `{"person_id":"u-1","parts":[],"missing":[]}`)
	vars := map[string]string{"EBB_URL": f.URL, "EBB_ADMIN_EMAIL": "admin@example.com", "EBB_ADMIN_PASSWORD": "secret",
		"EBB_ADMIN_CODE": "123456"}
	code, _, errs := ebb(t.Context(), t.TempDir(), vars, "persons", "export", "u-1")
	want := `POST /api/sessions  {"email":"admin@example.com","password":"secret","code":"123456"}`
	if code != 0 || !slices.Contains(f.requests, want) {
		t.Errorf("got %d %s, asked %q", code, errs, f.requests)
	}
}
