package proxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/proxy"
)

// fleet is instances without a network: a handler for each host. It notes who was asked.
type fleet struct {
	mu    sync.Mutex
	hosts map[string]func(r *http.Request) (*http.Response, error)
	asked []string
	open  int // answers whose body was not closed
	held  int // the most of them when a request came
}

func (f *fleet) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.asked = append(f.asked, r.URL.String())
	f.held = max(f.held, f.open)
	answer := f.hosts[r.URL.Host]
	f.mu.Unlock()
	got, err := answer(r)
	if err == nil {
		f.mu.Lock()
		f.open++
		f.mu.Unlock()
		got.Body = &closing{r.Context(), got.Body, sync.OnceFunc(func() { f.mu.Lock(); f.open--; f.mu.Unlock() })}
	}
	return got, err
}

type closing struct {
	ctx context.Context
	io.ReadCloser
	closed func()
}

// Read fails when the request has ended, as that of a connection does.
func (c *closing) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.ReadCloser.Read(p)
}

func (c *closing) Close() error { c.closed(); return c.ReadCloser.Close() }

func (f *fleet) proxy(hosts ...string) *proxy.Proxy {
	var all []discovery.Instance
	for _, h := range hosts {
		all = append(all, discovery.Instance{ID: h, Address: &url.URL{Scheme: "http", Host: h, Path: "/base"}})
	}
	return proxy.New("users", proxy.Config{Discovery: static.Discovery{"users": all}, Transport: f})
}

// answers returns an instance that answers so, after a while.
func answers(status int, body string, after time.Duration) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(after):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
		h := http.Header{"Seen-Timeout": {r.Header.Get("Ebb-Timeout")}}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

func refuses(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

func serve(p *proxy.Proxy, tries *proxy.Tries, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	p.Serve(w, r, tries)
	return w
}

// settled checks that nothing is left of any request.
func (f *fleet) settled(t *testing.T, p *proxy.Proxy) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	members, _ := p.Pool().Members()
	for _, m := range members {
		if m.Pending() != 0 {
			t.Errorf("%s has %d requests under way", m.Instance.ID, m.Pending())
		}
	}
	if f.open != 0 {
		t.Errorf("%d answers are open", f.open)
	}
}

// A request with an idempotent method that an instance fails is tried at the next one, as often as allowed; one with
// another method is tried once.
func TestRetries(t *testing.T) {
	for name, c := range map[string]struct {
		method, body string
		hosts        map[string]func(*http.Request) (*http.Response, error)
		status       int
		text         string
		asked        int
	}{
		"an instance is gone": {"GET", "", hosts(refuses, answers(200, "ok", 0), refuses), 200, "ok", 2},
		"two are":             {"GET", "", hosts(refuses, refuses, answers(200, "ok", 0)), 200, "ok", 3},
		"all are":             {"GET", "", hosts(refuses, refuses, refuses), 503, "cannot be reached", 3},
		"all answer so":       {"GET", "", hosts(answers(503, "", 0), answers(503, "", 0), answers(502, "c", 0)), 502, "", 3},
		"a refusal":           {"GET", "", hosts(answers(404, "no", 0), refuses, refuses), 404, "no", 1},
		"a fault of the code": {"GET", "", hosts(answers(500, "no", 0), refuses, refuses), 500, "no", 1},
		"PUT with a body":     {"PUT", "twice", hosts(answers(503, "", 0), echo, refuses), 200, "twice", 2},
		"POST":                {"POST", "once", hosts(refuses, echo, refuses), 503, "cannot be reached", 1},
		"PATCH":               {"PATCH", "once", hosts(answers(503, "busy", 0), echo, refuses), 503, "busy", 1},
		"an upgrade":          {"upgrade", "", hosts(refuses, echo, refuses), 503, "cannot be reached", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fleet{hosts: c.hosts}
				p := f.proxy("a", "c", "b") // round robin goes on with the second of those that are left
				var seen []string
				tries := proxy.NewTries(proxy.TriesConfig{Retries: 2, Observe: func(what string) { seen = append(seen, what) }})
				r := httptest.NewRequest("GET", "/api/users?x=1", strings.NewReader(c.body))
				if c.method == "upgrade" {
					r.Header.Set("Upgrade", "websocket")
					r.Header.Set("Connection", "Upgrade")
				} else {
					r.Method = c.method
				}
				w := serve(p, tries, r)
				if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) || len(f.asked) != c.asked {
					t.Errorf("got %d %s after %v", w.Code, w.Body, f.asked)
				}
				want := []string{"http://a/base/api/users?x=1", "http://b/base/api/users?x=1", "http://c/base/api/users?x=1"}
				if !slices.Equal(f.asked, want[:len(f.asked)]) {
					t.Errorf("asked %v", f.asked)
				}
				if f.held != 0 {
					t.Error("a failed answer held its connection during the next try")
				}
				if len(seen) != c.asked-1 {
					t.Errorf("observed %v", seen)
				}
				f.settled(t, p)
			})
		})
	}
}

func hosts(a, b, c func(*http.Request) (*http.Response, error)) map[string]func(*http.Request) (*http.Response, error) {
	return map[string]func(*http.Request) (*http.Response, error){"a": a, "b": b, "c": c}
}

// echo answers with the body.
func echo(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body)))}, nil
}

// broken is a body that ends with an error.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("i/o timeout") }

// A caller whose body does not come is answered 400, and no instance is left out because of it.
func TestBodyThatBreaksOff(t *testing.T) {
	for _, method := range []string{"POST", "PUT"} {
		for _, tries := range []*proxy.Tries{nil, proxy.NewTries(proxy.TriesConfig{Retries: 2})} {
			synctest.Test(t, func(t *testing.T) {
				f := &fleet{hosts: hosts(echo, echo, echo)}
				p := f.proxy("a", "b")
				for range 20 {
					w := serve(p, tries, httptest.NewRequest(method, "/", io.MultiReader(strings.NewReader("half"), broken{})))
					if w.Code != 400 {
						t.Fatalf("%s: got %d %s", method, w.Code, w.Body)
					}
				}
				if _, healthy := p.Pool().Members(); healthy != 2 && len(f.asked) > 0 {
					t.Errorf("%s: %d of 2 instances are healthy", method, healthy)
				}
				f.settled(t, p)
			})
		}
	}
}

// An instance that does not begin its answer in time is left for the next one; if that is as slow, the answer is 504.
// Each instance learns how much time it has, which is never more than the whole request's.
func TestTryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{hosts: hosts(answers(200, "a", time.Minute), answers(200, "b", 50*time.Millisecond), refuses)}
		p := f.proxy("a", "b")
		tries := proxy.NewTries(proxy.TriesConfig{Timeout: 100 * time.Millisecond, Retries: 1})
		w := serve(p, tries, httptest.NewRequest("GET", "/", nil))
		if w.Code != 200 || w.Body.String() != "b" || w.Header().Get("Seen-Timeout") != "100" {
			t.Errorf("got %d %s %v", w.Code, w.Body, w.Header())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
		defer cancel()
		order := f.proxy("b")
		w = serve(order, tries, httptest.NewRequest("GET", "/", nil).WithContext(ctx))
		if w.Code != 200 || w.Header().Get("Seen-Timeout") != "60" {
			t.Errorf("with a deadline: got %d %v", w.Code, w.Header())
		}
		f.hosts["c"] = func(r *http.Request) (*http.Response, error) { // a transport that hides the cause
			<-r.Context().Done()
			return nil, errors.New("read: i/o timeout")
		}
		for _, of := range []*proxy.Tries{tries, nil} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if w = serve(f.proxy("c"), of, httptest.NewRequest("GET", "/", nil).WithContext(ctx)); w.Code != 504 {
				t.Errorf("with another error: got %d %s", w.Code, w.Body)
			}
		}
		slow := f.proxy("a")
		for _, method := range []string{"GET", "POST"} {
			begun := time.Now()
			w = serve(slow, tries, httptest.NewRequest(method, "/", nil))
			if took := time.Since(begun); w.Code != 504 || took > time.Second {
				t.Errorf("%s at a slow instance: got %d %s after %v", method, w.Code, w.Body, took)
			}
		}
		begun := time.Now()
		short, end := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer end()
		w = serve(slow, proxy.NewTries(proxy.TriesConfig{Timeout: 100 * time.Millisecond, Retries: 100}),
			httptest.NewRequest("GET", "/", nil).WithContext(short))
		if took := time.Since(begun); w.Code != 504 || took != 150*time.Millisecond {
			t.Errorf("at the end of the whole time: got %d %s after %v", w.Code, w.Body, took)
		}
		f.settled(t, p)
		f.settled(t, slow)
	})
}

// A GET without an answer is sent to a second instance after a while. The first answer counts, and the other request
// ends; an answer that comes at the same time is dropped.
func TestHedge(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		a, b   time.Duration
		status int
		body   string
		took   time.Duration
		asked  int
	}{
		"the first is fast":  {"GET", 10, 10, 200, "a", 10, 1},
		"the second wins":    {"GET", 1000, 30, 200, "b", 130, 2},
		"the first wins":     {"GET", 150, 1000, 200, "a", 150, 2},
		"PUT is not hedged":  {"PUT", 1000, 30, 200, "a", 1000, 1},
		"POST is not hedged": {"POST", 1000, 30, 200, "a", 1000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fleet{hosts: hosts(answers(200, "a", c.a*time.Millisecond), answers(200, "b", c.b*time.Millisecond), refuses)}
				p := f.proxy("a", "b")
				tries := proxy.NewTries(proxy.TriesConfig{Hedge: 100 * time.Millisecond})
				begun := time.Now()
				w := serve(p, tries, httptest.NewRequest(c.method, "/", nil))
				if took := time.Since(begun); w.Code != c.status || w.Body.String() != c.body || took != c.took*time.Millisecond {
					t.Errorf("got %d %s after %v", w.Code, w.Body, took)
				}
				if len(f.asked) != c.asked {
					t.Errorf("asked %v", f.asked)
				}
				f.settled(t, p)
			})
		})
	}
}

// An answer that comes although its request was ended is dropped, also when the other one was carried long ago.
func TestHedgeThatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Minute)
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("late"))}, nil
		}
		f := &fleet{hosts: hosts(late, answers(200, "b", 0), refuses)}
		p := f.proxy("a", "b")
		tries := proxy.NewTries(proxy.TriesConfig{Hedge: 100 * time.Millisecond})
		if w := serve(p, tries, httptest.NewRequest("GET", "/", nil)); w.Body.String() != "b" {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		time.Sleep(2 * time.Minute)
		f.settled(t, p)
	})
}

// When everything fails, retries are a few, whatever the number of requests is.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{hosts: hosts(answers(503, "busy", time.Second), answers(503, "busy", time.Second), refuses)}
		p := f.proxy("a", "b")
		tries := proxy.NewTries(proxy.TriesConfig{Retries: 5})
		const n = 200
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				if w := serve(p, tries, httptest.NewRequest("GET", "/", nil)); w.Code != 503 || w.Body.String() != "busy" {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
			})
		}
		all.Wait()
		if extra := len(f.asked) - n; extra < 3 || extra > n*3/4 {
			t.Errorf("%d requests were tried %d times more", n, extra)
		}
		f.settled(t, p)
	})
}
