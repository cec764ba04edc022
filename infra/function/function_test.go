package function_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// orderRef is the data of the events in these tests.
type orderRef struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

var (
	example = event.NewNamespace("com.example", "https://example.com/schemas/")

	orderShip    = event.Define(example, "inventory.ship", 1, event.Command, "Ship an order.", orderRef{"o1"})
	orderShipped = event.Define(example, "inventory.shipped", 1, event.Fact, "An order was shipped.", orderRef{"o1"})
)

// counter is what the function of these tests counts under a name.
type counter struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

type countInput struct {
	Name string `path:"name" maxLength:"20"`
	Body struct {
		By int `json:"by" minimum:"1" maximum:"100"`
	}
}

type countOutput struct {
	Location string `header:"Location"`
	Body     counter
}

// counting makes a function called inventory that adds to counters, by requests and by events.
func counting(env function.Env) (*function.Function, error) {
	f := function.New("inventory", env)
	counters := function.Collection[counter](f, "counters", store.On("n"))
	function.Emits(f, orderShipped)
	add := func(ctx context.Context, tx *function.Tx, name string, by int) (counter, error) {
		c, _, err := counters.Find(ctx, tx, name)
		if err != nil {
			return c, err
		}
		c.Name, c.N = name, c.N+by
		tx.Emit(orderShipped.New(name, orderRef{OrderID: orderID}))
		return c, counters.Put(ctx, tx, name, c)
	}
	function.Serve(f, function.Operation{Method: "POST", Path: "/api/counters/{name}", Status: 201},
		func(ctx context.Context, tx *function.Tx, in *countInput) (*countOutput, error) {
			switch in.Name {
			case "panic":
				panic("on purpose")
			case "secret":
				return nil, errors.New("the password is hunter2")
			case "revoked":
				if _, err := add(ctx, tx, in.Name, in.Body.By); err != nil {
					return nil, err
				}
				return nil, function.CommitThen(fault.New(fault.Unauthenticated, "revoked"))
			}
			c, err := add(ctx, tx, in.Name, in.Body.By)
			return &countOutput{Location: "/api/counters/" + in.Name, Body: c}, err
		})
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/counters/{name}", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *struct {
			Name string `path:"name"`
		}) (*countOutput, error) {
			c, err := counters.Get(ctx, tx, in.Name)
			return &countOutput{Body: c}, err
		})
	function.On(f, orderShip, func(ctx context.Context, tx *function.Tx, cmd orderRef) error {
		switch tx.Event().Subject() {
		case "not-yet":
			return fault.New(fault.NotYet, "too early")
		case "never":
			return fault.New(fault.NotFound, "no such thing")
		case "panic":
			panic("on purpose")
		}
		_, err := add(ctx, tx, tx.Event().Subject(), 1)
		return err
	})
	return f, nil
}

const orderID = "0190b5a0-0000-7000-8000-000000000001"

func ship(subject string) event.Draft {
	return orderShip.New(subject, orderRef{OrderID: orderID})
}

func count(t *testing.T, h *functiontest.Harness, name string) int {
	t.Helper()
	var c counter
	r := h.Call("GET", "/api/counters/"+name, functiontest.Nobody, nil)
	if r.Status == http.StatusNotFound {
		return 0
	}
	r.Expect(200).JSON(&c)
	return c.N
}

// The trace of a message goes along with its events, the part of the vendors included: of an event and of a request.
func TestTracestate(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	h := functiontest.New(t, counting)
	e := h.Event(ship("a"))
	e.SetExtension(event.TraceParent, parent)
	e.SetExtension(event.TraceState, "vendor=1")
	h.Receive(e)
	h.Call("POST", "/api/counters/a", functiontest.As("u1"), `{"by":3}`, "Traceparent", parent, "Tracestate", "vendor=1").
		Expect(201)
	said := h.Emitted()
	if len(said) != 2 {
		t.Fatalf("got %d events, want 2", len(said))
	}
	for _, e := range said {
		if got := e.Extensions(); got[event.TraceState] != "vendor=1" || !strings.Contains(got[event.TraceParent].(string),
			"0af7651916cd43dd8448eb211c80319c") {
			t.Errorf("got %v", got)
		}
	}
}

// A request commits its state and its events together, and the events carry what the kit stamps.
func TestRequest(t *testing.T) {
	h := functiontest.New(t, counting)
	r := h.Call("POST", "/api/counters/a", functiontest.As("u1"), `{"by":3}`).Expect(201)
	if got := r.Header.Get("Location"); got != "/api/counters/a" {
		t.Errorf("got Location %q", got)
	}
	if got := count(t, h, "a"); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
	said := h.Emitted()
	if len(said) != 1 {
		t.Fatalf("got %d events, want 1", len(said))
	}
	e := said[0]
	if e.Source() != "/functions/inventory" || e.Subject() != "a" || e.Extensions()["partitionkey"] != "a" ||
		e.Extensions()["sequence"] != "1" || e.Extensions()["correlationid"] == nil || e.Validate() != nil {
		t.Errorf("got event %v", e)
	}
}

// The same key gives the same answer and the effect happens once; with another body it is refused.
func TestIdempotencyKey(t *testing.T) {
	h := functiontest.New(t, counting)
	key := []string{"Idempotency-Key", "k1"}
	first := h.Call("POST", "/api/counters/a", functiontest.As("u1"), `{"by":3}`, key...).Expect(201)
	h.Restart()
	again := h.Call("POST", "/api/counters/a", functiontest.As("u1"), `{"by":3}`, key...).Expect(201)
	if string(first.Body) != string(again.Body) || again.Header.Get("Location") == "" {
		t.Errorf("got %s then %s", first.Body, again.Body)
	}
	h.Call("POST", "/api/counters/a", functiontest.As("u1"), `{"by":4}`, key...).Expect(422)
	h.Call("POST", "/api/counters/a", functiontest.As("u2"), `{"by":4}`, key...).Expect(201)
	if got := count(t, h, "a"); got != 7 {
		t.Errorf("got %d, want 7", got)
	}
	if got := len(h.Emitted()); got != 2 {
		t.Errorf("got %d events, want 2", got)
	}
}

// Whatever is wrong with a request is a problem document that says so, and nothing happens.
func TestBadRequests(t *testing.T) {
	h := functiontest.New(t, counting)
	u := functiontest.As("u1")
	for name, c := range map[string]struct {
		method, path, body string
		who                bool
		status             int
		says               string
	}{
		"no token":      {"POST", "/api/counters/a", `{"by":1}`, false, 401, "bearer token"},
		"unknown path":  {"GET", "/api/nothing", "", true, 404, "nothing at"},
		"wrong method":  {"DELETE", "/api/counters/a", "", true, 405, "not allowed"},
		"malformed":     {"POST", "/api/counters/a", `{"by":`, true, 400, ""},
		"bad UTF-8":     {"POST", "/api/counters/a", "{\"by\":1,\"x\":\"\xff\"}", true, 400, "UTF-8"},
		"wrong type":    {"POST", "/api/counters/a", `{"by":"1"}`, true, 422, "by"},
		"out of range":  {"POST", "/api/counters/a", `{"by":101}`, true, 422, "by"},
		"missing":       {"POST", "/api/counters/a", `{}`, true, 422, "by"},
		"unknown field": {"POST", "/api/counters/a", `{"by":1,"bye":1}`, true, 422, "bye"},
		"another case":  {"POST", "/api/counters/a", `{"by":1,"By":101}`, true, 422, "By"},
		"only so":       {"POST", "/api/counters/a", `{"BY":1}`, true, 422, "BY"},
		"twice":         {"POST", "/api/counters/a", `{"by":101,"by":1}`, true, 400, "by"},
		"a blank":       {"POST", "/api/counters/%20", `{"by":1}`, true, 422, "cannot emit"},
		"a control":     {"POST", "/api/counters/a%0Ab", `{"by":1}`, true, 422, "control character"},
		"unknown query": {"GET", "/api/counters/a?x=1", "", true, 422, "x"},
		"too large":     {"POST", "/api/counters/a", `{"by":1` + strings.Repeat(" ", 1<<20) + `}`, true, 413, "larger"},
		"a panic":       {"POST", "/api/counters/panic", `{"by":1}`, true, 500, "our side"},
		"a secret":      {"POST", "/api/counters/secret", `{"by":1}`, true, 500, "our side"},
	} {
		t.Run(name, func(t *testing.T) {
			who := u
			if !c.who {
				who = functiontest.Nobody
			}
			r := h.Call(c.method, c.path, who, c.body).Expect(c.status)
			if got := r.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("got content type %q", got)
			}
			if !strings.Contains(string(r.Body), c.says) || strings.Contains(string(r.Body), "hunter2") {
				t.Errorf("got %s", r.Body)
			}
		})
	}
	if got := len(h.Emitted()); got != 0 {
		t.Errorf("got %d events, want none", got)
	}
}

// A refusal can keep what the handler wrote, and tells the gateway so.
func TestCommitThen(t *testing.T) {
	h := functiontest.New(t, counting)
	r := h.Call("POST", "/api/counters/revoked", functiontest.As("u1"), `{"by":3}`).Expect(401)
	if r.Header.Get("Ebb-Committed") != "true" {
		t.Errorf("got %v", r.Header)
	}
	for _, body := range []string{`{"by":"x"}`, `{"by":3}`} {
		r := h.Call("POST", "/api/counters/none", functiontest.Nobody, body)
		if r.Status < 400 || r.Header.Get("Ebb-Committed") != "" {
			t.Errorf("%s: got %d %v", body, r.Status, r.Header)
		}
	}
	if got := count(t, h, "revoked"); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
}

// An event that comes twice, in one batch or later or after a restart, is handled once.
func TestInbox(t *testing.T) {
	h := functiontest.New(t, counting)
	e := h.Event(ship("a"))
	h.Receive(e, e)
	h.Receive(e)
	h.Restart()
	for _, r := range h.Receive(e) {
		if !r.OK() {
			t.Errorf("got %+v for a duplicate", r)
		}
	}
	if got := count(t, h, "a"); got != 1 {
		t.Errorf("got %d, want 1", got)
	}
	if got := len(h.Emitted()); got != 1 {
		t.Errorf("got %d events, want 1", got)
	}
}

// In a batch one event's failure is its own, and holds back later ones of its key only.
func TestBatch(t *testing.T) {
	h := functiontest.New(t, counting)
	late := ship("a").Keyed("not-yet")
	results := h.Deliver(ship("a"), ship("not-yet"), late, ship("never"), ship("panic"), ship("b"))
	want := []int{200, 503, 0, 422, 500, 200}
	for i, r := range results {
		if r.Status != want[i] || r.Skipped != (want[i] == 0) {
			t.Errorf("event %d: got %+v, want status %d", i, r, want[i])
		}
	}
	if a, b := count(t, h, "a"), count(t, h, "b"); a != 1 || b != 1 {
		t.Errorf("got a=%d b=%d, want 1 and 1", a, b)
	}
}

// What nobody hears, or is no event at all, or breaks its schema, is final and says why.
func TestBadEvents(t *testing.T) {
	h := functiontest.New(t, counting)
	unknown, noID, broken, version := h.Event(ship("a")), h.Event(ship("a")), h.Event(ship("a")), h.Event(ship("a"))
	unknown.SetType("com.example.inventory.shrink.v1")
	noID.SetID("")
	broken.DataEncoded = []byte(`{"order_id":7}`)
	version.SetType("com.example.inventory.ship.v9")
	for i, r := range h.Receive(unknown, noID, broken, version) {
		if r.Status != 422 || r.Message == "" {
			t.Errorf("event %d: got %+v", i, r)
		}
	}
}

// When the broker does not take the events of a change, the change is done all the same, and a repeated key publishes
// them.
func TestOutboxKeepsWhatCouldNotBePublished(t *testing.T) {
	h := functiontest.New(t, counting)
	h.RefuseToPublish(errors.New("broker down"))
	key := []string{"Idempotency-Key", "k1"}
	h.Call("POST", "/api/counters/a", functiontest.As("u1"), `{"by":3}`, key...).Expect(201)
	h.RefuseToPublish(nil)
	h.Call("POST", "/api/counters/a", functiontest.As("u1"), `{"by":3}`, key...).Expect(201)
	if got := len(h.Emitted()); got != 1 {
		t.Errorf("got %d events, want 1", got)
	}
	if got := count(t, h, "a"); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
}

// An event that comes twice in one batch is acknowledged neither time while what its handler emitted is not published.
func TestTwiceInABatch(t *testing.T) {
	h := functiontest.New(t, counting)
	e := h.Event(ship("a"))
	h.RefuseToPublish(errors.New("broker down"))
	for i, r := range h.Receive(e, e) {
		if r.OK() {
			t.Errorf("copy %d is acknowledged", i)
		}
	}
	h.RefuseToPublish(nil)
	if r := h.Receive(e, e); !r[0].OK() || !r[1].OK() || len(h.Emitted()) != 1 {
		t.Errorf("got %+v", r)
	}
}

// A function that stopped after its commit publishes what is left when it wakes up.
func TestWakeUpPublishesTheOutbox(t *testing.T) {
	h := functiontest.New(t, counting)
	h.RefuseToPublish(errors.New("broker down"))
	h.Deliver(ship("a"))
	h.RefuseToPublish(nil)
	h.Restart()
	if got := len(h.Emitted()); got != 0 {
		t.Errorf("got %d events that another instance may be publishing, want none", got)
	}
	h.Clock.Advance(10 * time.Second)
	h.Restart()
	if got := len(h.Emitted()); got != 1 {
		t.Errorf("got %d events, want 1", got)
	}
	h.Restart()
	if got := len(h.Emitted()); got != 0 {
		t.Errorf("got %d events again, want none", got)
	}
}

// unsure is a database that has made a commit and says that it has not, once.
type unsure struct {
	store.Driver
	once *bool
}

func (u unsure) Commit(ctx context.Context, b store.Batch) error {
	err := u.Driver.Commit(ctx, b)
	if err == nil && *u.once && len(b.Mutations) > 0 {
		*u.once = false
		err = fault.New(fault.Unavailable, "the database does not answer")
	}
	return err
}

// A repeated key publishes what its request has left, and is answered as done also while that fails.
func TestIdempotencyKeyPublishesWhatIsLeft(t *testing.T) {
	once := false
	h := functiontest.New(t, counting, functiontest.Once(), func(h *functiontest.Harness) {
		open := h.Store
		h.Store = func(ctx context.Context, name string, s store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, s)
			return unsure{db, &once}, err
		}
	})
	once = true
	add := func() *functiontest.Response {
		return h.Call("POST", "/api/counters/a", functiontest.As("ada"), map[string]any{"by": 2}, "Idempotency-Key", "k")
	}
	add().Expect(http.StatusServiceUnavailable)
	if said := h.Emitted(); len(said) != 0 {
		t.Fatalf("got %v", functiontest.Types(said))
	}
	h.RefuseToPublish(errors.New("the broker is not there"))
	add().Expect(http.StatusCreated)
	h.RefuseToPublish(nil)
	add().Expect(http.StatusCreated)
	if said := h.Emitted(); len(said) != 1 {
		t.Fatalf("got %v", functiontest.Types(said))
	}
	if n := count(t, h, "a"); n != 2 {
		t.Fatalf("counted to %d", n)
	}
}

// What a commit left whose answer was lost is published by the next unit of work, whatever that is about.
func TestNextUnitPublishesWhatIsLeft(t *testing.T) {
	once := false
	h := functiontest.New(t, counting, functiontest.Once(), func(h *functiontest.Harness) {
		open := h.Store
		h.Store = func(ctx context.Context, name string, s store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, s)
			return unsure{db, &once}, err
		}
	})
	once = true
	h.Call("POST", "/api/counters/a", functiontest.As("ada"),
		map[string]any{"by": 2}).Expect(http.StatusServiceUnavailable)
	h.Call("POST", "/api/counters/b", functiontest.As("ada"), map[string]any{"by": 2}).Expect(http.StatusCreated)
	if said := h.Emitted(); len(said) != 2 || said[0].Subject() != "a" || said[1].Subject() != "b" {
		t.Fatalf("got %v", functiontest.Types(said))
	}
}
