package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Request is an HTTP request to one function.
type Request struct {
	Function, Method, Path string
	Token                  string // a bearer token; "": none
	Key                    string // the Idempotency-Key; "": none
	Body                   any    // marshalled to JSON; nil: none
	Header                 map[string]string
	Times                  int // the most attempts; 0: 30
}

// Response is the answer to a Request. Status 0: no attempt was answered.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	Sent   int // how often the request was sent
}

// OK reports whether the request succeeded.
func (r Response) OK() bool { return r.Status >= 200 && r.Status < 300 }

// JSON decodes the body into v, and returns the error of encoding/json.
func (r Response) JSON(v any) error { return json.Unmarshal(r.Body, v) }

// Send sends a request as a persistent client does: it repeats it, with backoff, until the answer is final (not 409,
// 429 or 5xx) or Times attempts were made. Then the scheduler calls done, which must not wait.
func (sim *Simulation) Send(r Request, done func(Response)) {
	body, err := json.Marshal(r.Body)
	if err != nil {
		sim.Violated("a request cannot be encoded: %v", err)
		return
	}
	if r.Body == nil {
		body = nil
	}
	if r.Times == 0 {
		r.Times = 30
	}
	sim.clients++
	sim.attempt(r, body, 1, 1, done)
}

// Call sends a request as Send does and lets time pass until it has the answer. It is for Setup and Check.
func (sim *Simulation) Call(r Request) Response {
	var got *Response
	sim.Send(r, func(a Response) { got = &a })
	sim.run(func() bool { return got != nil })
	if got == nil {
		return Response{}
	}
	return *got
}

// attempt sends a request for the n-th time. Clients wait outages out: only attempts outside of them are used up.
func (sim *Simulation) attempt(r Request, body []byte, n, used int, done func(Response)) {
	s := sim.byName[r.Function]
	if s == nil {
		sim.Violated("unknown function %q", r.Function)
		sim.clients--
		return
	}
	i := s.pick(nil)
	i.enter(func(ok bool) {
		a := Response{Status: http.StatusServiceUnavailable}
		if ok {
			a = i.serve(r, body)
			if a.Status >= 500 && i.state != gone && sim.cur.committed {
				sim.Violated("%s answers %d to %s after it has committed the change", s.name, a.Status, r.Method+" "+r.Path)
			}
		}
		if i.takes() || i.state == leaving {
			if f, hit := s.hit(LoseAnswer); hit {
				sim.injected(f, "the client loses the answer %[2]d of %[1]s to %[3]s %[4]s", s.name, a.Status, r.Method, r.Path)
				a = Response{}
			}
		} else {
			a = Response{}
		}
		a.Sent = n
		sim.mix(uint64(a.Status))
		if sim.tracing {
			sim.tracef("%s answers %d to %s %s", s.name, a.Status, r.Method, sim.shortPath(r.Path))
		}
		if a.Status == http.StatusInternalServerError {
			sim.Violated("%s answers 500 to %s", s.name, r.Method+" "+r.Path)
		}
		again := a.Status == 0 || a.Status == http.StatusConflict || a.Status == http.StatusTooManyRequests || a.Status >= 500
		away := s.isAway(StoreOutage, FunctionOutage, RemoteOutage, BrokerOutage)
		if again && (used < r.Times || away) {
			next := used + 1
			if away {
				next = used
			}
			wait := min(50*time.Millisecond<<min(n, 10), 5*time.Second)
			sim.after(wait, func() { sim.attempt(r, body, n+1, next, done) })
			return
		}
		sim.clients--
		sim.after(0, func() { done(a) })
	})
}

func (sim *Simulation) shortPath(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' && len(path)-i > 30 {
			return path[:i+1] + sim.short(path[i+1:])
		}
	}
	return path
}

func (i *instance) serve(r Request, body []byte) Response {
	req, err := http.NewRequest(r.Method, "http://simulation"+r.Path, bytes.NewReader(body))
	if err != nil {
		i.s.sim.Violated("a request cannot be made: %v", err)
		return Response{Status: http.StatusBadRequest}
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	if r.Key != "" {
		req.Header.Set("Idempotency-Key", r.Key)
	}
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	out := &recorder{header: http.Header{}}
	defer func() {
		if p := recover(); p != nil {
			i.s.sim.Violated("%s panicked: %v", i.s.name, fmt.Sprint(p))
		}
	}()
	i.http.ServeHTTP(out, req)
	return Response{Status: out.status, Header: out.header, Body: out.body.Bytes()}
}

// recorder is an http.ResponseWriter that keeps the response.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}
