package transcode

import (
	"net/http/httptest"
	"testing"
)

// The names at the end of a call by gRPC-Web are in small letters, however the frames are cut, and nothing else
// changes.
func TestWebTrailers(t *testing.T) {
	const message, compressed = "\x00\x00\x00\x00\x03ABC", "\x81\x00\x00\x00\x02AB"
	const end = "\x80\x00\x00\x00\x18Grpc-Status: 5\r\nX-A: B:C"
	const want = "\x80\x00\x00\x00\x18grpc-status: 5\r\nx-a: B:C"
	const sent = message + "\x00\x00\x00\x00\x00" + message + compressed + end
	for size := 1; size <= len(sent); size++ {
		r := httptest.NewRecorder()
		w := &webTrailers{ResponseWriter: r}
		for i := 0; i < len(sent); i += size {
			part := []byte(sent[i:min(i+size, len(sent))])
			if n, err := w.Write(part); n != len(part) || err != nil || string(part) != sent[i:i+n] {
				t.Fatal(n, err)
			}
		}
		if got := r.Body.String(); got != sent[:len(sent)-len(end)]+want {
			t.Errorf("in pieces of %d: got %q", size, got)
		}
	}
}
