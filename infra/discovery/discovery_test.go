package discovery_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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

// The function learns of all addresses that the request has come through, the nearest one last.
func TestAddressesForwardTheClient(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join(r.Header.Values("X-Forwarded-For"), "; "))
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
	for before, want := range map[string]string{"": "192.0.2.1", "198.51.100.7, 10.0.0.1": "198.51.100.7, 10.0.0.1, 192.0.2.1"} {
		r := httptest.NewRequest("GET", "/api/users/1", nil)
		if before != "" {
			r.Header.Set("X-Forwarded-For", before)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Body.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// transport answers no request before it is given up, and tells of each.
type transport chan string

func (asked transport) RoundTrip(r *http.Request) (*http.Response, error) {
	asked <- r.Method + " " + r.URL.String()
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Waking asks each function once in a while, however often it is called for, and waits for none.
func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(transport, 10)
		a, err := discovery.NewAddresses("http://{function}.shop", asked, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for range 3 {
				a.Wake("payments", "No/Label", "inventory")
				synctest.Wait()
			}
			if len(asked) != 2 {
				t.Fatalf("it was asked %d times", len(asked))
			}
			got := []string{<-asked, <-asked}
			slices.Sort(got)
			if want := []string{"GET http://inventory.shop/health/readiness", "GET http://payments.shop/health/readiness"}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			time.Sleep(5 * time.Second)
		}
		time.Sleep(time.Minute) // they give up
	})
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

// A body that turns out too large on its way is the caller's fault, not the function's.
func TestABodyThatIsTooLarge(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	a, err := discovery.NewAddresses(server.URL+"/{function}", nil, func(w http.ResponseWriter, _ *http.Request, err error) {
		w.WriteHeader(fault.HTTPStatus(err))
	})
	if err != nil {
		t.Fatal(err)
	}
	h, _ := a.Endpoint("users")
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(strings.Repeat("a", 101))))
	r.Body = http.MaxBytesReader(w, r.Body, 100)
	h.ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", w.Code)
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
