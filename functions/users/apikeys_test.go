package users_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
)

type createdKey struct {
	ID, Key, Name string
	Roles, Scopes []string
	UserID        string     `json:"user_id"`
	ExpiresAt     time.Time  `json:"expires_at"`
	LastUsed      *time.Time `json:"last_used"`
	RevokedAt     *time.Time `json:"revoked_at"`
}

func wanted(change ...any) m {
	body := m{"name": "robot", "scopes": []string{"orders:read"}, "current_password": password}
	for i := 0; i+1 < len(change); i += 2 {
		body[change[i].(string)] = change[i+1]
	}
	return body
}

func (s shop) createKey(token string, change ...any) (k createdKey) {
	s.T.Helper()
	s.with(token, "POST", "/api/api-keys", wanted(change...)).Expect(201).JSON(&k)
	return k
}

func (s shop) keys(token, query string) (all []createdKey) {
	s.T.Helper()
	var page struct{ Items []createdKey }
	s.with(token, "GET", "/api/api-keys"+query, nil).Expect(200).JSON(&page)
	return page.Items
}

// changes returns the changes of keys among events.
func changes(t *testing.T, es []ce.Event) (all []event.ChangedAPIKey) {
	t.Helper()
	for _, e := range es {
		if e.Type() != event.APIKeyChanged.Name() {
			continue
		}
		c, err := event.APIKeyChanged.Decode(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// A key is shown once and stored nowhere; its hash is told to the functions.
func TestCreateAPIKey(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	token := s.signIn("ada@example.com").Access
	s.Emitted()
	answer := s.with(token, "POST", "/api/api-keys", wanted("days", 30)).Expect(201)
	var k createdKey
	answer.JSON(&k)
	if answer.Header.Get("Cache-Control") != "no-store" {
		t.Error("a cache may store the key")
	}
	end := s.Clock.Now().AddDate(0, 0, 30)
	if !apikey.Valid(k.Key) || k.UserID != ada.ID || !k.ExpiresAt.Equal(end) ||
		!slices.Equal(k.Roles, []string{"customer"}) {
		t.Errorf("got %+v", k)
	}
	told := changes(t, s.Emitted())
	if len(told) != 1 || told[0].Hash != apikey.Hash(k.Key) || told[0].Subject != ada.ID || told[0].KeyID != k.ID ||
		told[0].Version != 1 || told[0].Revoked || !told[0].ExpiresAt.Equal(end) {
		t.Errorf("told %+v", told)
	}
	if strings.Contains(s.stored(), k.Key[4:]) {
		t.Error("the key is stored")
	}
	listed := s.keys(token, "")
	if len(listed) != 1 || listed[0].ID != k.ID || listed[0].Key != "" || listed[0].LastUsed != nil {
		t.Errorf("listed %+v", listed)
	}
}

// What is refused makes no key: a wrong password, a role that the user does not have, a scope that no operation names.
func TestRefusedAPIKeys(t *testing.T) {
	system := manifest.System{Functions: []*manifest.Declaration{{Function: manifest.Function{
		Routes: []manifest.Route{{Scope: "orders:read"}, {}},
	}}}}
	s := shop{functiontest.New(t, users.New, functiontest.Beside(func() manifest.System { return system })), nil}
	s.register("ada@example.com")
	token := s.signIn("ada@example.com").Access
	s.Emitted()
	for _, body := range []m{
		wanted("current_password", "wrong horse"), wanted("current_password", ""), wanted("roles", []string{"admin"}),
		wanted("scopes", []string{"orders:reed"}), wanted("scopes", []string{""}), wanted("scopes", []string{}),
		wanted("days", 367), wanted("days", -1), wanted("name", ""),
	} {
		answer := s.with(token, "POST", "/api/api-keys", body).Expect(422)
		if strings.Contains(string(answer.Body), "wrong horse") {
			t.Errorf("the refusal quotes the password: %s", answer.Body)
		}
	}
	s.Call("POST", "/api/api-keys", functiontest.Nobody, wanted()).Expect(401)
	for range 5 {
		s.with(token, "POST", "/api/api-keys", wanted("current_password", "wrong horse"))
	}
	s.with(token, "POST", "/api/api-keys", wanted()).Expect(429)
	if told := changes(t, s.Emitted()); len(told) > 0 || len(s.keys(token, "")) > 0 {
		t.Errorf("told %+v", told)
	}
}

// Users see and revoke their own keys only, admins all; no key manages keys or accounts.
func TestOthersAPIKeys(t *testing.T) {
	s := withRoot(t)
	root := s.root().Access
	ada := s.register("ada@example.com")
	s.register("bob@example.com")
	adas, bobs := s.signIn("ada@example.com").Access, s.signIn("bob@example.com").Access
	k := s.createKey(adas)
	s.createKey(bobs)
	s.with(bobs, "GET", "/api/api-keys?user_id="+ada.ID, nil).Expect(403)
	s.with(bobs, "DELETE", "/api/api-keys/"+k.ID, nil).Expect(404)
	if n := len(s.keys(root, "")); n != 2 {
		t.Errorf("an admin sees %d keys", n)
	}
	if all := s.keys(root, "?user_id="+ada.ID); len(all) != 1 || all[0].ID != k.ID {
		t.Errorf("got %+v", all)
	}
	for _, c := range [][2]string{
		{"GET", "/api/api-keys"}, {"DELETE", "/api/api-keys/" + k.ID}, {"GET", "/api/users/" + ada.ID},
		{"DELETE", "/api/sessions/current"},
	} {
		s.Call(c[0], c[1], functiontest.Nobody, nil, "X-API-Key", k.Key).Expect(403)
	}
	s.Emitted()
	s.with(root, "DELETE", "/api/api-keys/"+k.ID, nil).Expect(422)
	for range 2 {
		s.surely(root, rootPassword, "DELETE", "/api/api-keys/"+k.ID, nil).Expect(204)
	}
	if told := changes(t, s.Emitted()); len(told) != 1 || !told[0].Revoked || told[0].Version != 2 {
		t.Errorf("told %+v", told)
	}
	s.Call("GET", "/api/users/"+ada.ID, functiontest.Nobody, nil, "X-API-Key", k.Key).Expect(401)
	if all := s.keys(adas, ""); len(all) != 1 || all[0].RevokedAt == nil {
		t.Errorf("got %+v", all)
	}
	s.with(root, "DELETE", "/api/api-keys/none", nil).Expect(404)
}

// An admin's key loses the role with its owner, and calls at users itself are refused at once.
func TestAPIKeyLosesRole(t *testing.T) {
	s := withRoot(t)
	root := s.root().Access
	ada := s.register("ada@example.com")
	path := "/api/users/" + ada.ID
	s.with(root, "PATCH", path, byRoot("admin", "customer")).Expect(200)
	token := s.signIn("ada@example.com").Access
	k := s.createKey(token, "roles", []string{"admin", "customer"}, "scopes", []string{"users:read"})
	ofCustomer := s.createKey(token, "scopes", []string{"users:read"})
	calls := func(want int) {
		t.Helper()
		s.Call("GET", "/api/outbox/users", functiontest.Nobody, nil, "X-API-Key", k.Key).Expect(want)
	}
	calls(200)
	s.Call("GET", "/api/outbox/users", functiontest.Nobody, nil, "X-API-Key", ofCustomer.Key).Expect(403)
	s.Emitted()
	s.with(root, "PATCH", path, byRoot("customer")).Expect(200)
	calls(403)
	told := changes(t, s.Emitted())
	if len(told) != 1 || told[0].KeyID != k.ID || !slices.Equal(told[0].Roles, []string{"customer"}) ||
		told[0].Version != 2 {
		t.Errorf("told %+v", told)
	}
	s.with(root, "PATCH", path, byRoot("admin", "customer")).Expect(200)
	calls(403) // a role that comes back does not make the key stronger
}

// No operation about accounts, passwords, sessions or keys takes an API key.
func TestAccountsTakeNoAPIKeys(t *testing.T) {
	n := 0
	for _, r := range open(t).I.Declaration().Routes {
		if strings.HasPrefix(r.Path, "/api/outbox/") || strings.HasPrefix(r.Path, "/api/audit/") {
			continue // the kit's
		}
		n++
		if r.Scope != "" {
			t.Errorf("%s %s takes API keys with the scope %s; want Scope: manifest.NoKey", r.Method, r.Path, r.Scope)
		}
	}
	if n < 10 {
		t.Errorf("%d operations", n)
	}
}

// All keys die with the account, and leave nothing that names them.
func TestAPIKeysOfDeletedUser(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	token := s.signIn("ada@example.com").Access
	revoked := s.createKey(token, "name", "Ada's old robot")
	s.with(token, "DELETE", "/api/api-keys/"+revoked.ID, nil).Expect(204)
	good := s.createKey(token, "name", "Ada's robot")
	s.Emitted()
	s.with(token, "DELETE", "/api/users/"+ada.ID, nil).Expect(204)
	if told := changes(t, s.Emitted()); len(told) != 1 || told[0].KeyID != good.ID || !told[0].Revoked {
		t.Errorf("told %+v", told)
	}
	if all := s.stored(); strings.Contains(all, "robot") {
		t.Errorf("it is still stored: %s", all)
	}
	s.Call("GET", "/api/users/"+ada.ID, functiontest.Nobody, nil, "X-API-Key", good.Key).Expect(401)
}

// A password that somebody else sets, and the recovery of the configured admin, revoke the keys; a user's own new
// password does not.
func TestAPIKeysAndPasswords(t *testing.T) {
	s := withRoot(t)
	root := s.root().Access
	ada := s.register("ada@example.com")
	token := s.signIn("ada@example.com").Access
	k := s.createKey(token)
	s.Emitted()
	path := "/api/users/" + ada.ID
	s.with(token, "PATCH", path, m{"password": "another horse battery", "current_password": password}).Expect(200)
	if told := changes(t, s.Emitted()); len(told) > 0 {
		t.Errorf("told %+v", told)
	}
	s.with(root, "PATCH", path,
		m{"password": "third horse battery", "current_password": rootPassword}).Expect(200)
	if told := changes(t, s.Emitted()); len(told) != 1 || told[0].KeyID != k.ID || !told[0].Revoked {
		t.Errorf("told %+v", told)
	}
}

// The day of the last use is noted, and never goes back.
func TestAPIKeyLastUse(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	token := s.signIn("ada@example.com").Access
	k := s.createKey(token)
	day := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for i, d := range []time.Time{day, day.AddDate(0, 0, -1)} {
		used := event.UsedAPIKey{KeyID: k.ID, Day: d}
		s.MustDeliver(event.APIKeyUsed.New(k.ID, used).Keyed(fmt.Sprint(k.ID, i)))
	}
	s.MustDeliver(event.APIKeyUsed.New("gone", event.UsedAPIKey{KeyID: "gone", Day: day}))
	if all := s.keys(token, ""); len(all) != 1 || all[0].LastUsed == nil || !all[0].LastUsed.Equal(day) {
		t.Errorf("got %+v", all)
	}
}

// A key that is created while its owner is deleted does not stay: one of the two loses the race.
func TestAPIKeyOfUserWhoIsBeingDeleted(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	token := s.signIn("ada@example.com").Access
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.with(token, "DELETE", "/api/users/"+ada.ID, nil)
	}()
	s.with(token, "POST", "/api/api-keys", wanted())
	<-done
	good := map[string]bool{}
	for _, c := range changes(t, s.Emitted()) {
		good[c.KeyID] = !c.Revoked
	}
	for id, is := range good {
		if is {
			t.Errorf("the key %s of a deleted user is good", id)
		}
	}
}
