package function_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// deadlines notes the time that a call of the store has left.
type deadlines struct {
	store.Driver
	left *time.Duration
}

func (d deadlines) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	end, _ := ctx.Deadline()
	*d.left = time.Until(end)
	return d.Driver.Get(ctx, keys...)
}

// The time that a gateway says a request has left holds for the handler and its calls of the store, unless the
// operation has less.
func TestTimeoutHeader(t *testing.T) {
	var left time.Duration
	open := memory.Opener()
	noting := func(ctx context.Context, name string, s store.Schema) (store.Driver, error) {
		d, err := open(ctx, name, s)
		return deadlines{d, &left}, err
	}
	f := function.New("inventory", function.Env{Store: noting})
	things := function.Collection[struct{}](f, "things")
	op := function.Operation{
		Method: http.MethodGet, Path: "/api/x", Access: function.Public, Deadline: 20 * time.Second,
	}
	function.Serve(f, op, func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
		_, err := things.Get(ctx, tx, "1")
		return nil, err
	})
	if err := f.Instance().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]time.Duration{
		"": 20 * time.Second, "10000": 10 * time.Second, "30000": 20 * time.Second, "soon": 20 * time.Second,
	} {
		r := httptest.NewRequest("GET", "/api/x", nil)
		if given != "" {
			r.Header.Set("Ebb-Timeout", given)
		}
		w := httptest.NewRecorder()
		f.Instance().ServeHTTP(w, r)
		if left > want || left < want-9*time.Second {
			t.Errorf("with %q: the store had %v, want %v: %d %s", given, left, want, w.Code, w.Body)
		}
	}
}
