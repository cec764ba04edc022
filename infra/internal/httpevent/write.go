package httpevent

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// Request returns a POST request with the event in the binary mode.
func Request(ctx context.Context, url string, e event.Event) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return nil, err
	}
	if err := cehttp.WriteRequest(binding.WithForceBinary(ctx), (*binding.EventMessage)(&e), r); err != nil {
		return nil, err
	}
	encodeFields(r.Header)
	return r, nil
}

// WriteReply writes the event as a response with status 200, in the binary mode.
func WriteReply(ctx context.Context, w http.ResponseWriter, e event.Event) error {
	message := (*binding.EventMessage)(&e)
	return cehttp.WriteResponseWriter(binding.WithForceBinary(ctx), message, http.StatusOK, encoding{w})
}

// encoding encodes the attributes when the header is written.
type encoding struct{ http.ResponseWriter }

func (w encoding) WriteHeader(status int) {
	encodeFields(w.Header())
	w.ResponseWriter.WriteHeader(status)
}

func encodeFields(h http.Header) {
	for name, values := range h {
		if strings.HasPrefix(name, "Ce-") {
			for i, v := range values {
				values[i] = encode(v)
			}
		}
	}
}

// encode returns a value with the percent-encoding of the HTTP binding.
func encode(s string) string {
	if !strings.ContainsFunc(s, special) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; special(rune(c)) || c >= utf8.RuneSelf {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func special(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '%' }
