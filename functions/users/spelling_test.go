package users_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// registeredBefore registers a user whose address is stored as it was typed, in lower case: as versions of the function
// did that knew no other spellings.
func (s shop) registeredBefore(name, email, password string) user {
	s.T.Helper()
	var u user
	s.Call("POST", "/api/users", functiontest.Nobody,
		m{"name": name, "email": name + "@example.org", "password": password}).Expect(201).JSON(&u)
	key := sha256.Sum256([]byte(email))
	s.Stored("emails", base64.RawURLEncoding.EncodeToString(key[:]), fmt.Sprintf(`{"user_id":%q}`, u.ID))
	s.Stored("users", u.ID, fmt.Sprintf(`{"name":%q,"email":%q,"roles":["customer"],"deleted":false}`, name, email))
	return u
}

// A user whose address an older version has stored in another spelling still has it: they sign in with every spelling,
// no other user gets it, and the next change of the address stores it as it is stored now.
func TestAddressFromBeforeSpellings(t *testing.T) {
	for _, old := range []string{"zoe\u0308@example.com", "ada@xn--bcher-kva.example", "zoe\u0308@xn--bcher-kva.example"} {
		s, now := open(t), users.Normalise(old)
		ada := s.registeredBefore("ada", old, password)
		path, self := "/api/users/"+ada.ID, functiontest.As(ada.ID)
		for range 2 {
			for _, spelling := range []string{old, now} {
				s.signIn(spelling)
				other := s.register(spelling)
				s.Call("GET", "/api/users/"+other.ID, functiontest.As(other.ID), nil).Expect(401)
			}
			var u user
			s.Call("PATCH", path, self, m{"email": old, "current_password": password}).Expect(200).JSON(&u)
			if u.Email != now {
				t.Errorf("%q is shown as %q, want %q", old, u.Email, now)
			}
		}
		s.Call("DELETE", path, self, nil).Expect(204)
		s.login(old, password).Expect(401)
		next := s.register(old)
		s.Call("GET", "/api/users/"+next.ID, functiontest.As(next.ID), nil).Expect(200)
	}
}

// Two users who have one address in two spellings, from before, each sign in with their own. Neither gets the other's.
func TestTwoUsersWithOneAddress(t *testing.T) {
	s := open(t)
	const apart, one = "zoe\u0308@example.com", "zoë@example.com"
	a := s.registeredBefore("a", apart, "the password of a")
	b := s.registeredBefore("b", one, "the password of b")
	s.login(apart, "the password of a").Expect(201)
	s.login(one, "the password of b").Expect(201)
	s.login(one, "the password of a").Expect(401)
	for own, u := range map[string]user{"the password of a": a, "the password of b": b} {
		s.Call("PATCH", "/api/users/"+u.ID, functiontest.As(u.ID),
			m{"email": "ZOE\u0308@example.com", "current_password": own}).Expect(200)
	}
	s.login(apart, "the password of a").Expect(201)
	s.login(one, "the password of b").Expect(201)
}

// The configured admin is the user who has the address in another spelling, from before, and no second one.
func TestAdminFromBeforeSpellings(t *testing.T) {
	const old = "root@xn--bcher-kva.example"
	s := open(t)
	root := s.registeredBefore("root", old, password)
	s.reconfigure(map[string]string{"EBB_ADMIN_EMAIL": old, "EBB_ADMIN_PASSWORD": "another password"})
	s.login(old, "another password").Expect(201)
	var u user
	s.Call("GET", "/api/users/"+root.ID, functiontest.As(root.ID), nil).Expect(200).JSON(&u)
	if len(u.Roles) != 2 {
		t.Errorf("got %+v", u)
	}
}
