package users_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// Addresses of clients (RFC 5737).
const (
	here      = "198.51.100.1"
	elsewhere = "203.0.113.1"
)

// from posts as a client of an address.
func (s shop) from(address, path string, body any) *functiontest.Response {
	s.T.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		s.T.Fatal(err)
	}
	r := httptest.NewRequest("POST", path, strings.NewReader(string(data)))
	r.RemoteAddr = address + ":1234"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.I.ServeHTTP(w, r)
	return &functiontest.Response{T: s.T, Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}
}

func (s shop) guess(address, email, password string) *functiontest.Response {
	s.T.Helper()
	return s.from(address, "/api/sessions", m{"email": email, "password": password})
}

// device signs in and returns the device token.
func (s shop) device(address, email, known string) string {
	s.T.Helper()
	body := m{"email": email, "password": password}
	if known != "" {
		body["device_token"] = known
	}
	var got struct {
		Device string `json:"device_token"`
	}
	s.from(address, "/api/sessions", body).Expect(201).JSON(&got)
	if got.Device == "" {
		s.T.Fatal("there is no device token")
	}
	return got.Device
}

// wrongUntilRefused guesses wrong passwords until one is answered 429, and says how many were tried.
func (s shop) wrongUntilRefused(address, email string) (tried int) {
	s.T.Helper()
	for ; tried < 200; tried++ {
		r := s.guess(address, email, fmt.Sprint("wrong horse ", tried))
		if r.Status == 429 {
			if after, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || after < 1 || after > 900 {
				s.T.Errorf("got Retry-After %q", r.Header.Get("Retry-After"))
			}
			return tried
		}
		r.Expect(401)
	}
	s.T.Fatalf("after %d wrong passwords for %s no wait is asked for", tried, email)
	return tried
}

// A guesser has to wait, ever longer, and learns nothing meanwhile: neither whether a password is right nor whether the
// account exists.
func TestGuessersWait(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	known := s.wrongUntilRefused(here, "ada@example.com")
	if unknown := s.wrongUntilRefused(here, "nobody@example.com"); unknown != known {
		t.Errorf("%d tries for a user, %d for nobody", known, unknown)
	}
	before := users.Derived()
	right := s.guess(here, "ada@example.com", password).Expect(429)
	wrong := s.guess(here, "ada@example.com", "x").Expect(429)
	if string(right.Body) != string(wrong.Body) || users.Derived() != before {
		t.Errorf("got %s and %s", right.Body, wrong.Body)
	}
	s.Restart() // what was tried is kept
	s.guess(here, "ada@example.com", password).Expect(429)
	// In a day few guesses get through.
	through := 0
	for range 24 * 60 {
		s.Clock.Advance(time.Minute)
		if s.guess(here, "ada@example.com", "wrong horse").Status == 401 {
			through++
		}
	}
	if through > 150 {
		t.Errorf("%d guesses got through in a day", through)
	}
	s.Clock.Advance(time.Hour)
	s.guess(here, "ada@example.com", password).Expect(201)
}

// Who guesses locks nobody else out: not the account's user elsewhere, not on a device they know, nor another account.
func TestGuessersLockNobodyOut(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	s.register("bob@example.com")
	device := s.device(here, "ada@example.com", "")
	s.wrongUntilRefused(here, "ada@example.com")
	s.guess(elsewhere, "ada@example.com", password).Expect(201)
	s.guess(here, "bob@example.com", password).Expect(201)
	s.device(here, "ada@example.com", device)

	// From many addresses the account itself has to wait, but not on the device.
	refused := false
	for n := 0; n < 50 && !refused; n++ {
		refused = s.guess(fmt.Sprint("203.0.113.", n+10), "ada@example.com", "wrong horse").Status == 429
	}
	if !refused {
		t.Error("many addresses may guess without end")
	}
	s.guess(elsewhere, "ada@example.com", password).Expect(429)
	s.guess(elsewhere, "bob@example.com", password).Expect(201)
	if again := s.device(here, "ada@example.com", device); again != device {
		t.Errorf("the device is another now: %s, %s", again, device)
	}
	s.device(elsewhere, "ada@example.com", device)
}

// One address may not try many accounts, but one that may be a proxy before everyone is not shut out.
func TestSprayersWait(t *testing.T) {
	s := open(t)
	refusedFrom := func(address string) bool {
		for n := range 80 {
			if s.guess(address, fmt.Sprintf("user%d@example.com", n), "wrong horse").Status == 429 {
				return true
			}
		}
		return false
	}
	if !refusedFrom(here) {
		t.Error("one address may try many accounts without end")
	}
	if refusedFrom("10.0.0.1") {
		t.Error("all clients behind one proxy have to wait together")
	}
}

// A device token is good for its own account only, until the password changes, and for a bounded number of guesses.
func TestDeviceTokens(t *testing.T) {
	s := open(t)
	ada, _ := s.register("ada@example.com"), s.register("eve@example.com")
	device, eves := s.device(here, "ada@example.com", ""), s.device(elsewhere, "eve@example.com", "")
	with := func(device, password string) int {
		return s.from(here, "/api/sessions", m{"email": "ada@example.com", "password": password,
			"device_token": device}).Status
	}
	s.wrongUntilRefused(here, "ada@example.com")
	for name, bad := range map[string]string{"another account's": eves, "none": "",
		"half": strings.Split(device, ".")[0], "forged": device[:len(device)-2] + "xx"} {
		if got := with(bad, password); got != 429 {
			t.Errorf("%s: got %d", name, got)
		}
	}
	// It lets nobody in by itself, and does not let one guess on.
	tried := 0
	for ; tried < 50 && with(device, "wrong horse") == 401; tried++ {
	}
	if tried >= 50 {
		t.Error("a device may guess without end")
	}
	s.Clock.Advance(2 * time.Hour)
	if got := with(device, password); got != 201 {
		t.Fatalf("got %d", got)
	}
	token := s.signIn("ada@example.com")
	s.with(token.Access, "PATCH", "/api/users/"+ada.ID,
		m{"password": "another horse battery", "current_password": password}).Expect(200)
	for with("", "wrong horse") != 429 {
	}
	if got := with(device, "another horse battery"); got != 429 {
		t.Errorf("after a change of password: got %d", got)
	}
}

// A stolen access token is no way to guess the password either.
func TestCurrentPasswordIsNotGuessed(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	token := s.signIn("ada@example.com")
	for n := 0; ; n++ {
		status := s.with(token.Access, "PATCH", "/api/users/"+ada.ID,
			m{"password": "another horse battery", "current_password": "wrong horse"}).Status
		if status == 429 {
			break
		}
		if status != 422 || n > 50 {
			t.Fatalf("got %d after %d guesses", status, n)
		}
	}
	s.with(token.Access, "PATCH", "/api/users/"+ada.ID,
		m{"password": "another horse battery", "current_password": password}).Expect(429)
	s.with(token.Access, "PATCH", "/api/users/"+ada.ID, m{"name": "Ada King"}).Expect(200)
}

// What was tried is forgotten: a year of guessing leaves no more rows than an hour of it.
func TestAttemptsAreForgotten(t *testing.T) {
	s := open(t)
	most := 0
	for hour := range 12 {
		for n := range 10 {
			s.guess(fmt.Sprintf("203.0.113.%d", n), fmt.Sprintf("user%d-%d@example.com", hour, n), "wrong horse").Expect(401)
		}
		most = max(most, strings.Count(s.stored(), "attempts/"))
		s.Clock.Advance(time.Hour + time.Minute)
	}
	if most > 2*30 {
		t.Errorf("there are %d rows", most)
	}
}

// Nobody registers without end from one address, but for one that may be a proxy before everyone.
func TestRegistrationsWait(t *testing.T) {
	s := open(t)
	refusedFrom := func(address string) bool {
		for n := range 40 {
			r := s.from(address, "/api/users", m{"name": "A", "email": fmt.Sprintf("user%d@%s.example.com", n, address),
				"password": password})
			if r.Status == 429 && r.Header.Get("Retry-After") != "" {
				return true
			}
			r.Expect(201)
		}
		return false
	}
	if !refusedFrom(here) {
		t.Error("one address may register without end")
	}
	s.from(elsewhere, "/api/users", m{"name": "A", "email": "ada@example.com", "password": password}).Expect(201)
	if refusedFrom("127.0.0.1") {
		t.Error("this machine has to wait")
	}
}

// A taken address is answered like a free one, down to the work that is done, and its owner is told, once a day.
func TestTakenAddressIsNotTold(t *testing.T) {
	s := withRoot(t)
	ada := s.register("ada@example.com")
	s.root()
	s.Emitted()
	answers := map[string]m{}
	for _, email := range []string{"free@example.com", " ADA@example.com", rootEmail} {
		before := users.Derived()
		r := s.Call("POST", "/api/users", functiontest.Nobody,
			m{"name": " Eve ", "email": email, "password": password}).Expect(201)
		if got := users.Derived() - before; got != 1 {
			t.Errorf("%s: worked on a password %d times, want once", email, got)
		}
		var a m
		r.JSON(&a)
		if id := a["id"].(string); r.Header.Get("Location") != "/api/users/"+id ||
			len(id) != len(ada.ID) || id == ada.ID || id[:6] != ada.ID[:6] {
			t.Errorf("%s: got %v %s", email, r.Header, r.Body)
		}
		a["id"] = ""
		if a["email"] != users.Normalise(email) {
			t.Errorf("got %v", a)
		}
		a["email"] = ""
		answers[email] = a
	}
	first := answers["free@example.com"]
	for email, a := range answers {
		if !maps.EqualFunc(a, first, func(x, y any) bool { return fmt.Sprint(x) == fmt.Sprint(y) }) {
			t.Errorf("%s: got %v, want %v", email, a, first)
		}
	}
	// Nothing was changed, and the owners are told.
	s.signIn("ada@example.com")
	es := s.Emitted()
	if got, want := functiontest.Types(es),
		[]string{"users.registered.v1", "users.address-taken.v1", "users.address-taken.v1"}; !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	if data, err := events.UserAddressTaken.Decode(es[1]); err != nil ||
		data.UserID != ada.ID || es[1].Subject() != ada.ID || es[1].Extensions()[event.Sequence] != nil {
		t.Errorf("got %v, %v", es[1], err)
	}
	told := func() int { s.register("ada@example.com"); return len(s.Emitted()) }
	if told() != 0 {
		t.Error("the owner is told twice a day")
	}
	s.Clock.Advance(25 * time.Hour)
	if told() != 1 {
		t.Error("the owner is not told on the next day")
	}
}

// A user who asks for another's address is not told that it is taken; an admin is.
func TestTakenAddressIsNotToldByAChange(t *testing.T) {
	s := withRoot(t)
	eve, ada := s.register("eve@example.com"), s.register("ada@example.com")
	token := s.signIn("eve@example.com")
	root := s.root().Access
	s.Emitted()
	path := "/api/users/" + eve.ID
	email := func(access string) string {
		t.Helper()
		var u user
		s.with(access, "GET", path, nil).Expect(200).JSON(&u)
		return u.Email
	}
	var u user
	s.with(token.Access, "PATCH", path, m{"email": "Ada@example.com", "current_password": password}).Expect(200).JSON(&u)
	if u.Email != "ada@example.com" || email(token.Access) != "ada@example.com" || email(root) != "eve@example.com" {
		t.Errorf("got %+v, %s, %s", u, email(token.Access), email(root))
	}
	es := s.Emitted()
	want := []string{"users.address-taken.v1", "users.changed.v1"}
	if got := functiontest.Types(es); !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	if es[0].Subject() != ada.ID {
		t.Errorf("got %v", es[0])
	}
	if data, err := functiontest.Decode(events.UserChanged, es[1]); err != nil || data.Email != "eve@example.com" {
		t.Errorf("others are told an address that is not the user's: %+v, %v", data, err)
	}
	// The address until now signs in, and nobody's account has changed hands.
	if got := claimsOf(t, s.signIn("eve@example.com").Access).Subject; got != eve.ID {
		t.Errorf("got %s", got)
	}
	if got := claimsOf(t, s.signIn("ada@example.com").Access).Subject; got != ada.ID {
		t.Errorf("got %s", got)
	}
	// A free one, or that of before, ends it.
	s.with(token.Access, "PATCH", path, m{"email": "eve@example.com", "current_password": password}).Expect(200)
	if got := email(token.Access); got != "eve@example.com" {
		t.Errorf("got %s", got)
	}
	s.with(token.Access, "PATCH", path, m{"email": "ada@example.com", "current_password": password}).Expect(200)
	s.with(token.Access, "PATCH", path, m{"email": "free@example.com", "current_password": password}).Expect(200)
	if email(token.Access) != "free@example.com" || email(root) != "free@example.com" {
		t.Errorf("got %s, %s", email(token.Access), email(root))
	}
	// An admin may see all addresses anyway.
	s.with(root, "PATCH", path, m{"email": "ada@example.com", "current_password": rootPassword}).Expect(409)
	// Nobody tries many.
	refused := false
	for n := 0; n < 20 && !refused; n++ {
		refused = s.with(token.Access, "PATCH", path,
			m{"email": fmt.Sprintf("try%d@example.com", n), "current_password": password}).Status == 429
	}
	if !refused {
		t.Error("a user may ask for addresses without end")
	}
}
