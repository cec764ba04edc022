package console

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/httpserver"
)

// The browser follows events by server-sent events. Whenever the list has changed, the console sends the whole list as
// the page shows it. So a browser that is slow, or was disconnected, misses nothing that the list still shows, and the
// console keeps no queue for it. Where the host does not stream responses, the script loads the page again every 1.5
// seconds instead.

// The limits of a stream. It ends after followLife, and the browser opens another, so that no request lasts longer than
// proxies allow.
const (
	followEvery   = time.Second      // between two queries of the list, at least
	followLife    = 55 * time.Second // of one stream
	followBeat    = 15 * time.Second // without a change; then comes a comment, whose write fails if the browser has gone
	maxFollowing  = 4                // streams of one person at once, in one process: browsers have few connections
	maxFollowers  = 64               // streams of all persons
	followLeisure = 10               // the wait before a query is at least so many times as long as the last query took
)

// livePath is the path of the stream.
const livePath = base + "/live/events"

// followers counts the open streams, also of each person.
type followers struct {
	mu  sync.Mutex
	of  map[string]int
	all int
}

// enter counts one more stream of a person. It returns false and counts nothing when there are too many.
func (f *followers) enter(person string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all >= maxFollowers || f.of[person] >= maxFollowing {
		return false
	}
	if f.of == nil {
		f.of = map[string]int{}
	}
	f.of[person]++
	f.all++
	return true
}

// leave counts one stream of a person less.
func (f *followers) leave(person string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.of[person]--; f.of[person] == 0 {
		delete(f.of, person)
	}
}

// followEvents sends the list of events until the session ends, the process drains, the browser closes the connection,
// or followLife is over.
func (c *console) followEvents(w http.ResponseWriter, r *http.Request, p person) error {
	if !c.followers.enter(p.Subject) {
		return &failure{Status: http.StatusTooManyRequests, Detail: "Too many pages follow events."}
	}
	defer c.followers.leave(p.Subject)
	began := time.Now()
	list, err := c.eventList(r, p)
	if err != nil {
		return err
	}
	s := stream{ResponseWriter: w, control: http.NewResponseController(w)}
	if err := s.begin(); err != nil {
		return &failure{Status: http.StatusNotImplemented, Detail: "Answers are not streamed here."}
	}
	end := time.NewTimer(followLife)
	defer end.Stop()
	for last := ""; ; {
		if list != last {
			s.send("list", list)
		} else {
			s.beat()
		}
		last = list
		wait := time.NewTimer(max(followEvery, followLeisure*time.Since(began)))
		select {
		case <-wait.C:
		case <-end.C:
			s.err = errEnough
		case <-httpserver.Draining(r.Context()):
			s.err = errEnough
		case <-r.Context().Done():
			s.err = r.Context().Err()
		}
		wait.Stop()
		if s.err != nil {
			return nil // a browser that still shows the page opens another stream
		}
		began = time.Now()
		if list, err = c.followed(r, p); err != nil {
			if errors.Is(err, errSignedOut) {
				s.send("end", "")
			}
			return nil
		}
	}
}

// errEnough ends a stream after which the browser opens another.
var errEnough = errors.New("enough")

// followed returns the list, or errSignedOut when the person's session has ended.
func (c *console) followed(r *http.Request, p person) (string, error) {
	if _, err := c.verify(r, p.token); err != nil {
		return "", errSignedOut // also when the token has expired: the browser loads the page again, and gets another
	}
	list, err := c.eventList(r, p)
	switch statusOf(err) {
	case http.StatusUnauthorized, http.StatusForbidden: // the session is revoked
		return "", errSignedOut
	}
	return list, err
}

// stream writes server-sent events. After the first write that fails it writes no more, and err is its error.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
	at      time.Time // when something was written last
	err     error
}

// begin sends the header. It returns an error, and has sent nothing, where the host does not stream responses.
func (s *stream) begin() error {
	h := s.Header()
	before := h.Clone()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // a proxy that collects answers would hold the events back
	err := s.control.Flush()
	if err != nil {
		clear(h)
		maps.Copy(h, before)
	}
	return err
}

// send sends an event, whose data may have several lines.
func (s *stream) send(name, data string) {
	var b strings.Builder
	b.WriteString("event: " + name + "\n")
	for line := range strings.SplitSeq(oneBreak.Replace(data), "\n") {
		b.WriteString("data: " + line + "\n")
	}
	s.write(b.String() + "\n")
}

// oneBreak replaces each line break by \n: a browser takes \r\n, \r and \n as the end of a line.
var oneBreak = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// beat sends a comment if the stream has sent nothing for followBeat.
func (s *stream) beat() {
	if time.Since(s.at) >= followBeat {
		s.write(":\n\n")
	}
}

func (s *stream) write(text string) {
	if s.err == nil {
		_, s.err = io.WriteString(s.ResponseWriter, text)
	}
	if s.err == nil {
		s.err = s.control.Flush()
	}
	s.at = time.Now()
}
