package transcode

import (
	"bytes"
	bigendian "encoding/binary"
	"io"
	"net/http"
	"strings"
)

// prefixLen is the length in bytes of what comes before each message of a call: its flags and its length.
const prefixLen = 5

// gather has the transcoder read what has come: it would take as much memory at once as the length of the body, or of
// the next message, promises, and a client that sends no more would keep it.
func gather(r *http.Request) {
	media := strings.ToLower(r.Header.Get("Content-Type"))
	if strings.HasPrefix(media, "application/grpc") || strings.HasPrefix(media, "application/connect+") {
		r.Body = &messages{ReadCloser: r.Body}
		return
	}
	var come bytes.Buffer
	_, err := io.Copy(&come, io.LimitReader(r.Body, maxMessage+1)) // the transcoder refuses more
	body, length := io.Reader(&come), int64(come.Len())
	if err != nil {
		body, length = io.MultiReader(&come, failing{err}), -1
	}
	r.ContentLength = length
	r.Body = struct {
		io.Reader
		io.Closer
	}{body, r.Body}
}

// failing is a reader that fails.
type failing struct{ err error }

// Read implements io.Reader.
func (f failing) Read([]byte) (int, error) { return 0, f.err }

// messages is a body of messages with prefixes, each of which is given when it has come as a whole. One that is too
// large is given as it comes: the transcoder refuses it, or passes it on.
type messages struct {
	io.ReadCloser
	ready  bytes.Buffer // what is given next
	failed error        // what comes after that
	raw    int64        // bytes that are given as they come
}

// Read implements io.Reader.
func (m *messages) Read(p []byte) (int, error) {
	for m.ready.Len() == 0 {
		switch {
		case m.failed != nil:
			return 0, m.failed
		case m.raw > 0:
			n, err := m.ReadCloser.Read(p[:min(int64(len(p)), m.raw)])
			m.raw -= int64(n)
			return n, err
		case len(p) == 0:
			return 0, nil
		}
		m.next()
	}
	return m.ready.Read(p)
}

// next reads a message, or as much as there is of it.
func (m *messages) next() {
	m.ready.Reset()
	if m.ready.Cap() > maxKept {
		m.ready = bytes.Buffer{}
	}
	if _, m.failed = io.CopyN(&m.ready, m.ReadCloser, prefixLen); m.failed != nil {
		return
	}
	length := int64(bigendian.BigEndian.Uint32(m.ready.Bytes()[1:]))
	if length > maxMessage {
		m.raw = length
		return
	}
	_, m.failed = io.CopyN(&m.ready, m.ReadCloser, length)
}

// maxKept is the size in bytes of the largest buffer that a stream keeps for its next message.
const maxKept = 64 << 10
