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

// server receives deliveries for all cases. Each sink has its own path.
type server struct {
	base   string // the URL under which the broker reaches the server
	prefix string // the path of base
	http   *http.Server

	mu    sync.Mutex
	sinks map[string]*sink
}

func listen(address, base string) (*server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "cannot listen for deliveries at %s", address)
	}
	if base == "" {
		base = "http://" + l.Addr().String()
	}
	s := &server{base: strings.TrimSuffix(base, "/"), sinks: map[string]*sink{}}
	if u, err := url.Parse(s.base); err == nil {
		s.prefix = u.Path
	}
	// A broker may open a connection and use it much later. If the server closed it before, the delivery would fail,
	// and an event that is tried only once would be lost.
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Hour}
	go s.http.Serve(l)
	return s, nil
}

func (s *server) close() { s.http.Close() }

// open makes a sink at its own path.
func (s *server) open(name string, script script) *sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := "/" + name
	k := &sink{url: s.base + path, what: "deliveries", script: script, attempts: map[string]int{},
		changed: make(chan struct{}), closed: make(chan struct{})}
	s.sinks[path] = k
	return k
}

// closeSinks removes the sinks whose path begins with prefix. Later deliveries to them are accepted and ignored.
func (s *server) closeSinks(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path, k := range s.sinks {
		if strings.HasPrefix(path, prefix) {
			close(k.closed)
			delete(s.sinks, path)
		}
	}
}

// ServeHTTP receives a delivery. It accepts a delivery without a sink, so that the broker does not retry it.
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

// delivery is one request that a sink received.
type delivery struct {
	at      time.Time
	attempt int // counts the deliveries of this event's id, from 1
	method  string
	header  http.Header
	body    []byte
	event   *event.Event // nil: the request holds no valid event
	err     error        // why event is nil
}

// answer is a sink's response to a delivery. The zero answer is 202.
type answer struct {
	status int
	header map[string]string
	body   string
	hang   bool // do not answer until the sender gives up
	abort  bool // close the connection without an answer
}

// script decides a sink's answers; nil: always 202.
type script func(d *delivery) answer

// always returns a script that answers every delivery with the status.
func always(status int) script { return func(*delivery) answer { return answer{status: status} } }

// inTurn returns a script that gives the answers in turn for each event, and repeats the last one.
func inTurn(answers ...answer) script {
	return func(d *delivery) answer { return answers[min(d.attempt, len(answers))-1] }
}

// sink is one subscriber.
type sink struct {
	url    string
	what   string // "deliveries" or "dead letters", for messages
	script script

	mu       sync.Mutex
	got      []*delivery
	attempts map[string]int
	changed  chan struct{} // is closed at the next delivery
	closed   chan struct{} // is closed when the trial ends
}

func (k *sink) serve(w http.ResponseWriter, r *http.Request) {
	d := &delivery{at: time.Now(), method: r.Method, header: r.Header}
	d.body, _ = io.ReadAll(r.Body)
	d.event, d.err = decode(r.Header, d.body)
	a := k.record(d)
	switch {
	case a.abort:
		panic(http.ErrAbortHandler)
	case a.hang:
		select {
		case <-r.Context().Done():
		case <-k.closed:
		}
		panic(http.ErrAbortHandler)
	}
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if a.status == 0 {
		a.status = http.StatusAccepted
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body) // fails only when the sender has closed the connection
}

// record stores the delivery and returns the answer to it.
func (k *sink) record(d *delivery) answer {
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

// deliveries returns the deliveries of the event with the id, in order; "" returns all. The channel is closed at the
// next delivery.
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

// decode reads a delivery in the binary or the structured mode. In the binary mode header fields hold
// percent-encoded attributes.
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
		return nil, fmt.Errorf("invalid CloudEvent: %w", err)
	}
	return e, nil
}

func percentDecode(s string) string {
	if text, err := url.PathUnescape(s); err == nil {
		return text
	}
	return s
}

// percentEncode encodes a value for a header field, as the HTTP binding requires.
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
