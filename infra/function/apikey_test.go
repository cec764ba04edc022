package function_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// keyEvent returns the event that creates, or as change says changes, the API key of ada.
func keyEvent(h *functiontest.Harness, key string, change func(*event.ChangedAPIKey)) event.Draft {
	k := event.ChangedAPIKey{
		KeyID: "k1", Hash: apikey.Hash(key), Subject: "ada", Roles: []string{auth.RoleCustomer},
		Scopes: []string{"notes:read", "notes:write"}, Version: 1, ExpiresAt: h.Clock.Now().Add(24 * time.Hour),
	}
	if change != nil {
		change(&k)
	}
	return event.APIKeyChanged.New(k.KeyID, k)
}

func revokeKey(k *event.ChangedAPIKey) { k.Version, k.Revoked = k.Version+1, true }

// keysRevoked returns the event that API keys of ada are refused, or do not give the roles that are lost.
func keysRevoked(h *functiontest.Harness, lost []string, keys ...string) event.Draft {
	return event.AccessRevoked.New("ada", event.RevokedAccess{
		Subject: "ada", Keys: keys, Roles: lost, IssuedBefore: time.Unix(0, 0).UTC(), Until: h.Clock.Now().Add(time.Hour),
	}).Keyed("ada/access")
}

// with calls with an API key.
func (n *notes) with(key, method, path string, headers ...string) *functiontest.Response {
	n.h.T.Helper()
	return n.h.Call(method, path, functiontest.Nobody, nil, append(headers, "X-API-Key", key)...)
}

// A key is accepted once the function has learnt of it, for the operations that its scopes and roles allow, and in no
// form after that it is revoked, also by another instance on the same data.
func TestAPIKey(t *testing.T) {
	admin := func(k *event.ChangedAPIKey) { k.Roles = []string{auth.RoleAdmin} }
	reads := func(k *event.ChangedAPIKey) { k.Scopes = []string{"notes:read"} }
	other := func(k *event.ChangedAPIKey) { k.Scopes = []string{"orders:read", "notes:writ"} }
	operations := []struct{ method, path string }{
		{"GET", "/api/notes/n"}, {"PUT", "/api/notes/n"}, {"GET", "/api/notes"}, {"GET", "/api/open/n"},
		{"GET", "/api/staff/n"}, {"PUT", "/api/staff/n"},
	}
	for name, c := range map[string]struct {
		change func(*event.ChangedAPIKey)
		want   [6]int
	}{
		"a customer's":  {nil, [6]int{200, 200, 204, 200, 403, 403}},
		"an admin's":    {admin, [6]int{200, 200, 204, 200, 200, 200}},
		"one to read":   {reads, [6]int{200, 403, 204, 200, 403, 403}},
		"one elsewhere": {other, [6]int{403, 403, 403, 200, 403, 403}},
	} {
		n, key := newNotes(t), apikey.New()
		all := func(when string, want [6]int) {
			t.Helper()
			for i, op := range operations {
				if got := n.with(key, op.method, op.path); got.Status != want[i] {
					t.Errorf("%s, %s: %v: got %d, want %d: %s", name, when, op, got.Status, want[i], got.Body)
				}
				got := n.h.Call(op.method, op.path, functiontest.Nobody, nil, "Authorization", "Bearer "+key)
				if got.Status != want[i] {
					t.Errorf("%s, %s: %v as a bearer token: got %d, want %d", name, when, op, got.Status, want[i])
				}
			}
		}
		none := [6]int{401, 401, 401, 401, 401, 401}
		all("before it is known", none)
		n.h.MustDeliver(keyEvent(n.h, key, c.change))
		n.h.Restart()
		all("known", c.want)
		n.h.MustDeliver(keyEvent(n.h, key, revokeKey))
		n.h.MustDeliver(keyEvent(n.h, key, c.change)) // late
		all("revoked", none)
	}
}

// Keys that are revoked together are refused at once, before the event of each has arrived, and tokens and other keys
// of the user are not. The list is empty again when the events have arrived, whatever came first.
func TestAPIKeysRevokedTogether(t *testing.T) {
	first, second := apikey.New(), apikey.New()
	other := func(k *event.ChangedAPIKey) { k.KeyID, k.Hash = "k2", apikey.Hash(second) }
	narrowed := func(k *event.ChangedAPIKey) { k.Version, k.Roles = 2, []string{auth.RoleCustomer} }
	admin := func(k *event.ChangedAPIKey) { k.Roles = []string{auth.RoleAdmin, auth.RoleCustomer} }
	for name, c := range map[string]struct {
		lost   []string
		change func(*event.ChangedAPIKey)
		staff  int // what the key gets where a role is asked for
		want   int // and where none is
	}{
		"revoked":  {nil, revokeKey, 401, 401},
		"narrowed": {[]string{auth.RoleAdmin}, narrowed, 403, 200},
	} {
		n := newNotes(t)
		check := func(when string) {
			t.Helper()
			for path, want := range map[string]int{"/api/notes/n": c.want, "/api/staff/n": c.staff} {
				for _, method := range []string{"GET", "PUT"} {
					if got := n.with(first, method, path).Status; got != want {
						t.Errorf("%s, %s: %s %s: got %d, want %d", name, when, method, path, got, want)
					}
				}
			}
			n.with(second, "PUT", "/api/notes/n").Expect(200)
			n.h.Call("PUT", "/api/notes/n", functiontest.As("ada"), nil).Expect(200)
		}
		n.h.MustDeliver(keyEvent(n.h, first, admin))
		n.h.MustDeliver(keyEvent(n.h, second, other))
		n.with(first, "GET", "/api/staff/n").Expect(200)
		n.h.MustDeliver(keysRevoked(n.h, c.lost, "k1"))
		n.h.Restart()
		check("together")
		n.h.MustDeliver(keyEvent(n.h, first, admin)) // late
		check("after an event of before")
		n.h.MustDeliver(keyEvent(n.h, first, c.change))
		check("each")
		db, err := n.h.Store(context.Background(), "notes", n.h.I.Declaration().Schema)
		if err != nil {
			t.Fatal(err)
		}
		docs, _, err := db.Query(context.Background(), store.Query{Collection: "_revoked", Limit: 10})
		if err != nil || len(docs) != 1 || strings.Contains(string(docs[0].Data), "k1") {
			t.Errorf("%s: stored %v, %v", name, docs, err)
		}
	}
}

// A key ends with its time, to the second, and its document is removed then.
func TestAPIKeyExpires(t *testing.T) {
	n, key := newNotes(t), apikey.New()
	n.h.MustDeliver(keyEvent(n.h, key, nil))
	n.with(key, "GET", "/api/notes/n").Expect(200)
	n.h.Clock.Advance(24*time.Hour - time.Second)
	n.with(key, "GET", "/api/notes/n").Expect(200)
	n.h.Clock.Advance(time.Second)
	n.with(key, "GET", "/api/notes/n").Expect(401)
	n.h.Clock.Advance(time.Minute)
	n.h.Call("PUT", "/api/notes/n", functiontest.As("bob"), nil).Expect(200) // a unit that prunes
	db, err := n.h.Store(context.Background(), "notes", n.h.I.Declaration().Schema)
	if err != nil {
		t.Fatal(err)
	}
	docs, _, err := db.Query(context.Background(), store.Query{Collection: "_keys", Limit: 10})
	if err != nil || len(docs) > 0 {
		t.Errorf("the expired key is stored still: %v, %v", docs, err)
	}
}

// A unit that writes is refused if it is learnt after it began and before it commits that its key is revoked, has lost
// a role or a scope, and leaves nothing. One that reads tells nothing of what was committed afterwards.
func TestAPIKeyRevokedMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*event.ChangedAPIKey)
		lost   []string // with change nil: the roles that the key loses with others; none: it is revoked with them
		want   int
	}{
		"revoked":      {revokeKey, nil, 401},
		"without role": {func(k *event.ChangedAPIKey) { k.Version, k.Roles = 2, []string{auth.RoleCustomer} }, nil, 403},
		"without scope": {func(k *event.ChangedAPIKey) {
			k.Version, k.Roles, k.Scopes = 2, []string{auth.RoleAdmin}, []string{"orders:read"}
		}, nil, 403},
		"revoked with others":      {nil, nil, 401},
		"without role with others": {nil, []string{auth.RoleAdmin}, 403},
	} {
		for _, method := range []string{"GET", "PUT"} {
			for _, idempotency := range []string{"", "k"} {
				n, key := newNotes(t, functiontest.Once()), apikey.New()
				n.h.MustDeliver(keyEvent(n.h, key, func(k *event.ChangedAPIKey) { k.Roles = []string{auth.RoleAdmin} }))
				hook := &n.writes
				if method == "GET" {
					hook = &n.reads
				}
				*hook = func() {
					*hook = func() {}
					told := keyEvent(n.h, key, c.change)
					if c.change == nil {
						told = keysRevoked(n.h, c.lost, "k1")
					}
					n.h.MustDeliver(told)
					n.h.Call("PUT", "/api/notes/n-too", functiontest.As("bob"), nil).Expect(200)
				}
				var headers []string
				if idempotency != "" {
					headers = []string{"Idempotency-Key", idempotency}
				}
				got := n.with(key, method, "/api/staff/n", headers...)
				if got.Status != c.want {
					t.Errorf("%s, %s %q: got %d, want %d: %s", name, method, idempotency, got.Status, c.want, got.Body)
				}
				left := n.h.Call("GET", "/api/open/n", functiontest.Nobody, nil).Expect(200)
				if strings.Contains(string(left.Body), `"text":"n"`) {
					t.Errorf("%s, %s: the write is there: %s", name, method, left.Body)
				}
			}
		}
	}
}

// A stored response is not given to a revoked key with its Idempotency-Key.
func TestAPIKeyStoredResponse(t *testing.T) {
	n, key := newNotes(t), apikey.New()
	n.h.MustDeliver(keyEvent(n.h, key, nil))
	for range 2 {
		n.with(key, "PUT", "/api/notes/n", "Idempotency-Key", "k").Expect(200)
	}
	n.h.MustDeliver(keyEvent(n.h, key, revokeKey))
	n.with(key, "PUT", "/api/notes/n", "Idempotency-Key", "k").Expect(401)
}

// That a key is used is emitted once a day, however many requests and instances there are, and not by refusals.
func TestAPIKeyUse(t *testing.T) {
	n, key := newNotes(t), apikey.New()
	n.h.MustDeliver(keyEvent(n.h, key, nil))
	n.with(key, "PUT", "/api/staff/n").Expect(403)
	if got := n.h.Noted(); len(got) > 0 {
		t.Errorf("a refusal counts as a use: %v", got)
	}
	for day := range 2 {
		for range 3 {
			n.with(key, "GET", "/api/notes/n").Expect(200)
			n.with(key, "PUT", "/api/notes/n").Expect(200)
			n.h.Restart()
		}
		noted := n.h.Noted()
		if len(noted) != 1 || noted[0].Type() != event.APIKeyUsed.Name() {
			t.Fatalf("day %d: got %v", day, noted)
		}
		used, err := event.APIKeyUsed.Decode(noted[0])
		if want := n.h.Clock.Now().UTC().Truncate(24 * time.Hour); err != nil || used.KeyID != "k1" || !used.Day.Equal(want) {
			t.Errorf("day %d: got %+v, %v", day, used, err)
		}
		n.h.Clock.Advance(12*time.Hour + time.Minute)
	}
}

// The look-up of a key costs one call of the store before the request, and none in a unit that writes.
func TestAPIKeyReads(t *testing.T) {
	var calls []string
	open := memory.Opener()
	n := newNotes(t, func(h *functiontest.Harness) {
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return counted{db, &calls}, err
		}
	})
	key := apikey.New()
	n.h.MustDeliver(keyEvent(n.h, key, nil))
	n.with(key, "GET", "/api/notes/n").Expect(200) // notes the use
	for want, op := range map[string][2]string{
		"[get 2 get 3]":       {"GET", "/api/notes/n"},
		"[get 2 query get 2]": {"GET", "/api/notes"},
		"[get 2 get 1]":       {"PUT", "/api/notes/n"},
	} {
		calls = nil
		n.with(key, op[0], op[1])
		if got := fmt.Sprint(calls); got != want {
			t.Errorf("%v: got %s, want %s", op, got, want)
		}
	}
}

// A function without a database, and one no operation of which takes keys, refuses keys and learns of none.
func TestFunctionsThatTakeNoKeys(t *testing.T) {
	answer := func(context.Context, *function.Tx, *struct{}) (*struct{}, error) { return nil, nil }
	for name, op := range map[string]function.Operation{
		"stateless": {Method: "GET", Path: "/api/x"},
		"none":      {Method: "POST", Path: "/api/x", Scope: manifest.NoKey},
		"public":    {Method: "POST", Path: "/api/x", Access: function.Public},
	} {
		h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
			f := function.New("x", env)
			function.Serve(f, op, answer)
			return f, nil
		})
		for _, c := range h.I.Declaration().Consumes {
			if c == event.APIKeyChanged.Name() {
				t.Errorf("%s: learns of keys", name)
			}
		}
		h.Call(op.Method, op.Path, functiontest.Nobody, nil, "X-API-Key", apikey.New()).Expect(http.StatusUnauthorized)
		h.Call(op.Method, op.Path, functiontest.As("ada"), nil).Expect(http.StatusNoContent)
	}
}

// scoped accepts every request as that of a token which may be used for some scopes only.
type scoped []string

func (s scoped) Authenticate(*http.Request) (auth.Principal, error) {
	return auth.Principal{Subject: "oidc-ada", Roles: []string{auth.RoleAdmin}, Scoped: true, Scopes: s}, nil
}

// A token with scopes, of another issuer, is limited like an API key: to operations with one of its scopes.
func TestTokenWithScopes(t *testing.T) {
	for name, c := range map[string]struct {
		scopes scoped
		want   [4]int
	}{
		"all":       {scoped{"notes:read", "notes:write"}, [4]int{200, 200, 200, 200}},
		"to read":   {scoped{"notes:read"}, [4]int{200, 403, 200, 200}},
		"elsewhere": {scoped{"orders:write"}, [4]int{403, 403, 403, 200}},
		"none":      {nil, [4]int{403, 403, 403, 200}},
	} {
		n := &notes{}
		n.h = functiontest.New(t, func(env function.Env) (*function.Function, error) {
			env.Authenticator = c.scopes
			return n.declare(env)
		})
		for i, call := range []struct{ method, path string }{
			{"GET", "/api/notes/n"}, {"PUT", "/api/notes/n"}, {"GET", "/api/staff/n"}, {"GET", "/api/open/n"},
		} {
			if got := n.h.Call(call.method, call.path, functiontest.Nobody, nil); got.Status != c.want[i] {
				t.Errorf("%s: %v: got %d, want %d: %s", name, call, got.Status, c.want[i], got.Body)
			}
		}
		n.h.Call("GET", "/api/settings/notes", functiontest.Nobody, nil).Expect(403) // no key and no scope is for it
	}
}
