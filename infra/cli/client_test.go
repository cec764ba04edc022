package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/system"
)

// fake is a running system that records its requests.
type fake struct {
	*httptest.Server
	mux      *http.ServeMux
	requests []string // method, path and query, token, body
}

const openAPI = `{"security":[{"bearer":[]}],"paths":{
	"/api/products":{"get":{"operationId":"get-products","summary":"List products","tags":["catalog"],"security":[],
		"parameters":[{"name":"limit","in":"query"},{"name":"cursor","in":"query"}]},
		"post":{"operationId":"post-products","summary":"Add a product","tags":["catalog"],
		"requestBody":{"required":true}}},
	"/api/products/{id}":{"delete":{"operationId":"delete-products-id",
		"parameters":[{"name":"id","in":"path","required":true}]}}}}`

const asyncAPI = `{"channels":{"a":{"address":"dev.ebb.orders.placed.v1"},"b":{"address":"dev.ebb.orders.placed.v2"},
	"c":{"address":"com.example.helpdesk.tickets.opened.v1"}}}`

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{mux: http.NewServeMux()}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if !strings.HasSuffix(r.URL.Path, "api.json") {
			request := fmt.Sprint(r.Method, " ", r.URL, " ", r.Header.Get("Authorization"), " ", string(body))
			f.requests = append(f.requests, strings.TrimSpace(request))
		}
		f.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	f.answer("GET /openapi.json", 200, openAPI)
	f.answer("GET /asyncapi.json", 200, asyncAPI)
	f.answer("POST /api/sessions", 201, `{"access_token":"sesame"}`)
	return f
}

// answer makes the system give the same response to each request for the pattern.
func (f *fake) answer(pattern string, status int, body string) {
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		contentType := "application/json"
		if status >= 400 {
			contentType = "application/problem+json"
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// run runs a command against the system, and returns its requests except those for documents and the sign-in.
func (f *fake) run(t *testing.T, args ...string) (code int, out, errs string, asked []string) {
	t.Helper()
	f.requests = nil
	vars := map[string]string{"EBB_URL": f.URL, "EBB_ADMIN_EMAIL": "admin@example.com", "EBB_ADMIN_PASSWORD": "secret"}
	code, o, e := ebb(t.Context(), t.TempDir(), vars, args...)
	for _, a := range f.requests {
		if !strings.HasPrefix(a, "POST /api/sessions") {
			asked = append(asked, a)
		}
	}
	return code, o.String(), e.String(), asked
}

func TestCall(t *testing.T) {
	f := newFake(t)
	f.answer("GET /api/products", 200, `{"items":[{"id":"p1","name":"Tea <b>"}],"next":"x"}`)
	f.answer("POST /api/products", 201, `{"id":"p2"}`)
	f.answer("DELETE /api/products/{id}", 404, `{"detail":"no such product"}`)
	file := filepath.Join(t.TempDir(), "tea.json")
	if err := os.WriteFile(file, []byte(`{"name":"Tea"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args      []string
		code      int
		out, errs string // a part of each
		asked     string // the last request
	}{
		"the list": {
			[]string{"call"}, 0,
			"OPERATION           METHOD  PATH                SUMMARY\ndelete-products-id  DELETE  /api/products/{id}", "", "",
		},
		"the list, wide": {[]string{"call", "-o", "wide"}, 0, "catalog   public", "", ""},
		"the list as JSON": {
			[]string{"call", "-o", "json"}, 0,
			`{"operationId":"get-products","method":"GET","path":"/api/products"`, "", "",
		},
		"public": {
			[]string{"call", "get-products", "--query", "limit=1"}, 0,
			`"name": "Tea <b>"`, "", "GET /api/products?limit=1",
		},
		"as YAML": {
			[]string{"call", "get-products", "-o", "yaml"}, 0,
			"items:\n  - id: p1\n    name: Tea <b>\nnext: x\n", "", "GET /api/products",
		},
		"with a body": {
			[]string{"call", "post-products", "--data", `{"name":"Tea"}`}, 0,
			`"id": "p2"`, "", `POST /api/products Bearer sesame {"name":"Tea"}`,
		},
		"with a file": {
			[]string{"call", "post-products", "--data", "@" + file}, 0,
			`"id": "p2"`, "", `POST /api/products Bearer sesame {"name":"Tea"}`,
		},
		"with another token": {
			[]string{"call", "post-products", "--data", "1", "--header", "Authorization: Bearer x"}, 0,
			"p2", "", `POST /api/products Bearer x 1`,
		},
		"with no token": {
			[]string{"call", "post-products", "--data", "1", "--anonymous"}, 0,
			"p2", "", "POST /api/products  1",
		},
		"a refusal": {
			[]string{"call", "delete-products-id", "--path", "id=a/b"}, 1,
			"", "404 Not Found: no such product", "DELETE /api/products/a%2Fb Bearer sesame",
		},
		"a slip": {
			[]string{"call", "get-product"}, 2,
			"", `unknown operation "get-product"; did you mean "get-products"?`, "",
		},
		"unknown": {[]string{"call", "frobnicate"}, 2, "", "call without an operation lists them", ""},
		"a slip in a query": {
			[]string{"call", "get-products", "--query", "limt=1"}, 2,
			"", `did you mean "limit"?`, "",
		},
		"no such parameter": {
			[]string{"call", "post-products", "--query", "x=1"}, 2,
			"", "has no query parameters", "",
		},
		"no path parameter": {[]string{"call", "delete-products-id"}, 2, "", "needs --path id=VALUE", ""},
		"no body":           {[]string{"call", "post-products"}, 2, "", "needs a body", ""},
		"a body too many":   {[]string{"call", "get-products", "--data", "1"}, 2, "", "takes no body", ""},
		"no JSON":           {[]string{"call", "post-products", "--data", "{"}, 2, "", "want JSON", ""},
		"no header":         {[]string{"call", "get-products", "--header", "x"}, 2, "", "want NAME:VALUE", ""},
	} {
		code, out, errs, asked := f.run(t, test.args...)
		last := ""
		if len(asked) > 0 {
			last = asked[len(asked)-1]
		}
		if code != test.code || !strings.Contains(out, test.out) || !strings.Contains(errs, test.errs) ||
			last != test.asked {
			t.Errorf("%s: got %d, %q, %q, asked %q", name, code, out, errs, asked)
		}
	}
}

func TestSend(t *testing.T) {
	f := newFake(t)
	f.answer("POST /api/archive/events", 202, `{"id":"e1","type":"dev.ebb.orders.placed.v2"}`)
	code, out, errs, asked := f.run(t, "send", "orders.placed", "--subject", "o1", "--data", `{"a":1}`)
	want := `POST /api/archive/events Bearer sesame {"data":{"a":1},"subject":"o1","type":"dev.ebb.orders.placed.v2"}`
	if code != 0 || out != "sent e1\n" || len(asked) != 1 || asked[0] != want {
		t.Errorf("got %d, %q, %q, asked %q", code, out, errs, asked)
	}
	for args, want := range map[string]string{
		"send orders.placd --data {}": `unknown event type "orders.placd"; did you mean "orders.placed"?`,
		"send frobnicate --data {}":   "send --list shows them",
		"send orders.placed":          "needs --data",
		"send":                        "wants one event type",
	} {
		if code, _, errs, asked := f.run(t, strings.Fields(args)...); code != exitUsage ||
			!strings.Contains(errs, want) ||
			len(asked) > 0 {
			t.Errorf("%s: got %d, %q, asked %q", args, code, errs, asked)
		}
	}
	if code, out, _, _ := f.run(t, "send", "--list"); code != 0 ||
		!strings.Contains(out, "tickets.opened.v1  com.example.helpdesk.tickets.opened.v1") {
		t.Errorf("the list: got %d, %q", code, out)
	}
}

func TestResolveType(t *testing.T) {
	all := []string{
		"com.example.helpdesk.tickets.opened.v1",
		"dev.ebb.orders.placed.v1",
		"dev.ebb.orders.placed.v10",
		"dev.ebb.orders.placed.v2",
	}
	for typed, want := range map[string]string{
		"orders.placed": all[2], "orders.placed.v2": all[3], "dev.ebb.orders.placed": all[2],
		"dev.ebb.orders.placed.v1": all[1], "tickets.opened": all[0], "opened": all[0],
	} {
		if got, err := resolveType(all, typed); got != want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", typed, got, err, want)
		}
	}
	if _, err := resolveType(all, "laced"); err == nil {
		t.Error("a part of a label is taken for a type")
	}
}

// Events are read in pages and listed with their zone, the latest last; control characters are escaped.
func TestEvents(t *testing.T) {
	f := newFake(t)
	f.mux.HandleFunc("GET /api/archive/events", func(w http.ResponseWriter, r *http.Request) {
		page := `{"items":[{"position":"2","event":{"id":"e2","type":"dev.ebb.orders.placed.v1",` +
			`"subject":"a\u001b[2J","source":"/functions/orders","time":"2026-01-02T03:04:05Z"}}],"next":"1"}`
		if r.URL.Query().Get("cursor") == "1" {
			page = `{"items":[{"position":"1","event":{"id":"e1","type":"dev.ebb.orders.placed.v1",` +
				`"time":"2026-01-02T03:04:04Z"}}]}`
		}
		_, _ = io.WriteString(w, page)
	})
	code, out, errs, asked := f.run(t, "events", "--type", "orders.placed.v1")
	lines := strings.Split(out, "\n")
	if code != 0 || len(lines) != 4 || !strings.HasPrefix(lines[0], "TIME ") || !strings.Contains(lines[1], "e1") ||
		!strings.Contains(lines[2], `orders.placed.v1  a\x1b[2J  e2`) {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
	if len(asked) != 2 || !strings.Contains(asked[0], "type=dev.ebb.orders.placed.v1") {
		t.Errorf("asked %q", asked)
	}
	if code, _, errs, asked := f.run(t, "events", "list", "--type", "order.placed"); code != exitUsage ||
		!strings.Contains(errs, `did you mean "orders.placed"?`) ||
		len(asked) > 0 {
		t.Errorf("a slip: got %d, %q, asked %q", code, errs, asked)
	}
	if code, out, _, _ := f.run(t, "events", "-o", "yaml"); code != 0 || !strings.Contains(out, "---\nid: e1\n") {
		t.Errorf("as YAML: got %d, %q", code, out)
	}
	if code, out, _, _ := f.run(t, "events", "--json"); code != 0 || !strings.HasPrefix(out, `{"id":"e1",`) ||
		strings.Count(out, "\n") != 2 {
		t.Errorf("as JSON: got %d, %q", code, out)
	}
}

// A follower shows each event once, also one that the archive stores late at an earlier position.
func TestEventsFollowed(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	item := func(at, id string) string {
		return `{"position":"18a0` + at + `aabbccdd","event":{"id":"` + id + `","type":"dev.ebb.orders.placed.v1"}}`
	}
	f.mux.HandleFunc("GET /api/archive/events", func(w http.ResponseWriter, r *http.Request) {
		calls++
		first, late, last := item("000020000000", "e1"), item("000010000000", "e2"), item("100000000000", "e3")
		switch calls {
		case 1:
			_, _ = io.WriteString(w, `{"items":[`+first+`]}`)
		case 2:
			_, _ = io.WriteString(w, `{"items":[`+late+`,`+first+`]}`)
		case 3:
			_, _ = io.WriteString(w, `{"items":[`+late+`,`+first+`,`+last+`]}`)
		default:
			cancel()
			_, _ = io.WriteString(w, `{"items":[`+last+`]}`)
		}
	})
	vars := map[string]string{"EBB_URL": f.URL, "EBB_ADMIN_EMAIL": "admin@example.com", "EBB_ADMIN_PASSWORD": "secret"}
	code, o, errs := ebb(ctx, t.TempDir(), vars, "events", "--follow", "--json")
	out := o.String()
	var ids []string
	for _, id := range []string{"e1", "e2", "e3"} {
		ids = append(ids, fmt.Sprint(strings.Count(out, `"id":"`+id+`"`)))
	}
	asked := strings.Join(f.requests, "\n")
	if strings.Join(ids, " ") != "1 1 1" || !strings.Contains(asked, "cursor=189f") {
		t.Errorf("got %d, %q, %q, asked %q", code, out, errs.String(), asked)
	}
}

// A text is searched for by the archive. A page of which none has the text is no end of the list, and a follower does
// not look again at what it has passed.
func TestEventsByText(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	requests := 0
	f.mux.HandleFunc("GET /api/archive/events", func(w http.ResponseWriter, r *http.Request) {
		if requests++; requests > 8 {
			cancel()
		}
		switch cursor := r.URL.Query().Get("cursor"); {
		case cursor == "":
			_, _ = io.WriteString(w, `{"items":[],"next":"18a0100000000000aabbccdd"}`)
		case strings.HasPrefix(cursor, "18a010"):
			_, _ = io.WriteString(w, `{"items":[{"position":"1","event":{"id":"e1","type":"dev.ebb.orders.placed.v1"}}]}`)
		default:
			cancel()
			_, _ = io.WriteString(w, `{"items":[]}`)
		}
	})
	code, out, errs, asked := f.run(t, "events", "--text", "Over due", "--field", "reason")
	if code != 0 || !strings.Contains(out, "e1") || len(asked) != 2 ||
		!strings.Contains(asked[1], "cursor=18a0100000000000aabbccdd&field=reason&limit=50&order=desc&text=Over+due") {
		t.Errorf("got %d, %q, %q, asked %q", code, out, errs, asked)
	}
	if code, _, errs, asked = f.run(t, "events", "--field", "reason"); code != exitUsage ||
		!strings.Contains(errs, "--field needs --text") || len(asked) > 0 {
		t.Errorf("a field alone: got %d, %q, asked %q", code, errs, asked)
	}
	vars := map[string]string{"EBB_URL": f.URL, "EBB_ADMIN_EMAIL": "admin@example.com", "EBB_ADMIN_PASSWORD": "secret"}
	code, o, _ := ebb(ctx, t.TempDir(), vars, "events", "--follow", "--text", "x")
	if all := strings.Join(f.requests, "\n"); code != 0 || strings.Count(o.String(), "e1") != 1 ||
		!strings.Contains(all, "cursor=18a00ffe") {
		t.Errorf("followed: got %d, %q, asked %q", code, o.String(), all)
	}
}

func TestTimers(t *testing.T) {
	f := newFake(t)
	f.mux.HandleFunc("GET /api/timers", func(w http.ResponseWriter, r *http.Request) {
		page := `{"items":[{"id":"t1","due":"2026-01-02T03:04:05Z",` +
			`"type":"dev.ebb.orders.deadline.v1","subject":"o1"}],"next":"n"}`
		if r.URL.Query().Get("cursor") == "n" {
			page = `{"items":[{"id":"t2","due":"2026-01-02T03:04:06Z",` +
				`"type":"dev.ebb.orders.deadline.v1","subject":"o2"}]}`
		}
		_, _ = io.WriteString(w, page)
	})
	code, out, errs, asked := f.run(t, "timers", "-o", "wide")
	if lines := strings.Split(out, "\n"); code != 0 || len(lines) != 4 || !strings.HasPrefix(lines[0], "DUE") ||
		!strings.Contains(lines[2], "orders.deadline.v1  o2") {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
	if len(asked) != 2 {
		t.Errorf("asked %q", asked)
	}
	if code, out, _, asked := f.run(t, "timers", "--limit", "1", "-o", "json"); code != 0 ||
		strings.Count(out, "\n") != 1 ||
		len(asked) != 1 {
		t.Errorf("--limit 1: got %d, %q, asked %q", code, out, asked)
	}
}

// A dead letter is shown, replayed and dropped by an id that begins with a dash.
func TestDashedIDs(t *testing.T) {
	f := newFake(t)
	f.answer("GET /api/archive/dead-letters/{id}", 200, `{"id":"-x1"}`)
	f.answer("POST /api/archive/dead-letters/{id}/replay", 202, `{}`)
	f.answer("DELETE /api/archive/dead-letters/{id}", 204, "")
	for args, want := range map[string]string{
		"dlq show -x1 -o json": "GET /api/archive/dead-letters/-x1 Bearer sesame",
		"dlq show -- -x1":      "GET /api/archive/dead-letters/-x1 Bearer sesame",
		"dlq replay -x1":       "POST /api/archive/dead-letters/-x1/replay Bearer sesame",
		"dlq drop -x1":         "DELETE /api/archive/dead-letters/-x1 Bearer sesame",
	} {
		if code, _, errs, asked := f.run(t, strings.Fields(args)...); code != 0 || len(asked) != 1 || asked[0] != want {
			t.Errorf("%s: got %d, %q, asked %q", args, code, errs, asked)
		}
	}
}

// A redirect is an error that names its target: the password goes to no other host.
func TestRedirectsAreNotFollowed(t *testing.T) {
	stolen := false
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen = true }))
	t.Cleanup(thief.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := httptest.NewServer(http.RedirectHandler(thief.URL+"/in", status))
		vars := map[string]string{"EBB_ADMIN_EMAIL": "a@example.com", "EBB_ADMIN_PASSWORD": "secret"}
		code, _, errs := ebb(t.Context(), t.TempDir(), vars, "dlq", "--url", s.URL)
		s.Close()
		if code != exitFailed || !strings.Contains(errs.String(), "redirects to "+thief.URL+"/in") || stolen {
			t.Errorf("%d: got %d, %q; stolen: %t", status, code, errs, stolen)
		}
	}
}

// The password of the admin that dev made goes to another host only if the user names the data directory.
func TestAdminOfDevStaysLocal(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"dlq", "--url", "http://192.0.2.1"}, "no admin is known for 192.0.2.1"},
		{[]string{"dlq", "--url", "http://192.0.2.1", "--data", "/nowhere"}, "no such file"},
		{[]string{"dlq", "--data", "/nowhere"}, "EBB_ADMIN_EMAIL"},
	} {
		if code, _, errs := ebb(t.Context(), t.TempDir(), nil, c.args...); code != exitFailed ||
			!strings.Contains(errs.String(), c.want) {
			t.Errorf("%v: got %d, %q", c.args, code, errs)
		}
	}
}

// The address where dev listens is also where commands find it, with the admin that dev made.
func TestAddressOfDev(t *testing.T) {
	for listens, want := range map[string]string{
		"0.0.0.0:1": "http://127.0.0.1:1", ":1": "http://127.0.0.1:1", "[::]:1": "http://127.0.0.1:1",
		"127.0.0.1:1": "http://127.0.0.1:1", "192.0.2.1:1": "http://192.0.2.1:1",
	} {
		p, _, _ := process(t.TempDir(), map[string]string{"EBB_ADDR": listens})
		n := connection{app: &app{Process: p}}
		if got, err := n.address(); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", listens, got, err, want)
		}
	}
}

// Seeding signs in only when a request is refused without a token, and gets the status of an error.
func TestSeedSignsInWhenNeeded(t *testing.T) {
	f := newFake(t)
	f.answer("GET /open", 200, `{"items":[]}`)
	f.mux.HandleFunc("GET /closed", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	p, _, _ := process(t.TempDir(), nil)
	a := &app{Process: p, system: empty(), terminal: func(io.Writer) bool { return false }}
	c := a.newClient(f.URL, func() (credentials, error) { return credentials{Email: "a", Password: "b"}, nil })
	if err := c.callLazily(t.Context(), "GET", "/open", nil, nil); err != nil || len(f.requests) != 1 {
		t.Errorf("public: %v, asked %q", err, f.requests)
	}
	if err := c.callLazily(t.Context(), "GET", "/closed", nil, nil); err != nil || c.token != "sesame" {
		t.Errorf("closed: %v, asked %q", err, f.requests)
	}
	if err := c.callLazily(t.Context(), "GET", "/missing", nil, nil); system.StatusOf(err) != 404 {
		t.Errorf("missing: %v", err)
	}
}

func TestContexts(t *testing.T) {
	dir := t.TempDir()
	run := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := ebb(t.Context(), dir, nil, args...)
		if code != want {
			t.Fatalf("%v: got %d, %s%s", args, code, out, errs)
		}
		return out.String() + errs.String()
	}
	run(0, "context", "list")
	run(1, "context", "show")
	run(2, "context", "add", "prod")
	run(2, "context", "add", "prod", "prod")
	run(2, "context", "add", "prod", "https://me:secret@prod.example.com")
	run(0, "context", "add", "prod", "https://prod.example.com")
	run(0, "context", "add", "test", "http://192.0.2.1")
	run(0, "context", "add", "test", "http://192.0.2.2")
	run(0, "context", "use", "test")
	if got := run(2, "context", "use", "pod"); !strings.Contains(got, `did you mean "prod"?`) {
		t.Errorf("a slip: %s", got)
	}
	if got := run(0, "context", "list"); got != "CURRENT  NAME  URL\n"+
		"         prod  https://prod.example.com\n*        test  http://192.0.2.2\n" {
		t.Errorf("got %q", got)
	}
	if got := run(1, "dlq"); !strings.Contains(got, "for 192.0.2.2") {
		t.Errorf("the current one is not used: %s", got)
	}
	if got := run(1, "dlq", "--context", "prod"); !strings.Contains(got, "for prod.example.com") {
		t.Errorf("--context is not used: %s", got)
	}
	info, err := os.Stat(filepath.Join(dir, "config", "ebb", "contexts.yaml"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	run(0, "context", "remove", "test")
	var shown []shownContext
	for line := range strings.Lines(run(0, "context", "list", "-o", "json")) {
		var c shownContext
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		shown = append(shown, c)
	}
	if len(shown) != 1 || shown[0].Current {
		t.Errorf("after the removal: %+v", shown)
	}
}

// A following list returns no error when its context ends.
func TestFollowEndsWithItsContext(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.mux.HandleFunc("GET /api/archive/events", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"items":[]}`)
		cancel()
	})
	vars := map[string]string{"EBB_URL": f.URL, "EBB_ADMIN_EMAIL": "a", "EBB_ADMIN_PASSWORD": "b"}
	if code, _, errs := ebb(ctx, t.TempDir(), vars, "events", "--follow"); code != exitOK {
		t.Errorf("got %d, %s", code, errs)
	}
}

// A command that runs longer than its token is valid signs in again, but not right after a sign-in.
func TestClientSignsInAgain(t *testing.T) {
	signIns, good := 0, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/sessions" {
			if r.Header.Get("Authorization") != "" {
				t.Error("it signs in with a token")
			}
			signIns++
			good = fmt.Sprint("token", signIns)
			fmt.Fprintf(w, `{"access_token":%q}`, good)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+good {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer s.Close()
	a := &app{terminal: func(io.Writer) bool { return false }}
	c := a.newClient(s.URL, func() (credentials, error) { return credentials{}, nil })
	call := func(want int) {
		t.Helper()
		if err := c.call(t.Context(), http.MethodGet, "/api/archive/events", nil, nil); err != nil || signIns != want {
			t.Errorf("got %v after %d sign-ins, want %d", err, signIns, want)
		}
	}
	call(1)
	call(1)
	good = "" // the token has expired
	call(2)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signIns++
		w.WriteHeader(http.StatusUnauthorized)
	})
	c.token = ""
	if err := c.call(t.Context(), http.MethodGet, "/", nil, nil); err == nil || signIns != 3 {
		t.Errorf("got %v after %d sign-ins", err, signIns)
	}
}
