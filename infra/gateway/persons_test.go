package gateway_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// export is the answer of the export of a person's data.
type export struct {
	PersonID string `json:"person_id"`
	Parts    []struct {
		Function, Path string
		Data           json.RawMessage
	}
	Missing []string
}

// personal declares two operations of the fixture as what their functions hold of a person.
func personal(cfg *gateway.Config) {
	var declared []*manifest.Declaration
	for _, d := range cfg.System.Functions {
		changed := *d
		changed.Routes = slices.Clone(d.Routes)
		for i := range changed.Routes {
			switch r := &changed.Routes[i]; r.Method + " " + r.Path {
			case "GET /api/users/{id}":
				r.Person = "id"
			case "GET /api/orders":
				r.Person = "customer_id"
			}
		}
		declared = append(declared, &changed)
	}
	cfg.System.Functions = declared
}

func (f *fixture) export(path, token string) (e export) {
	f.Helper()
	w := f.call("GET", path, token, nil)
	if w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" {
		f.Fatalf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		f.Fatal(err)
	}
	return e
}

// An export has what each declared operation answers about the person, with all pages of a list, for the person and
// for admins. It tells what is missing; a function that holds nothing is not missing.
func TestExport(t *testing.T) {
	f := newFixture(t, personal)
	var asked []string
	f.handlers["orders"] = func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RequestURI()+" "+r.Header.Get("Authorization")[:7])
		page := map[string]any{"items": []int{1, 2}, "next": "n2"}
		if r.URL.Query().Get("cursor") == "n2" {
			page = map[string]any{"items": []int{3}}
		}
		_ = json.NewEncoder(w).Encode(page)
	}
	f.handlers["users"] = func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"path": r.URL.EscapedPath()})
	}
	e := f.export("/api/persons/ada/export", f.token())
	if e.PersonID != "ada" || len(e.Missing) != 0 || len(e.Parts) != 2 ||
		e.Parts[0].Function != "users" || string(e.Parts[0].Data) != `{"path":"/api/users/ada"}` ||
		e.Parts[1].Path != "/api/orders" || string(e.Parts[1].Data) != `[1,2,3]` {
		t.Errorf("got %+v", e)
	}
	want := []string{"/api/orders?customer_id=ada Bearer ", "/api/orders?cursor=n2&customer_id=ada Bearer "}
	if !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	f.problem(f.call("GET", "/api/persons/grace/export", f.token(), nil), 403)
	f.problem(f.call("GET", "/api/persons/ada/export", "", nil), 401)
	for id, path := range map[string]string{"grace": "/api/users/grace", "a%2Fb%20c": "/api/users/a%2Fb%20c"} {
		e := f.export("/api/persons/"+id+"/export", f.token("admin"))
		if len(e.Parts) != 2 || string(e.Parts[0].Data) != `{"path":"`+path+`"}` {
			t.Errorf("%s: got %+v", id, e)
		}
	}

	f.handlers["users"] = http.NotFound
	if e := f.export("/api/persons/ada/export", f.token()); len(e.Parts) != 1 || len(e.Missing) != 0 {
		t.Errorf("without a user: got %+v", e)
	}
	for what, handler := range map[string]http.HandlerFunc{
		"an answer of 500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"the same page again": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"items":[1],"next":"n"}`))
		},
		"a large answer": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`"` + strings.Repeat("x", 2<<20) + `"`))
		},
		"a page that is gone": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("cursor") {
				http.NotFound(w, r)
				return
			}
			_, _ = w.Write([]byte(`{"items":[1],"next":"n"}`))
		},
	} {
		f.handlers["orders"] = handler
		if e := f.export("/api/persons/ada/export", f.token()); !slices.Equal(e.Missing, []string{"orders /api/orders"}) {
			t.Errorf("%s: got %+v", what, e)
		}
	}
	f.handlers["users"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }
	f.problem(f.call("GET", "/api/persons/ada/export", f.token(), nil), 503)
}

// A system in which no function declares such an operation holds nothing.
func TestExportOfNothing(t *testing.T) {
	f := newFixture(t)
	if e := f.export("/api/persons/ada/export", f.token()); e.Parts == nil || len(e.Parts)+len(e.Missing) != 0 {
		t.Errorf("got %+v", e)
	}
}

// A part whose operation the caller may not call in this environment is missing in an export.
func TestExportOfNarrowedOperation(t *testing.T) {
	f := newFixture(t, personal)
	f.configure("operations: {GET /api/orders: {roles: [admin]}}")
	got := f.export("/api/persons/ada/export", f.token())
	if len(got.Parts) != 1 || !slices.Equal(got.Missing, []string{"orders /api/orders"}) {
		t.Errorf("got %+v", got)
	}
	if got := f.export("/api/persons/ada/export", f.token("admin")); len(got.Parts) != 2 || len(got.Missing) != 0 {
		t.Errorf("an admin: got %+v", got)
	}
}

// A part of an export has the timeout, the breaker and the limits of load of its operation, and is named as missing.
func TestPartsOfAnExportAreShed(t *testing.T) {
	f := newFixture(t, personal)
	f.configure("operations: {GET /api/orders: {timeout: 1ms, breaker: {failures: 0.5, requests: 2, pause: 1m}}}")
	f.handle("users", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("1")) })
	called := 0
	f.handle("orders", func(w http.ResponseWriter, r *http.Request) {
		called++
		<-r.Context().Done()
		w.WriteHeader(http.StatusGatewayTimeout)
	})
	for range 4 {
		e := f.export("/api/persons/ada/export", f.token())
		if len(e.Parts) != 1 || !slices.Equal(e.Missing, []string{"orders /api/orders"}) {
			t.Errorf("got %+v", e)
		}
	}
	if called != 2 {
		t.Errorf("the function was called %d times, want 2", called)
	}
	f.refused(f.call("GET", "/api/orders", f.token(), nil), "60")
}
