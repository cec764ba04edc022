package transcode_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ebb-dev/ebb/infra/rpc/transcode"
)

// measuring is a body that has a text, and then notes how much memory was allocated until more is asked for.
type measuring struct {
	text          io.Reader
	before, after runtime.MemStats
}

func (m *measuring) Read(p []byte) (int, error) {
	n, err := m.text.Read(p)
	if err == io.EOF && m.after.TotalAlloc == 0 {
		runtime.ReadMemStats(&m.after)
	}
	return n, err
}

// A client that promises a large message, and sends no more, takes no memory for it while the gateway waits.
func TestUpstreamPromises(t *testing.T) {
	const path = "/test.v1.NoteService/AddNote"
	server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	unary, err := transcode.NewUpstream(service(t), server)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := transcode.NewUpstream(service(t, `name: "AddNote"`, `name: "AddNote" client_streaming: true`), server)
	if err != nil {
		t.Fatal(err)
	}
	prefix := string(binary.BigEndian.AppendUint32([]byte{0}, 4<<20))
	for _, c := range []struct {
		name    string
		h       http.Handler
		path    string
		media   string
		text    string
		promise int64
	}{
		{"gRPC-Web", unary, path, "application/grpc-web+proto", prefix, -1},
		{"gRPC-Web with JSON", unary, path, "application/grpc-web+json", prefix, -1},
		{"gRPC with JSON", unary, path, "application/grpc+json", prefix, -1},
		{"a stream of Connect", stream, path, "application/connect+json", prefix, -1},
		{"Connect", unary, path, "application/proto", "\n", 4 << 20},
		{"JSON", unary, "/api/notes", "application/json", "{", 4 << 20},
	} {
		for _, measured := range []bool{false, true} { // the first call makes tables
			m := &measuring{text: strings.NewReader(c.text)}
			r := httptest.NewRequest(http.MethodPost, c.path, m)
			r.ContentLength, r.ProtoMajor = c.promise, 2
			r.Header.Set("Te", "trailers")
			r.Header.Set("Content-Type", c.media)
			w := httptest.NewRecorder()
			runtime.GC() // empties pools
			runtime.GC()
			runtime.ReadMemStats(&m.before)
			c.h.ServeHTTP(w, r)
			if used := m.after.TotalAlloc - m.before.TotalAlloc; measured && (m.after.TotalAlloc == 0 || used > 1<<20) {
				t.Errorf("%s: %d bytes are taken before they come", c.name, int64(used))
			}
		}
	}
}

// What a client sends reaches the server, in whatever pieces it comes: messages one after the other, an empty one, one
// that is cut off, one that is too large to be gathered, and an error.
func TestUpstreamMessages(t *testing.T) {
	var got []byte
	var failed error
	server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got, failed = io.ReadAll(r.Body) })
	u, err := transcode.NewUpstream(service(t, `name: "AddNote"`, `name: "AddNote" client_streaming: true`), server)
	if err != nil {
		t.Fatal(err)
	}
	message := func(n int) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(n)), bytes.Repeat([]byte{7}, n)...)
	}
	many := bytes.Join([][]byte{message(3), message(0), message(100 << 10), message(1)}, nil)
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		body io.Reader
		want []byte
		err  error
	}{
		"many":      {bytes.NewReader(many), many, nil},
		"in bytes":  {iotest.OneByteReader(bytes.NewReader(many)), many, nil},
		"none":      {bytes.NewReader(nil), nil, nil},
		"cut off":   {bytes.NewReader(many[:50<<10]), many[:50<<10], nil},
		"too large": {bytes.NewReader(message(5 << 20)), message(5 << 20), nil},
		"broken":    {io.MultiReader(bytes.NewReader(many), iotest.ErrReader(broken)), many, broken},
	} {
		r := httptest.NewRequest(http.MethodPost, "/test.v1.NoteService/AddNote", c.body)
		r.ProtoMajor, r.ContentLength = 2, -1
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
		got, failed = nil, nil
		u.ServeHTTP(httptest.NewRecorder(), r)
		if !bytes.Equal(got, c.want) || !errors.Is(failed, c.err) {
			t.Errorf("%s: got %d bytes and %v, want %d and %v", name, len(got), failed, len(c.want), c.err)
		}
	}
}
