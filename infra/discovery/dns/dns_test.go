package dns_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery/dns"
	"github.com/ebb-dev/ebb/infra/fault"
)

// The one instance of a function has the address that the template makes of its name, and stays the same.
func TestInstances(t *testing.T) {
	d, err := dns.New("http://{function}.shop:8080/{function}", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, name := range []string{"users", "orders"} {
			got, err := d.Instances(t.Context(), name)
			if err != nil || len(got) != 1 {
				t.Fatalf("got %v, %v, want one instance", got, err)
			}
			if address, want := got[0].Address.String(), "http://"+name+".shop:8080/"+name; address != want || got[0].ID == "" {
				t.Errorf("got %q, want %q", address, want)
			}
			if again, _ := d.Instances(t.Context(), name); &again[0] != &got[0] {
				t.Error("the slice changed although nothing else did")
			}
		}
	}
}

// Callers that ask for a name at the same time for the first time get the same instances.
func TestInstancesConcurrently(t *testing.T) {
	d, err := dns.New("http://{function}", nil)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"a", "b", "c", "d"}
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			name := names[n%len(names)]
			if got, err := d.Instances(t.Context(), name); err != nil || got[0].Address.Host != name {
				t.Errorf("%s: got %v, %v", name, got, err)
			}
		})
	}
	all.Wait()
}

func TestInvalid(t *testing.T) {
	for _, template := range []string{"", "http://users", "{function}", "ftp://{function}", "http://{function}:x"} {
		if _, err := dns.New(template, nil); err == nil || !strings.HasPrefix(err.Error(), "invalid address template") {
			t.Errorf("the template %q: got %v", template, err)
		}
	}
	d, err := dns.New("http://{function}", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a.b", "A", "../x", strings.Repeat("a", 64)} {
		if _, err := d.Instances(t.Context(), name); !fault.Is(err, fault.NotFound) {
			t.Errorf("the name %q: got %v, want not found", name, err)
		}
	}
}

// transport notes each request and answers none before its context ends.
type transport chan string

func (asked transport) RoundTrip(r *http.Request) (*http.Response, error) {
	asked <- r.Method + " " + r.URL.String()
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Prewarm asks each function at most once in five seconds, however often it is called, and waits for no answer.
func TestPrewarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(transport, 10)
		d, err := dns.New("http://{function}.shop", asked)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for range 3 {
				d.Prewarm("payments", "No/Label", "inventory")
				synctest.Wait()
			}
			if len(asked) != 2 {
				t.Fatalf("got %d requests, want 2", len(asked))
			}
			got := []string{<-asked, <-asked}
			slices.Sort(got)
			want := []string{"GET http://inventory.shop/health/readiness", "GET http://payments.shop/health/readiness"}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			time.Sleep(5 * time.Second)
		}
		time.Sleep(time.Minute) // the requests end
	})
}
