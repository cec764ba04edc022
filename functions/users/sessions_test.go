package users_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// signInWith signs in as a client that calls itself agent.
func (s shop) signInWith(email, agent string) tokens {
	s.T.Helper()
	body, _ := json.Marshal(m{"email": email, "password": password})
	r := httptest.NewRequest("POST", "/api/sessions", strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", agent)
	w := httptest.NewRecorder()
	s.I.ServeHTTP(w, r)
	return read((&functiontest.Response{T: s.T, Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}).Expect(201))
}

func (s shop) sessions(access, user string) []users.Session {
	s.T.Helper()
	var page struct{ Items []users.Session }
	s.with(access, "GET", "/api/users/"+user+"/sessions", nil).Expect(200).JSON(&page)
	return page.Items
}

// A user sees their open sessions: by which client, since when, used when, to the hour, and which one this is.
func TestSessionsAreListed(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	began := s.Clock.Now()
	phone := s.signInWith("ada@example.com", "Phone/1.0 \x01"+strings.Repeat("ö", 500))
	s.Clock.Advance(90 * time.Minute)
	laptop := s.signInWith("ada@example.com", "Laptop/2.0 (X11; Linux)")
	phone = read(s.refresh(phone.Refresh).Expect(201))
	got := s.sessions(laptop.Access, ada.ID)
	if len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
	if got[0].Device != "Laptop/2.0 (X11; Linux)" || !got[0].Current || got[0].ID != claimsOf(t, laptop.Access).Session {
		t.Errorf("got %+v", got[0])
	}
	if !strings.HasPrefix(got[1].Device, "Phone/1.0 ö") || len([]rune(got[1].Device)) != 160 || got[1].Current ||
		!got[1].CreatedAt.Equal(began) || !got[1].LastUsedAt.Equal(s.Clock.Now().Truncate(time.Hour)) {
		t.Errorf("got %+v", got[1])
	}
	if all := s.stored(); strings.Contains(all, `"used_at":"`+s.Clock.Now().Format(time.RFC3339)) {
		t.Error("the minute of the last use is stored")
	}
	// One that has expired is not open.
	s.Clock.Advance(721 * time.Hour)
	if got := s.sessions(s.signIn("ada@example.com").Access, ada.ID); len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}

// A user ends one session, or all but their own. The tokens of the session are refused; the others are good.
func TestSessionsAreEnded(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	here, lost, third := s.signIn("ada@example.com"), s.signIn("ada@example.com"), s.signIn("ada@example.com")
	path := "/api/users/" + ada.ID + "/sessions"
	s.Emitted()
	one := path + "/" + claimsOf(t, lost.Access).Session
	s.with(here.Access, "DELETE", one, nil).Expect(204)
	s.with(here.Access, "DELETE", one, nil).Expect(404)
	want := []string{"users.signed-out.v1", "users.access-revoked.v1"}
	if got := functiontest.Types(s.Emitted()); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	s.refresh(lost.Refresh).Expect(401)
	s.with(lost.Access, "GET", path, nil).Expect(401)
	s.with(here.Access, "DELETE", path, nil).Expect(204)
	s.refresh(third.Refresh).Expect(401)
	if got := s.sessions(here.Access, ada.ID); len(got) != 1 || !got[0].Current {
		t.Errorf("got %+v", got)
	}
	// There are no others now, so nothing is written and nothing told.
	s.Emitted()
	s.with(here.Access, "DELETE", path, nil).Expect(204)
	if es := s.Emitted(); len(es) > 0 {
		t.Errorf("got %v", functiontest.Types(es))
	}
	// The current one can be ended like any other.
	s.with(here.Access, "DELETE", path+"/"+claimsOf(t, here.Access).Session, nil).Expect(204)
	s.with(here.Access, "GET", path, nil).Expect(401)
}

// Sessions are their user's, and an admin's to end. A session of one user is not reached under another's name.
func TestSessionsOfOthers(t *testing.T) {
	s := withRoot(t)
	ada, eve := s.register("ada@example.com"), s.register("eve@example.com")
	adas, eves, root := s.signIn("ada@example.com"), s.signIn("eve@example.com"), s.root()
	id := claimsOf(t, adas.Access).Session
	for _, path := range []string{"/api/users/" + ada.ID + "/sessions/" + id, "/api/users/" + ada.ID + "/sessions",
		"/api/users/" + eve.ID + "/sessions/" + id} {
		s.Call("DELETE", path, functiontest.Nobody, nil).Expect(401)
		if path != "/api/users/"+eve.ID+"/sessions/"+id {
			s.with(eves.Access, "DELETE", path, nil).Expect(404)
			continue
		}
		s.with(eves.Access, "DELETE", path, nil).Expect(404)
		s.with(root.Access, "DELETE", path, nil).Expect(404)
	}
	s.with(eves.Access, "GET", "/api/users/"+ada.ID+"/sessions", nil).Expect(404)
	if got := s.sessions(root.Access, ada.ID); len(got) != 1 || got[0].Current {
		t.Errorf("got %+v", got)
	}
	s.surely(root.Access, rootPassword, "DELETE", "/api/users/"+ada.ID+"/sessions", nil).Expect(204)
	s.refresh(adas.Refresh).Expect(401)
	s.with(root.Access, "GET", "/api/users/"+ada.ID+"/sessions", nil).Expect(200)
	// Of a deleted user none is left to be seen.
	again := s.signIn("ada@example.com")
	s.with(again.Access, "DELETE", "/api/users/"+ada.ID, nil).Expect(204)
	s.with(root.Access, "GET", "/api/users/"+ada.ID+"/sessions", nil).Expect(404)
	s.with(again.Access, "GET", "/api/users/"+ada.ID+"/sessions", nil).Expect(401)
}

// Sign-ins, and those that are refused, are in the log by the user's id, without the address, the password or a token.
func TestSignInsAreLogged(t *testing.T) {
	var log bytes.Buffer
	s := shop{Harness: functiontest.New(t, func(env function.Env) (*function.Function, error) {
		env.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		return users.New(env)
	})}
	ada := s.register("ada@example.com")
	in := s.signIn("ada@example.com")
	s.login("ada@example.com", "wrong horse").Expect(401)
	s.login("nobody@example.com", "wrong horse").Expect(401)
	s.refresh(in.Refresh).Expect(201)
	s.refresh(in.Refresh).Expect(401)
	said := log.String()
	for _, want := range []string{
		`"msg":"a user signed in","user":"` + ada.ID,
		`"msg":"a sign-in was refused","user":"` + ada.ID + `","lacks":"password"`,
		`"msg":"a sign-in was refused","user":"","lacks":"password"`, `"level":"WARN","msg":"a used refresh token was shown`,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the log has no %s:\n%s", want, said)
		}
	}
	for _, secret := range []string{"@example.com", "horse", in.Refresh, in.Access} {
		if strings.Contains(said, secret) {
			t.Errorf("the log has %s:\n%s", secret, said)
		}
	}
}
