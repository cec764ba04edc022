package cli

import (
	"net/http"
	"strings"
	"testing"
)

// The command prints the export of a person, and fails when a part of it is missing.
func TestPersons(t *testing.T) {
	f := newFake(t)
	f.mux = http.NewServeMux()
	f.answer("POST /api/sessions", 201, `{"access_token":"sesame"}`)
	f.answer("GET /api/persons/whole/export", 200, `{"person_id":"whole","parts":[{"function":"users"}],"missing":[]}`)
	f.answer("GET /api/persons/torn/export", 200, `{"person_id":"torn","parts":[],"missing":["orders /api/orders"]}`)
	for name, c := range map[string]struct {
		args      []string
		code      int
		out, errs string
	}{
		"whole":      {[]string{"persons", "export", "whole"}, 0, `"function": "users"`, ""},
		"as YAML":    {[]string{"persons", "export", "whole", "-o", "yaml"}, 0, "function: users", ""},
		"torn":       {[]string{"persons", "export", "torn"}, 1, "", "orders /api/orders did not answer"},
		"without id": {[]string{"persons", "export"}, 2, "", "wants one id"},
		"alone":      {[]string{"persons"}, 2, "", "export"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs, _ := f.run(t, c.args...)
			if code != c.code || !strings.Contains(out, c.out) || c.out == "" && out != "" ||
				!strings.Contains(errs, c.errs) {
				t.Errorf("got %d\n%s\n%s", code, out, errs)
			}
		})
	}
}
