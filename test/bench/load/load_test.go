package load_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/bench/load"
)

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func TestEveryResponseIsCounted(t *testing.T) {
	var answered atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if answered.Add(1)%3 == 0 {
			w.Header().Set("Connection", "close") // the client connects again
		}
		_, _ = w.Write([]byte("hello"))
	}))
	defer s.Close()
	l, err := load.Hammer(t.Context(), s.Listener.Addr().String(), 4, 50*time.Millisecond, load.Same(request))
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(l)) != answered.Load() || len(l) == 0 {
		t.Errorf("counted %d answers of %d", len(l), answered.Load())
	}
}

func TestErrorEndsTheLoad(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no token", http.StatusUnauthorized)
	}))
	defer s.Close()
	begin := time.Now()
	_, err := load.Hammer(t.Context(), s.Listener.Addr().String(), 4, time.Minute, load.Same(request))
	if err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "no token") {
		t.Errorf("got %v", err)
	}
	if time.Since(begin) > 10*time.Second {
		t.Error("the load did not end")
	}
}

func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := load.Hammer(t.Context(), l.Addr().String(), 1, time.Second, load.Same(request)); err == nil {
		t.Error("no error")
	}
}

// A load with a rate counts every request, whatever the status of its response is.
func TestPaceCountsEveryStatus(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	addr := s.Listener.Addr().String()
	got, err := load.Pace(t.Context(), addr, 4, 1000, 100*time.Millisecond, load.Same("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	if err != nil || len(got) != 2 || len(got[200]) != 50 || len(got[503]) != 50 || got[200][0] <= 0 {
		t.Errorf("got %v, %v", got, err)
	}
}
