package users_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// mailed returns what the events of a type since the last look have had mailed, the latest last.
func mailed[T any](s shop, t event.Type[T]) (all []T) {
	s.T.Helper()
	for _, e := range s.AllEmitted() {
		if e.Type() != t.Name() {
			continue
		}
		data, err := functiontest.Decode(t, e)
		if err != nil {
			s.T.Fatal(err)
		}
		all = append(all, data)
	}
	return all
}

// one returns the only one of them.
func one[T any](s shop, all []T) T {
	s.T.Helper()
	if len(all) != 1 {
		s.T.Fatalf("got %d mails, want one: %+v", len(all), all)
	}
	return all[0]
}

func (s shop) proveEmail(token, password string) *functiontest.Response {
	s.T.Helper()
	return s.Call("POST", "/api/email-proofs", functiontest.Nobody, m{"token": token, "password": password})
}

// proven registers a user and proves the address.
func (s shop) proven(email string) user {
	s.T.Helper()
	s.AllEmitted()
	u := s.register(email)
	s.proveEmail(one(s, mailed(s, events.UserEmailProofRequested)).Token, password).Expect(204)
	return u
}

func (s shop) shows(access, id string) (got struct {
	Email  string
	Proven bool `json:"email_proven"`
}) {
	s.T.Helper()
	s.with(access, "GET", "/api/users/"+id, nil).Expect(200).JSON(&got)
	return got
}

// A user proves the address by the mail that goes there and the password, once. Until then the account can be used.
func TestAddressIsProven(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	mail := one(s, mailed(s, events.UserEmailProofRequested))
	if mail.Email != "ada@example.com" || mail.UserID != ada.ID || !mail.ExpiresAt.After(s.Clock.Now()) {
		t.Errorf("got %+v", mail)
	}
	if all := s.stored(); strings.Contains(all, strings.Split(mail.Token, ".")[1]) {
		t.Error("the token is stored")
	}
	eve := s.register("eve@example.com")
	eves, adas := s.signIn("eve@example.com").Access, s.signIn("ada@example.com").Access
	if s.shows(adas, ada.ID).Proven {
		t.Error("an address is proven by nothing")
	}
	// The mail alone, without the account's password or its token, proves nothing: it may be another who registered.
	s.proveEmail(mail.Token, "").Expect(401)
	s.proveEmail(mail.Token, "not the password").Expect(401)
	s.with(eves, "POST", "/api/email-proofs", m{"token": mail.Token}).Expect(401)
	s.proveEmail(eve.ID+mail.Token[len(ada.ID):], password).Expect(422)
	s.proveEmail(mail.Token[:len(mail.Token)-1], password).Expect(422)
	s.Emitted()
	s.proveEmail(mail.Token, password).Expect(204)
	if got := functiontest.Types(s.Emitted()); !slices.Equal(got, []string{"users.changed.v1"}) {
		t.Errorf("got %v", got)
	}
	if !s.shows(adas, ada.ID).Proven {
		t.Error("the address is not shown as proven")
	}
	s.proveEmail(mail.Token, password).Expect(422)
	// Another address is to be proven again; the access token does as well as the password.
	s.with(adas, "PATCH", "/api/users/"+ada.ID, m{"email": "king@example.com", "current_password": password}).Expect(200)
	if s.shows(adas, ada.ID).Proven {
		t.Error("the new address is shown as proven")
	}
	next := one(s, mailed(s, events.UserEmailProofRequested))
	if next.Email != "king@example.com" {
		t.Errorf("got %+v", next)
	}
	s.with(adas, "POST", "/api/email-proofs", m{"token": next.Token}).Expect(204)
}

// A token to prove an address is not good when it is late, replaced, of an address of before or of a deleted user.
// There are few mails.
func TestProofsThatAreNotGood(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	first := one(s, mailed(s, events.UserEmailProofRequested)).Token
	access := s.signIn("ada@example.com").Access
	again := "/api/users/" + ada.ID + "/email-proof"
	s.with(access, "POST", again, nil).Expect(202)
	second := one(s, mailed(s, events.UserEmailProofRequested)).Token
	s.proveEmail(first, password).Expect(422)
	s.with(access, "POST", again, nil).Expect(202)
	refused := false
	for n := 0; n < 5 && !refused; n++ {
		refused = s.with(access, "POST", again, nil).Status == 429
	}
	if !refused {
		t.Error("a user has mails sent without end")
	}
	s.proveEmail(second, password).Expect(422)
	s.Clock.Advance(25 * time.Hour)
	access = s.signIn("ada@example.com").Access
	mailed(s, events.UserEmailProofRequested)
	s.with(access, "POST", again, nil).Expect(202)
	late := one(s, mailed(s, events.UserEmailProofRequested)).Token
	s.Clock.Advance(49 * time.Hour)
	s.proveEmail(late, password).Expect(422)
	access = s.signIn("ada@example.com").Access
	s.with(access, "POST", again, nil).Expect(202)
	old := one(s, mailed(s, events.UserEmailProofRequested)).Token
	s.with(access, "DELETE", "/api/users/"+ada.ID, nil).Expect(204)
	s.proveEmail(old, password).Expect(422)
	if all := s.stored(); strings.Contains(all, "-of-"+ada.ID) {
		t.Errorf("something is left: %s", all)
	}
	// Guessing the password with a token has to wait as elsewhere.
	s.register("bob@example.com")
	bobs := one(s, mailed(s, events.UserEmailProofRequested)).Token
	for n := 0; s.proveEmail(bobs, "not the password").Status != 429; n++ {
		if n > 20 {
			t.Fatal("the password may be guessed without end")
		}
	}
	s.proveEmail(bobs, password).Expect(429)
}

// Where addresses have to be proven, an account opens nothing before, and a client cannot tell one that it has just
// registered from one whose address was taken: not by signing in either.
func TestProofIsRequired(t *testing.T) {
	s := open(t, "EBB_ADDRESS_PROOF", "required", "EBB_ADMIN_EMAIL", rootEmail, "EBB_ADMIN_PASSWORD", rootPassword)
	s.root()
	s.proven("ada@example.com")
	answers := map[string][]string{}
	for _, email := range []string{"ada@example.com", "new@example.com"} {
		const mine = "the password of eve"
		s.Call("POST", "/api/users", functiontest.Nobody, m{"name": "Eve", "email": email, "password": mine}).Expect(201)
		for range 8 {
			r := s.login(email, mine)
			answers[email] = append(answers[email], fmt.Sprint(r.Status, r.Header.Get("Retry-After"), string(r.Body)))
		}
	}
	if !slices.Equal(answers["ada@example.com"], answers["new@example.com"]) {
		t.Errorf("got %v", answers)
	}
	// Signing in has another mail sent, so nobody is locked out who has lost the first.
	s.Clock.Advance(2 * time.Hour)
	mailed(s, events.UserEmailProofRequested)
	s.login("new@example.com", "the password of eve").Expect(401)
	s.proveEmail(one(s, mailed(s, events.UserEmailProofRequested)).Token, "the password of eve").Expect(204)
	s.login("new@example.com", "the password of eve").Expect(201)
}

// Where addresses have to be proven, another address is the account's when it is proven, and not before.
func TestChangeOfAddressIsProven(t *testing.T) {
	s := open(t, "EBB_ADDRESS_PROOF", "required", "EBB_ADMIN_EMAIL", rootEmail, "EBB_ADMIN_PASSWORD", rootPassword)
	ada, _ := s.proven("ada@example.com"), s.proven("bob@example.com")
	access, path := s.signIn("ada@example.com").Access, "/api/users/"+ada.ID
	change := func(email string) {
		t.Helper()
		var u user
		s.with(access, "PATCH", path, m{"email": email, "current_password": password}).Expect(200).JSON(&u)
		if u.Email != email || s.shows(access, ada.ID).Email != email || s.shows(access, ada.ID).Proven {
			t.Errorf("got %+v, %+v", u, s.shows(access, ada.ID))
		}
		s.login(email, "wrong password, though").Expect(401)
		s.signIn("ada@example.com")
	}
	change("bob@example.com")
	if got := mailed(s, events.UserEmailProofRequested); len(got) != 0 {
		t.Errorf("another user's address gets %+v", got)
	}
	s.Clock.Advance(25 * time.Hour) // for further mails
	access = s.signIn("ada@example.com").Access
	change("king@example.com")
	if got := s.shows(s.root().Access, ada.ID).Email; got != "ada@example.com" {
		t.Errorf("an admin sees %s", got)
	}
	token := one(s, mailed(s, events.UserEmailProofRequested)).Token
	change("queen@example.com")
	s.proveEmail(token, password).Expect(422) // of the address before
	change("king@example.com")
	// Somebody else has proven it meanwhile.
	token = mailed(s, events.UserEmailProofRequested)[1].Token
	s.proven("king@example.com")
	s.proveEmail(token, password).Expect(422)
	s.signIn("ada@example.com")
	s.Clock.Advance(25 * time.Hour)
	access = s.signIn("ada@example.com").Access
	change("free@example.com")
	s.proveEmail(one(s, mailed(s, events.UserEmailProofRequested)).Token, password).Expect(204)
	told := one(s, mailed(s, events.UserSecurityChanged))
	if told.Email != "ada@example.com" || told.What != "email-changed" {
		t.Errorf("the address until now gets %+v", told)
	}
	s.login("ada@example.com", password).Expect(401)
	s.signIn("free@example.com")
}

func (s shop) askReset(email string) *functiontest.Response {
	s.T.Helper()
	return s.from(elsewhere, "/api/password-resets", m{"email": email})
}

func (s shop) reset(token, password string) *functiontest.Response {
	s.T.Helper()
	return s.Call("POST", "/api/password-resets/completion", functiontest.Nobody,
		m{"token": token, "password": password})
}

// A mail gives a new password, once and soon, and ends what was open. Who has no account learns nothing.
func TestPasswordReset(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	open := s.signIn("ada@example.com")
	s.AllEmitted()
	known, unknown := s.askReset(" ADA@example.com").Expect(202), s.askReset("nobody@example.com").Expect(202)
	if !bytes.Equal(known.Body, unknown.Body) || len(known.Header) != len(unknown.Header) {
		t.Errorf("got %s %v and %s %v", known.Body, known.Header, unknown.Body, unknown.Header)
	}
	mail := one(s, mailed(s, events.UserPasswordResetRequested))
	token := mail.Token
	if mail.Email != "ada@example.com" {
		t.Errorf("the mail goes to %q", mail.Email)
	}
	if all := s.stored(); strings.Contains(all, strings.Split(token, ".")[1]) {
		t.Error("the token is stored")
	}
	const next = "another horse battery"
	s.proveEmail(token, password).Expect(422) // a token of one kind is none of the other
	s.reset(token, "short").Expect(422)
	s.reset(token+"x", next).Expect(422)
	s.signIn("ada@example.com") // until now nothing has changed
	s.reset(token, next).Expect(204)
	s.reset(token, "a third horse battery").Expect(422)
	s.login("ada@example.com", password).Expect(401)
	s.refresh(open.Refresh).Expect(401)
	s.with(open.Access, "GET", "/api/users/"+ada.ID, nil).Expect(401)
	access := read(s.login("ada@example.com", next).Expect(201)).Access
	if !s.shows(access, ada.ID).Proven {
		t.Error("the mail does not prove the address")
	}
	if got := one(s, mailed(s, events.UserSecurityChanged)); got.What != "password-reset" || got.Email != "" {
		t.Errorf("got %+v", got)
	}
}

// A token to reset the password is not good when it is late, or something has changed since. One of two at once wins.
func TestResetsThatAreNotGood(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	path, next := "/api/users/"+ada.ID, "another horse battery"
	ask := func() string {
		t.Helper()
		s.Clock.Advance(25 * time.Hour) // so that there may be a mail again
		s.askReset("ada@example.com").Expect(202)
		return one(s, mailed(s, events.UserPasswordResetRequested)).Token
	}
	late := ask()
	s.Clock.Advance(31 * time.Minute)
	s.reset(late, next).Expect(422)

	changed := ask()
	s.with(s.signIn("ada@example.com").Access, "PATCH", path,
		m{"password": next, "current_password": password}).Expect(200)
	s.reset(changed, "a third horse battery").Expect(422)

	moved := ask()
	access := read(s.login("ada@example.com", next).Expect(201)).Access
	s.with(access, "PATCH", path, m{"email": "king@example.com", "current_password": next}).Expect(200)
	s.reset(moved, "a third horse battery").Expect(422)
	s.with(access, "PATCH", path, m{"email": "ada@example.com", "current_password": next}).Expect(200)

	raced := ask()
	var wg sync.WaitGroup
	got := make([]int, 4)
	for i := range got {
		wg.Go(func() { got[i] = s.reset(raced, fmt.Sprint("another horse battery ", i)).Status })
	}
	wg.Wait()
	slices.Sort(got)
	if !slices.Equal(got, []int{204, 422, 422, 422}) {
		t.Errorf("of four resets by one token got %v", got)
	}

	gone := ask()
	s.Call("DELETE", path, functiontest.As(ada.ID), nil).Expect(204)
	s.reset(gone, next).Expect(422)
	s.askReset("ada@example.com").Expect(202)
	if got := mailed(s, events.UserPasswordResetRequested); len(got) != 0 {
		t.Errorf("a deleted user gets %+v", got)
	}
}

// Nobody fills a mailbox, and no network asks without end.
func TestResetsWait(t *testing.T) {
	s := open(t)
	s.register("ada@example.com")
	for range 8 {
		s.askReset("ada@example.com").Expect(202)
	}
	if got := len(mailed(s, events.UserPasswordResetRequested)); got != 4 {
		t.Errorf("%d mails at once", got)
	}
	refused := false
	for n := 0; n < 40 && !refused; n++ {
		refused = s.askReset(fmt.Sprintf("user%d@example.com", n)).Status == 429
	}
	if !refused {
		t.Error("one network may ask without end")
	}
	s.from(here, "/api/password-resets", m{"email": "ada@example.com"}).Expect(202)
}

// An API key is no access token of the account: the mail and a key do not prove an address.
func TestAPIKeyProvesNoAddress(t *testing.T) {
	s := open(t)
	ada := s.register("ada@example.com")
	mail := one(s, mailed(s, events.UserEmailProofRequested))
	key := s.createKey(s.signIn("ada@example.com").Access).Key
	s.Call("POST", "/api/email-proofs", functiontest.Nobody, m{"token": mail.Token}, "X-API-Key", key).Expect(401)
	if access := s.signIn("ada@example.com").Access; s.shows(access, ada.ID).Proven {
		t.Error("the address is proven by an API key")
	}
}

// Where addresses have to be proven, a user who asks for another's address is kept waiting for mails as one who asks
// for a free one.
func TestMailsDoNotTellWhoIsAUser(t *testing.T) {
	statuses := map[string]string{}
	for _, proof := range []string{"required", "off"} {
		for _, email := range []string{"bob@example.com", "free@example.com"} {
			s := open(t, "EBB_ADDRESS_PROOF", proof)
			ada, _ := s.register("ada@example.com"), s.register("bob@example.com")
			if proof == "required" {
				for _, mail := range mailed(s, events.UserEmailProofRequested) {
					s.proveEmail(mail.Token, password).Expect(204)
				}
			}
			s.Clock.Advance(25 * time.Hour)
			access := s.signIn("ada@example.com").Access
			s.with(access, "PATCH", "/api/users/"+ada.ID, m{"email": email, "current_password": password}).Expect(200)
			for range 6 {
				r := s.with(access, "POST", "/api/users/"+ada.ID+"/email-proof", nil)
				statuses[proof+email] += fmt.Sprint(r.Status, r.Header.Get("Retry-After"), " ")
			}
		}
		if statuses[proof+"bob@example.com"] != statuses[proof+"free@example.com"] {
			t.Errorf("%s: got %v", proof, statuses)
		}
	}
}

// An address gets few mails, also when a stranger registers with it again and again.
func TestMailsToAnAddressAreFew(t *testing.T) {
	s := open(t)
	s.AllEmitted()
	for range 8 {
		u := s.register("ada@example.com")
		s.with(s.signIn("ada@example.com").Access, "DELETE", "/api/users/"+u.ID, nil).Expect(204)
	}
	if got := len(mailed(s, events.UserEmailProofRequested)); got != 6 {
		t.Errorf("%d mails at once", got)
	}
}

// The recovery of the configured admin also voids a token that was mailed before.
func TestRecoveryVoidsResets(t *testing.T) {
	s := open(t, "EBB_ADMIN_EMAIL", rootEmail, "EBB_ADMIN_PASSWORD", rootPassword)
	root, me := s.root(), ""
	for _, e := range mailed(s, events.UserRegistered) {
		me = e.UserID
	}
	s.with(root.Access, "PATCH", "/api/users/"+me,
		m{"password": "another horse battery", "current_password": rootPassword}).Expect(200)
	s.askReset(rootEmail).Expect(202)
	token := one(s, mailed(s, events.UserPasswordResetRequested)).Token
	s.root()
	s.reset(token, "a third horse battery").Expect(422)
}
