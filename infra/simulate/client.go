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
	Times                  int // how often it is sent until it is answered for good; 0: 30
}

// Response is what was answered. Status 0: nothing ever was.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	Sent   int // how often the request was sent
}

// OK reports whether the request succeeded.
func (r Response) OK() bool { return r.Status >= 200 && r.Status < 300 }

// JSON decodes the body into v.
func (r Response) JSON(v any) error { return json.Unmarshal(r.Body, v) }

// Send sends a request as a client does that wants an answer: again and again, always later, until it is answered with
// something else than 409, 429 or 5xx, or it has been sent often enough; then done is called, by the scheduler.
func (w *World) Send(r Request, done func(Response)) {
	body, err := json.Marshal(r.Body)
	if err != nil {
		w.Violated("a request cannot be encoded: %v", err)
		return
	}
	if r.Body == nil {
		body = nil
	}
	if r.Times == 0 {
		r.Times = 30
	}
	w.clients++
	w.attempt(r, body, 1, done)
}

// Call is Send for Setup and Check: it lets time pass until the answer is there.
func (w *World) Call(r Request) Response {
	var got *Response
	w.Send(r, func(a Response) { got = &a })
	w.run(func() bool { return got != nil })
	if got == nil {
		return Response{}
	}
	return *got
}

func (w *World) attempt(r Request, body []byte, n int, done func(Response)) {
	s := w.byName[r.Function]
	if s == nil {
		w.Violated("there is no function %s", r.Function)
		w.clients--
		return
	}
	i := s.pick(nil)
	i.enter(func(ok bool) {
		a := Response{Status: http.StatusServiceUnavailable}
		if ok {
			a = i.serve(r, body)
		}
		if i.takes() || i.state == leaving {
			if f, hit := s.hit(LoseAnswer); hit {
				w.struck(f, "the client does not hear that %s answers %d to %s %s", s.name, a.Status, r.Method, r.Path)
				a = Response{}
			}
		} else {
			a = Response{}
		}
		a.Sent = n
		w.mix(uint64(a.Status))
		if w.telling {
			w.tell("%s answers %d to %s %s", s.name, a.Status, r.Method, w.shortPath(r.Path))
		}
		if a.Status == http.StatusInternalServerError {
			w.Violated("%s answers 500 to %s", s.name, r.Method+" "+r.Path)
		}
		again := a.Status == 0 || a.Status == http.StatusConflict || a.Status == http.StatusTooManyRequests || a.Status >= 500
		if again && n < r.Times {
			w.after(min(50*time.Millisecond<<min(n, 10), 5*time.Second), func() { w.attempt(r, body, n+1, done) })
			return
		}
		w.clients--
		w.after(0, func() { done(a) })
	})
}

func (w *World) shortPath(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' && len(path)-i > 30 {
			return path[:i+1] + w.short(path[i+1:])
		}
	}
	return path
}

func (i *instance) serve(r Request, body []byte) Response {
	req, err := http.NewRequest(r.Method, "http://simulation"+r.Path, bytes.NewReader(body))
	if err != nil {
		i.s.w.Violated("a request cannot be made: %v", err)
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
			i.s.w.Violated("%s panicked: %v", i.s.name, fmt.Sprint(p))
		}
	}()
	i.f.ServeHTTP(out, req)
	return Response{Status: out.status, Header: out.header, Body: out.body.Bytes()}
}

// recorder keeps an answer.
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
