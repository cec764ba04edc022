package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// accounts is a system whose sessions behave as those of users: a refresh token works once, and ends its session when
// it is shown again.
type accounts struct {
	*httptest.Server
	mu       sync.Mutex
	life     int // seconds, of an access token
	signIns  []map[string]string
	refresh  map[string]string // a refresh token that is good, to its session
	access   map[string]string // an access token, to its session
	ended    map[string]bool
	lowPower map[string]bool // sessions that are answered with 403
	n        int
}

func newAccounts(t *testing.T, life int) *accounts {
	t.Helper()
	a := &accounts{life: life, refresh: map[string]string{}, access: map[string]string{}, ended: map[string]bool{},
		lowPower: map[string]bool{}}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *accounts) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var in map[string]string
	_ = json.NewDecoder(r.Body).Decode(&in)
	a.n++
	session := a.access[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	refuse := func(status int, location string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"detail":"no","errors":[{"location":%q,"message":"is needed"}]}`, location)
	}
	give := func(session string) {
		refresh, access := fmt.Sprint("refresh-", a.n), fmt.Sprint("access-", a.n)
		a.refresh[refresh], a.access[access] = session, session
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": access, "refresh_token": refresh,
			"expires_in": a.life, "device_token": "device"})
	}
	switch {
	case r.URL.Path == "/api/sessions" && in["email"] == "coded@example.com" && in["code"] == "":
		refuse(http.StatusUnauthorized, "body.code")
	case r.URL.Path == "/api/sessions":
		a.signIns = append(a.signIns, in)
		give(fmt.Sprint("session-", a.n))
	case r.URL.Path == "/api/sessions/refresh":
		session, good := a.refresh[in["refresh_token"]]
		if a.refresh[in["refresh_token"]] = ""; !good || session == "" || a.ended[session] {
			a.ended[session] = true
			refuse(http.StatusUnauthorized, "body.refresh_token")
			return
		}
		give(session)
	case session == "" || a.ended[session]:
		refuse(http.StatusUnauthorized, "")
	case r.Method == http.MethodDelete && r.URL.Path == "/api/sessions/current":
		a.ended[session] = true
		w.WriteHeader(http.StatusNoContent)
	case a.lowPower[session]:
		refuse(http.StatusForbidden, "")
	default:
		_, _ = io.WriteString(w, `{"person_id":"u","parts":[],"missing":[]}`)
	}
}

// open returns how many sessions are open.
func (a *accounts) open() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, s := range a.access {
		if !a.ended[s] && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return len(all)
}

func (a *accounts) endAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.access {
		a.ended[s] = true
	}
}

var adminVars = map[string]string{"EBB_ADMIN_EMAIL": "admin@example.com", "EBB_ADMIN_PASSWORD": "secret"}

// export runs a command that calls the system once.
func (a *accounts) export(t *testing.T, dir string, vars map[string]string) {
	t.Helper()
	if code, _, errs := ebb(t.Context(), dir, vars, "persons", "export", "u", "--url", a.URL); code != 0 {
		t.Errorf("got %d %s", code, errs)
	}
}

// Commands go on with one session, in a file that only the user can read. They do not sign in again while it is open,
// also when its access token has expired, and do when it was ended.
func TestCommandsShareASession(t *testing.T) {
	for name, life := range map[string]int{"tokens that live": 300, "tokens that expire": 1} {
		t.Run(name, func(t *testing.T) {
			a, dir := newAccounts(t, life), t.TempDir()
			for range 3 {
				a.export(t, dir, adminVars)
			}
			if len(a.signIns) != 1 || a.open() != 1 {
				t.Errorf("signed in %v, %d sessions are open", a.signIns, a.open())
			}
			file := filepath.Join(dir, "config", "ebb", "logins.json")
			if about, err := os.Stat(file); err != nil || about.Mode().Perm() != 0o600 {
				t.Errorf("got %v %v", about, err)
			}
			if text, _ := os.ReadFile(file); strings.Contains(string(text), "secret") {
				t.Errorf("the file has the password: %s", text)
			}
			a.endAll()
			a.export(t, dir, adminVars)
			if len(a.signIns) != 2 || a.signIns[1]["device_token"] != "device" {
				t.Errorf("signed in %v", a.signIns)
			}
			if code, _, errs := ebb(t.Context(), dir, adminVars, "logout", "--url", a.URL); code != 0 || a.open() != 0 {
				t.Errorf("got %d %s, %d sessions are open", code, errs, a.open())
			}
		})
	}
}

// Commands at the same time refresh the session one after the other: it does not end by a refresh token that is shown
// twice.
func TestCommandsAtTheSameTime(t *testing.T) {
	a, dir := newAccounts(t, 1), t.TempDir()
	a.export(t, dir, adminVars)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { a.export(t, dir, adminVars) })
	}
	all.Wait()
	if len(a.signIns) != 1 || a.open() != 1 {
		t.Errorf("signed in %v, %d sessions are open", a.signIns, a.open())
	}
}

// The session of another system, or of another user, is not used.
func TestSessionsAreKeptApart(t *testing.T) {
	a, b, dir := newAccounts(t, 300), newAccounts(t, 300), t.TempDir()
	other := map[string]string{"EBB_ADMIN_EMAIL": "other@example.com", "EBB_ADMIN_PASSWORD": "secret"}
	a.export(t, dir, adminVars)
	b.export(t, dir, adminVars)
	a.export(t, dir, other)
	a.export(t, dir, adminVars)
	if len(a.signIns) != 2 || len(b.signIns) != 1 || a.signIns[1]["email"] != "other@example.com" {
		t.Errorf("signed in %v, %v", a.signIns, b.signIns)
	}
}

// A configured admin who has lost the role gets it by a sign-in: a command that is refused for it signs in again, and
// leaves no session behind.
func TestSessionWithTooLittlePower(t *testing.T) {
	a, dir := newAccounts(t, 300), t.TempDir()
	a.export(t, dir, adminVars)
	a.mu.Lock()
	for _, s := range a.access {
		a.lowPower[s] = true
	}
	a.mu.Unlock()
	a.export(t, dir, adminVars)
	if len(a.signIns) != 2 || a.open() != 1 {
		t.Errorf("signed in %v, %d sessions are open", a.signIns, a.open())
	}
}

// login asks for the password, and for a code where there is a second factor. Commands need none then, until the
// session has ended: they say so, and are nobody else's.
func TestLogin(t *testing.T) {
	a, dir := newAccounts(t, 300), t.TempDir()
	run := func(args ...string) (errs string, err error) {
		p, _, e := process(dir, nil)
		answers := []string{"pass word", "123456"}
		c := &app{Process: p, system: empty(), terminal: func(io.Writer) bool { return false },
			secret: func(io.Reader, io.Writer, string) (answer string, err error) {
				answer, answers = answers[0], answers[1:]
				return answer, nil
			}}
		root := c.root()
		root.SetArgs(append(args, "--url", a.URL))
		_, err = root.ExecuteContextC(context.WithoutCancel(t.Context()))
		return e.String(), err
	}
	if errs, err := run("login", "--email", "coded@example.com"); err != nil {
		t.Fatal(errs, err)
	}
	want := map[string]string{"email": "coded@example.com", "password": "pass word", "code": "123456"}
	if len(a.signIns) != 1 || fmt.Sprint(a.signIns[0]) != fmt.Sprint(want) {
		t.Errorf("signed in %v", a.signIns)
	}
	if errs, err := run("persons", "export", "u"); err != nil || len(a.signIns) != 1 {
		t.Error(errs, err, a.signIns)
	}
	admin, _ := json.Marshal(credentials{Email: "admin@example.com", Password: "of the data directory"})
	if err := os.WriteFile(filepath.Join(dir, adminFile), admin, 0o600); err != nil {
		t.Fatal(err)
	}
	a.endAll()
	export := []string{"persons", "export", "u", "--data", dir}
	if _, err := run(export...); err == nil || !strings.Contains(err.Error(), "sign in again") {
		t.Errorf("got %v", err)
	}
	if _, err := run("logout"); err != nil {
		t.Error(err)
	}
	if _, err := run(export...); err != nil || a.signIns[1]["email"] != "admin@example.com" {
		t.Error(err, a.signIns)
	}
}
