package users_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

const (
	rootEmail    = "root@example.com"
	rootPassword = "the first admin"
)

// withRoot opens the function with a configured admin.
func withRoot(t *testing.T) shop {
	return open(t, "EBB_ADMIN_EMAIL", "Root@example.com", "EBB_ADMIN_PASSWORD", rootPassword)
}

// root signs the configured admin in.
func (s shop) root() tokens {
	s.T.Helper()
	return read(s.login(rootEmail, rootPassword).Expect(201))
}

// admin registers a user whom root makes an admin, and signs them in.
func (s shop) admin(email string) (user, tokens) {
	s.T.Helper()
	u := s.register(email)
	s.with(s.root().Access, "PATCH", "/api/users/"+u.ID, byRoot("admin", "customer")).Expect(200)
	return u, s.signIn(email)
}

// byRoot is a change of roles by root, with the proof.
func byRoot(roles ...string) m { return m{"roles": roles, "current_password": rootPassword} }

// claims are what an access token says; its signature is not looked at.
type claims struct {
	Subject string   `json:"sub"`
	Session string   `json:"sid"`
	Roles   []string `json:"roles"`
	Issued  int64    `json:"iat"`
	Expires int64    `json:"exp"`
}

func claimsOf(t testing.TB, access string) (c claims) {
	t.Helper()
	part := strings.Split(access, ".")
	if len(part) != 3 {
		t.Fatalf("not a token: %q", access)
	}
	data, err := base64.RawURLEncoding.DecodeString(part[1])
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forgetAdmins takes the list of admins out of the store, as data from before it was kept has none.
func (s shop) forgetAdmins() {
	s.T.Helper()
	s.Restart()
	db, err := s.Store(s.T.Context(), "users", s.I.Declaration().Schema)
	if err != nil {
		s.T.Fatal(err)
	}
	defer db.Close()
	err = store.Update(s.T.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		return tx.Delete(ctx, store.Key{Collection: "staff", ID: "admins"})
	})
	if err != nil {
		s.T.Fatal(err)
	}
}

func idOf(t *testing.T, access string) string {
	t.Helper()
	return claimsOf(t, access).Subject
}

// A token of an admin who was demoted gives no power any more: neither to read nor to write.
func TestDemotedAdminHasNoPower(t *testing.T) {
	s := withRoot(t)
	eve, token := s.admin("eve@example.com")
	ada := s.register("ada@example.com")
	s.with(s.root().Access, "PATCH", "/api/users/"+eve.ID, byRoot("customer")).Expect(200)
	for _, call := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/api/users", nil},
		{"GET", "/api/users/" + ada.ID, nil},
		{"PATCH", "/api/users/" + ada.ID, m{"roles": []string{"admin"}}},
		{"PATCH", "/api/users/" + ada.ID, m{"password": "a new password, long"}},
		{"PATCH", "/api/users/" + eve.ID, m{"roles": []string{"admin"}}},
		{"DELETE", "/api/users/" + ada.ID, nil},
	} {
		if r := s.with(token.Access, call.method, call.path, call.body); r.Status != 403 {
			t.Errorf("%s %s: got %d %s, want 403", call.method, call.path, r.Status, r.Body)
		}
	}
	// What a customer may do, they still may.
	s.with(token.Access, "PATCH", "/api/users/"+eve.ID, m{"name": "Eve"}).Expect(200)
	s.with(read(s.refresh(token.Refresh).Expect(201)).Access, "GET", "/api/users/"+ada.ID, nil).Expect(404)
}

// A token of an account that is gone gives no power any more, whatever roles it names.
func TestDeletedAccountHasNoPower(t *testing.T) {
	s := withRoot(t)
	eve, token := s.admin("eve@example.com")
	ada := s.register("ada@example.com")
	theirs := s.signIn("ada@example.com")
	root := s.root()
	for _, id := range []string{eve.ID, ada.ID} {
		s.surely(root.Access, rootPassword, "DELETE", "/api/users/"+id, nil).Expect(204)
	}
	bob := s.register("bob@example.com")
	for _, call := range []struct {
		access, method, path string
		body                 any
	}{
		{token.Access, "GET", "/api/users", nil},
		{token.Access, "GET", "/api/users/" + bob.ID, nil},
		{token.Access, "PATCH", "/api/users/" + bob.ID, m{"roles": []string{"admin"}}},
		{token.Access, "PATCH", "/api/users/" + eve.ID, m{"name": "Eve"}},
		{token.Access, "DELETE", "/api/users/" + bob.ID, nil},
		{theirs.Access, "GET", "/api/users/" + ada.ID, nil},
		{theirs.Access, "PATCH", "/api/users/" + ada.ID, m{"name": "Ada"}},
		{theirs.Access, "DELETE", "/api/users/" + ada.ID, nil},
	} {
		if r := s.with(call.access, call.method, call.path, call.body); r.Status != 401 {
			t.Errorf("%s %s: got %d %s, want 401", call.method, call.path, r.Status, r.Body)
		}
	}
	s.refresh(token.Refresh).Expect(401)
	s.refresh(theirs.Refresh).Expect(401)
}

// A session that has ended gives no power over accounts, although its access token has not expired.
func TestEndedSessionHasNoPower(t *testing.T) {
	s := withRoot(t)
	ada := s.register("ada@example.com")
	stolen, own := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	path := "/api/users/" + ada.ID
	s.with(own.Access, "PATCH", path, m{"password": "another horse battery", "current_password": password}).Expect(200)
	s.with(stolen.Access, "PATCH", path, m{"email": "eve@example.com"}).Expect(401)
	s.with(stolen.Access, "DELETE", path, nil).Expect(401)
	s.with(own.Access, "PATCH", path, m{"name": "Ada King"}).Expect(200)
	s.with(own.Access, "DELETE", "/api/sessions/current", nil).Expect(204)
	s.with(own.Access, "PATCH", path, m{"name": "Ada"}).Expect(401)
}

// There is always an admin: the last one can neither leave nor step down.
func TestLastAdminStays(t *testing.T) {
	s := withRoot(t)
	root := s.root()
	path := "/api/users/" + idOf(t, root.Access)
	for range 2 {
		r := s.surely(root.Access, rootPassword, "DELETE", path, nil).Expect(409)
		if !strings.Contains(string(r.Body), "last admin") {
			t.Errorf("got %s", r.Body)
		}
		s.with(root.Access, "PATCH", path, byRoot("customer")).Expect(409)
		// An admin of before, who is none now, does not count.
		eve, _ := s.admin("eve@example.com")
		s.with(root.Access, "PATCH", "/api/users/"+eve.ID, byRoot("customer")).Expect(200)
		s.surely(root.Access, rootPassword, "DELETE", path, nil).Expect(409)
		s.surely(root.Access, rootPassword, "DELETE", "/api/users/"+eve.ID, nil).Expect(204)
	}
	s.admin("bob@example.com")
	s.surely(root.Access, rootPassword, "DELETE", path, nil).Expect(204)
}

// Two admins who remove each other, or themselves, at the same time leave one admin.
func TestAdminsAtOnce(t *testing.T) {
	for name, own := range map[string]bool{"each other": false, "themselves": true} {
		for _, method := range []string{"DELETE", "PATCH"} {
			s := withRoot(t)
			eve, hers := s.admin("eve@example.com")
			bob, his := s.admin("bob@example.com")
			s.surely(hers.Access, password, "DELETE", "/api/users/"+idOf(t, s.root().Access), nil).Expect(204)
			targets := []string{bob.ID, eve.ID}
			if own {
				targets = []string{eve.ID, bob.ID}
			}
			var body any
			if method == "PATCH" {
				body = m{"roles": []string{"customer"}}
			}
			proofs := []string{s.stepUpToken(hers.Access, m{"password": password}),
				s.stepUpToken(his.Access, m{"password": password})}
			var wg sync.WaitGroup
			got := make([]int, 2)
			for i, access := range []string{hers.Access, his.Access} {
				wg.Go(func() { got[i] = s.recently(access, proofs[i], method, "/api/users/"+targets[i], body).Status })
			}
			wg.Wait()
			done := 0
			for _, status := range got {
				if status < 300 {
					done++
				}
			}
			if done != 1 {
				t.Errorf("%s %s: got %v, want one to succeed", method, name, got)
			}
		}
	}
}

// An admin of data from before the list of admins was kept counts once they sign in.
func TestAdminsOfBeforeCount(t *testing.T) {
	s := withRoot(t)
	s.admin("eve@example.com")
	root := s.root()
	s.forgetAdmins()
	path := "/api/users/" + idOf(t, root.Access)
	s.surely(root.Access, rootPassword, "DELETE", path, nil).Expect(409)
	s.signIn("eve@example.com")
	s.surely(root.Access, rootPassword, "DELETE", path, nil).Expect(204)
}

// An access token of an admin, which may be stolen, changes no role, and neither the account nor the sessions and keys
// of another user; nor does it delete the admin. Each needs a proof of the admin too.
func TestStolenTokenOfAnAdmin(t *testing.T) {
	s := withRoot(t)
	ada := s.register("ada@example.com")
	adas := s.signIn("ada@example.com").Access
	_, eve := s.admin("eve@example.com")
	key := s.createKey(adas)
	path, own := "/api/users/"+ada.ID, "/api/users/"+idOf(t, eve.Access)
	acts := []struct {
		method, path string
		body         any
	}{
		{"PATCH", path, m{"roles": []string{"admin", "customer"}}},
		{"PATCH", path, m{"name": "Eve"}},
		{"PATCH", own, m{"roles": []string{"admin"}}},
		{"DELETE", path + "/second-factor", nil},
		{"DELETE", path + "/sessions/" + claimsOf(t, adas).Session, nil},
		{"DELETE", path + "/sessions", nil},
		{"DELETE", "/api/api-keys/" + key.ID, nil},
		{"DELETE", path, nil},
		{"DELETE", own, nil},
	}
	s.AllEmitted()
	for _, c := range acts {
		s.with(eve.Access, c.method, c.path, c.body).Expect(422)
		r := s.recently(eve.Access, "made.up", c.method, c.path, c.body).Expect(422)
		if !strings.Contains(string(r.Body), "header.Ebb-Step-Up") {
			t.Errorf("%s %s: %s", c.method, c.path, r.Body)
		}
	}
	if es := s.AllEmitted(); len(es) > 0 {
		t.Errorf("got %v", functiontest.Types(es))
	}
	for _, c := range acts {
		if r := s.surely(eve.Access, password, c.method, c.path, c.body); r.Status >= 300 {
			t.Errorf("%s %s with a proof: %d %s", c.method, c.path, r.Status, r.Body)
		}
	}
}

// The configured admin gets in with the configured password and is an admin, whatever another admin did.
func TestConfiguredAdminRecovers(t *testing.T) {
	for name, attack := range map[string]func(s shop, eve tokens, root string){
		"deleted": func(s shop, eve tokens, root string) {
			s.surely(eve.Access, password, "DELETE", root, nil).Expect(204)
		},
		"demoted": func(s shop, eve tokens, root string) {
			s.with(eve.Access, "PATCH", root, m{"roles": []string{"customer"}, "current_password": password}).Expect(200)
		},
		"given another password": func(s shop, eve tokens, root string) {
			s.with(eve.Access, "PATCH", root, m{"password": "the password of eve", "current_password": password}).Expect(200)
		},
		"given another address": func(s shop, eve tokens, root string) {
			s.with(eve.Access, "PATCH", root, m{"email": "lost@example.com", "password": "the password of eve",
				"current_password": password}).Expect(200)
		},
		"all of it": func(s shop, eve tokens, root string) {
			s.with(eve.Access, "PATCH", root, m{"password": "the password of eve", "roles": []string{"customer"},
				"current_password": password}).Expect(200)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := withRoot(t)
			eve, hers := s.admin("eve@example.com")
			attack(s, hers, "/api/users/"+idOf(t, s.root().Access))
			theirs := s.login(rootEmail, "the password of eve")

			root := s.root()
			s.with(root.Access, "PATCH", "/api/users/"+eve.ID, byRoot("customer")).Expect(200)
			s.with(hers.Access, "GET", "/api/users", nil).Expect(403)
			// Another password than the configured one opens nothing any more, nor do sessions that it opened.
			s.login(rootEmail, "the password of eve").Expect(401)
			if theirs.Status == 201 {
				s.refresh(read(theirs).Refresh).Expect(401)
			}
			s.root()
		})
	}
}

// The configured address is not a stranger's: one who registered it before the admin was configured loses it.
func TestConfiguredAddressIsTheAdmins(t *testing.T) {
	s := open(t)
	s.register(rootEmail)
	before := s.signIn(rootEmail)
	s.reconfigure(map[string]string{"EBB_ADMIN_EMAIL": rootEmail, "EBB_ADMIN_PASSWORD": rootPassword})
	s.with(s.root().Access, "GET", "/api/users", nil).Expect(200)
	s.refresh(before.Refresh).Expect(401)
	s.login(rootEmail, password).Expect(401)
}

// Tokens of staff live five minutes, those of customers fifteen; a refresh gives the roles of now.
func TestStaffTokensAreShort(t *testing.T) {
	s := withRoot(t)
	_, eve := s.admin("eve@example.com")
	if eve.ExpiresIn != 300 {
		t.Errorf("a token of an admin lives %d s, want 300", eve.ExpiresIn)
	}
	claims := claimsOf(t, eve.Access)
	if got := claims.Expires - claims.Issued; got != 300 {
		t.Errorf("a token of an admin expires after %d s, want 300", got)
	}
	again := read(s.refresh(eve.Refresh).Expect(201))
	if again.ExpiresIn != 300 {
		t.Errorf("a refreshed token of an admin lives %d s, want 300", again.ExpiresIn)
	}
	s.with(s.root().Access, "PATCH", "/api/users/"+claims.Subject, byRoot("customer")).Expect(200)
	again = read(s.refresh(again.Refresh).Expect(201))
	if got := claimsOf(t, again.Access); again.ExpiresIn != 900 || !slices.Equal(got.Roles, []string{"customer"}) {
		t.Errorf("got %d s and %v", again.ExpiresIn, got.Roles)
	}
}

// signedOut are the events of sign-outs since the last look at what was emitted.
func (s shop) signedOut() []events.SignedOutUser {
	s.T.Helper()
	var all []events.SignedOutUser
	for _, e := range s.Emitted() {
		if e.Type() != events.UserSignedOut.Name() {
			continue
		}
		data, err := events.UserSignedOut.Decode(e)
		if err != nil || e.Subject() != data.UserID {
			s.T.Fatalf("got %v, %v", e, err)
		}
		if e.Extensions()[event.Sequence] != nil {
			s.T.Errorf("a sign-out is no version of the user, but has a sequence: %v", e)
		}
		all = append(all, data)
	}
	return all
}

// Each way in which a session ends is told, so that others can refuse its access tokens.
func TestSignOutIsTold(t *testing.T) {
	s := withRoot(t)
	ada := s.register("ada@example.com")
	path := "/api/users/" + ada.ID
	here, there, elsewhere := s.signIn("ada@example.com"), s.signIn("ada@example.com"), s.signIn("ada@example.com")
	sessionOf := func(token tokens) string { return claimsOf(t, token.Access).Session }
	expect := func(what string, want ...string) {
		t.Helper()
		got := s.signedOut()
		if len(want) == 0 && len(got) == 0 {
			return
		}
		if len(got) != 1 || got[0].UserID != ada.ID || !slices.Equal(got[0].SessionIDs, want) {
			t.Errorf("%s: got %+v, want one of %v", what, got, want)
			return
		}
		now := s.Clock.Now()
		if got[0].IssuedBefore.Before(now) || got[0].Until.Before(now.Add(15*time.Minute)) {
			t.Errorf("%s: got %+v at %v", what, got[0], now)
		}
	}
	expect("before")
	s.with(here.Access, "DELETE", "/api/sessions/current", nil).Expect(204)
	expect("signed out", sessionOf(here))
	s.with(here.Access, "DELETE", "/api/sessions/current", nil).Expect(204)
	expect("signed out twice")
	s.with(there.Access, "PATCH", path, m{"password": "another horse battery", "current_password": password}).Expect(200)
	expect("own password", sessionOf(elsewhere))
	used := there.Refresh
	there = read(s.refresh(used).Expect(201))
	s.refresh(used).Expect(401)
	expect("a token used twice", sessionOf(there))

	again := read(s.login("ada@example.com", "another horse battery").Expect(201))
	s.with(s.root().Access, "PATCH", path,
		m{"password": "third horse battery", "name": "Ada King", "current_password": rootPassword}).Expect(200)
	expect("password and name by an admin", sessionOf(again))

	var first tokens
	for n := range users.MaxSessions + 1 {
		token := read(s.login("ada@example.com", "third horse battery").Expect(201))
		if n == 0 {
			first = token
		}
	}
	expect("the oldest gave way", sessionOf(first))
	// That a user is gone says enough.
	s.surely(s.root().Access, rootPassword, "DELETE", path, nil).Expect(http.StatusNoContent)
	expect("deleted")
}

// A change of roles is told with the roles of now.
func TestChangedRolesAreTold(t *testing.T) {
	s := withRoot(t)
	ada := s.register("ada@example.com")
	root := s.root()
	s.Emitted()
	s.with(root.Access, "PATCH", "/api/users/"+ada.ID, byRoot("admin", "customer")).Expect(200)
	es := s.Emitted()
	if got := functiontest.Types(es); !slices.Equal(got, []string{"users.changed.v1"}) {
		t.Fatalf("got %v", got)
	}
	if data, err := functiontest.Decode(events.UserChanged, es[0]); err != nil || !slices.Equal(data.Roles,
		[]string{"admin", "customer"}) {
		t.Errorf("got %+v, %v", data, err)
	}
}

// revoked returns the revocations since the last look at what was emitted.
func (s shop) revoked() []event.RevokedAccess {
	s.T.Helper()
	var all []event.RevokedAccess
	for _, e := range s.Emitted() {
		if e.Type() != event.AccessRevoked.Name() {
			continue
		}
		data, err := event.AccessRevoked.Decode(e)
		if err != nil || e.Extensions()[event.Sequence] != nil {
			s.T.Fatalf("got %v, %v", e, err)
		}
		all = append(all, data)
	}
	return all
}

// Each way in which a token loses power emits a revocation that names it, and nothing else emits one.
func TestLostPowerIsRevoked(t *testing.T) {
	s := withRoot(t)
	root := s.root().Access
	ada := s.register("ada@example.com")
	path := "/api/users/" + ada.ID
	here, there := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	expect := func(what string, token tokens, refused bool, roles ...string) {
		t.Helper()
		got := s.revoked()
		if !refused && roles == nil {
			if len(got) > 0 {
				t.Errorf("%s: got %+v", what, got)
			}
			return
		}
		if len(got) != 1 || got[0].Subject != ada.ID {
			t.Fatalf("%s: got %+v", what, got)
		}
		claims := claimsOf(t, token.Access)
		expires := time.Unix(claims.Expires, 0)
		if got[0].Until.Before(expires.Add(5 * time.Second)) {
			t.Errorf("%s: a token that expires at %v is forgotten at %v", what, expires, got[0].Until)
		}
		var list auth.Revocations
		r := got[0]
		list.Add(auth.Revocation{
			Sessions: r.Sessions, Roles: r.Roles, IssuedBefore: r.IssuedBefore, Until: r.Until,
		}, s.Clock.Now())
		p, err := list.Check(auth.Principal{
			Subject: claims.Subject, Session: claims.Session, Roles: []string{"admin", "customer"},
			IssuedAt: time.Unix(claims.Issued, 0),
		})
		if (err != nil) != refused || !refused && !slices.Equal(p.Roles, roles) {
			t.Errorf("%s: got %v, %v from %+v", what, p.Roles, err, r)
		}
	}
	expect("registered and signed in", here, false)
	s.with(here.Access, "PATCH", path, m{"name": "Ada King"}).Expect(200)
	s.with(root, "PATCH", path, byRoot("admin", "customer")).Expect(200)
	expect("a new name, a new role", here, false)
	here = read(s.refresh(here.Refresh).Expect(201))
	expect("refreshed", here, false)
	s.with(root, "PATCH", path,
		m{"roles": []string{"customer"}, "name": "Ada", "current_password": rootPassword}).Expect(200)
	expect("demoted", here, false, "customer")
	s.with(there.Access, "DELETE", "/api/sessions/current", nil).Expect(204)
	expect("signed out", there, true)
	s.with(here.Access, "DELETE", path, nil).Expect(204)
	expect("deleted", here, true)
}
