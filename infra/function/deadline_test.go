package function_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/internal/bodydeadline"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// timed is the writer of a connection whose read deadline is remembered.
type timed struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (w *timed) SetReadDeadline(at time.Time) error {
	w.deadlines = append(w.deadlines, at)
	return nil
}

// A body has to arrive in time, and then no deadline is left on the connection: net/http ends the context of a
// request, and of all that follow on its connection, when one passes while a handler runs.
func TestNoDeadlineIsLeft(t *testing.T) {
	f := function.New("inventory", function.Env{Store: memory.Opener()})
	function.Collection[struct{}](f, "things")
	w := &timed{ResponseRecorder: httptest.NewRecorder()}
	seen := -1
	type in struct{ Body struct{} }
	function.Serve(f, function.Operation{Method: http.MethodPost, Path: "/api/x", Summary: "x", Access: function.Public},
		func(context.Context, *function.Tx, *in) (*struct{}, error) {
			seen = len(w.deadlines)
			return nil, nil
		})
	if err := f.Instance().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/api/x", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	bodydeadline.Handler(f.Instance(), bodydeadline.Limit).ServeHTTP(w, r)
	if w.Code >= 300 || seen < 2 {
		t.Fatalf("got %d %s, %d deadlines", w.Code, w.Body, seen)
	}
	if first, last := w.deadlines[0], w.deadlines[seen-1]; first.IsZero() || !last.IsZero() {
		t.Errorf("the handler ran with the deadlines %v", w.deadlines[:seen])
	}
}
