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

// A person follows events live by server-sent events: each has the whole list as the page shows it, whenever that has
// changed. So a browser that is slow, or was away, misses nothing that still counts, and nothing waits for it here but
// the next list. Where answers are not streamed, the page asks again and again instead.

// The limits of following. An answer ends after followLife, and the browser asks again: so a session that has ended is
// noticed, and no proxy sees a request that never ends.
const (
	followEvery   = time.Second
	followLife    = 55 * time.Second
	followBeat    = 15 * time.Second // without a change something is sent, so that a browser that has gone is noticed
	maxFollowing  = 4                // answers of one person at once, in one process: browsers have few connections
	maxFollowers  = 64               // of all
	followLeisure = 10               // how many times as long as a look has taken it waits for the next one
)

// livePath is where the events are followed.
const livePath = base + "/live/events"

// followers counts the open streams of live events, by person.
type followers struct {
	mu  sync.Mutex
	of  map[string]int
	all int
}

// enter counts one more stream of a person and reports true, or reports false if there are too many already.
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

func (f *followers) leave(person string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.of[person]--; f.of[person] == 0 {
		delete(f.of, person)
	}
}

// followEvents sends the list of events until the session ends, the process drains, the browser goes, or followLife is
// over.
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
			return nil // the browser asks again, if it is still there
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

// errEnough ends a stream that may be asked for again.
var errEnough = errors.New("enough")

// followed returns the list for a person whose session goes on. The error of one that has ended is errSignedOut.
func (c *console) followed(r *http.Request, p person) (string, error) {
	if _, err := c.verify(r, p.token); err != nil {
		return "", errSignedOut // also when the token has expired: the page that is loaded again has another
	}
	list, err := c.eventList(r, p)
	switch statusOf(err) {
	case http.StatusUnauthorized, http.StatusForbidden: // it is revoked
		return "", errSignedOut
	}
	return list, err
}

// stream writes server-sent events. After a write that has failed it writes no more.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
	at      time.Time // when something was written last
	err     error
}

// begin sends the header. The error says that answers are not streamed here; then nothing was sent.
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

// oneBreak leaves one kind of line break: a browser takes each of three as the end of a line.
var oneBreak = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// beat sends a comment when nothing was sent for a while.
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
