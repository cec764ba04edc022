package users_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

type m = map[string]any

type user struct {
	ID, Name, Email string
	Roles           []string
	CreatedAt       time.Time `json:"created_at"`
}

type tokens struct {
	Access    string `json:"access_token"`
	Refresh   string `json:"refresh_token"`
	Type      string `json:"token_type"`
	ExpiresIn int    `json:"expires_in"`
}

const password = "correct horse battery"

// shop is the users function and what its callers do with it.
type shop struct {
	*functiontest.Harness
	vars map[string]string
}

func open(t *testing.T, vars ...string) shop {
	set := map[string]string{}
	for i := 0; i+1 < len(vars); i += 2 {
		set[vars[i]] = vars[i+1]
	}
	return shop{functiontest.New(t, users.New, functiontest.Set(set)), set}
}

// reconfigure starts the function anew with other variables, on the same data.
func (s shop) reconfigure(vars map[string]string) {
	s.T.Helper()
	maps.Copy(s.vars, vars)
	s.Restart()
}

func (s shop) register(email string) user {
	s.T.Helper()
	var u user
	s.Call("POST", "/api/users", functiontest.Nobody,
		m{"name": "Ada", "email": email, "password": password}).Expect(201).JSON(&u)
	return u
}

func (s shop) login(email, password string) *functiontest.Response {
	s.T.Helper()
	return s.Call("POST", "/api/sessions", functiontest.Nobody, m{"email": email, "password": password})
}

func (s shop) signIn(email string) tokens {
	s.T.Helper()
	return read(s.login(email, password).Expect(201))
}

func read(r *functiontest.Response) (got tokens) { r.T.Helper(); r.JSON(&got); return got }

func (s shop) refresh(token string) *functiontest.Response {
	s.T.Helper()
	return s.Call("POST", "/api/sessions/refresh", functiontest.Nobody, m{"refresh_token": token})
}

// with calls with an access token.
func (s shop) with(access, method, path string, body any) *functiontest.Response {
	s.T.Helper()
	return s.Call(method, path, functiontest.Nobody, body, "Authorization", "Bearer "+access)
}

// Emitted returns the events since the last call, but for those that only have mail sent: AllEmitted returns them too.
func (s shop) Emitted() []ce.Event {
	return slices.DeleteFunc(s.AllEmitted(), func(e ce.Event) bool {
		return strings.HasSuffix(e.Type(), ".users.email-proof-requested.v1") ||
			strings.HasSuffix(e.Type(), ".users.password-reset-requested.v1") ||
			strings.HasSuffix(e.Type(), ".users.security-changed.v1")
	})
}

func (s shop) AllEmitted() []ce.Event { return s.Harness.Emitted() }

// stored is all that the function has written down, its own bookkeeping apart.
func (s shop) stored() string {
	s.T.Helper()
	s.Restart()
	db, err := s.Store(context.Background(), "users", s.I.Declaration().Schema)
	if err != nil {
		s.T.Fatal(err)
	}
	defer db.Close()
	var all bytes.Buffer
	for _, spec := range s.I.Declaration().Schema {
		docs, _, err := db.Query(context.Background(), store.Query{Collection: spec.Name, Limit: store.MaxLimit})
		if err != nil {
			s.T.Fatal(err)
		}
		for _, d := range docs {
			fmt.Fprintf(&all, "%s/%s %s\n", spec.Name, d.ID, d.Data)
		}
	}
	return all.String()
}

func TestRegister(t *testing.T) {
	s := open(t)
	r := s.Call("POST", "/api/users", functiontest.Nobody,
		m{"name": " Ada ", "email": " Ada@Example.com", "password": password}).Expect(201)
	var u user
	r.JSON(&u)
	if got, want := r.Header.Get("Location"), "/api/users/"+u.ID; got != want {
		t.Errorf("got location %q, want %q", got, want)
	}
	if u.Name != "Ada" || u.Email != "ada@example.com" ||
		!slices.Equal(u.Roles, []string{"customer"}) || !u.CreatedAt.Equal(s.Clock.Now()) {
		t.Errorf("got %+v", u)
	}
	var fields m
	r.JSON(&fields)
	for name := range fields {
		if !slices.Contains([]string{"id", "name", "email", "roles", "created_at"}, name) {
			t.Errorf("the answer has a field %q", name)
		}
	}
	// It tells of the newcomer, numbered by the user's version.
	es := s.Emitted()
	if got := functiontest.Types(es); !slices.Equal(got, []string{"users.registered.v1"}) {
		t.Fatalf("got %v", got)
	}
	data, err := functiontest.Decode(events.UserRegistered, es[0])
	if err != nil || data.UserID != u.ID || data.Email != u.Email ||
		es[0].Extensions()[event.Sequence] != "1" || es[0].Subject() != u.ID {
		t.Errorf("got %v %+v, %v", es[0], data, err)
	}
	// The password is nowhere.
	if all := s.stored(); strings.Contains(all, password) || !strings.Contains(all, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("stored: %s", all)
	}
}

// Of many who want one address at the same time one gets it, and none can tell.
func TestOneAddressAtOnce(t *testing.T) {
	s := open(t)
	var wg sync.WaitGroup
	got := make([]int, 8)
	for i := range got {
		wg.Go(func() {
			got[i] = s.Call("POST", "/api/users", functiontest.Nobody,
				m{"name": "Ada", "email": "ada@example.com", "password": password}).Status
		})
	}
	wg.Wait()
	slices.Sort(got)
	if want := slices.Repeat([]int{201}, 8); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	types := functiontest.Types(s.Emitted())
	slices.Sort(types)
	if want := []string{"users.address-taken.v1", "users.registered.v1"}; !slices.Equal(types, want) {
		t.Errorf("got %v", types)
	}
}

func TestRefusedRegistrations(t *testing.T) {
	s := open(t)
	for name, body := range map[string]any{
		"no name":        m{"email": "a@b.de", "password": password},
		"blank name":     m{"name": "  ", "email": "a@b.de", "password": password},
		"bad address":    m{"name": "A", "email": "a", "password": password},
		"no address":     m{"name": "A", "password": password},
		"short password": m{"name": "A", "email": "a@b.de", "password": "secret!"},
		"long password":  m{"name": "A", "email": "a@b.de", "password": strings.Repeat("secret", 22)},
		"unknown field":  m{"name": "A", "email": "a@b.de", "password": password, "roles": []string{"admin"}},
		"wrong type":     m{"name": 1, "email": "a@b.de", "password": password},
	} {
		r := s.Call("POST", "/api/users", functiontest.Nobody, body)
		if r.Status != 422 {
			t.Errorf("%s: got %d %s", name, r.Status, r.Body)
		}
		if bytes.Contains(r.Body, []byte("secret")) {
			t.Errorf("%s: the answer quotes the password: %s", name, r.Body)
		}
	}
	// Everything that is wrong is said at once.
	var problem struct{ Errors []struct{ Location string } }
	s.Call("POST", "/api/users", functiontest.Nobody,
		m{"name": "", "email": "a", "password": "short"}).Expect(422).JSON(&problem)
	if len(problem.Errors) != 3 {
		t.Errorf("got %+v", problem)
	}
	if es := s.Emitted(); len(es) > 0 {
		t.Errorf("got %v", es)
	}
}

// A refusal ends up in logs and on screens, so it holds no password: neither alone nor in a quoted body.
func TestRefusalsQuoteNoPassword(t *testing.T) {
	s := open(t)
	for _, path := range []string{"/api/users", "/api/sessions", "/api/email-proofs", "/api/password-resets/completion"} {
		for _, body := range []m{{"password": password}, {"name": "A", "email": "a@b.de", "password": password, "x": 1}} {
			if r := s.Call("POST", path, functiontest.Nobody, body).Expect(422); bytes.Contains(r.Body, []byte(password)) {
				t.Errorf("%s: the answer quotes the password: %s", path, r.Body)
			}
		}
	}
}

func TestSignIn(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	r := s.login("ADA@example.com", password).Expect(201)
	got := read(r)
	if got.Type != "Bearer" || got.ExpiresIn != 900 || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %+v %v", got, r.Header)
	}
	var me user
	s.with(got.Access, "GET", "/api/users/"+ada.ID, nil).Expect(200).JSON(&me)
	if me.Email != "ada@example.com" {
		t.Errorf("got %+v", me)
	}
	if all := s.stored(); strings.Contains(all, got.Refresh) || strings.Contains(all, strings.Split(got.Refresh, ".")[1]) {
		t.Error("the refresh token is stored as it is")
	}
	// Whether the address or the password is wrong is not told.
	unknown := s.login("eve@example.com", password).Expect(401)
	wrong := s.login("ada@example.com", "wrong horse").Expect(401)
	if !bytes.Equal(unknown.Body, wrong.Body) {
		t.Errorf("got %s and %s", unknown.Body, wrong.Body)
	}
	s.login("ada@example.com", "").Expect(401)
	s.login("ada@example.com", strings.Repeat("x", 1000)).Expect(401)
	// An access token ends by itself.
	s.Clock.Advance(15*time.Minute + 6*time.Second)
	s.with(got.Access, "GET", "/api/users/"+ada.ID, nil).Expect(401)
}

// Nobody can tell by the time who is a user: a sign-in works on a password once, whoever it is for.
func TestUnknownAddressTakesAsLong(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	for _, email := range []string{"ada@example.com", "eve@example.com"} {
		before := users.Derived()
		s.login(email, "wrong horse").Expect(401)
		if got := users.Derived() - before; got != 1 {
			t.Errorf("%s: worked on a password %d times, want once", email, got)
		}
	}
}

func TestRefresh(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	first := s.signIn("ada@example.com")
	other := s.signIn("ada@example.com")
	second := read(s.refresh(first.Refresh).Expect(201))
	third := read(s.refresh(second.Refresh).Expect(201))
	if third.Refresh == second.Refresh || second.Refresh == first.Refresh {
		t.Fatal("a refresh token came twice")
	}
	s.with(third.Access, "GET", "/api/users/"+ada.ID, nil).Expect(200)

	// What nobody ever got ends nothing.
	id := strings.Split(third.Refresh, ".")[0]
	for _, forged := range []string{"", "x", id, id + "." + strings.Repeat("A", 43), "." + strings.Repeat("A", 43),
		"no-such." + strings.Repeat("A", 43)} {
		s.refresh(forged).Expect(401)
	}
	third = read(s.refresh(third.Refresh).Expect(201))

	// A used one shows that two parties hold it: the session is over, also after a restart; another session is not.
	s.refresh(first.Refresh).Expect(401)
	s.Restart()
	s.refresh(third.Refresh).Expect(401)
	s.refresh(other.Refresh).Expect(201)
}

func TestParallelRefreshesGiveOneToken(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	token := s.signIn("ada@example.com").Refresh
	var wg sync.WaitGroup
	got := make([]int, 4)
	for i := range got {
		wg.Go(func() { got[i] = s.refresh(token).Status })
	}
	wg.Wait()
	slices.Sort(got)
	if !slices.Equal(got, []int{201, 401, 401, 401}) {
		t.Errorf("got %v", got)
	}
}

func TestIdleSessionEnds(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	token := s.signIn("ada@example.com").Refresh
	s.Clock.Advance(29 * 24 * time.Hour)
	token = read(s.refresh(token).Expect(201)).Refresh
	s.Clock.Advance(29 * 24 * time.Hour)
	token = read(s.refresh(token).Expect(201)).Refresh
	s.Clock.Advance(30 * 24 * time.Hour)
	s.refresh(token).Expect(401)
	if all := s.stored(); strings.Contains(all, "sessions/") {
		t.Errorf("the session is still there: %s", all)
	}
}

func TestOldestSessionGivesWay(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	oldest := s.signIn("ada@example.com")
	next := s.signIn("ada@example.com")
	for range users.MaxSessions - 1 {
		s.signIn("ada@example.com")
	}
	s.refresh(oldest.Refresh).Expect(401)
	s.refresh(next.Refresh).Expect(201)
}

func TestSignOut(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	here, there := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	s.with(here.Access, "DELETE", "/api/sessions/current", nil).Expect(204)
	s.with(here.Access, "DELETE", "/api/sessions/current", nil).Expect(204)
	s.refresh(here.Refresh).Expect(401)
	s.refresh(there.Refresh).Expect(201)
	s.Call("DELETE", "/api/sessions/current", functiontest.Nobody, nil).Expect(401)
	// Nobody ends a session of somebody else by a token that names it.
	eve := functiontest.As("eve")
	eve.Session = strings.Split(there.Refresh, ".")[0]
	s.Call("DELETE", "/api/sessions/current", eve, nil).Expect(204)
	s.with(there.Access, "DELETE", "/api/sessions/current", nil).Expect(204)
}

func TestOthersAreNotThere(t *testing.T) {
	s := withRoot(t)
	ada := s.register("ada@example.com")
	eve := functiontest.As(s.register("eve@example.com").ID)
	root := s.root().Access
	path := "/api/users/" + ada.ID
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		var body any
		if method == "PATCH" {
			body = m{"name": "Eve"}
		}
		s.Call(method, path, eve, body).Expect(404)
		s.Call(method, path, functiontest.Nobody, body).Expect(401)
		s.with(root, method, "/api/users/nobody", body).Expect(404)
	}
	s.Call("GET", path, functiontest.As(ada.ID), nil).Expect(200)
	s.with(root, "GET", path, nil).Expect(200)
}

func TestChange(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	s.register("eve@example.com")
	s.Emitted()
	path, self := "/api/users/"+ada.ID, functiontest.As(ada.ID)

	var u user
	s.Call("PATCH", path, self, m{"name": "Ada King", "email": "Ada.King@example.com",
		"current_password": password}).Expect(200).JSON(&u)
	if u.Name != "Ada King" || u.Email != "ada.king@example.com" {
		t.Errorf("got %+v", u)
	}
	// What changes nothing is no version and no event: its number would be a gap.
	s.Call("PATCH", path, self, m{"name": "Ada King"}).Expect(200)
	s.Call("PATCH", path, self, m{}).Expect(200)
	s.Call("PATCH", path, self, m{"email": "eve"}).Expect(422)
	s.Call("PATCH", path, self, m{"id": "x"}).Expect(422)
	es := s.Emitted()
	if got := functiontest.Types(es); !slices.Equal(got, []string{"users.changed.v1"}) ||
		es[0].Extensions()[event.Sequence] != "2" {
		t.Fatalf("got %v", es)
	}
	if data, err := functiontest.Decode(events.UserChanged, es[0]); err != nil ||
		data.Name != "Ada King" || data.Email != "ada.king@example.com" {
		t.Errorf("got %+v, %v", data, err)
	}
	// The new address signs in, the old one is free.
	s.signIn("ada.king@example.com")
	s.login("ada@example.com", password).Expect(401)
	s.register("ada@example.com")
}

func TestChangePassword(t *testing.T) {
	s := withRoot(t)
	root := s.root().Access
	ada := s.register("ada@example.com")
	here, there := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	path := "/api/users/" + ada.ID
	s.Emitted()

	s.with(here.Access, "PATCH", path, m{"password": "another horse battery"}).Expect(422)
	s.with(here.Access, "PATCH", path,
		m{"password": "another horse battery", "current_password": "wrong horse"}).Expect(422)
	s.with(here.Access, "PATCH", path, m{"password": "short", "current_password": password}).Expect(422)
	s.with(here.Access, "PATCH", path, m{"password": "another horse battery", "current_password": password}).Expect(200)
	s.login("ada@example.com", password).Expect(401)
	s.login("ada@example.com", "another horse battery").Expect(201)
	// Whoever was signed in elsewhere is not any more.
	s.refresh(there.Refresh).Expect(401)
	s.refresh(here.Refresh).Expect(201)
	// A password is not told to others, only that sessions have ended.
	want := []string{"users.signed-out.v1", "users.access-revoked.v1"}
	if got := functiontest.Types(s.Emitted()); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	// An admin helps a user who has forgotten theirs.
	s.with(root, "PATCH", path, m{"password": "third horse battery"}).Expect(422)
	s.with(root, "PATCH", path, m{"password": "third horse battery", "current_password": rootPassword}).Expect(200)
	s.login("ada@example.com", "third horse battery").Expect(201)
	s.refresh(here.Refresh).Expect(401)
}

func TestRoles(t *testing.T) {
	s := withRoot(t)
	root := s.root().Access
	ada := s.register("ada@example.com")
	token := s.signIn("ada@example.com")
	path := "/api/users/" + ada.ID
	s.with(token.Access, "PATCH", path, m{"roles": []string{"admin"}}).Expect(403)
	s.with(root, "PATCH", path, m{"roles": []string{"king"}}).Expect(422)
	s.with(root, "PATCH", path, m{"roles": []string{"customer", "admin"}}).Expect(200)
	// The next access token of the session says so.
	s.with(token.Access, "GET", "/api/users", nil).Expect(403)
	s.with(read(s.refresh(token.Refresh).Expect(201)).Access, "GET", "/api/users", nil).Expect(200)
}

func TestDelete(t *testing.T) {
	s := withRoot(t)
	root := s.root().Access
	s.Emitted()
	ada := s.register("ada@example.com")
	token := s.signIn("ada@example.com")
	path := "/api/users/" + ada.ID
	s.with(token.Access, "PATCH", path, m{"name": "Ada Lovelace"}).Expect(200)
	s.with(token.Access, "DELETE", path, nil).Expect(204)
	es := s.Emitted()
	want := []string{"users.registered.v1", "users.changed.v1", "users.deleted.v1", "users.erased.v1",
		"users.access-revoked.v1"}
	if got := functiontest.Types(es); !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	es = es[:3] // a revocation is no version of the account
	for i, e := range es {
		if got := e.Extensions()[event.Sequence]; got != fmt.Sprint(i+1) {
			t.Errorf("%s has number %v, want %d", e.Type(), got, i+1)
		}
	}
	for _, r := range []*functiontest.Response{
		s.with(token.Access, "GET", path, nil), s.with(token.Access, "PATCH", path, m{"name": "x"}),
		s.with(token.Access, "DELETE", path, nil),
	} {
		r.Expect(401)
	}
	s.with(root, "GET", path, nil).Expect(404)
	s.with(root, "DELETE", path, nil).Expect(404)
	s.login("ada@example.com", password).Expect(401)
	s.refresh(token.Refresh).Expect(401)
	all := s.stored()
	for _, personal := range []string{`"name":"Ada`, "ada@", "of-" + ada.ID, `"user_id":"` + ada.ID} {
		if strings.Contains(all, personal) {
			t.Errorf("%q is still stored: %s", personal, all)
		}
	}
	if s.register("ada@example.com").ID == ada.ID {
		t.Error("an id came back")
	}
}

func TestList(t *testing.T) {
	s := withRoot(t)
	root := s.root().Access
	want := []string{idOf(t, root)}
	for i := range 4 {
		want = append(want, s.register(fmt.Sprintf("user%d@example.com", i)).ID)
	}
	s.with(root, "DELETE", "/api/users/"+want[1], nil).Expect(204)
	want = slices.Delete(want, 1, 2)
	s.Call("GET", "/api/users", functiontest.As("eve"), nil).Expect(403)
	s.Call("GET", "/api/users", functiontest.Nobody, nil).Expect(401)
	var got []string
	for cursor, pages := "", 0; ; pages++ {
		var page struct {
			Items []user
			Next  string
		}
		s.with(root, "GET", "/api/users?limit=2&cursor="+cursor, nil).Expect(200).JSON(&page)
		for _, u := range page.Items {
			got = append(got, u.ID)
		}
		if cursor = page.Next; cursor == "" || pages > 5 {
			break
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"limit=0", "limit=101", "limit=x", "cursor=x"} {
		s.with(root, "GET", "/api/users?"+bad, nil).Expect(422)
	}
}

// Anybody checks our tokens with what is published, and cannot sign any.
func TestKeys(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	r := s.Call("GET", "/.well-known/jwks.json", functiontest.Nobody, nil).Expect(200)
	keys, err := auth.ParseJWKS(r.Body) // refuses private keys
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(auth.VerifierConfig{Keys: keys, Issuer: "ebb", Audience: "ebb", Clock: s.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.Verify(s.signIn("ada@example.com").Access)
	if err != nil || p.Subject != ada.ID || !p.Is(auth.RoleCustomer) || p.Is(auth.RoleAdmin) || p.Session == "" {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestFirstAdmin(t *testing.T) {
	s := open(t, "EBB_ADMIN_EMAIL", "Root@example.com", "EBB_ADMIN_PASSWORD", "the first admin")
	// Nobody takes the address before.
	s.register("root@example.com")
	s.login("root@example.com", password).Expect(401)
	if es := s.Emitted(); len(es) > 0 {
		t.Errorf("got %v", es)
	}
	token := read(s.login("root@example.com", "the first admin").Expect(201))
	var page struct{ Items []user }
	s.with(token.Access, "GET", "/api/users", nil).Expect(200).JSON(&page)
	if len(page.Items) != 1 || !slices.Equal(page.Items[0].Roles, []string{"admin", "customer"}) {
		t.Fatalf("got %+v", page)
	}
	es := s.Emitted()
	if got := functiontest.Types(es); !slices.Equal(got, []string{"users.registered.v1"}) {
		t.Errorf("got %v", got)
	}
	// A second sign-in finds everything as configured.
	s.login("root@example.com", "the first admin").Expect(201)
	if es := s.Emitted(); len(es) > 0 {
		t.Errorf("got %v", es)
	}
	// Another password holds until the configured one is used again.
	path := "/api/users/" + page.Items[0].ID
	s.with(token.Access, "PATCH", path,
		m{"password": "something new today", "current_password": "the first admin"}).Expect(200)
	s.login("root@example.com", "something new today").Expect(201)
	s.login("root@example.com", "the first admin").Expect(201)
	s.login("root@example.com", "something new today").Expect(401)
}

func TestFirstAdminComesOnce(t *testing.T) {
	s := open(t, "EBB_ADMIN_EMAIL", "root@example.com", "EBB_ADMIN_PASSWORD", "the first admin")
	var wg sync.WaitGroup
	got := make([]int, 4)
	for i := range got {
		wg.Go(func() { got[i] = s.login("root@example.com", "the first admin").Status })
	}
	wg.Wait()
	if es := s.Emitted(); len(es) != 1 || !slices.Equal(got, []int{201, 201, 201, 201}) {
		t.Errorf("got %v and %v", got, es)
	}
}

func TestConfiguration(t *testing.T) {
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	private, _ := ring.Marshal()
	good := func(more ...string) map[string]string {
		vars := map[string]string{"EBB_SIGNING_KEYS": string(private)}
		for i := 0; i+1 < len(more); i += 2 {
			vars[more[i]] = more[i+1]
		}
		return vars
	}
	passkeys := func(site, origins string) map[string]string {
		return good("EBB_PASSKEY_RP_ID", site, "EBB_PASSKEY_ORIGINS", origins)
	}
	for name, c := range map[string]struct {
		vars  map[string]string
		names string // a variable that the error names; empty: none is wrong
	}{
		"enough":                    {good(), ""},
		"nothing":                   {nil, "EBB_SIGNING_KEYS"},
		"rubbish for keys":          {map[string]string{"EBB_SIGNING_KEYS": "rubbish"}, "EBB_SIGNING_KEYS"},
		"half an admin":             {good("EBB_ADMIN_EMAIL", "a@b.de"), "EBB_ADMIN_PASSWORD"},
		"an admin's bad email":      {good("EBB_ADMIN_EMAIL", "a", "EBB_ADMIN_PASSWORD", password), "EBB_ADMIN_EMAIL"},
		"a weak admin":              {good("EBB_ADMIN_EMAIL", "a@b.de", "EBB_ADMIN_PASSWORD", "admin"), "EBB_ADMIN_PASSWORD"},
		"no lifetime":               {good("EBB_ACCESS_TTL", "0s"), "EBB_ACCESS_TTL"},
		"no lifetime of staff":      {good("EBB_STAFF_ACCESS_TTL", "0s"), "EBB_STAFF_ACCESS_TTL"},
		"short sessions":            {good("EBB_REFRESH_TTL", "1m"), "EBB_REFRESH_TTL"},
		"short passwords":           {good("EBB_PASSWORD_MIN", "7"), "EBB_PASSWORD_MIN"},
		"no such proof":             {good("EBB_ADDRESS_PROOF", "maybe"), "EBB_ADDRESS_PROOF"},
		"no such factor":            {good("EBB_STAFF_SECOND_FACTOR", "yes"), "EBB_STAFF_SECOND_FACTOR"},
		"passkeys":                  {passkeys("shop.example", "https://shop.example,https://login.shop.example:8443"), ""},
		"passkeys of this machine":  {passkeys("localhost", "http://localhost:8080"), ""},
		"a site without origins":    {good("EBB_PASSKEY_RP_ID", "shop.example"), "EBB_PASSKEY_ORIGINS"},
		"origins without a site":    {good("EBB_PASSKEY_ORIGINS", "https://shop.example"), "EBB_PASSKEY_RP_ID"},
		"an address for a site":     {passkeys("127.0.0.1", "http://127.0.0.1:8080"), "EBB_PASSKEY_RP_ID"},
		"a URL for a site":          {passkeys("https://shop.example", "https://shop.example"), "EBB_PASSKEY_RP_ID"},
		"an origin without TLS":     {passkeys("shop.example", "http://shop.example"), "EBB_PASSKEY_ORIGINS"},
		"an origin with a path":     {passkeys("shop.example", "https://shop.example/"), "EBB_PASSKEY_ORIGINS"},
		"an origin elsewhere":       {passkeys("shop.example", "https://evilshop.example"), "EBB_PASSKEY_ORIGINS"},
		"an origin above the site":  {passkeys("login.shop.example", "https://shop.example"), "EBB_PASSKEY_ORIGINS"},
		"an origin that is nothing": {passkeys("shop.example", "https://shop.example,"), "EBB_PASSKEY_ORIGINS"},
	} {
		_, err := users.New(function.Env{Lookup: config.Map(c.vars)})
		if c.names == "" && err != nil || c.names != "" && (err == nil || !strings.Contains(err.Error(), c.names)) {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "rubbish") && c.names == "EBB_SIGNING_KEYS" {
			t.Errorf("%s: the error quotes the secret: %v", name, err)
		}
	}
}

func TestDescription(t *testing.T) {
	s := open(t)
	doc, err := s.I.Declaration().OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/email-proofs", "/api/password-resets", "/api/second-factor",
		"/api/sessions/current/step-up", "/api/users", "/api/users/{id}", "/api/sessions", "/api/sessions/refresh",
		"/api/sessions/current", "/.well-known/jwks.json", "/api/passkeys", "/api/sessions/passkey",
		"/api/users/{id}/passkeys/{passkey}"} {
		if !bytes.Contains(doc, []byte(`"`+path+`"`)) {
			t.Errorf("%s is not described", path)
		}
	}
	s.Call(http.MethodPut, "/api/users", functiontest.Admin(), m{}).Expect(405)
}

// A session is forgotten when its refresh token has expired, although nobody signs out.
func TestSessionsAreForgotten(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	s.register("grace@example.com")
	for range 5 {
		s.signIn("ada@example.com")
	}
	s.Clock.Advance(400 * 24 * time.Hour)
	s.signIn("grace@example.com")
	if n := strings.Count(s.stored(), "sessions/"); n != 1 {
		t.Errorf("after 400 days there are %d sessions, want the one of today", n)
	}
}
