package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
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

// A change whose caller goes away is carried on to its end, which leaves nothing in doubt: callers who hang up suspend
// no answers.
func TestChangeOfCallerWhoWent(t *testing.T) {
	for name, answer := range map[string]int{"a short answer": 10, "an answer that cannot be sent": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			c := newWritten(t, function.Operation{})
			c.isStored("old")
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			c.write = func(w http.ResponseWriter, r *http.Request) {
				cancel()
				c.value = "new"
				_, err := w.Write(make([]byte, answer))
				ended <- errors.Join(err, r.Context().Err())
			}
			w := &goneWriter{ResponseRecorder: httptest.NewRecorder(), most: 1 << 16}
			c.gateway.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "PUT", "/api/a", nil))
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if !c.isStored("new") {
				t.Error("no answer is stored")
			}
		})
	}
}

// goneWriter fails when it is to write more than some bytes at once.
type goneWriter struct {
	*httptest.ResponseRecorder
	most int
}

func (w *goneWriter) Write(b []byte) (int, error) {
	if len(b) > w.most {
		return 0, errors.New("the caller has gone")
	}
	return w.ResponseRecorder.Write(b)
}

// A change whose caller has gone away, and whose function does not end, is given up when the function may not carry it
// out any more.
func TestEndlessChangeOfCallerWhoWent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWritten(t, function.Operation{})
		ctx, cancel := context.WithCancel(t.Context())
		c.write = func(w http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
			w.WriteHeader(504)
		}
		began := time.Now()
		c.gateway.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "PUT", "/api/a", nil))
		if took := time.Since(began); took != 35*time.Second {
			t.Errorf("it took %v", took)
		}
		if c.isStored("old") {
			t.Error("an answer is stored")
		}
	})
}

// A caller whose changes end in doubt again and again is refused for most of the time, and others are not: no caller
// can keep answers from being stored for ever.
func TestCallerInDoubt(t *testing.T) {
	c := newWritten(t, function.Operation{})
	c.write = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(504) }
	stored, allowed := 0, 0
	const hours = 4
	for range hours * 360 {
		switch w := c.call("PUT", "/api/a", "", nil); w.Code {
		case 504:
			allowed++
		case 429:
			if after, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || after < 1 || after > 140 {
				t.Fatalf("got Retry-After %q", w.Header().Get("Retry-After"))
			}
		default:
			t.Fatalf("got %d", w.Code)
		}
		if c.isStored("old") {
			stored++
		}
		c.now = c.now.Add(10 * time.Second)
	}
	if share := float64(stored) / (hours * 360); share < 0.7 || share > 0.8 {
		t.Errorf("answers are stored for %.2f of the time, with %d changes", share, allowed)
	}
	c.problem(c.call("PUT", "/api/a", "", nil), 429)
	c.write = func(w http.ResponseWriter, _ *http.Request) { c.value = "new" }
	r := httptest.NewRequest("PUT", "/api/a", nil)
	r.RemoteAddr = "198.51.100.7:1"
	w := httptest.NewRecorder()
	c.gateway.ServeHTTP(w, r)
	if w.Code != 200 || !c.isStored("new") {
		t.Errorf("another caller gets %d", w.Code)
	}
	c.now = c.now.Add(140 * time.Second)
	for range 10 { // a change without doubt costs nothing
		if w := c.call("PUT", "/api/a", "", nil); w.Code != 200 {
			t.Errorf("later: got %d", w.Code)
		}
	}
}

// Changes at the path of stored answers invalidate them although the policy does not name them (RFC 9111, 4.4).
func TestChangeAtSamePath(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.get("/api/a")
	c.want(c.get("/api/a"), "answer 1 hit")
	c.call("PUT", "/api/a", "", nil)
	c.want(c.get("/api/a"), "answer 3 fwd=miss; stored")
}

// A change that was answered leaves nothing in doubt, and neither does a refusal. One that has changed data all the
// same says so, to the gateway alone.
func TestChangeInTime(t *testing.T) {
	for _, test := range []struct {
		status    int
		committed string
		want      string
	}{
		{0, "", "new"}, {200, "", "new"}, {204, "", "new"}, {303, "", "new"}, {400, "", "old"}, {412, "", "old"},
		{401, "true", "new"}, {422, "true", "new"}, {200, "true", "new"},
	} {
		c := newWritten(t, function.Operation{})
		c.write = func(w http.ResponseWriter, _ *http.Request) {
			c.value = "new"
			if test.committed != "" {
				w.Header().Set("Ebb-Committed", test.committed)
			}
			if test.status > 0 {
				w.WriteHeader(test.status)
			}
		}
		c.isStored("old")
		w := c.call("PUT", "/api/a", "", nil)
		if !c.isStored(test.want) {
			t.Errorf("%d: no answer is stored", test.status)
		}
		if h := w.Header(); h.Get("Ebb-Committed") != "" {
			t.Errorf("%d: got %v", test.status, h)
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
