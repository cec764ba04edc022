package users_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

const (
	mostKeys     = 50 // of a user, good ones
	mostSessions = 20 // of a user
	mostPasskeys = 10 // of a user
)

// limited starts the function on a store that takes no larger commits than DynamoDB, with a configured admin.
func limited(t *testing.T) shop {
	t.Helper()
	vars := map[string]string{"EBB_ADMIN_EMAIL": "root@example.com", "EBB_ADMIN_PASSWORD": rootPassword}
	return shop{functiontest.New(t, users.New, functiontest.Set(vars), functiontest.CommitLimit(100)), vars}
}

// asRoot calls an operation as the configured admin, who has just proved who they are.
func (s shop) asRoot(method, path string, body any) *functiontest.Response {
	s.T.Helper()
	token := s.root().Access
	return s.recently(token, s.stepUpToken(token, m{"password": rootPassword}), method, path, body)
}

// full returns an admin with as many API keys and sessions as a user may have, the token
// of one, and a proof that it is the admin who asks.
func (s shop) full(email string) (user, string, string, []createdKey) {
	s.T.Helper()
	ada := s.register(email)
	s.asRoot("PATCH", "/api/users/"+ada.ID, m{"roles": []string{"admin", "customer"}}).Expect(200)
	var token string
	for range mostSessions {
		token = s.signIn(email).Access
	}
	proof := s.stepUpToken(token, m{"password": password})
	robot := m{"name": "robot", "roles": []string{"admin", "customer"}, "scopes": []string{"users:read"}}
	var keys []createdKey
	for round := range 2 { // the first ones are revoked, and stay on the list
		for range mostKeys {
			var k createdKey
			s.recently(token, proof, "POST", "/api/api-keys", robot).Expect(201).JSON(&k)
			if keys = append(keys, k); round == 0 {
				s.with(token, "DELETE", "/api/api-keys/"+k.ID, nil).Expect(204)
			}
		}
	}
	s.recently(token, proof, "POST", "/api/api-keys", robot).Expect(409)
	s.addPasskeys(ada.ID)
	s.AllEmitted()
	return ada, token, proof, keys[mostKeys:]
}

// addPasskeys stores as many passkeys of a user as there may be.
func (s shop) addPasskeys(user string) {
	s.T.Helper()
	db, err := s.Store(s.T.Context(), "users", s.I.Declaration().Schema)
	if err != nil {
		s.T.Fatal(err)
	}
	defer db.Close()
	key := store.Key{Collection: "credentials", ID: "of-" + user}
	docs, err := db.Get(s.T.Context(), key)
	if err != nil {
		s.T.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(docs[0].Data, &c); err != nil {
		s.T.Fatal(err)
	}
	b, ids := store.Batch{}, []string{}
	for n := range mostPasskeys {
		ids = append(ids, fmt.Sprint("passkey-", n))
		b.Mutations = append(b.Mutations, store.Mutation{
			Key: store.Key{Collection: "passkeys", ID: ids[n]}, Version: 1, Data: []byte(`{"user_id":"` + user + `"}`),
		})
	}
	c["passkeys"] = ids
	data, err := json.Marshal(c)
	if err != nil {
		s.T.Fatal(err)
	}
	b.Mutations = append(b.Mutations, store.Mutation{Key: key, Version: docs[0].Version + 1, Data: data})
	if err := db.Commit(s.T.Context(), b); err != nil {
		s.T.Fatal(err)
	}
}

// probe calls users with an API key, and returns the status: 200 for a key of an admin, 403 for one without the role.
func (s shop) probe(k createdKey) int {
	s.T.Helper()
	return s.Call("GET", "/api/outbox/users", functiontest.Nobody, nil, "X-API-Key", k.Key).Status
}

// portions hands the function its own commands until there are none, and returns all events that it has emitted, and
// how many commands there were. Between the commands it calls check.
func (s shop) portions(check func()) (all []ce.Event, commands int) {
	s.T.Helper()
	for {
		emitted := s.AllEmitted()
		all = append(all, emitted...)
		next := slices.DeleteFunc(emitted, func(e ce.Event) bool { return e.Type() != event.APIKeysNarrow.Name() })
		if len(next) == 0 {
			return all, commands
		}
		for _, e := range next {
			commands++
			check()
			if r := s.Receive(e, e.Clone()); !r[0].OK() || !r[1].OK() {
				s.T.Fatalf("got %+v", r)
			}
		}
	}
}

// A user may have more API keys and sessions than one commit of a database changes. What takes the power of all of them
// works all the same: all keys are refused at once, and revoked in portions.
func TestLargestAccount(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(s shop, ada user, token, proof string)
		want int // what a key gets then
	}{
		"deleted": {func(s shop, ada user, token, proof string) {
			s.recently(token, proof, "DELETE", "/api/users/"+ada.ID, nil).Expect(204)
		}, 401},
		"demoted": {func(s shop, ada user, _, _ string) {
			s.asRoot("PATCH", "/api/users/"+ada.ID, m{"roles": []string{"customer"}}).Expect(200)
		}, 403},
		"another password by an admin": {func(s shop, ada user, _, _ string) {
			s.with(s.root().Access, "PATCH", "/api/users/"+ada.ID,
				m{"password": "third horse battery", "current_password": rootPassword}).Expect(200)
		}, 401},
		"a mailed reset": {func(s shop, _ user, _, _ string) {
			s.askReset("ada@example.com").Expect(202)
			s.reset(one(s, mailed(s, events.UserPasswordResetRequested)).Token, "third horse battery").Expect(204)
		}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			s := limited(t)
			ada, token, proof, keys := s.full("ada@example.com")
			probe := func() {
				t.Helper()
				for _, k := range keys {
					if got := s.probe(k); got != c.want {
						t.Fatalf("a key gets %d, want %d", got, c.want)
					}
				}
			}
			if got := s.probe(keys[0]); got != 200 {
				t.Fatalf("a key gets %d before", got)
			}
			c.act(s, ada, token, proof)
			emitted, commands := s.portions(probe)
			if commands == 0 {
				t.Error("all of it fits one commit: the test shows nothing")
			}
			probe()
			told := map[string]bool{}
			for _, change := range changes(t, emitted) {
				narrowed := slices.Equal(change.Roles, []string{"customer"})
				if change.Version != 2 || change.Revoked != (c.want == 401) || !change.Revoked && !narrowed || told[change.KeyID] {
					t.Errorf("told %+v", change)
				}
				told[change.KeyID] = true
			}
			if len(told) != len(keys) {
				t.Errorf("%d keys are told, want %d", len(told), len(keys))
			}
			s.leavesNoList()
		})
	}
}

// leavesNoList checks that nothing names API keys that are refused: each of them has its own document for that now.
func (s shop) leavesNoList() {
	s.T.Helper()
	for line := range strings.Lines(s.stored()) {
		if strings.HasPrefix(line, "_revoked/") && strings.Contains(line, `"keys":{"`) {
			s.T.Errorf("stored %s", line)
		}
	}
}
