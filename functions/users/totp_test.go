package users_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

func (s shop) stepUp(access string, body m) *functiontest.Response {
	s.T.Helper()
	return s.with(access, "POST", "/api/sessions/current/step-up", body)
}

func (s shop) stepUpToken(access string, body m) string {
	s.T.Helper()
	var got struct {
		Token string `json:"step_up_token"`
	}
	s.stepUp(access, body).Expect(201).JSON(&got)
	return got.Token
}

// recently calls with an access token and a step-up token.
func (s shop) recently(access, token, method, path string, body any) *functiontest.Response {
	s.T.Helper()
	return s.Call(method, path, functiontest.Nobody, body, "Authorization", "Bearer "+access, "Ebb-Step-Up", token)
}

// surely calls with an access token and a new step-up token, which the password of its user gives.
func (s shop) surely(access, password, method, path string, body any) *functiontest.Response {
	s.T.Helper()
	return s.recently(access, s.stepUpToken(access, m{"password": password}), method, path, body)
}

// code returns what the app shows now.
func (s shop) code(secret string) string {
	s.T.Helper()
	code, err := totp.GenerateCode(secret, s.Clock.Now())
	if err != nil {
		s.T.Fatal(err)
	}
	return code
}

// enrol sets up a second factor, and returns the secret and the recovery codes. Its last code is used up.
func (s shop) enrol(access, password string) (secret string, recovery []string) {
	s.T.Helper()
	var key struct{ Secret, URI string }
	s.with(access, "POST", "/api/second-factor", m{"current_password": password}).Expect(201).JSON(&key)
	if !strings.HasPrefix(key.URI, "otpauth://totp/") || !strings.Contains(key.URI, key.Secret) {
		s.T.Errorf("got %+v", key)
	}
	var got struct {
		Codes []string `json:"recovery_codes"`
	}
	s.with(access, "POST", "/api/second-factor/confirmation", m{"code": s.code(key.Secret)}).Expect(200).JSON(&got)
	return key.Secret, got.Codes
}

func (s shop) loginWith(email, password, code string) *functiontest.Response {
	s.T.Helper()
	return s.Call("POST", "/api/sessions", functiontest.Nobody, m{"email": email, "password": password, "code": code})
}

// A stolen access token changes nothing of how its user signs in: the password, or a step-up token, is needed too.
func TestStolenTokenChangesNothing(t *testing.T) {
	s := withRoot(t)
	ada := s.proven("ada@example.com")
	s.root()
	before, path := s.stored(), "/api/users/"+ada.ID
	access, root := s.signIn("ada@example.com").Access, s.root().Access
	changes := func(access string) []*functiontest.Response {
		return []*functiontest.Response{
			s.with(access, "PATCH", path, m{"email": "eve@example.com"}),
			s.with(access, "PATCH", path, m{"password": "the password of eve"}),
			s.with(access, "PATCH", path, m{"email": "eve@example.com", "password": "the password of eve", "name": "Eve"}),
			s.recently(access, "made.up", "PATCH", path, m{"email": "eve@example.com"}),
			s.with(access, "POST", "/api/second-factor", m{}),
			s.recently(access, "made.up", "POST", "/api/second-factor", m{}),
			s.with(access, "DELETE", path+"/second-factor", nil),
		}
	}
	for _, who := range []string{access, root} {
		for i, r := range changes(who) {
			if r.Status != 422 {
				t.Errorf("change %d: got %d %s", i, r.Status, r.Body)
			}
		}
	}
	part := func(all, prefix string) (found []string) {
		for line := range strings.Lines(all) {
			if strings.HasPrefix(line, prefix) {
				found = append(found, line)
			}
		}
		return found
	}
	after := s.stored()
	for _, prefix := range []string{"users/", "emails/"} {
		if !slices.Equal(part(before, prefix), part(after, prefix)) {
			t.Errorf("%s changed: %v", prefix, part(after, prefix))
		}
	}
	s.signIn("ada@example.com")
	s.with(access, "PATCH", path, m{"name": "Ada King"}).Expect(200) // a name is no way in
}

// A step-up token is good for its session, for five minutes, and for nobody else.
func TestStepUp(t *testing.T) {
	s := withRoot(t)
	ada, eve := s.register("ada@example.com"), s.register("eve@example.com")
	here, there := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	eves, path := s.signIn("eve@example.com"), "/api/users/"+ada.ID
	s.stepUp(here.Access, m{}).Expect(422)
	s.stepUp(here.Access, m{"password": "not the password"}).Expect(422)
	s.Call("POST", "/api/sessions/current/step-up", functiontest.As(ada.ID), m{"password": password}).Expect(422)
	token := s.stepUpToken(here.Access, m{"password": password})
	if strings.Contains(s.stored(), strings.Split(token, ".")[1]) {
		t.Error("the token is stored")
	}
	change := m{"password": "another horse battery"}
	s.recently(there.Access, token, "PATCH", path, change).Expect(422)
	s.recently(eves.Access, token, "PATCH", "/api/users/"+eve.ID, change).Expect(422)
	s.Clock.Advance(5 * time.Minute)
	s.recently(here.Access, token, "PATCH", path, change).Expect(422)
	first := s.stepUpToken(here.Access, m{"password": password})
	second := s.stepUpToken(here.Access, m{"password": password})
	s.recently(here.Access, first, "PATCH", path, change).Expect(422)
	s.recently(here.Access, second, "PATCH", path, change).Expect(200)
	s.login("ada@example.com", "another horse battery").Expect(201)
	// An admin who changes another's account shows their own.
	root := s.root()
	admins := s.stepUpToken(root.Access, m{"password": rootPassword})
	s.recently(root.Access, admins, "PATCH", path, m{"email": "king@example.com"}).Expect(200)
	// Nobody guesses on.
	for n := 0; s.stepUp(eves.Access, m{"password": fmt.Sprint("not the password ", n)}).Status != 429; n++ {
		if n > 20 {
			t.Fatal("the password may be guessed without end")
		}
	}
	s.stepUp(eves.Access, m{"password": password}).Expect(429)
}

// With a second factor a sign-in needs its code besides the password. A code works once, and so does a recovery code.
func TestSecondFactor(t *testing.T) {
	s := open(t)
	ada := s.proven("ada@example.com")
	access := s.signIn("ada@example.com").Access
	s.AllEmitted()
	secret, recovery := s.enrol(access, password)
	if got := one(s, mailed(s, events.UserSecurityChanged)); got.What != "second-factor-added" {
		t.Errorf("got %+v", got)
	}
	if len(recovery) != 10 {
		t.Fatalf("got %v", recovery)
	}
	all := s.stored()
	for _, code := range recovery {
		if strings.Contains(all, strings.ReplaceAll(code, "-", "")) {
			t.Error("a recovery code is stored")
		}
	}
	alone := s.login("ada@example.com", password).Expect(401)
	if !bytes.Contains(alone.Body, []byte(`"body.code"`)) {
		t.Errorf("the answer does not ask for the code: %s", alone.Body)
	}
	if wrong := s.loginWith("ada@example.com", "not the password", s.code(secret)).Expect(401); bytes.Contains(
		wrong.Body, []byte("body.code")) {
		t.Errorf("a wrong password is told of the second factor: %s", wrong.Body)
	}
	// The code that confirmed is used up, and so is each that signed in; the one before it is too.
	s.loginWith("ada@example.com", password, s.code(secret)).Expect(401)
	s.Clock.Advance(30 * time.Second)
	missed := s.code(secret)
	s.Clock.Advance(30 * time.Second)
	code := s.code(secret)
	s.loginWith("ada@example.com", password, code[:3]+" "+code[3:]).Expect(201)
	s.loginWith("ada@example.com", password, code).Expect(401)
	s.loginWith("ada@example.com", password, missed).Expect(401)
	s.Clock.Advance(5 * time.Minute)
	s.loginWith("ada@example.com", password, code).Expect(401)
	// Of many at once with one code one gets in.
	s.Clock.Advance(time.Hour)
	var wg sync.WaitGroup
	got := make([]int, 4)
	now := s.code(secret)
	for i := range got {
		wg.Go(func() { got[i] = s.loginWith("ada@example.com", password, now).Status })
	}
	wg.Wait()
	slices.Sort(got)
	if got[0] != 201 || got[1] < 400 {
		t.Errorf("got %v", got)
	}
	s.Clock.Advance(2 * time.Hour)
	mailed(s, events.UserSecurityChanged)
	s.loginWith("ada@example.com", password, strings.ToLower(recovery[3])).Expect(201)
	if got := one(s, mailed(s, events.UserSecurityChanged)); got.What != "recovery-code-used" {
		t.Errorf("got %+v", got)
	}
	s.loginWith("ada@example.com", password, recovery[3]).Expect(401)
	in := read(s.loginWith("ada@example.com", password, recovery[4]).Expect(201))
	var shown struct {
		TOTP     bool `json:"totp"`
		Recovery int  `json:"recovery_codes"`
	}
	s.with(in.Access, "GET", "/api/users/"+ada.ID+"/second-factor", nil).Expect(200).JSON(&shown)
	if !shown.TOTP || shown.Recovery != 8 {
		t.Errorf("got %+v", shown)
	}
	// A reset of the password by mail leaves it.
	s.askReset("ada@example.com").Expect(202)
	s.reset(one(s, mailed(s, events.UserPasswordResetRequested)).Token, "short one").Expect(204) // 8 beside a factor
	s.login("ada@example.com", "short one").Expect(401)
	s.loginWith("ada@example.com", "short one", s.code(secret)).Expect(201)
}

// Codes cannot be guessed, not even with the password, and a guesser of codes does not learn when one is right.
func TestCodesAreNotGuessed(t *testing.T) {
	s := open(t)
	s.proven("ada@example.com")
	secret, _ := s.enrol(s.signIn("ada@example.com").Access, password)
	s.Clock.Advance(time.Minute)
	through := 0
	for range 24 * 6 {
		if r := s.loginWith("ada@example.com", password, "000000"); r.Status == 401 {
			through++
		}
		if through == 6 {
			s.loginWith("ada@example.com", password, s.code(secret)).Expect(429)
			s.Clock.Advance(time.Second)
		}
		if through > 6 {
			s.Clock.Advance(10 * time.Minute)
		}
	}
	if through > 100 {
		t.Errorf("%d codes got through in a day", through)
	}
	// Who does not know the password keeps nobody out.
	s.Clock.Advance(2 * time.Hour)
	for range 10 {
		s.guess(here, "ada@example.com", "not the password")
	}
	s.from(elsewhere, "/api/sessions",
		m{"email": "ada@example.com", "password": password, "code": s.code(secret)}).Expect(201)
}

// With a second factor, a change of how one signs in needs its code: the password and a stolen access token do not do.
func TestSecondFactorIsRemoved(t *testing.T) {
	s := withRoot(t)
	ada := s.proven("ada@example.com")
	other, mine := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	path := "/api/users/" + ada.ID
	secret, _ := s.enrol(mine.Access, password)
	s.with(mine.Access, "POST", "/api/second-factor", m{"current_password": password}).Expect(422)
	s.with(mine.Access, "PATCH", path, m{"password": "another horse battery", "current_password": password}).Expect(422)
	s.stepUp(mine.Access, m{"password": password}).Expect(422)
	s.stepUp(mine.Access, m{"code": s.code(secret)}).Expect(422) // used up
	s.Clock.Advance(30 * time.Second)
	token := s.stepUpToken(mine.Access, m{"code": s.code(secret)})
	s.stepUp(mine.Access, m{"code": s.code(secret)}).Expect(422)
	s.recently(mine.Access, token, "POST", "/api/second-factor", m{}).Expect(409)
	eve := s.register("eve@example.com")
	s.with(s.signIn("eve@example.com").Access, "DELETE", path+"/second-factor", nil).Expect(404)
	s.AllEmitted()
	s.recently(mine.Access, token, "DELETE", path+"/second-factor", nil).Expect(204)
	if got := one(s, mailed(s, events.UserSecurityChanged)); got.What != "second-factor-removed" || got.UserID != ada.ID {
		t.Errorf("got %+v", got)
	}
	s.refresh(other.Refresh).Expect(401)
	mine = read(s.refresh(mine.Refresh).Expect(201))
	s.signIn("ada@example.com")
	// An admin helps a user who has lost it. Of a deleted user nothing is left.
	secret, _ = s.enrol(mine.Access, password)
	root := s.root()
	s.with(root.Access, "DELETE", path+"/second-factor", nil).Expect(422)
	s.recently(root.Access, s.stepUpToken(root.Access, m{"password": rootPassword}), "DELETE", path+"/second-factor", nil).
		Expect(204)
	mine = s.signIn("ada@example.com")
	s.with(mine.Access, "POST", "/api/second-factor/confirmation", m{"code": s.code(secret)}).Expect(409)
	secret, _ = s.enrol(mine.Access, password)
	s.with(mine.Access, "DELETE", path, nil).Expect(204)
	if strings.Contains(s.stored(), secret) {
		t.Error("the secret of a deleted user is stored")
	}
	_ = eve
}

// A second factor needs a proven address: who registers with another's must not lock its owner out.
func TestSecondFactorNeedsAProvenAddress(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	s.with(s.signIn("ada@example.com").Access, "POST", "/api/second-factor", m{"current_password": password}).Expect(409)
	s = open(t, "EBB_ADDRESS_PROOF", "off")
	s.register("ada@example.com")
	s.enrol(s.signIn("ada@example.com").Access, password)
}

// Where staff need a second factor, a role beyond customer counts only in sessions that were opened with one.
func TestStaffNeedASecondFactor(t *testing.T) {
	vars := []string{"EBB_STAFF_SECOND_FACTOR", "required", "EBB_ADMIN_EMAIL", rootEmail,
		"EBB_ADMIN_PASSWORD", rootPassword}
	s := open(t, vars...)
	root := s.root()
	if got := claimsOf(t, root.Access).Roles; !slices.Equal(got, []string{"customer"}) {
		t.Errorf("got %v", got)
	}
	s.with(root.Access, "GET", "/api/users", nil).Expect(403)
	secret, _ := s.enrol(root.Access, rootPassword)
	root = read(s.refresh(root.Refresh).Expect(201)) // it has shown it
	s.with(root.Access, "GET", "/api/users", nil).Expect(200)
	s.login(rootEmail, rootPassword).Expect(401)
	s.Clock.Advance(time.Minute)
	root = read(s.loginWith(rootEmail, rootPassword, s.code(secret)).Expect(201))
	s.with(root.Access, "GET", "/api/users", nil).Expect(200)
	s.Clock.Advance(time.Minute)
	token := s.stepUpToken(root.Access, m{"code": s.code(secret)})
	s.recently(root.Access, token, "DELETE", "/api/users/"+idOf(t, root.Access)+"/second-factor", nil).Expect(204)
	root = read(s.refresh(root.Refresh).Expect(201))
	s.with(root.Access, "GET", "/api/users", nil).Expect(403)
	// The configured admin who has lost it recovers by another configured password.
	s.enrol(root.Access, rootPassword)
	s.login(rootEmail, rootPassword).Expect(401)
	s.reconfigure(map[string]string{"EBB_ADMIN_PASSWORD": "the second admin of it"})
	s.login(rootEmail, "the second admin of it").Expect(201)
}
