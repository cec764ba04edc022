package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
)

// written is a gateway of a function with a value that is read, with a cache, and written.
type written struct {
	*cached
	value string
	write http.HandlerFunc
}

func newWritten(t *testing.T, op function.Operation, change ...func(*gateway.Config)) *written {
	c := &written{cached: &cached{clock: newClock()}, value: "old"}
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			c.write(w, r)
			return
		}
		fmt.Fprint(w, c.value)
	}
	p := policy.Policy{Cache: &policy.Cache{TTL: policy.Duration(time.Hour), InvalidatedBy: []string{"PUT /api/a"}}}
	op.Method, op.Path, op.Access = "PUT", "/api/a", function.Public
	change = append([]func(*gateway.Config){func(cfg *gateway.Config) { cfg.Now = c.Now },
		with("a", h, function.Operation{Method: "GET", Path: "/api/a", Access: function.Public, Policy: p}, op)}, change...)
	c.fixture = newFixture(t, change...)
	return c
}

// isStored reports whether an answer that is given is stored, and wants its value.
func (c *written) isStored(want string) bool {
	c.Helper()
	for range 2 {
		if got := c.get("/api/a"); !strings.HasPrefix(got, want+" ") {
			c.Errorf("got %q, want %q", got, want)
		}
	}
	return strings.HasSuffix(c.get("/api/a"), " hit")
}

// A change that is carried out after the gateway has given it up is seen by all who read after it: no answer is stored
// as long as the function may take.
func TestLateChange(t *testing.T) {
	status := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	timeout := func(d time.Duration) function.Operation {
		return function.Operation{Policy: policy.Policy{Timeout: policy.Duration(d)}}
	}
	broken := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		panic("a fault")
	}
	for name, test := range map[string]struct {
		op    function.Operation
		write http.HandlerFunc
		most  time.Duration
	}{
		"504":               {function.Operation{}, status(504), 35 * time.Second},
		"503":               {function.Operation{}, status(503), 35 * time.Second},
		"an own deadline":   {function.Operation{Deadline: time.Minute}, status(504), 65 * time.Second},
		"a shorter timeout": {timeout(time.Second), status(504), 6 * time.Second},
		"a longer timeout":  {timeout(time.Hour), status(504), 35 * time.Second},
		"a panic": {function.Operation{}, func(http.ResponseWriter, *http.Request) { panic("a fault") },
			35 * time.Second},
		"broken off": {function.Operation{}, broken, 35 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			c := newWritten(t, test.op)
			c.write = test.write
			c.isStored("old")
			func() {
				defer func() { _ = recover() }() // an answer that has begun is broken off so
				c.call("PUT", "/api/a", "", nil)
			}()
			if c.isStored("old") {
				t.Error("an answer of before the change is stored")
			}
			c.now = c.now.Add(test.most - time.Nanosecond)
			c.value = "new"
			if c.isStored("new") {
				t.Error("an answer is stored before the function is done")
			}
			c.now = c.now.Add(time.Nanosecond)
			if !c.isStored("new") {
				t.Error("no answer is stored when the function is done")
			}
		})
	}
}

// A change whose caller has gone away may be carried out all the same.
func TestChangeOfCallerWhoWent(t *testing.T) {
	c := newWritten(t, function.Operation{})
	ctx, cancel := context.WithCancel(t.Context())
	c.write = func(http.ResponseWriter, *http.Request) { cancel() }
	c.gateway.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "PUT", "/api/a", nil))
	if c.isStored("old") {
		t.Error("an answer is stored")
	}
}

// A change that was answered leaves nothing in doubt, and neither does a refusal.
func TestChangeInTime(t *testing.T) {
	for status, want := range map[int]string{0: "new", 200: "new", 204: "new", 303: "new", 400: "old", 412: "old"} {
		c := newWritten(t, function.Operation{})
		c.write = func(w http.ResponseWriter, _ *http.Request) {
			if c.value = "new"; status > 0 {
				w.WriteHeader(status)
			}
		}
		c.isStored("old")
		c.call("PUT", "/api/a", "", nil)
		if !c.isStored(want) {
			t.Errorf("%d: no answer is stored", status)
		}
	}
}

// A change that was tried at two instances may be carried out by the one whose answer was not given, also when the
// other one has refused it.
func TestChangeTriedTwice(t *testing.T) {
	for _, second := range []int{200, 412} {
		c := newWritten(t, function.Operation{Policy: policy.Policy{Retries: 1}}, func(cfg *gateway.Config) {
			d := cfg.Discovery.(static.Discovery)
			server := httptest.NewServer(d["a"][0].Handler)
			t.Cleanup(server.Close)
			at, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			d["a"] = []discovery.Instance{{ID: "1", Address: at}, {ID: "2", Address: at}}
		})
		answers := make(chan int, 2)
		c.write = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(<-answers) }
		answers <- 503
		answers <- second
		if w := c.call("PUT", "/api/a", "", nil); w.Code != second {
			t.Fatalf("got %d", w.Code)
		}
		if c.isStored("old") {
			t.Errorf("%d: an answer is stored", second)
		}
	}
}

// A change that the gateway has not sent, because its function has too much to do, leaves what is stored: reads would
// add to the load.
func TestShedChange(t *testing.T) {
	c := newWritten(t, function.Operation{Policy: policy.Policy{
		Breaker: policy.Breaker{Failures: 0.5, Requests: 1, Pause: policy.Duration(time.Hour)},
	}})
	c.write = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
	c.call("PUT", "/api/a", "", nil)
	c.now = c.now.Add(time.Minute)
	if !c.isStored("old") {
		t.Fatal("no answer is stored")
	}
	c.problem(c.call("PUT", "/api/a", "", nil), 503)
	c.value = "new"
	c.want(c.get("/api/a"), "old hit")
}
