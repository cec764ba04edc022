package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
)

// maxAnswer is the most bytes of an answer that are read.
const maxAnswer = 16 << 20

// api calls the operations of the system through its gateway.
type api struct {
	base      string
	instances func(r *http.Request) []discovery.Instance // nil: the base counts
}

// client follows no redirects: a token must not go to another address.
var client = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// errTooLarge is that an answer has more than maxAnswer bytes.
var errTooLarge = errors.New("the answer is too large")

// failure is an answer that is an error.
type failure struct {
	Status int
	Detail string         `json:"detail"`
	Errors []fault.Detail `json:"errors"`
}

func (f *failure) Error() string {
	text := f.Detail
	if text == "" {
		text = http.StatusText(f.Status)
	}
	for _, e := range f.Errors {
		text += "; " + strings.TrimPrefix(e.Location, "body.") + " " + e.Message
	}
	return text
}

// statusOf returns the status of an answer that is an error; 0 for another error.
func statusOf(err error) int {
	var f *failure
	if errors.As(err, &f) {
		return f.Status
	}
	return 0
}

// call sends a request for the person of the page's request r. in and out may be nil. An answer of 400 and more is a
// *failure. It returns the header of the answer.
func (a api) call(
	r *http.Request, token, method, path string, in, out any, headers ...string,
) (http.Header, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	var handler http.Handler
	address := a.base
	if a.instances != nil {
		if found := a.instances(r); len(found) > 0 {
			if handler = found[0].Handler; found[0].Address != nil {
				address = found[0].Address.String()
			}
		}
	}
	// The gateway's deadline for the page must not cut a change off in the middle: the client's own time counts then.
	ctx := r.Context()
	if method != http.MethodGet {
		ctx = context.WithoutCancel(ctx)
	}
	sent, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(address, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	h := sent.Header
	if in != nil {
		h.Set("Content-Type", "application/json")
	}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	if from := r.Header.Get("X-Forwarded-For"); from != "" {
		h.Set("X-Forwarded-For", from) // guesses at a password count for who makes them
	}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	status, header, answer, err := send(sent, handler, r)
	if err != nil {
		return nil, fmt.Errorf("the gateway does not answer: %w", err)
	}
	if status >= 300 && status < 400 {
		return nil, fmt.Errorf("the gateway answers %d and leads to %q", status, header.Get("Location")) // nothing is done
	}
	if status >= 400 {
		f := &failure{}
		_ = json.Unmarshal(answer, f) // without a problem document the status is enough
		f.Status = status
		return nil, f
	}
	if out == nil || len(answer) == 0 {
		return header, nil
	}
	return header, json.Unmarshal(answer, out)
}

// send has the handler of this process, or the server, answer.
func send(out *http.Request, handler http.Handler, page *http.Request) (int, http.Header, []byte, error) {
	if handler != nil {
		out.Host, out.RemoteAddr, out.RequestURI = page.Host, page.RemoteAddr, out.URL.RequestURI()
		w := &recorder{header: http.Header{}, status: http.StatusOK}
		handler.ServeHTTP(w, out)
		if w.large {
			return 0, nil, nil, errTooLarge
		}
		return w.status, w.header, w.body.Bytes(), nil
	}
	answer, err := client.Do(out)
	if err != nil {
		return 0, nil, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if len(body) > maxAnswer {
		err = errTooLarge
	}
	return answer.StatusCode, answer.Header, body, err
}

// recorder takes the answer of a handler.
type recorder struct {
	header http.Header
	status int
	wrote  bool
	large  bool // the body has more than maxAnswer bytes
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if !w.wrote && status >= 200 {
		w.status, w.wrote = status, true
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.wrote = true
	if w.large = w.large || w.body.Len()+len(p) > maxAnswer; w.large {
		return 0, errTooLarge
	}
	return w.body.Write(p)
}
