package transcode

import (
	"net/http"
	"strings"
)

// webTrailers is a writer of the answer to a call by gRPC-Web. It writes the names of the fields at its end in small
// letters, as the protocol wants it and the transcoder does not.
type webTrailers struct {
	http.ResponseWriter
	head  []byte // of the frame that begins, up to five bytes
	left  uint32 // bytes of the frame that come
	names bool   // the frame is the end
	value bool   // what comes is behind the name of a field
}

// isWeb reports whether a call is one by gRPC-Web in its binary form.
func isWeb(h http.Header) bool {
	t := h.Get("Content-Type")
	return strings.HasPrefix(t, "application/grpc-web") && !strings.HasPrefix(t, "application/grpc-web-text")
}

// Write implements io.Writer.
func (w *webTrailers) Write(b []byte) (int, error) {
	const size, end, compressed = 5, 0x80, 0x01
	var out []byte // a copy, once something changes
	for i := 0; i < len(b); {
		if w.left == 0 {
			n := min(size-len(w.head), len(b)-i)
			w.head = append(w.head, b[i:i+n]...)
			if i += n; len(w.head) == size {
				h := w.head
				w.left = uint32(h[1])<<24 | uint32(h[2])<<16 | uint32(h[3])<<8 | uint32(h[4])
				w.names, w.value = h[0]&(end|compressed) == end, false
				w.head = w.head[:0]
			}
			continue
		}
		n := int(min(uint32(len(b)-i), w.left))
		if w.names {
			if out == nil {
				out = append(out, b...)
			}
			w.lower(out[i : i+n])
		}
		i += n
		w.left -= uint32(n)
	}
	if out == nil {
		out = b
	}
	return w.ResponseWriter.Write(out)
}

// lower changes the letters of names, up to the colons.
func (w *webTrailers) lower(lines []byte) {
	for i, c := range lines {
		switch {
		case c == '\n':
			w.value = false
		case c == ':':
			w.value = true
		case !w.value && c >= 'A' && c <= 'Z':
			lines[i] = c + 'a' - 'A'
		}
	}
}

// Flush implements http.Flusher.
func (w *webTrailers) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *webTrailers) Unwrap() http.ResponseWriter { return w.ResponseWriter }
