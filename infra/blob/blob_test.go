package blob_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/files"
	"github.com/ebb-dev/ebb/infra/fault"
)

// The rules hold for what is stored, for uploads that are signed, and for what is there already.
func TestRules(t *testing.T) {
	d, err := files.Open(files.Config{Dir: t.TempDir(), Base: "http://127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	s := blob.New(d, blob.Rules{
		MaxBytes: 10, Types: []string{"image/*", "text/plain"},
		Scan: func(_ context.Context, _ string, b blob.Blob) error {
			if strings.Contains(string(b.Data), "virus") {
				return fault.New(fault.Invalid, "it has a virus")
			}
			return nil
		},
	})
	for name, c := range map[string]struct {
		blob blob.Blob
		kind fault.Kind
		text string
	}{
		"too large":     {blob.Blob{Type: "image/png", Data: make([]byte, 11)}, fault.TooLarge, "want 10 at most"},
		"another type":  {blob.Blob{Type: "text/html", Data: []byte("x")}, fault.Invalid, "use image/*, text/plain"},
		"no type":       {blob.Blob{Data: []byte("x")}, fault.Invalid, "use image/*"},
		"similar type":  {blob.Blob{Type: "imagery/png", Data: []byte("x")}, fault.Invalid, "use image/*"},
		"a bad content": {blob.Blob{Type: "image/png", Data: []byte("virus")}, fault.Invalid, "virus"},
	} {
		if err := s.Put(t.Context(), "a", c.blob); !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: put: got %v", name, err)
		}
		if err := d.Put(t.Context(), "past", c.blob); err != nil { // as by a signed upload
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), "past"); !fault.Is(err, c.kind) {
			t.Errorf("%s: get: got %v", name, err)
		}
		download := blob.Grant{Method: http.MethodGet, Key: "past", For: time.Hour}
		if signed, err := s.Sign(t.Context(), download); !fault.Is(err, c.kind) {
			t.Errorf("%s: sign a download: got %v, %v", name, signed, err)
		}
	}
	if err := s.Put(t.Context(), "a", blob.Blob{Type: "text/plain; charset=utf-8", Data: []byte("fine")}); err != nil {
		t.Error(err)
	}
	if b, err := s.Get(t.Context(), "a"); err != nil || string(b.Data) != "fine" {
		t.Errorf("got %q, %v", b.Data, err)
	}
	for name, g := range map[string]blob.Grant{
		"too large":        {Method: http.MethodPut, Key: "a", For: time.Hour, Type: "image/png", Size: 11},
		"no size":          {Method: http.MethodPut, Key: "a", For: time.Hour, Type: "image/png"},
		"another type":     {Method: http.MethodPut, Key: "a", For: time.Hour, Type: "text/html", Size: 1},
		"too long":         {Method: http.MethodGet, Key: "a", For: 8 * 24 * time.Hour},
		"no time":          {Method: http.MethodGet, Key: "a"},
		"another method":   {Method: http.MethodDelete, Key: "a", For: time.Hour},
		"a key that is up": {Method: http.MethodGet, Key: "../a", For: time.Hour},
	} {
		if _, err := s.Sign(t.Context(), g); !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Errorf("sign, %s: got %v", name, err)
		}
	}
	if _, err := s.Sign(t.Context(), blob.Grant{
		Method: http.MethodPut, Key: "a", For: time.Hour, Type: "image/png", Size: 10,
	}); err != nil {
		t.Error(err)
	}
}

// A download is signed of what is there: without a scan nothing is read for it, as the driver says.
func TestSignDownload(t *testing.T) {
	d, err := files.Open(files.Config{Dir: t.TempDir(), Base: "http://127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	none := blob.Grant{Method: http.MethodGet, Key: "none", For: time.Hour}
	if _, err := blob.New(d, blob.Rules{}).Sign(t.Context(), none); err != nil {
		t.Error(err)
	}
	scanned := blob.New(d, blob.Rules{Scan: func(context.Context, string, blob.Blob) error { return nil }})
	if _, err := scanned.Sign(t.Context(), none); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v, want fault.NotFound", err)
	}
	if err := scanned.Put(t.Context(), "none", blob.Blob{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := scanned.Sign(t.Context(), none); err != nil {
		t.Error(err)
	}
}

// A blob without a type has the one that the documentation names: for the rules, for readers, and in what is signed.
func TestNoType(t *testing.T) {
	d, err := files.Open(files.Config{Dir: t.TempDir(), Base: "http://127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	s := blob.New(d, blob.Rules{Types: []string{"application/octet-stream"}})
	if err := s.Put(t.Context(), "a", blob.Blob{Data: []byte("x")}); err != nil {
		t.Error(err)
	}
	if b, err := s.Get(t.Context(), "a"); err != nil || b.Type != "application/octet-stream" {
		t.Errorf("got %+v, %v", b, err)
	}
	signed, err := s.Sign(t.Context(), blob.Grant{Method: http.MethodPut, Key: "b", For: time.Hour, Size: 1})
	if err != nil || signed.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("got %+v, %v", signed, err)
	}
}
