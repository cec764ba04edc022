package files_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/blobtest"
	"github.com/ebb-dev/ebb/infra/blob/files"
	"github.com/ebb-dev/ebb/infra/fault"
)

// open returns a store whose handler is served, with its clock.
func open(t *testing.T, now func() time.Time) *files.Driver {
	t.Helper()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	d, err := files.Open(files.Config{Dir: t.TempDir(), Base: server.URL, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	handler = d.Handler()
	return d
}

func TestDriver(t *testing.T) {
	blobtest.Run(t, blobtest.Harness{New: func(t *testing.T) blob.Driver { return open(t, nil) }, Checked: true})
}

// A signed request ends with its grant.
func TestExpiry(t *testing.T) {
	now := time.Now()
	d := open(t, func() time.Time { return now })
	if err := d.Put(t.Context(), "a", blob.Blob{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	signed, err := d.Sign(t.Context(), blob.Grant{Method: http.MethodGet, Key: "a", For: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ passed, want int }{{59, 200}, {62, 403}} {
		now = now.Add(time.Duration(c.passed) * time.Second)
		response, err := http.Get(signed.URL)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("after %d s more: got %d, want %d", c.passed, response.StatusCode, c.want)
		}
	}
}

// Prune removes what was stored before a time, and nothing else.
func TestPrune(t *testing.T) {
	d := open(t, nil)
	if err := d.Put(t.Context(), "folder/a", blob.Blob{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := d.Prune(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(t.Context(), "folder/a", 10); err != nil {
		t.Errorf("a new blob: %v", err)
	}
	if err := d.Prune(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(t.Context(), "folder/a", 10); !fault.Is(err, fault.NotFound) {
		t.Errorf("an old blob: got %v, want fault.NotFound", err)
	}
}
