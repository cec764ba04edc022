package gateway_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/gateway"
)

// A request meets the policies of the product in their order, after the gateway's own: its route and its caller are
// known, and it has an id. What a policy does after calling the next one happens in the opposite order.
func TestPolicies(t *testing.T) {
	var steps []string
	policy := func(name string) gateway.Middleware {
		return func(next gateway.Handler) gateway.Handler {
			return func(x *gateway.Exchange) {
				if x.Route == nil || x.Route.Path != "/api/users/{id}" || x.Route.Function != "users" || x.Caller.Subject != "ada" {
					t.Errorf("%s: the route is %+v, the caller %+v", name, x.Route, x.Caller)
				}
				if x.Request.Header.Get("X-Request-Id") == "" || x.Status() != 0 {
					t.Errorf("%s: the id is %q, the status %d", name, x.Request.Header.Get("X-Request-Id"), x.Status())
				}
				steps = append(steps, name)
				next(x)
				steps = append(steps, name+" after "+http.StatusText(x.Status()))
			}
		}
	}
	policies := []gateway.Middleware{policy("first"), policy("second")}
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Policies = policies })
	f.handle("users", func(w http.ResponseWriter, _ *http.Request) {
		steps = append(steps, "function")
		w.WriteHeader(http.StatusAccepted)
	})
	f.call("GET", "/api/users/1", f.token("customer"), nil)
	want := []string{"first", "second", "function", "second after Accepted", "first after Accepted"}
	if !slices.Equal(steps, want) {
		t.Errorf("got %q, want %q", steps, want)
	}

	// A request that the gateway refuses meets none of them.
	steps = nil
	f.problem(f.call("GET", "/api/users/1", "", nil), 401)
	f.problem(f.call("GET", "/api/nothing", f.token(), nil), 404)
	f.problem(f.call("PUT", "/api/users", f.token(), nil), 405)
	if len(steps) != 0 {
		t.Errorf("refused requests met %q", steps)
	}
}

// A policy can answer itself, and its problem document has the header fields of every answer. A panic in one is an
// answer too.
func TestPolicyAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		policy gateway.Handler
		status int
	}{
		"refuses": {func(x *gateway.Exchange) { x.Refuse(fault.New(fault.Exhausted, "too many requests")) }, 429},
		"panics":  {func(*gateway.Exchange) { panic("a fault") }, 500},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(cfg *gateway.Config) {
				cfg.Policies = []gateway.Middleware{func(gateway.Handler) gateway.Handler { return test.policy }}
			})
			f.handle("users", func(http.ResponseWriter, *http.Request) { t.Error("the function was called") })
			w := f.call("POST", "/api/users", "", nil)
			f.problem(w, test.status)
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("the header is %v", w.Header())
			}
		})
	}
}

// Browsers are told to use HTTPS only where the gateway is configured to tell them, by every answer.
func TestHTTPSOnly(t *testing.T) {
	for only, want := range map[time.Duration]string{0: "", 365 * 24 * time.Hour: "max-age=31536000"} {
		f := newFixture(t, func(cfg *gateway.Config) { cfg.HTTPSOnly = only })
		f.handle("users", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
		for _, path := range []string{"/api/users", "/nowhere"} {
			if got := f.call("POST", path, "", nil).Header().Get("Strict-Transport-Security"); got != want {
				t.Errorf("%v: %s: got %q", only, path, got)
			}
		}
	}
}

// What a policy changes in its copy of the request reaches the function, and not the server's request.
func TestOwn(t *testing.T) {
	var own *http.Request
	f := newFixture(t, func(cfg *gateway.Config) {
		cfg.Policies = []gateway.Middleware{func(next gateway.Handler) gateway.Handler {
			return func(x *gateway.Exchange) {
				own = x.Own()
				own.Body = http.NoBody
				next(x)
			}
		}}
	})
	var seen *http.Request
	f.handle("users", func(_ http.ResponseWriter, r *http.Request) { seen = r })
	r, err := http.NewRequest("POST", "/api/users", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	f.gateway.ServeHTTP(&sink{header: http.Header{}}, r)
	if seen != own || seen == r || r.Body == http.NoBody {
		t.Error("the function got another request, or the server's was changed")
	}
}

// The function gets GET for HEAD, and a request with a body is not the server's own.
func TestTheRequestOfTheFunction(t *testing.T) {
	f := newFixture(t)
	var seen *http.Request
	f.handle("users", func(_ http.ResponseWriter, r *http.Request) { seen = r })
	for _, c := range []struct{ method, path, want string }{
		{"HEAD", "/api/users/1", "GET"}, {"POST", "/api/users", "POST"},
	} {
		r, err := http.NewRequest(c.method, c.path, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+f.token("customer"))
		f.gateway.ServeHTTP(&sink{header: http.Header{}}, r)
		if seen.Method != c.want || seen == r || r.Method != c.method {
			t.Errorf("%s: the function got %s of %p, the server has %s of %p", c.method, seen.Method, seen, r.Method, r)
		}
	}
}
