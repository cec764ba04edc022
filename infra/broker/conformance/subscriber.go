package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/ebb-dev/ebb/infra/fault"
)

// server receives deliveries for all cases; each sink is a path of it.
type server struct {
	base   string // under which the broker reaches it
	prefix string // the path of base
	http   *http.Server

	mu    sync.Mutex
	sinks map[string]*sink
}

func listen(address, base string) (*server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "deliveries cannot be received at %s", address)
	}
	if base == "" {
		base = "http://" + l.Addr().String()
	}
	s := &server{base: strings.TrimSuffix(base, "/"), sinks: map[string]*sink{}}
	if u, err := url.Parse(s.base); err == nil {
		s.prefix = u.Path
	}
	// A sender may dial a connection and use it much later. One that is closed meanwhile looks to it as if the
	// subscriber had failed, and an event that is tried once is lost.
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Hour}
	go s.http.Serve(l)
	return s, nil
}

func (s *server) close() { s.http.Close() }

// open makes a sink at a path of its own.
func (s *server) open(name string, script script) *sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := "/" + name
	k := &sink{url: s.base + path, what: "deliveries", script: script, attempts: map[string]int{}, changed: make(chan struct{}), over: make(chan struct{})}
	s.sinks[path] = k
	return k
}

// shut lets the sinks go whose path begins so. What still comes for them is taken, and not looked at.
func (s *server) shut(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path, k := range s.sinks {
		if strings.HasPrefix(path, prefix) {
			close(k.over)
			delete(s.sinks, path)
		}
	}
}

// ServeHTTP takes a delivery. What no sink waits for any more is taken too, so that it does not come again.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	k := s.sinks[strings.TrimPrefix(r.URL.Path, s.prefix)]
	s.mu.Unlock()
	if k == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	k.serve(w, r)
}

// delivery is one request that came to a sink.
type delivery struct {
	at      time.Time
	attempt int // at the event of this id, from 1
	method  string
	header  http.Header
	body    []byte
	event   *event.Event // nil: it is no event
	fault   error        // why
}

// answer is what a sink answers a delivery. The zero answer is 202.
type answer struct {
	status int
	header map[string]string
	body   string
	hang   bool // until the sender gives up
	abort  bool // cut the connection without an answer
	slow   time.Duration
}

// script is how a sink answers; nil: always 202.
type script func(d *delivery) answer

// always answers the same.
func always(status int) script { return func(*delivery) answer { return answer{status: status} } }

// inTurn answers one after the other; the last for ever. Each event is counted for itself.
func inTurn(answers ...answer) script {
	return func(d *delivery) answer { return answers[min(d.attempt, len(answers))-1] }
}

// sink is one subscriber.
type sink struct {
	url    string
	what   string // comes to it
	script script

	mu       sync.Mutex
	got      []*delivery
	attempts map[string]int
	changed  chan struct{} // closed at the next delivery
	over     chan struct{} // closed when the trial is
}

func (k *sink) serve(w http.ResponseWriter, r *http.Request) {
	d := &delivery{at: time.Now(), method: r.Method, header: r.Header}
	d.body, _ = io.ReadAll(r.Body)
	d.event, d.fault = decode(r.Header, d.body)
	a := k.note(d)
	switch {
	case a.abort:
		panic(http.ErrAbortHandler)
	case a.hang:
		select {
		case <-r.Context().Done():
		case <-k.over:
		}
		panic(http.ErrAbortHandler)
	}
	time.Sleep(a.slow)
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if a.status == 0 {
		a.status = http.StatusAccepted
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body) // a sender that went away is its own fault
}

// note keeps the delivery, and decides the answer.
func (k *sink) note(d *delivery) answer {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := ""
	if d.event != nil {
		id = d.event.ID()
	}
	k.attempts[id]++
	d.attempt = k.attempts[id]
	k.got = append(k.got, d)
	close(k.changed)
	k.changed = make(chan struct{})
	if k.script == nil {
		return answer{}
	}
	return k.script(d)
}

// deliveries are those at the event of the id, in order; "": all.
func (k *sink) deliveries(id string) (out []*delivery, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.got {
		if id == "" || d.event != nil && d.event.ID() == id {
			out = append(out, d)
		}
	}
	return out, k.changed
}

func (k *sink) count(id string) int {
	got, _ := k.deliveries(id)
	return len(got)
}

// decode reads a delivery in the binary or the structured mode. In the binary mode header fields
// hold attributes percent-encoded.
func decode(header http.Header, body []byte) (*event.Event, error) {
	h := header.Clone()
	for name, values := range h {
		if strings.HasPrefix(name, "Ce-") {
			for i, v := range values {
				values[i] = percentDecode(v)
			}
		}
	}
	e, err := cehttp.NewEventFromHTTPRequest(&http.Request{Header: h, Body: io.NopCloser(bytes.NewReader(body))})
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("no CloudEvent: %w", err)
	}
	return e, nil
}

func percentDecode(s string) string {
	if text, err := url.PathUnescape(s); err == nil {
		return text
	}
	return s
}

// percentEncode writes a value as the HTTP binding asks for it in header fields.
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
