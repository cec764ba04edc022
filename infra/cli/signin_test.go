package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A command that goes on for longer than a token lives signs in again, and does not when it has just signed in.
func TestClientSignsInAgain(t *testing.T) {
	signIns, good := 0, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/sessions" {
			if r.Header.Get("Authorization") != "" {
				t.Error("it signs in with a token")
			}
			signIns++
			good = fmt.Sprint("token", signIns)
			fmt.Fprintf(w, `{"access_token":%q}`, good)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+good {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer s.Close()
	p, _, _ := process(t.TempDir(), nil)
	a := &app{Process: p, system: empty(), terminal: func(io.Writer) bool { return false }}
	c := a.newClient(s.URL, func() (credentials, error) { return credentials{"a", "b"}, nil })
	call := func(want int) {
		t.Helper()
		if err := c.call(t.Context(), http.MethodGet, "/api/archive/events", nil, nil); err != nil || signIns != want {
			t.Errorf("got %v after %d sign-ins, want %d", err, signIns, want)
		}
	}
	call(1)
	call(1)
	good = "" // the token has expired
	call(2)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signIns++
		w.WriteHeader(http.StatusUnauthorized)
	})
	c.token = ""
	if err := c.call(t.Context(), http.MethodGet, "/", nil, nil); err == nil || signIns != 3 {
		t.Errorf("got %v after %d sign-ins", err, signIns)
	}
}
