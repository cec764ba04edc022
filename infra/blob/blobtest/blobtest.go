// Package blobtest is the suite that every driver of the blob port passes.
package blobtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Harness is what a driver's test hands to the suite.
type Harness struct {
	New func(t *testing.T) blob.Driver // returns an empty store

	// Checked says that the store itself refuses a signed upload of another size or type, and one that has expired. An
	// emulator may be laxer than the product: then a test of the driver looks at what it signs.
	Checked bool
}

// Run holds the driver against the suite.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"what was put is what one gets":                      testPutGet,
		"a put replaces":                                     testReplace,
		"a blob that does not exist is fault.NotFound":       testAbsent,
		"a deleted blob is gone, and may be deleted again":   testDelete,
		"a blob that is too large is fault.TooLarge":         testTooLarge,
		"an invalid key is fault.Invalid":                    testKeys,
		"a signed download returns the blob":                 testSignedGet,
		"a signed upload stores what it was signed for only": testSignedPut,
	} {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
}

const limit = 1 << 20

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, d blob.Driver, key string, b blob.Blob) {
	t.Helper()
	got, err := d.Get(t.Context(), key, limit)
	if err != nil || got.Type != b.Type || !bytes.Equal(got.Data, b.Data) {
		t.Errorf("%s: got %q of type %q, %v; want %q of type %q", key, got.Data, got.Type, err, b.Data, b.Type)
	}
}

func testPutGet(t *testing.T, h Harness) {
	d := h.New(t)
	for i, b := range []blob.Blob{
		{Type: "application/json", Data: []byte(`{"a":1}`)},
		{Type: "image/png", Data: []byte{0, 1, '\n', 255}},
		{Type: "text/plain; charset=utf-8", Data: []byte("\nsecond line\n")},
		{Type: "text/plain", Data: []byte{}},
	} {
		key := fmt.Sprintf("folder_%d/blob-%d.bin", i%2, i)
		must(t, d.Put(t.Context(), key, b))
		want(t, d, key, b)
	}
}

func testReplace(t *testing.T, h Harness) {
	d := h.New(t)
	must(t, d.Put(t.Context(), "a", blob.Blob{Type: "text/plain", Data: []byte("first and longer")}))
	second := blob.Blob{Type: "text/html", Data: []byte("second")}
	must(t, d.Put(t.Context(), "a", second))
	want(t, d, "a", second)
}

func testAbsent(t *testing.T, h Harness) {
	d := h.New(t)
	_, err := d.Get(t.Context(), "none", limit)
	if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v, want fault.NotFound with the blob's name", err)
	}
}

func testDelete(t *testing.T, h Harness) {
	d := h.New(t)
	must(t, d.Put(t.Context(), "a/b", blob.Blob{Data: []byte("x")}))
	must(t, d.Delete(t.Context(), "a/b"))
	must(t, d.Delete(t.Context(), "a/b"))
	if _, err := d.Get(t.Context(), "a/b", limit); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v, want fault.NotFound", err)
	}
}

func testTooLarge(t *testing.T, h Harness) {
	d := h.New(t)
	must(t, d.Put(t.Context(), "large", blob.Blob{Data: make([]byte, 1001)}))
	if _, err := d.Get(t.Context(), "large", 1000); !fault.Is(err, fault.TooLarge) {
		t.Errorf("got %v, want fault.TooLarge", err)
	}
	if b, err := d.Get(t.Context(), "large", 1001); err != nil || len(b.Data) != 1001 {
		t.Errorf("got %d bytes, %v", len(b.Data), err)
	}
}

func testKeys(t *testing.T, h Harness) {
	d := h.New(t)
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a b", "ä", "a\x00", "a?b"} {
		if err := d.Put(t.Context(), key, blob.Blob{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("put %q: got %v, want fault.Invalid", key, err)
		}
		if _, err := d.Get(t.Context(), key, limit); !fault.Is(err, fault.Invalid) {
			t.Errorf("get %q: got %v, want fault.Invalid", key, err)
		}
	}
}

// send sends a signed request with a body, and returns the status and the body of the response.
func send(t *testing.T, s blob.Signed, change func(*http.Request), body []byte) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), s.Method, s.URL, bytes.NewReader(body))
	must(t, err)
	for name, values := range s.Header {
		if name != "Content-Length" {
			r.Header[name] = values
		}
	}
	if change != nil {
		change(r)
	}
	response, err := http.DefaultClient.Do(r)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(text)
}

func testSignedGet(t *testing.T, h Harness) {
	d := h.New(t)
	must(t, d.Put(t.Context(), "a/picture", blob.Blob{Type: "image/png", Data: []byte("pixels")}))
	signed, err := d.Sign(t.Context(), blob.Grant{Method: http.MethodGet, Key: "a/picture", For: time.Minute})
	must(t, err)
	if status, body := send(t, signed, nil, nil); status != 200 || body != "pixels" {
		t.Errorf("got %d %q", status, body)
	}
	if !h.Checked {
		return
	}
	other := signed
	other.URL = strings.Replace(signed.URL, "picture", "other", 1)
	if status, _ := send(t, other, nil, nil); status != http.StatusForbidden {
		t.Errorf("another key: got %d, want 403", status)
	}
	other = signed
	other.Method = http.MethodPut
	if status, _ := send(t, other, nil, []byte("x")); status != http.StatusForbidden {
		t.Errorf("another method: got %d, want 403", status)
	}
}

func testSignedPut(t *testing.T, h Harness) {
	d := h.New(t)
	data := []byte("pixels")
	grant := blob.Grant{
		Method: http.MethodPut, Key: "up/load", For: time.Minute, Type: "image/png", Size: int64(len(data)),
	}
	signed, err := d.Sign(t.Context(), grant)
	must(t, err)
	if h.Checked {
		for _, other := range [][]byte{append(bytes.Clone(data), 'x'), data[1:]} {
			if status, _ := send(t, signed, nil, other); status != http.StatusForbidden && status != http.StatusBadRequest {
				t.Errorf("%d bytes: got %d, want 403 or 400", len(other), status)
			}
		}
		html := func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }
		if status, _ := send(t, signed, html, data); status != http.StatusForbidden {
			t.Errorf("another type: got %d, want 403", status)
		}
		if _, err := d.Get(t.Context(), grant.Key, limit); !fault.Is(err, fault.NotFound) {
			t.Errorf("a refused upload: got %v, want fault.NotFound", err)
		}
	}
	if status, body := send(t, signed, nil, data); status != 200 {
		t.Fatalf("got %d %s", status, body)
	}
	want(t, d, grant.Key, blob.Blob{Type: "image/png", Data: data})
}

// Refusal is a response by HTTP with which a store refuses a request, and the error that a driver makes of it.
type Refusal struct {
	Status int
	Code   string // in its XML; "": it is HTML, as a proxy's
	Kind   fault.Kind
	Text   string // part of the text for clients
}

// Refusals checks the errors of a driver when its store refuses a Get of the blob a, and when no store is there. open
// returns a driver whose store is at a URL. No error may contain the secret; "": there is none.
func Refusals(t *testing.T, open func(url string) blob.Driver, secret string, all []Refusal) {
	t.Helper()
	for _, r := range all {
		body := "<Error><Code>" + r.Code + "</Code></Error>"
		if r.Code == "" {
			body = "<html>moved</html>"
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(r.Status)
			_, _ = io.WriteString(w, body)
		}))
		_, err := open(server.URL).Get(t.Context(), "a", limit)
		server.Close()
		if !fault.Is(err, r.Kind) || !strings.Contains(fault.Public(err), r.Text) ||
			secret != "" && strings.Contains(err.Error(), secret) {
			t.Errorf("%d %s: got %v", r.Status, body, err)
		}
	}
	if _, err := open("http://127.0.0.1:1").Get(t.Context(), "a", limit); !fault.Is(err, fault.Unavailable) {
		t.Errorf("away: got %v", err)
	}
}
