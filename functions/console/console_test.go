package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// tokenOf has a token for each person: its text is the role.
type tokenOf struct {
	expired func() bool // whether all are by now; nil: none is
}

func (o tokenOf) Authenticate(r *http.Request) (auth.Principal, error) {
	role, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || role == "expired" || o.expired != nil && o.expired() {
		return auth.Principal{}, fault.New(fault.Unauthenticated, "the token has expired")
	}
	return auth.Principal{Subject: "ada", Roles: []string{role}}, nil
}

// gatewayOf is the gateway, as discovery knows it.
type gatewayOf struct{ http.Handler }

func (g gatewayOf) Instances(_ context.Context, name string) ([]discovery.Instance, error) {
	return []discovery.Instance{{ID: name, Handler: g.Handler}}, nil
}

func (gatewayOf) Ready(context.Context) error { return nil }

// tested is a console before a gateway, which records what it is asked.
type tested struct {
	*testing.T
	mux   *http.ServeMux
	pages http.Handler

	mu     sync.Mutex
	asked  []string
	system manifest.System
	logs   func(ctx context.Context, correlations ...string) ([]telemetry.LogLine, error)
	expire func() bool // whether tokens are expired by now; nil: none is
}

func newTested(t *testing.T) *tested { return newTestedOn(t, false) }

// newTestedOn returns a console on a host that keeps log lines, or does not.
func newTestedOn(t *testing.T, keepsLogs bool) *tested {
	t.Helper()
	x := &tested{T: t, mux: http.NewServeMux()}
	gateway := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		x.asked = append(x.asked, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
		x.mu.Unlock()
		x.mux.ServeHTTP(w, r)
	})
	var logs func(ctx context.Context, correlations ...string) ([]telemetry.LogLine, error)
	if keepsLogs {
		logs = func(ctx context.Context, correlations ...string) ([]telemetry.LogLine, error) {
			return x.logs(ctx, correlations...)
		}
	}
	f, err := Config{Title: "Ebb"}.New(function.Env{
		Logs: logs, Authenticator: tokenOf{func() bool { return x.expire != nil && x.expire() }},
		Discovery: gatewayOf{gateway}, System: func() manifest.System { return x.system },
	})
	if err != nil {
		t.Fatal(err)
	}
	x.pages = f.Instance()
	return x
}

func (x *tested) answer(pattern string, status int, body string) {
	x.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

func (x *tested) get(path string, cookies ...string) *httptest.ResponseRecorder {
	return x.send(httptest.NewRequest("GET", path, nil), cookies...)
}

func (x *tested) post(path string, form url.Values, cookies ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return x.send(r, cookies...)
}

func (x *tested) send(r *http.Request, cookies ...string) *httptest.ResponseRecorder {
	for i := 0; i+1 < len(cookies); i += 2 {
		r.AddCookie(&http.Cookie{Name: cookies[i], Value: cookies[i+1]})
	}
	w := httptest.NewRecorder()
	x.pages.ServeHTTP(w, r)
	return w
}

// Who has no role for operators sees no page, who may only look changes nothing, and who is signed out signs in.
func TestWhoMaySee(t *testing.T) {
	x := newTested(t)
	x.answer("GET /api/flags", 200, `{"items":[]}`)
	x.answer("POST /api/flags/{key}/enable", 200, `{}`)
	for role, want := range map[string][2]int{
		"admin": {200, 303}, "operator": {200, 303}, "viewer": {200, 403}, "customer": {403, 403}, "": {303, 303},
		"expired": {303, 303},
	} {
		if w := x.get("/console/flags", accessCookie, role); w.Code != want[0] {
			t.Errorf("%q looks: got %d", role, w.Code)
		}
		x.asked = nil
		w := x.post("/console/flags/a/enable", url.Values{"reason": {"x"}}, accessCookie, role)
		if acts := role == "admin" || role == "operator"; w.Code != want[1] || len(x.asked) > 0 != acts {
			t.Errorf("%q acts: got %d, asked %v", role, w.Code, x.asked)
		}
	}
	w := x.get("/console/flags?x=1")
	if to := w.Header().Get("Location"); to != "/console/sign-in?to=%2Fconsole%2Fflags%3Fx%3D1" {
		t.Errorf("got %q", to)
	}
}

// The cookies of a session are for this host only, and over TLS they cannot have come from another.
func TestSignIn(t *testing.T) {
	x := newTested(t)
	x.answer("POST /api/sessions", 201, `{"access_token":"admin","refresh_token":"r"}`)
	form := url.Values{"email": {"a@example.com"}, "password": {"p"}, "to": {"/console/map"}}
	w := x.post("/console/sign-in", form)
	cookies := strings.Join(w.Result().Header["Set-Cookie"], "\n")
	if w.Code != 303 || w.Header().Get("Location") != "/console/map" ||
		strings.Count(cookies, "HttpOnly; SameSite=Strict") != 2 || strings.Contains(cookies, "Secure") {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
	r := httptest.NewRequest("POST", "/console/sign-in", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-Proto", "https")
	cookies = strings.Join(x.send(r).Result().Header["Set-Cookie"], "\n")
	if strings.Count(cookies, "__Host-ebb-console") != 2 || strings.Count(cookies, "Secure") != 2 {
		t.Errorf("got %s", cookies)
	}
	r = httptest.NewRequest("POST", "/console/sign-in", strings.NewReader(form.Encode()))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if w := x.send(r); w.Code != 403 || len(w.Result().Cookies()) > 0 {
		t.Errorf("another site signs in: got %d", w.Code)
	}
	for _, to := range []string{
		"https://elsewhere.example", "//elsewhere.example", "/console//x", `/console/\x`, "/api/x", "",
	} {
		if got := local(to); got != "/console/sagas" {
			t.Errorf("%q leads to %q", to, got)
		}
	}
}

// The code of a second factor goes along with the password; without one nothing does.
func TestSignInWithACode(t *testing.T) {
	x := newTested(t)
	var got map[string]string
	x.mux.HandleFunc("POST /api/sessions", func(w http.ResponseWriter, r *http.Request) {
		got = nil
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(401)
	})
	for _, code := range []string{"123 456", ""} {
		x.post("/console/sign-in", url.Values{"email": {"a"}, "password": {"p"}, "code": {code}})
		if _, sent := got["code"]; got["code"] != code || sent != (code != "") {
			t.Errorf("got %v", got)
		}
	}
}

// A customer with the right password gets no cookie, and their session ends.
func TestCustomerSignsIn(t *testing.T) {
	x := newTested(t)
	x.answer("POST /api/sessions", 201, `{"access_token":"customer","refresh_token":"r"}`)
	x.answer("DELETE /api/sessions/current", 204, "")
	w := x.post("/console/sign-in", url.Values{"email": {"a"}, "password": {"p"}})
	if w.Code != 403 || len(w.Result().Cookies()) > 0 || len(x.asked) != 2 ||
		x.asked[1] != "DELETE /api/sessions/current Bearer customer" {
		t.Errorf("got %d %v, asked %v", w.Code, w.Result().Cookies(), x.asked)
	}
}

// A token that has expired is exchanged once for requests that come together, because showing a refresh token twice
// ends the session.
func TestRefresh(t *testing.T) {
	x := newTested(t)
	x.answer("POST /api/sessions/refresh", 201, `{"access_token":"admin","refresh_token":"r2"}`)
	x.answer("GET /api/flags", 200, `{"items":[]}`)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			w := x.get("/console/flags", accessCookie, "expired", refreshCookie, "r1")
			if cookies := w.Result().Cookies(); w.Code != 200 || len(cookies) != 2 {
				t.Errorf("got %d %v", w.Code, cookies)
			}
		})
	}
	wg.Wait()
	refreshed := 0
	for _, a := range x.asked {
		if strings.Contains(a, "refresh") {
			refreshed++
		}
	}
	if refreshed != 1 {
		t.Errorf("exchanged %d times", refreshed)
	}
	// One that failed is tried again, and one of long ago is forgotten.
	var r refreshes
	now := time.Now()
	for i, want := range []string{"", "a", "a", "b"} {
		got, _ := r.do("t", now.Add(time.Duration(i/3)*time.Minute), func() (tokens, error) {
			if i == 0 {
				return tokens{}, errors.New("away")
			}
			return tokens{Access: map[int]string{1: "a", 2: "x", 3: "b"}[i]}, nil
		})
		if got.Access != want {
			t.Errorf("%d: got %q, want %q", i, got.Access, want)
		}
	}
}

// Only the answer that the refresh token is not good any more, or is none, signs a person out.
func TestRefreshIsRefused(t *testing.T) {
	for status, cookies := range map[int]int{401: 2, 422: 2, 404: 0, 408: 0, 429: 0, 500: 0, 503: 0} {
		x := newTested(t)
		x.answer("POST /api/sessions/refresh", status, "{}")
		w := x.get("/console/flags", accessCookie, "expired", refreshCookie, "r1")
		if got := len(w.Result().Cookies()); got != cookies {
			t.Errorf("%d: got %d and %d cookies", status, w.Code, got)
		}
	}
}

// Who signs out ends the session, also when the access token has expired: the refresh token would outlive it by weeks.
func TestSignOut(t *testing.T) {
	x := newTested(t)
	x.answer("POST /api/sessions/refresh", 201, `{"access_token":"admin","refresh_token":"r2"}`)
	x.answer("DELETE /api/sessions/current", 204, "")
	for _, cookies := range [][]string{
		{accessCookie, "admin", refreshCookie, "r"}, {accessCookie, "expired", refreshCookie, "r"}, {refreshCookie, "r"},
	} {
		x.asked = nil
		w := x.post("/console/sign-out", nil, cookies...)
		if n := len(x.asked); w.Code != 303 || n == 0 || x.asked[n-1] != "DELETE /api/sessions/current Bearer admin" {
			t.Errorf("%v: got %d, asked %v", cookies, w.Code, x.asked)
		}
		for _, c := range w.Result().Cookies() {
			if c.Value != "" || c.MaxAge >= 0 {
				t.Errorf("%v: got the cookie %v", cookies, c)
			}
		}
	}
}

// What the system answers is shown as it is said, and never as a page's own script.
func TestFailures(t *testing.T) {
	x := newTested(t)
	x.answer("GET /api/archive/events", 500, `{"detail":"<script>alert(1)</script>"}`)
	x.answer("GET /api/archive/causes", 401, `{}`)
	w := x.get("/console/events", accessCookie, "admin")
	if body := w.Body.String(); w.Code != 500 || strings.Contains(body, "<script>alert") ||
		!strings.Contains(body, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Errorf("got %d %s", w.Code, body)
	}
	if w := x.get("/console/dead-letters", accessCookie, "admin"); w.Code != 303 {
		t.Errorf("a token that is revoked: got %d", w.Code)
	}
	if w := x.get("/console/nothing", accessCookie, "admin"); w.Code != 404 {
		t.Errorf("got %d", w.Code)
	}
	h := x.get("/console/sign-in").Header()
	if p := h.Get("Content-Security-Policy"); strings.Contains(p, "unsafe") || !strings.Contains(p, "default-src 'none'") {
		t.Errorf("the policy is %q", p)
	}
}

// The link to older events repeats the search, with the cursor of the next page.
func TestOlderEvents(t *testing.T) {
	x := newTested(t)
	x.answer("GET /api/archive/events", 200, `{"items":[{"position":"1","event":{"id":"a"}}],"next":"c=&\"'"}`)
	w := x.get("/console/events?subject=x%26y+z", accessCookie, "admin")
	_, link, _ := strings.Cut(w.Body.String(), `<p><a href="?`)
	link, _, _ = strings.Cut(link, `"`)
	q, err := url.ParseQuery(html.UnescapeString(link))
	if err != nil || q.Get("subject") != "x&y z" || q.Get("cursor") != `c=&"'` {
		t.Errorf("got %q: %v, %v", link, q, err)
	}
}

// A redirect is followed to no other address, and nothing is done then.
func TestRedirectOfTheGateway(t *testing.T) {
	x := newTested(t)
	x.answer("DELETE /api/archive/dead-letters/{id}", 308, "")
	for _, id := range []string{"a", "%2e%2e"} { // the path of the second one is not clean
		w := x.post("/console/dead-letters/"+id+"/drop", url.Values{"sure": {"yes"}}, accessCookie, "admin")
		if w.Code != 502 {
			t.Errorf("%s: got %d %v", id, w.Code, w.Header())
		}
	}
}

// A stranger who signs in while the gateway is away does not see where it is; the log has it.
func TestGatewayIsAway(t *testing.T) {
	var log bytes.Buffer
	f, err := Config{Title: "Ebb"}.New(function.Env{
		Authenticator: tokenOf{}, System: func() manifest.System { return manifest.System{} },
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Lookup: func(name string) (string, bool) { return "http://127.0.0.1:1", name == "EBB_CONSOLE_API" },
	})
	if err != nil {
		t.Fatal(err)
	}
	x := &tested{T: t, pages: f.Instance()}
	for _, w := range []*httptest.ResponseRecorder{
		x.post("/console/sign-in", url.Values{"email": {"a"}, "password": {"hidden"}}),
		x.get("/console/flags", refreshCookie, "hidden"),
	} {
		if body := w.Body.String(); w.Code != 502 || strings.Contains(body, "127.0.0.1") ||
			!strings.Contains(body, "The gateway does not answer") {
			t.Errorf("got %d %s", w.Code, body)
		}
	}
	if n := strings.Count(log.String(), "127.0.0.1:1"); n < 2 || strings.Contains(log.String(), "hidden") {
		t.Errorf("the log has %s", &log)
	}
}

// The command of a trace is one argument each for a shell, whatever the id is.
func TestRunAgain(t *testing.T) {
	r := httptest.NewRequest("GET", "http://shop.example/console/trace/x", nil)
	if got := runAgain(r, `a'b "c" $(d)`); got != `ebb timemachine 'a'\''b "c" $(d)' --url 'http://shop.example'` {
		t.Errorf("got %s", got)
	}
}

// withSagas is a system of a function with two sagas, and one without.
func withSagas() manifest.System {
	orders := &manifest.Declaration{Function: manifest.Function{Name: "orders"}}
	for _, path := range []string{"/api/sagas/order", "/api/sagas/refund", "/api/sagas/order/{id}"} {
		orders.Routes = append(orders.Routes, manifest.Route{Method: "GET", Path: path})
	}
	other := &manifest.Declaration{Function: manifest.Function{Name: "payments"}}
	return manifest.System{Functions: []*manifest.Declaration{orders, other}}
}

// A trace shows the steps of its sagas that are still to come. It asks the function that has emitted events for the
// entities that these are about, a few of them, and shows the events also when that fails.
func TestStillToCome(t *testing.T) {
	x := newTested(t)
	x.system = withSagas()
	x.answer("GET /api/archive/causality/{id}", 200, `{"count":2,"roots":[
		{"id":"1","type":"a.b.c.v1","source":"/functions/orders","subject":"o-1","time":"2026-01-02T15:04:05Z"},
		{"id":"2","type":"a.b.d.v1","source":"/functions/payments","subject":"p-1","time":"2026-01-02T15:04:05Z"}]}`)
	x.answer("GET /api/sagas/order/o-1", 200, `{"id":"o-1","saga":"order","status":"running","steps":[
		{"name":"reserve","state":"done","started_at":"2026-01-02T15:04:05Z","ended_at":"2026-01-02T15:04:05Z"},
		{"name":"charge","state":"running","started_at":"2026-01-02T15:04:05Z","due":"2026-01-02T15:09:05Z"},
		{"name":"<send>","state":"todo"}]}`)
	w := x.get("/console/trace/c-1", accessCookie, "viewer")
	_, part, _ := strings.Cut(w.Body.String(), "Still to come")
	part, _, _ = strings.Cut(part, "Run it again")
	if w.Code != 200 || strings.Contains(part, "reserve") || !strings.Contains(part, "<b>charge</b>") ||
		!strings.Contains(part, "due") || !strings.Contains(part, "&lt;send&gt;") || strings.Contains(part, "There may be") {
		t.Errorf("got %d %s", w.Code, part)
	}
	if len(x.asked) != 3 { // the events, and two sagas about the one entity
		t.Errorf("asked %v", x.asked)
	}
	x.mux = http.NewServeMux()
	many := make([]string, 40)
	for i := range many {
		many[i] = `{"id":"1","type":"a.b.c.v1","source":"/functions/orders","subject":"o-` + strings.Repeat("x", i+1) +
			`","time":"2026-01-02T15:04:05Z"}`
	}
	x.answer("GET /api/archive/causality/{id}", 200, `{"count":40,"roots":[`+strings.Join(many, ",")+`]}`)
	x.answer("GET /api/sagas/", 503, `{}`)
	x.asked = nil
	w = x.get("/console/trace/c-1", accessCookie, "viewer")
	if w.Code != 200 || len(x.asked) != 1+maxAskedSagas || !strings.Contains(w.Body.String(), "There may be more") {
		t.Errorf("got %d after %d calls", w.Code, len(x.asked))
	}
}

// A trace has its log lines where the host keeps them, for those who may act. Elsewhere it says what to look for.
func TestLogLines(t *testing.T) {
	const answer = `{"count":1,"correlations":["c-1","c-2"],"roots":[
		{"id":"1","type":"a.b.c.v1","source":"/functions/orders","subject":"o-1","time":"2026-01-02T15:04:05Z"}]}`
	x := newTestedOn(t, true)
	x.answer("GET /api/archive/causality/{id}", 200, answer)
	var failure error
	var of []string
	x.logs = func(_ context.Context, correlations ...string) ([]telemetry.LogLine, error) {
		of = correlations
		return []telemetry.LogLine{{
			Time: time.Date(2026, 1, 2, 15, 4, 6, 0, time.UTC), Level: slog.LevelWarn, Function: "orders", Message: "<b>late",
			Attributes: "order=o-1",
		}}, failure
	}
	page := func(x *tested, role string) string {
		return x.get("/console/trace/o-1", accessCookie, role).Body.String()
	}
	body := page(x, "operator")
	if !strings.Contains(body, "&lt;b&gt;late") || !strings.Contains(body, ">1s</td><td>WARN<") ||
		!strings.Contains(body, "order=o-1") || strings.Join(of, " ") != "c-1 c-2" {
		t.Errorf("of %v: got %s", of, body)
	}
	of = nil
	if body := page(x, "viewer"); strings.Contains(body, "&gt;late") || of != nil {
		t.Errorf("a viewer sees %s", body)
	}
	failure = errors.New("the disk is away")
	if body := page(x, "admin"); !strings.Contains(body, "cannot be read") || strings.Contains(body, "disk") {
		t.Errorf("got %s", body)
	}
	x = newTested(t)
	x.answer("GET /api/archive/causality/{id}", 200, answer)
	if body := page(x, "admin"); !strings.Contains(body, "This host keeps no log") || !strings.Contains(body, "c-<wbr>2") {
		t.Errorf("got %s", body)
	}
}

// The picture of a trace of years stays inside of itself.
func TestLongTrace(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var all traced
	all.draw([]*node{{Time: start, Caused: []*node{
		{Time: start.AddDate(1, 0, 0), Caused: []*node{{Time: start.AddDate(2, 0, 0)}}},
	}}})
	for i, r := range all.Rows {
		if from := []int{0, 0, 495}[i]; r.From != from || r.From+r.Width > 1000 || r.Width < 10 {
			t.Errorf("%d: got %d and %d", i, r.From, r.Width)
		}
	}
}

// Events are searched by a text of their data. When none of those that were looked at is like that, the page says how
// far back they go and leads to the older ones.
func TestSearchByText(t *testing.T) {
	x := newTested(t)
	x.answer("GET /api/archive/events", 200, `{"items":[],"next":"1886e0cb8ea3c0000a1b2c3d"}`)
	w := x.get("/console/events?text=+%3Cb%3E+&field=lines.product&type=", accessCookie, "viewer")
	body := w.Body.String()
	if w.Code != 200 || !strings.Contains(body, `value="&lt;b&gt;"`) || !strings.Contains(body, `value="lines.product"`) ||
		!regexp.MustCompile(`No event since 20[0-9-]+ [0-9:]+ UTC is like that`).MatchString(body) ||
		!strings.Contains(body, "?cursor=1886e0cb8ea3c0000a1b2c3d&amp;field=lines.product&amp;text=") {
		t.Errorf("got %d %s", w.Code, body)
	}
	if !strings.Contains(x.asked[0], "field=lines.product") || !strings.Contains(x.asked[0], "text=%3Cb%3E") {
		t.Errorf("asked %v", x.asked)
	}
	x.get("/console/events?field=lines.product", accessCookie, "viewer")
	if strings.Contains(x.asked[1], "field") {
		t.Errorf("a field without a text: asked %v", x.asked)
	}
}

// The page of dead letters asks once, for their causes, and not for their events.
func TestDeadLettersByCause(t *testing.T) {
	x := newTested(t)
	x.answer("GET /api/archive/causes", 200, `{"count":1000,"more":true,"causes":[{"function":"orders","type":"a.b.c.v1",
		"code":"422","reason":"line 7 is missing","cause":"line … is missing","ids":["d1","d2","d3"],
		"newest":[{"id":"d1","at":"2026-01-02T15:04:05Z","subject":"<o-1>","times":2,"mended":true}]}]}`)
	w := x.get("/console/dead-letters?state=replayed", accessCookie, "viewer")
	if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, "1000 dead letters, the newest of them") ||
		!strings.Contains(body, "&lt;o-<wbr>1&gt;") || !strings.Contains(body, "and 2 older ones") {
		t.Errorf("got %d %s", w.Code, body)
	}
	if len(x.asked) != 1 || !strings.Contains(x.asked[0], "/api/archive/causes?state=replayed ") {
		t.Errorf("asked %v", x.asked)
	}
	body := x.get("/console/dead-letters", accessCookie, "operator").Body.String()
	if n := strings.Count(body, `name="id" value="d`); n != 3 {
		t.Errorf("the form to send them again names %d", n)
	}
}

// A form with the largest data of an event, of which every byte is percent-encoded, is read. One that is larger, or
// cut off, is refused as that.
func TestLargeForms(t *testing.T) {
	x := newTested(t)
	x.answer("PUT /api/archive/dead-letters/{id}", 200, "{}")
	for i, form := range []string{
		url.Values{"data": {strings.Repeat("[", 9000) + strings.Repeat("]", 9000)}}.Encode(),
		url.Values{"data": {`"` + strings.Repeat("ä", 1<<19-1) + `"`}}.Encode(),
		"data=" + strings.Repeat("%22", 5<<18), "data=1&%",
	} {
		r := httptest.NewRequest("POST", "/console/dead-letters/a/mend", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := x.send(r, accessCookie, "admin")
		if want := []int{303, 303, 413, 400}[i]; w.Code != want {
			t.Errorf("%d: got %d, want %d: %.80q", i, w.Code, want, w.Header())
		}
	}
}

// Who is refused because another person has changed the flag sees that change beside their own before they save again.
func TestFlagChangedMeanwhile(t *testing.T) {
	x := newTested(t)
	x.answer("PUT /api/flags/{key}", 412, `{"detail":"the flag has changed since"}`)
	x.answer("GET /api/flags/{key}", 200, `{"key":"a","version":8,"definition":{"theirs":"<b>"}}`)
	x.answer("GET /api/flags/{key}/history", 200, "{}")
	x.answer("GET /api/flags/{key}/scheduled", 200, "{}")
	w := x.post("/console/flags/a/save", url.Values{"version": {"7"}, "definition": {`{"mine":1}`}}, accessCookie, "admin")
	body := w.Body.String()
	if w.Code != 412 || !strings.Contains(body, "mine") || !strings.Contains(body, "theirs&#34;: &#34;&lt;b&gt;") {
		t.Errorf("got %d %s", w.Code, body)
	}
	if body := x.get("/console/flags/a", accessCookie, "admin").Body.String(); strings.Count(body, "theirs") != 2 {
		t.Errorf("got %s", body)
	}
}

// A browser that sends no Sec-Fetch-Site, as without TLS, is known by its Origin: it names the gateway's host, and the
// gateway's request this function's.
func TestOriginBehindTheGateway(t *testing.T) {
	x := newTested(t)
	x.answer("POST /api/sessions", 201, `{"access_token":"admin","refresh_token":"r"}`)
	x.answer("GET /api/archive/events/{id}", 200, "{}")
	for origin, want := range map[string]int{"http://shop.lan": 303, "http://evil.lan": 403, "http://console.svc": 403} {
		r := httptest.NewRequest("POST", "http://console.svc/console/sign-in", strings.NewReader("email=a&password=b"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Forwarded-Host", "shop.lan")
		r.Header.Set("Origin", origin)
		if w := x.send(r); w.Code != want {
			t.Errorf("%s: got %d, want %d", origin, w.Code, want)
		}
	}
	r := httptest.NewRequest("GET", "http://console.svc/console/events/1", nil)
	r.Header.Set("X-Forwarded-Host", "shop.lan")
	if body := x.send(r, accessCookie, "admin").Body.String(); !strings.Contains(body, "http://shop.lan/api/archive") {
		t.Errorf("the command for the shell has another host: %s", body)
	}
}

// The map has every function once, none on another, and most events go from left to right.
func TestLayout(t *testing.T) {
	var s manifest.System
	add := func(name, consumes, emits string) {
		s.Functions = append(s.Functions, &manifest.Declaration{Function: manifest.Function{
			Name: name, Consumes: strings.Fields(consumes), Emits: strings.Fields(emits),
		}})
	}
	add("catalog", "", "product")
	add("orders", "product reserved paid", "placed reserve pay confirmed")
	add("inventory", "product reserve", "reserved")
	add("payments", "pay", "paid")
	add("views", "product confirmed reserved paid", "")
	add("gateway", "", "")
	for i := range 40 {
		add("f"+string(rune('A'+i)), "placed", "")
	}
	m := layout(s)
	at, places := map[string]*box{}, map[[2]int]string{}
	for _, b := range m.Boxes {
		place := [2]int{b.X, b.Y}
		if places[place] != "" {
			t.Errorf("%s is on %s", b.Name, places[place])
		}
		if b.X+boxWidth > m.Width || b.Y+boxHeight > m.Height {
			t.Errorf("%s is outside", b.Name)
		}
		places[place], at[b.Name] = b.Name, b
	}
	if len(m.Boxes) != 46 || at["catalog"].X >= at["orders"].X || at["orders"].X >= at["payments"].X ||
		at["payments"].X >= at["views"].X {
		t.Errorf("got %+v %+v %+v", at["catalog"], at["orders"], at["payments"])
	}
	back := 0
	for _, l := range m.Lines {
		if l.Path == "" {
			t.Errorf("got %+v", l)
		}
		if l.Back {
			back++
		}
	}
	if back != 2 { // two of the functions answer orders
		t.Errorf("%d of %d lines go back", back, len(m.Lines))
	}
}

// The command for the shell publishes an event like the one shown; for bytes, which cannot be published, it gets them.
func TestCurl(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "http://shop.example/console/events/p", nil)
	got := curl(r, archived{E: envelope{Type: "a.b.v1", Subject: "it's", Data: json.RawMessage(`{"a":1}`)}})
	if !strings.Contains(got, `'{"data":{"a":1},"subject":"it'\''s","type":"a.b.v1"}'`) {
		t.Errorf("JSON: got %s", got)
	}
	got = curl(r, archived{Position: "0a", E: envelope{Type: "a.b.v1", Base64: "/w=="}})
	if strings.Contains(got, "POST") || !strings.Contains(got, "/api/archive/events/0a'") ||
		!strings.Contains(got, `jq -j '.event.data_base64 // ""' | base64 -d`) {
		t.Errorf("bytes: got %s", got)
	}
}

// JSON is shown without the escapes that keep it out of HTML; a backslash before one stays what it is.
func TestPretty(t *testing.T) {
	got := pretty(json.RawMessage(`{"a":"\u003cb\u003e \u0026 \\u003c \u00e9 \""}`))
	if want := "{\n  " + `"a": "<b> & \\u003c \u00e9 \""` + "\n}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A saga is handed over to oneself, to another person or to nobody, by the assignee that the page has shown.
func TestHandOver(t *testing.T) {
	x := newTested(t)
	x.answer("GET /api/sagas/order/{id}", 200, `{"id":"o","saga":"order","status":"running","assignee":"grace",
		"hand_overs":[{"to":"grace","by":"ada","at":"2026-01-02T15:04:05Z","reason":"<b>"}]}`)
	var got []string
	x.mux.HandleFunc("POST /api/sagas/order/{id}/hand-over", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, string(body))
	})
	body := x.get("/console/sagas/order/o", accessCookie, "operator").Body.String()
	if !strings.Contains(body, `name="from" value="grace"`) || !strings.Contains(body, "Who looked after it") ||
		!strings.Contains(body, "&lt;b&gt;") {
		t.Errorf("got %s", body)
	}
	for who, want := range map[string]string{
		"me": `{"from":"grace","reason":"r","to":"ada"}`, "other": `{"from":"grace","reason":"r","to":"mary"}`,
		"nobody": `{"from":"grace","reason":"r"}`,
	} {
		got = nil
		form := url.Values{"who": {who}, "to": {" mary "}, "from": {"grace"}, "reason": {"r"}}
		w := x.post("/console/sagas/order/o/hand-over", form, accessCookie, "operator")
		if w.Code != 303 || len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %d %v", who, w.Code, got)
		}
	}
	got = nil
	form := url.Values{"who": {"other"}, "reason": {"r"}}
	if w := x.post("/console/sagas/order/o/hand-over", form, accessCookie, "operator"); w.Code != 422 || got != nil {
		t.Errorf("to no id: got %d %v", w.Code, got)
	}
}
