package console

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/httpserver"
)

// changing is an operation of the gateway whose answer a test changes.
type changing struct {
	mu     sync.Mutex
	status int
	body   string
	asked  int
}

func (c *changing) set(status int, body string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.body = status, body
}

func (c *changing) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *changing) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	w.WriteHeader(c.status)
	_, _ = w.Write([]byte(c.body))
}

// listOf is the archive's answer with events of these ids.
func listOf(ids ...string) string {
	var items []string
	for _, id := range ids {
		const item = `{"position":%q,"event":{"id":%[1]q,"type":"com.example.a.b.v1","subject":%[1]q}}`
		items = append(items, fmt.Sprintf(item, id))
	}
	return `{"items":[` + strings.Join(items, ",") + `]}`
}

// following is an answer that is being written.
type following struct {
	mu   sync.Mutex
	rec  *httptest.ResponseRecorder
	done chan struct{}
	stop context.CancelFunc
}

func (f *following) Header() http.Header { return f.rec.Header() }

func (f *following) WriteHeader(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rec.WriteHeader(status)
}

func (f *following) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rec.Write(b)
}

func (f *following) Flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rec.Flush()
}

// body returns what was written so far.
func (f *following) body() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rec.Body.String()
}

func (f *following) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// follow asks for a stream in the background.
func (x *tested) follow(path, token string) *following {
	ctx, stop := context.WithCancel(context.Background())
	f := &following{rec: httptest.NewRecorder(), done: make(chan struct{}), stop: stop}
	r := httptest.NewRequest("GET", path, nil).WithContext(ctx)
	r.AddCookie(&http.Cookie{Name: accessCookie, Value: token})
	go func() {
		defer close(f.done)
		x.pages.ServeHTTP(f, r)
	}()
	return f
}

// Events are followed by server-sent events: each is the whole list of the search, and one is sent when the list has
// changed, and not otherwise. Now and then a comment tells that the answer goes on. After less than a minute it ends,
// and the browser asks again.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTested(t)
		events := &changing{status: 200, body: listOf("one")}
		x.mux.Handle("GET /api/archive/events", events)
		f := x.follow("/console/live/events?subject=s%26t&live=yes", "viewer")
		defer f.stop()
		synctest.Wait()
		h := f.Header()
		if h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("got %v", h)
		}
		if got := f.body(); strings.Count(got, "event: list\ndata: <table>") != 1 || !strings.Contains(got, ">one<") {
			t.Errorf("at first: %q", got)
		}
		x.mu.Lock()
		asked := x.asked[0]
		x.mu.Unlock()
		if !strings.Contains(asked, "subject=s%26t") || !strings.Contains(asked, "order=desc") {
			t.Errorf("asked for %q", asked)
		}
		time.Sleep(5 * followEvery)
		if got := f.body(); strings.Count(got, "event: list") != 1 {
			t.Errorf("nothing has changed: %q", got)
		}
		events.set(200, listOf("two\rdata: three\rx", "one"))
		time.Sleep(2 * followEvery)
		synctest.Wait()
		got := f.body()
		if strings.Count(got, "event: list") != 2 || !strings.Contains(got, ">two") || strings.Contains(got, "\r") {
			t.Errorf("a new event: %q", got)
		}
		for line := range strings.Lines(got) {
			if line != "\n" && !strings.HasPrefix(line, "data: ") && line != "event: list\n" {
				t.Errorf("the line %q", line)
			}
		}
		time.Sleep(2 * followBeat)
		if got := f.body(); !strings.HasSuffix(got, "\n\n:\n\n") {
			t.Errorf("it is silent: %q", got)
		}
		if f.ended() {
			t.Error("it has ended early")
		}
		time.Sleep(followLife)
		if !f.ended() {
			t.Error("it has no end")
		}
	})
}

// The answer ends when the session does: its token expires or is revoked, or the role is gone. When the gateway is away
// it ends too, and the browser asks again.
func TestFollowingEndsWithTheSession(t *testing.T) {
	for status, told := range map[int]bool{401: true, 403: true, 503: false} {
		synctest.Test(t, func(t *testing.T) {
			x := newTested(t)
			events := &changing{status: 200, body: listOf("one")}
			x.mux.Handle("GET /api/archive/events", events)
			f := x.follow("/console/live/events", "admin")
			defer f.stop()
			synctest.Wait()
			events.set(status, "{}")
			time.Sleep(3 * followEvery)
			if got := f.body(); !f.ended() || strings.HasSuffix(got, "event: end\ndata: \n\n") != told {
				t.Errorf("%d: %v, %q", status, f.ended(), got)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		x := newTested(t)
		x.answer("GET /api/archive/events", 200, listOf("one"))
		begun := time.Now()
		x.expire = func() bool { return time.Since(begun) > 3*followEvery }
		f := x.follow("/console/live/events", "admin")
		defer f.stop()
		time.Sleep(10 * followEvery)
		if got := f.body(); !f.ended() || !strings.HasSuffix(got, "event: end\ndata: \n\n") {
			t.Errorf("expired: %v, %q", f.ended(), got)
		}
	})
}

// One person follows in a few pages at once, and a browser that goes makes room. A slow archive is asked less often.
func TestFollowersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTested(t)
		events := &changing{status: 200, body: listOf("one")}
		x.mux.HandleFunc("GET /api/archive/events", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			events.ServeHTTP(w, r)
		})
		var all []*following
		for range maxFollowing {
			all = append(all, x.follow("/console/live/events", "admin"))
		}
		time.Sleep(2 * time.Second)
		if w := x.get("/console/live/events", accessCookie, "admin"); w.Code != http.StatusTooManyRequests {
			t.Errorf("one more: got %d", w.Code)
		}
		all[0].stop()
		synctest.Wait()
		more := x.follow("/console/live/events", "admin")
		time.Sleep(2 * time.Second)
		if more.ended() {
			t.Errorf("there is room: got %d %q", more.rec.Code, more.body())
		}
		before := events.times()
		time.Sleep(30 * time.Second)
		if looks := events.times() - before; looks > 3*maxFollowing {
			t.Errorf("an archive that takes a second is asked %d times in 30 s by %d", looks, maxFollowing)
		}
		for _, f := range append(all, more) {
			f.stop()
		}
		synctest.Wait()
	})
}

// unstreamed is the writer of a host that sends an answer when it is complete.
type unstreamed struct{ rec *httptest.ResponseRecorder }

func (u unstreamed) Header() http.Header         { return u.rec.Header() }
func (u unstreamed) WriteHeader(status int)      { u.rec.WriteHeader(status) }
func (u unstreamed) Write(b []byte) (int, error) { return u.rec.Write(b) }

// Where answers are not streamed the request is refused at once, so that the page asks again and again instead.
func TestFollowWhereNothingIsStreamed(t *testing.T) {
	x := newTested(t)
	x.answer("GET /api/archive/events", 200, listOf("one"))
	r := httptest.NewRequest("GET", "/console/live/events", nil)
	r.AddCookie(&http.Cookie{Name: accessCookie, Value: "admin"})
	u := unstreamed{httptest.NewRecorder()}
	x.pages.ServeHTTP(u, r)
	if u.rec.Code != http.StatusNotImplemented || u.rec.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("got %d %v", u.rec.Code, u.rec.Header())
	}
	if w := x.get("/console/live/events"); w.Code != 303 {
		t.Errorf("signed out: got %d", w.Code)
	}
	if w := x.get("/console/live/events", accessCookie, "customer"); w.Code != 403 {
		t.Errorf("a customer: got %d", w.Code)
	}
}

// A server that shuts down does not wait for who follows.
func TestFollowingEndsWithTheServer(t *testing.T) {
	x := newTested(t)
	x.answer("GET /api/archive/events", 200, listOf("one"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpserver.New(x.pages)
	go func() { _ = s.Serve(httpserver.Listener(l)) }()
	defer s.Close()
	r, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/console/live/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: accessCookie, Value: "admin"})
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if line, err := bufio.NewReader(answer.Body).ReadString('\n'); line != "event: list\n" {
		t.Errorf("got %q, %v", line, err)
	}
	limited, cancel := context.WithTimeout(t.Context(), 20*time.Second) // only when it is broken
	defer cancel()
	if err := s.Shutdown(limited); err != nil {
		t.Error(err)
	}
}
