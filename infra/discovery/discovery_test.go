package discovery_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
)

func TestStaticKnowsWhatItWasGiven(t *testing.T) {
	s := discovery.Static{"users": http.NotFoundHandler()}
	if h, err := s.Endpoint("users"); err != nil || h == nil {
		t.Errorf("users: %v, %v", h, err)
	}
	if _, err := s.Endpoint("nobody"); !fault.Is(err, fault.NotFound) {
		t.Errorf("nobody: %v; want not found", err)
	}
}

func TestAddressesReachTheFunctionByItsName(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path+" "+r.Header.Get("Authorization"))
	}))
	defer server.Close()
	a, err := discovery.NewAddresses(server.URL+"/{function}", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := a.Endpoint("users")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/api/users/1", nil)
	r.Header.Set("Authorization", "Bearer x")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if got, want := w.Body.String(), "/users/api/users/1 Bearer x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Waking asks each function once, however often it is called for, and waits for none.
func TestWake(t *testing.T) {
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Path
		<-r.Context().Done()
	}))
	defer server.Close()
	defer server.CloseClientConnections()
	a, err := discovery.NewAddresses(server.URL+"/{function}", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		a.Wake("payments", "No/Label", "inventory")
	}
	got := []string{<-asked, <-asked}
	slices.Sort(got)
	if want := []string{"GET /inventory/health/readiness", "GET /payments/health/readiness"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	select {
	case more := <-asked:
		t.Errorf("it was asked again: %s", more)
	case <-time.After(50 * time.Millisecond):
	}
}

func TestAFunctionThatIsAwayIsAFault(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	var told error
	a, err := discovery.NewAddresses(server.URL+"/{function}", nil, func(w http.ResponseWriter, _ *http.Request, err error) {
		told = err
		w.WriteHeader(fault.KindOf(err).HTTPStatus())
	})
	if err != nil {
		t.Fatal(err)
	}
	h, _ := a.Endpoint("users")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusServiceUnavailable || !fault.Is(told, fault.Unavailable) {
		t.Errorf("got %d, %v", w.Code, told)
	}
}

func TestAddressesRefuse(t *testing.T) {
	for _, template := range []string{"", "http://users", "{function}", "ftp://{function}", "http://{function}:x"} {
		if _, err := discovery.NewAddresses(template, nil, nil); err == nil {
			t.Errorf("%q was accepted", template)
		}
	}
	a, _ := discovery.NewAddresses("http://{function}", nil, nil)
	for _, name := range []string{"", "a.b", "A", "../x", strings.Repeat("a", 64)} {
		if _, err := a.Endpoint(name); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
}
