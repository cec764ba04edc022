package bodydeadline_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/internal/bodydeadline"
)

const limit = 100 * time.Millisecond

// A body that never arrives ends the request, whether the handler reads it or not; after a body that has arrived the
// handler and the connection have no deadline.
func TestLimit(t *testing.T) {
	s := httptest.NewServer(bodydeadline.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/refuses":
			w.WriteHeader(http.StatusNotFound)
		default:
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			select {
			case <-r.Context().Done():
				t.Error("the context of a request ended whose body had come")
			case <-time.After(2 * limit):
			}
		}
	}), limit))
	defer s.Close()
	for _, x := range []struct {
		path, body string
		length     int
		want       int
	}{
		{"/refuses", "", 1, 404}, {"/reads", "a", 2, 400}, {"/reads", "ab", 2, 200}, {"/reads", "", 0, 200},
	} {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		in := bufio.NewReader(c)
		for again := range 2 {
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", x.path, x.length, x.body)
			answer, err := http.ReadResponse(in, nil)
			if err != nil || answer.StatusCode != x.want {
				t.Errorf("%s with %d of %d bytes: got %v, %v, want %d", x.path, len(x.body), x.length, answer, err, x.want)
				break
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			if x.want != 200 && again == 0 {
				break // its connection is closed
			}
		}
		c.Close()
	}
}

// A client that waits for "100 Continue" gets a refusal at once, and is not asked for the body.
func TestExpectIsAnsweredAtOnce(t *testing.T) {
	s := httptest.NewServer(bodydeadline.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	}), time.Hour))
	defer s.CloseClientConnections() // otherwise Close waits for the body
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	if want := "HTTP/1.1 401 Unauthorized\r\n"; err != nil || line != want {
		t.Errorf("got %q, %v, want %q", line, err, want)
	}
}
