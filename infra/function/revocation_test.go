package function_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// note is what the function of these tests stores.
type note struct {
	Text string `json:"text"`
}

type noteOutput struct {
	Body struct {
		Text  string   `json:"text"`
		Roles []string `json:"roles"`
	}
}

type noteInput struct {
	ID string `path:"id"`
}

// notes is a function with an operation of every kind. Its hooks run in the handlers, after what they have read.
type notes struct {
	h             *functiontest.Harness
	reads, writes func() // nil: nothing
}

func newNotes(t *testing.T, options ...functiontest.Option) *notes {
	n := &notes{}
	n.h = functiontest.New(t, n.declare, options...)
	return n
}

func (n *notes) declare(env function.Env) (*function.Function, error) {
	f := function.New("notes", env)
	all := function.Collection[note](f, "notes", store.On("text"))
	show := func(ctx context.Context, tx *function.Tx, in *noteInput) (*noteOutput, error) {
		got, _, err := all.Find(ctx, tx, in.ID)
		if err != nil {
			return nil, err
		}
		if n.reads != nil {
			n.reads()
			if got, _, err = all.Find(ctx, tx, in.ID+"-too"); err != nil {
				return nil, err
			}
		}
		out := &noteOutput{}
		out.Body.Text, out.Body.Roles = got.Text, tx.Principal().Roles
		if !slices.Equal(auth.From(ctx).Roles, tx.Principal().Roles) {
			return nil, fmt.Errorf("the context has %v", auth.From(ctx).Roles)
		}
		return out, nil
	}
	list := func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
		_, err := all.Query(ctx, tx, store.Find{Limit: 10})
		return nil, err
	}
	write := func(ctx context.Context, tx *function.Tx, in *noteInput) (*noteOutput, error) {
		if n.writes != nil {
			n.writes()
		}
		out := &noteOutput{}
		out.Body.Roles = tx.Principal().Roles
		return out, all.Put(ctx, tx, in.ID, note{in.ID})
	}
	admins := function.Only(auth.RoleAdmin)
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/notes/{id}"}, show)
	function.Serve(f, function.Operation{Method: "PUT", Path: "/api/notes/{id}"}, write)
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/notes"}, list)
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/staff/{id}", Access: admins}, show)
	function.Serve(f, function.Operation{Method: "PUT", Path: "/api/staff/{id}", Access: admins}, write)
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/open/{id}", Access: function.Public}, show)
	return f, nil
}

// revocation returns the event that revokes, at the time of the harness, what change leaves of the event's data.
func revocation(h *functiontest.Harness, subject string, change func(*event.RevokedAccess)) event.Draft {
	now := h.Clock.Now().Truncate(time.Second)
	r := event.RevokedAccess{Subject: subject, IssuedBefore: now.Add(time.Second), Until: now.Add(15 * time.Minute)}
	if change != nil {
		change(&r)
	}
	return event.AccessRevoked.New(subject, r).Keyed(subject + "/access")
}

func lost(roles ...string) func(*event.RevokedAccess) {
	return func(r *event.RevokedAccess) { r.Roles = roles }
}

// Every kind of operation refuses what is revoked, and nothing else.
func TestRevoked(t *testing.T) {
	ada := auth.Principal{Subject: "ada", Roles: []string{auth.RoleAdmin, auth.RoleCustomer}, Session: "s1"}
	other, bob := ada, ada
	other.Session, bob.Subject = "s2", "bob"
	ends := func(r *event.RevokedAccess) { r.Sessions = []string{"s1"} }
	operations := []struct{ method, path string }{
		{"GET", "/api/notes/n"}, {"PUT", "/api/notes/n"}, {"GET", "/api/notes"}, {"GET", "/api/open/n"},
		{"GET", "/api/staff/n"}, {"PUT", "/api/staff/n"},
	}
	for name, c := range map[string]struct {
		who    auth.Principal
		change func(*event.RevokedAccess)
		want   [6]int
	}{
		"all tokens":        {ada, nil, [6]int{401, 401, 401, 401, 401, 401}},
		"another's":         {bob, nil, [6]int{200, 200, 204, 200, 200, 200}},
		"the session":       {ada, ends, [6]int{401, 401, 401, 401, 401, 401}},
		"another session":   {other, ends, [6]int{200, 200, 204, 200, 200, 200}},
		"the role":          {ada, lost(auth.RoleAdmin), [6]int{200, 200, 204, 200, 403, 403}},
		"a role without it": {ada, lost("editor"), [6]int{200, 200, 204, 200, 200, 200}},
	} {
		n := newNotes(t)
		call := func(i int, headers ...string) *functiontest.Response {
			return n.h.Call(operations[i].method, operations[i].path, c.who, nil, headers...)
		}
		token := n.h.Token(c.who)
		for i, want := range []int{200, 200, 204, 200, 200, 200} {
			call(i).Expect(want)
		}
		n.h.MustDeliver(revocation(n.h, "ada", c.change))
		n.h.Restart() // what was learnt is stored
		for i, want := range c.want {
			got := call(i)
			if got.Status != want {
				t.Errorf("%s: %v: got %d, want %d: %s", name, operations[i], got.Status, want, got.Body)
			}
			if got.Status == 200 && name == "the role" && !strings.Contains(string(got.Body), `["customer"]`) {
				t.Errorf("%v: a handler saw the role that is lost: %s", operations[i], got.Body)
			}
		}
		n.h.Clock.Advance(2 * time.Second)
		if name != "the session" && call(5).Status != 200 {
			t.Errorf("%s: a token that was issued afterwards is refused", name)
		}
		if n.h.Token(c.who) == token {
			t.Fatal("the tokens are the same")
		}
		n.h.Call("GET", "/api/open/n", functiontest.Nobody, nil).Expect(200)
	}
}

// A unit that writes is refused if the revocation is learnt after it began and before it commits, and leaves nothing.
func TestRevokedWhileWriting(t *testing.T) {
	for _, path := range []string{"/api/notes/n", "/api/staff/n"} {
		n := newNotes(t, functiontest.Once())
		n.writes = func() {
			n.writes = nil
			n.h.MustDeliver(revocation(n.h, "admin", nil))
		}
		n.h.Call("PUT", path, functiontest.Admin(), nil).Expect(401)
		n.h.Call("GET", "/api/open/n", functiontest.Nobody, nil).Expect(200)
		if got := n.h.Call("GET", "/api/open/n", functiontest.Nobody, nil); strings.Contains(string(got.Body), `"text":"n"`) {
			t.Errorf("%s: the write is there: %s", path, got.Body)
		}
	}
	n := newNotes(t, functiontest.Once())
	n.writes = func() {
		n.writes = nil
		n.h.MustDeliver(revocation(n.h, "admin", lost(auth.RoleAdmin)))
	}
	n.h.Call("PUT", "/api/staff/n", functiontest.Admin(), nil).Expect(403)
}

// A handler that reads more after the revocation was learnt tells nothing of it.
func TestRevokedWhileReading(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*event.RevokedAccess)
		want   int
	}{"all tokens": {nil, 401}, "the role": {lost(auth.RoleAdmin), 403}} {
		n := newNotes(t)
		n.reads = func() {
			n.reads = func() {}
			n.h.MustDeliver(revocation(n.h, "admin", c.change))
			n.h.Call("PUT", "/api/notes/n-too", functiontest.As("bob"), nil).Expect(200)
		}
		if got := n.h.Call("GET", "/api/staff/n", functiontest.Admin(), nil); got.Status != c.want {
			t.Errorf("%s: got %d, want %d: %s", name, got.Status, c.want, got.Body)
		}
	}
}

// A stored response is not given to a revoked token with its key.
func TestRevokedStoredResponse(t *testing.T) {
	n := newNotes(t)
	n.h.Call("PUT", "/api/notes/n", functiontest.As("ada"), nil, "Idempotency-Key", "k").Expect(200)
	n.h.Call("PUT", "/api/notes/n", functiontest.As("ada"), nil, "Idempotency-Key", "k").Expect(200)
	n.h.MustDeliver(revocation(n.h, "ada", nil))
	n.h.Call("PUT", "/api/notes/n", functiontest.As("ada"), nil, "Idempotency-Key", "k").Expect(401)
}

// counted is a store that counts what is asked of it.
type counted struct {
	store.Driver
	calls *[]string
}

func (c counted) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	*c.calls = append(*c.calls, fmt.Sprint("get ", len(keys)))
	return c.Driver.Get(ctx, keys...)
}

func (c counted) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	*c.calls = append(*c.calls, "query")
	return c.Driver.Query(ctx, q)
}

// The check costs one key in a read that happens anyway, where a read of documents or of a key happens.
func TestRevocationReads(t *testing.T) {
	var calls []string
	open := memory.Opener()
	n := newNotes(t, func(h *functiontest.Harness) {
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return counted{db, &calls}, err
		}
	})
	n.h.Call("PUT", "/api/notes/n", functiontest.As("ada"), nil) // from time to time one also looks for what has expired
	for _, c := range []struct{ method, path, key, want string }{
		{"GET", "/api/notes/n", "", "[get 2]"},
		{"PUT", "/api/notes/n", "k", "[get 2 get 1]"}, // with the key's response; then what is replaced
		{"PUT", "/api/notes/n", "", "[get 1 get 1]"},  // one more call
		{"GET", "/api/notes", "", "[query get 1]"},    // one more call
	} {
		calls = nil
		n.h.Call(c.method, c.path, functiontest.As("ada"), nil, "Idempotency-Key", c.key)
		if got := fmt.Sprint(calls); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.method, c.path, got, c.want)
		}
	}
	calls = nil
	n.h.Call("GET", "/api/open/n", functiontest.Nobody, nil).Expect(200)
	if got := fmt.Sprint(calls); got != "[get 1]" {
		t.Errorf("a request without a token: got %s", got)
	}
}

// revoked returns what a function stores of revocations.
func revoked(t *testing.T, h *functiontest.Harness) []store.Document {
	t.Helper()
	var docs []store.Document
	err := h.F.Read(t.Context(), func(ctx context.Context, tx *function.Tx) (err error) {
		docs, _, err = tx.StoreTx().Query(ctx, store.Query{Collection: "_revoked", Limit: 100})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// What is revoked is stored until its tokens have expired, and one that came too late is not stored.
func TestRevocationsArePruned(t *testing.T) {
	n := newNotes(t, functiontest.Once()) // a rehearsal would count as the time to look
	sweep := func() { n.h.MustDeliver(event.ClockSwept.New("clock", event.SweptClock{At: n.h.Clock.Now()})) }
	n.h.MustDeliver(revocation(n.h, "ada", nil))
	n.h.Clock.Advance(10 * time.Minute)
	n.h.MustDeliver(revocation(n.h, "bob", nil))
	sweep()
	if got := revoked(t, n.h); len(got) != 2 {
		t.Errorf("after 10 minutes: got %v", got)
	}
	n.h.Clock.Advance(6 * time.Minute)
	sweep()
	if got := revoked(t, n.h); len(got) != 1 {
		t.Errorf("after 16 minutes: got %v", got)
	}
	n.h.MustDeliver(revocation(n.h, "eve", func(r *event.RevokedAccess) { r.Until = n.h.Clock.Now() }))
	n.h.Clock.Advance(time.Hour)
	sweep()
	if got := revoked(t, n.h); len(got) != 0 {
		t.Errorf("in the end: got %v", got)
	}
}

// A function takes part if it has a database and an operation that is not public. One that revokes tokens itself does
// not need the event.
func TestWhoLearnsRevocations(t *testing.T) {
	closed := function.Operation{Method: "GET", Path: "/api/notes"}
	stores := func(f *function.Function) { function.Collection[note](f, "notes") }
	revokes := func(f *function.Function) { function.Emits(f, event.AccessRevoked) }
	open := closed
	open.Access = function.Public
	for name, c := range map[string]struct {
		op     function.Operation
		with   func(*function.Function)
		learns bool
	}{
		"a database and a closed operation": {closed, stores, true},
		"an open operation":                 {open, stores, false},
		"no database":                       {closed, func(*function.Function) {}, false},
		"the one that revokes":              {closed, revokes, false},
	} {
		d, err := function.Declare(func(env function.Env) (*function.Function, error) {
			f := function.New("notes", env)
			function.Serve(f, c.op, func(context.Context, *function.Tx, *struct{}) (*struct{}, error) { return nil, nil })
			c.with(f)
			return f, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		keepsOwn := name == "the one that revokes"
		consumes := slices.Contains(d.Consumes, event.AccessRevoked.Name())
		_, keeps := d.Schema.Spec("_revoked")
		typed := slices.Contains(d.Types, event.AccessRevoked.Info())
		filters, _ := json.Marshal(d.Subscription.Filters)
		triggered := strings.Contains(string(filters), event.AccessRevoked.Name())
		if consumes != c.learns || keeps != (c.learns || keepsOwn) || triggered != c.learns || !typed && c.learns {
			t.Errorf("%s: consumes %v, stores %v, trigger %v, type %v", name, consumes, keeps, triggered, typed)
		}
	}
}

// A function that revokes tokens refuses them itself at operations that need a role, such as those that the kit has
// added, from the commit on.
func TestRevokerRefusesAtOnce(t *testing.T) {
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("accounts", env)
		function.Emits(f, event.AccessRevoked)
		end := function.Operation{Method: "DELETE", Path: "/api/accounts/{id}"}
		function.Serve(f, end, func(_ context.Context, tx *function.Tx, in *struct {
			ID string `path:"id"`
		}) (*struct{}, error) {
			tx.Emit(event.AccessRevoked.New(in.ID, event.RevokedAccess{
				Subject: in.ID, IssuedBefore: tx.Now().Add(time.Hour), Until: tx.Now().Add(time.Hour),
			}))
			return nil, nil
		})
		return f, nil
	})
	eve := auth.Principal{Subject: "eve", Roles: []string{"admin"}}
	if got := h.Call("GET", "/api/outbox/accounts", eve, nil); got.Status != 200 {
		t.Fatalf("before: got %d", got.Status)
	}
	if got := h.Call("DELETE", "/api/accounts/eve", eve, nil); got.Status >= 300 {
		t.Fatalf("the revocation: got %d %s", got.Status, got.Body)
	}
	if got := h.Call("GET", "/api/outbox/accounts", eve, nil); got.Status != 401 {
		t.Errorf("after: got %d", got.Status)
	}
	h.Clock.Advance(2 * time.Hour)
	if got := h.Call("GET", "/api/outbox/accounts", eve, nil); got.Status != 200 {
		t.Errorf("a later token: got %d", got.Status)
	}
}

// A function that consumes every event handles revocations too, besides learning them, and one that it cannot learn.
func TestRevocationForAnyHandler(t *testing.T) {
	var got []string
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("log", env)
		function.OnAny(f, func(_ context.Context, _ *function.Tx, e ce.Event) error {
			got = append(got, e.ID())
			return nil
		})
		function.Serve(f, function.Operation{Method: "GET", Path: "/api/log"},
			func(context.Context, *function.Tx, *struct{}) (*struct{}, error) { return nil, nil })
		return f, nil
	}, functiontest.Once())
	malformed := h.Event(revocation(h, "ada", nil))
	if err := malformed.SetData(ce.ApplicationJSON, []byte(`{"subject":7}`)); err != nil {
		t.Fatal(err)
	}
	good := h.Event(revocation(h, "ada", nil))
	for _, r := range h.Receive(malformed, good) {
		if r.Status != http.StatusOK {
			t.Errorf("got %+v", r)
		}
	}
	if !slices.Equal(got, []string{malformed.ID(), good.ID()}) {
		t.Errorf("handled: %v", got)
	}
	h.Call("GET", "/api/log", functiontest.As("ada"), nil).Expect(401)
	h.Call("GET", "/api/log", functiontest.As("bob"), nil).Expect(204)

	n := newNotes(t)
	if r := n.h.Receive(malformed); r[0].Status != http.StatusUnprocessableEntity {
		t.Errorf("a function that does not take any event: got %+v", r)
	}
}
