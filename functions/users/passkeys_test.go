package users_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/users/passkeytest"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

const (
	site   = "shop.example"
	origin = "https://shop.example"
)

// withPasskeys opens the function for a site.
func withPasskeys(t *testing.T, vars ...string) shop {
	return open(t, append([]string{"EBB_PASSKEY_RP_ID", site,
		"EBB_PASSKEY_ORIGINS", origin + ",https://login.shop.example:8443"}, vars...)...)
}

// options returns the options of an answer.
func options(r *functiontest.Response) json.RawMessage {
	r.T.Helper()
	var got struct {
		Options json.RawMessage `json:"public_key"`
	}
	r.Expect(201).JSON(&got)
	return got.Options
}

func challengeOf(t testing.TB, options json.RawMessage) string {
	t.Helper()
	var got struct{ Challenge string }
	if err := json.Unmarshal(options, &got); err != nil || len(got.Challenge) != 43 {
		t.Fatalf("got %s, %v", options, err)
	}
	return got.Challenge
}

func must(t testing.TB, answer json.RawMessage, err error) json.RawMessage {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

type passkey struct {
	ID, Name string
	Used     *time.Time `json:"last_used_at"`
	Recovery []string   `json:"recovery_codes"`
}

// addPasskey adds a passkey of the device with the password as the recent proof.
func (s shop) addPasskey(access, password string, d *passkeytest.Device) passkey {
	s.T.Helper()
	given := options(s.with(access, "POST", "/api/passkeys/options", m{"current_password": password}))
	return s.finishPasskey(access, d, given)
}

func (s shop) finishPasskey(access string, d *passkeytest.Device, given json.RawMessage) (p passkey) {
	s.T.Helper()
	made, err := d.Create(given)
	s.with(access, "POST", "/api/passkeys", m{"name": "Phone", "credential": must(s.T, made, err)}).Expect(201).JSON(&p)
	return p
}

func (s shop) askPasskey() json.RawMessage {
	s.T.Helper()
	return options(s.Call("POST", "/api/sessions/passkey/options", functiontest.Nobody, nil))
}

func (s shop) enter(credential json.RawMessage) *functiontest.Response {
	s.T.Helper()
	return s.Call("POST", "/api/sessions/passkey", functiontest.Nobody, m{"credential": credential})
}

func (s shop) showPasskey(d *passkeytest.Device) *functiontest.Response {
	s.T.Helper()
	signed, err := d.Get(s.askPasskey())
	return s.enter(must(s.T, signed, err))
}

// stepUpWith returns a step-up token by a passkey.
func (s shop) stepUpWith(access string, d *passkeytest.Device) string {
	s.T.Helper()
	signed, err := d.Get(options(s.with(access, "POST", "/api/sessions/current/step-up/options", nil)))
	return s.stepUpToken(access, m{"passkey": must(s.T, signed, err)})
}

// A user adds a passkey, signs in by it alone, names it anew and removes it; another instance takes each step. The user
// is told by mail.
func TestPasskey(t *testing.T) {
	s := withPasskeys(t)
	ada := s.proven("ada@example.com")
	access, path := s.signIn("ada@example.com").Access, "/api/users/"+ada.ID+"/passkeys"
	d := passkeytest.New("phone", origin)
	s.AllEmitted()
	given := options(s.with(access, "POST", "/api/passkeys/options", m{"current_password": password}))
	var o struct {
		RP                     struct{ ID string }
		User                   struct{ ID, Name string }
		Attestation            string
		Timeout                int
		AuthenticatorSelection struct{ ResidentKey, UserVerification string }
	}
	if err := json.Unmarshal(given, &o); err != nil || o.RP.ID != site || o.User.Name != "ada@example.com" ||
		o.Attestation != "none" || o.Timeout != 300_000 || o.AuthenticatorSelection.ResidentKey != "required" ||
		o.AuthenticatorSelection.UserVerification != "required" {
		t.Errorf("got %s, %v", given, err)
	}
	s.Restart()
	p := s.finishPasskey(access, d, given)
	if got := one(s, mailed(s, events.UserSecurityChanged)); got.What != "passkey-added" || got.UserID != ada.ID {
		t.Errorf("got %+v", got)
	}
	if len(p.Recovery) != 10 || p.Name != "Phone" {
		t.Errorf("got %+v", p)
	}
	asked := s.askPasskey()
	if bytes.Contains(asked, []byte("allowCredentials")) || !bytes.Contains(asked, []byte(`"rpId":"`+site+`"`)) {
		t.Errorf("got %s", asked)
	}
	s.Restart()
	signed, err := d.Get(asked)
	in := read(s.enter(must(t, signed, err)).Expect(201))
	if idOf(t, in.Access) != ada.ID {
		t.Errorf("signed in as %s", idOf(t, in.Access))
	}
	s.with(in.Access, "GET", "/api/users/"+ada.ID, nil).Expect(200)
	s.refresh(in.Refresh).Expect(201)
	// The page may be at another origin of the site, and the port counts.
	d.Origin = "https://login.shop.example:8443"
	s.showPasskey(d).Expect(201)

	s.with(access, "PATCH", path+"/"+p.ID, m{"name": " Old phone "}).Expect(200)
	var list struct{ Items []passkey }
	s.with(access, "GET", path, nil).Expect(200).JSON(&list)
	if len(list.Items) != 1 || list.Items[0].Name != "Old phone" || list.Items[0].ID != p.ID || list.Items[0].Used == nil {
		t.Errorf("got %+v", list)
	}
	s.with(access, "DELETE", path+"/"+p.ID, nil).Expect(422)
	s.stepUp(access, m{"password": password}).Expect(422)
	s.AllEmitted()
	s.recently(access, s.stepUpWith(access, d), "DELETE", path+"/"+p.ID, nil).Expect(204)
	if got := one(s, mailed(s, events.UserSecurityChanged)); got.What != "passkey-removed" {
		t.Errorf("got %+v", got)
	}
	s.showPasskey(d).Expect(401)
	s.refresh(in.Refresh).Expect(401)
	s.signIn("ada@example.com") // without it the password is enough again
	if all := s.stored(); strings.Contains(all, "passkeys/") {
		t.Errorf("a passkey is stored: %s", all)
	}
}

// A passkey is a second factor: the password alone does not sign in, nor change how the user does, and a recovery code
// helps one who has lost it. It stands beside an app, and each can be removed without the other.
func TestPasskeyIsASecondFactor(t *testing.T) {
	s := withPasskeys(t)
	ada, bob := s.proven("ada@example.com"), s.proven("bob@example.com")
	access, path := s.signIn("ada@example.com").Access, "/api/users/"+ada.ID
	d, other := passkeytest.New("phone", origin), passkeytest.New("bob's", origin)
	recovery := s.addPasskey(access, password, d).Recovery
	s.addPasskey(s.signIn("bob@example.com").Access, password, other)
	_ = bob
	alone := s.login("ada@example.com", password).Expect(401)
	if !bytes.Contains(alone.Body, []byte(`"body.passkey"`)) || !bytes.Contains(alone.Body, []byte(`"body.code"`)) {
		t.Errorf("got %s", alone.Body)
	}
	with := func(d *passkeytest.Device, password string) *functiontest.Response {
		t.Helper()
		signed, err := d.Get(s.askPasskey())
		return s.Call("POST", "/api/sessions", functiontest.Nobody,
			m{"email": "ada@example.com", "password": password, "passkey": must(t, signed, err)})
	}
	with(d, password).Expect(201)
	with(d, "not the password").Expect(401)
	with(other, password).Expect(401)
	s.loginWith("ada@example.com", password, "000000").Expect(401)
	s.loginWith("ada@example.com", password, recovery[0]).Expect(201)
	s.loginWith("ada@example.com", password, recovery[0]).Expect(401)
	s.with(access, "PATCH", path, m{"password": "another horse battery", "current_password": password}).Expect(422)
	s.with(access, "POST", "/api/passkeys/options", m{"current_password": password}).Expect(422)

	// An app beside it: a recovery code does not confirm it, and before that its codes are no good.
	var key struct{ Secret string }
	s.recently(access, s.stepUpWith(access, d), "POST", "/api/second-factor", m{}).Expect(201).JSON(&key)
	s.with(access, "POST", "/api/second-factor/confirmation", m{"code": recovery[1]}).Expect(422)
	s.loginWith("ada@example.com", password, s.code(key.Secret)).Expect(401)
	s.loginWith("ada@example.com", password, recovery[2]).Expect(201)
	s.with(access, "POST", "/api/second-factor/confirmation", m{"code": s.code(key.Secret)}).Expect(200)
	s.Clock.Advance(time.Minute)
	s.loginWith("ada@example.com", password, s.code(key.Secret)).Expect(201)
	with(d, password).Expect(201)
	s.recently(access, s.stepUpWith(access, d), "DELETE", path+"/second-factor", nil).Expect(204)
	s.login("ada@example.com", password).Expect(401)
	with(d, password).Expect(201)
	var shown struct {
		TOTP     bool `json:"totp"`
		Passkeys int  `json:"passkeys"`
		Recovery int  `json:"recovery_codes"`
	}
	s.with(access, "GET", path+"/second-factor", nil).Expect(200).JSON(&shown)
	if shown.TOTP || shown.Passkeys != 1 || shown.Recovery != 10 {
		t.Errorf("got %+v", shown)
	}
	// A reset of the password leaves it.
	s.AllEmitted()
	s.askReset("ada@example.com").Expect(202)
	s.reset(one(s, mailed(s, events.UserPasswordResetRequested)).Token, "short one").Expect(204)
	s.login("ada@example.com", "short one").Expect(401)
	s.showPasskey(d).Expect(201)
}

// Where staff need a second factor, a passkey is one, alone or beside the password. The configured admin gets rid of
// passkeys that another has added by another configured password.
func TestPasskeyOfStaff(t *testing.T) {
	s := withPasskeys(t, "EBB_STAFF_SECOND_FACTOR", "required", "EBB_ADMIN_EMAIL", rootEmail,
		"EBB_ADMIN_PASSWORD", rootPassword)
	root, d := s.root(), passkeytest.New("key", origin)
	s.with(root.Access, "GET", "/api/users", nil).Expect(403)
	s.addPasskey(root.Access, rootPassword, d)
	root = read(s.refresh(root.Refresh).Expect(201)) // it has shown it
	s.with(root.Access, "GET", "/api/users", nil).Expect(200)
	s.login(rootEmail, rootPassword).Expect(401)
	in := read(s.showPasskey(d).Expect(201))
	s.with(in.Access, "GET", "/api/users", nil).Expect(200)
	s.reconfigure(map[string]string{"EBB_ADMIN_PASSWORD": "the second admin of it"})
	s.login(rootEmail, "the second admin of it").Expect(201)
	s.showPasskey(d).Expect(401)
	s.refresh(in.Refresh).Expect(401)
}

// Each answer that does not fit is refused, and uses up its challenge.
func TestPasskeyAttacks(t *testing.T) {
	s := withPasskeys(t)
	ada, eve := s.proven("ada@example.com"), s.proven("eve@example.com")
	access, eves := s.signIn("ada@example.com").Access, s.signIn("eve@example.com").Access
	d, evil := passkeytest.New("phone", origin), passkeytest.New("eve's", origin)
	added := s.addPasskey(access, password, d)
	s.addPasskey(eves, password, evil)
	sign := func(d *passkeytest.Device, asked json.RawMessage) json.RawMessage {
		t.Helper()
		signed, err := d.Get(asked)
		return must(t, signed, err)
	}
	// A signature works once, also of many at once.
	asked := s.askPasskey()
	signed := sign(d, asked)
	s.enter(signed).Expect(201)
	s.enter(signed).Expect(401)
	s.enter(sign(d, asked)).Expect(401) // a new signature for the challenge
	signed = sign(d, s.askPasskey())
	got := make([]int, 4)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i] = s.enter(signed).Status })
	}
	wg.Wait()
	if slices.Sort(got); got[0] != 201 || got[1] < 400 {
		t.Errorf("got %v", got)
	}
	// A challenge is good for five minutes, and in its own ceremony.
	asked = s.askPasskey()
	s.Clock.Advance(5 * time.Minute)
	s.enter(sign(d, asked)).Expect(401)
	access, eves = read(s.showPasskey(d).Expect(201)).Access, read(s.showPasskey(evil).Expect(201)).Access
	there := read(s.showPasskey(d).Expect(201)).Access
	stepUp := func(access string) json.RawMessage {
		t.Helper()
		return options(s.with(access, "POST", "/api/sessions/current/step-up/options", nil))
	}
	register := func(access string, d *passkeytest.Device) json.RawMessage {
		t.Helper()
		return options(s.recently(access, s.stepUpWith(access, d), "POST", "/api/passkeys/options", m{}))
	}
	s.enter(sign(d, stepUp(access))).Expect(401)
	s.enter(sign(d, register(access, d))).Expect(401)
	s.enter(sign(d, json.RawMessage(`{"challenge":"`+strings.Repeat("A", 43)+`"}`))).Expect(401)
	s.enter(sign(d, json.RawMessage(`{"challenge":""}`))).Expect(401)
	for name, c := range map[string]json.RawMessage{
		"a sign-in": s.askPasskey(), "a registration": register(access, d), "another account": stepUp(eves),
		"another session": stepUp(there),
	} {
		if r := s.stepUp(access, m{"passkey": sign(d, c)}); r.Status != 422 {
			t.Errorf("a challenge of %s steps up: %d", name, r.Status)
		}
	}
	if r := s.stepUp(access, m{"passkey": sign(evil, stepUp(access))}); r.Status != 422 {
		t.Errorf("a passkey of another account steps up: %d", r.Status)
	}
	add := func(access string, made json.RawMessage, err error) *functiontest.Response {
		t.Helper()
		return s.with(access, "POST", "/api/passkeys", m{"name": "x", "credential": must(t, made, err)})
	}
	spare := passkeytest.New("spare", origin)
	for name, c := range map[string]json.RawMessage{
		"a sign-in": s.askPasskey(), "a step-up": stepUp(access), "another account": register(eves, evil),
		"another session": register(there, d),
	} {
		made, err := spare.Register(d.Keys[0], challengeOf(t, c))
		if r := add(access, made, err); r.Status != 422 {
			t.Errorf("a challenge of %s registers: %d", name, r.Status)
		}
	}
	// Another user cannot add a passkey that a user has.
	made, err := evil.Register(d.Keys[0], challengeOf(t, register(eves, evil)))
	add(eves, made, err).Expect(409)
	made, err = d.Register(d.Keys[0], challengeOf(t, register(access, d)))
	add(access, made, err).Expect(409)
	// Eve puts her user handle on Ada's passkey, and Ada's on her own.
	d.Keys[0].User, evil.Keys[0].User = []byte(eve.ID), []byte(ada.ID)
	s.showPasskey(d).Expect(401)
	s.showPasskey(evil).Expect(401)
	d.Keys[0].User, evil.Keys[0].User = []byte(ada.ID), []byte(eve.ID)
	// Eve signs with her key under the id of Ada's.
	mine, hers := evil.Keys[0].ID, d.Keys[0].ID
	evil.Keys[0].ID, evil.Keys[0].User = hers, []byte(ada.ID)
	s.showPasskey(evil).Expect(401)
	evil.Keys[0].ID, evil.Keys[0].User = mine, []byte(eve.ID)

	for name, change := range map[string]func(d *passkeytest.Device){
		"another origin":    func(d *passkeytest.Device) { d.Origin = "https://shop.example.evil.example" },
		"another port":      func(d *passkeytest.Device) { d.Origin = origin + ":8443" },
		"no TLS":            func(d *passkeytest.Device) { d.Origin = "http://shop.example" },
		"a sub-domain":      func(d *passkeytest.Device) { d.Origin = "https://blog.shop.example" },
		"another site":      func(d *passkeytest.Device) { d.Site = "evil.example" },
		"no verified user":  func(d *passkeytest.Device) { d.Unverified = true },
		"no user":           func(d *passkeytest.Device) { d.Absent = true },
		"a frame elsewhere": func(d *passkeytest.Device) { d.Framed = true },
	} {
		bad := *d
		change(&bad)
		asked := s.askPasskey()
		if r := s.enter(sign(&bad, asked)); r.Status != 401 {
			t.Errorf("%s signs in: %d", name, r.Status)
		}
		if r := s.enter(sign(d, asked)); r.Status != 401 {
			t.Errorf("%s leaves its challenge", name)
		}
		if r := s.stepUp(access, m{"passkey": sign(&bad, stepUp(access))}); r.Status != 422 {
			t.Errorf("%s steps up: %d", name, r.Status)
		}
		given := register(access, d)
		bad.Keys = nil
		made, err := bad.Create(given)
		if r := add(access, made, err); r.Status != 422 {
			t.Errorf("%s registers: %d", name, r.Status)
		}
		if made, err = spare.Register(bad.Keys[0], challengeOf(t, given)); add(access, made, err).Status != 422 {
			t.Errorf("%s leaves its challenge for a registration", name)
		}
	}
	s.showPasskey(d).Expect(201)
	s.showPasskey(evil).Expect(201)
	// The passkey of another user is not found.
	for _, call := range [][2]string{{"GET", ""}, {"PATCH", "/" + added.ID}, {"DELETE", "/" + added.ID}} {
		body := any(nil)
		if call[0] == "PATCH" {
			body = m{"name": "x"}
		}
		s.with(eves, call[0], "/api/users/"+ada.ID+"/passkeys"+call[1], body).Expect(404)
	}
	s.with(eves, "PATCH", "/api/users/"+eve.ID+"/passkeys/"+added.ID, m{"name": "x"}).Expect(404)
	s.with(eves, "DELETE", "/api/users/"+eve.ID+"/passkeys/"+added.ID, nil).Expect(404)
	// Of a deleted user no passkey is left.
	asked = s.askPasskey()
	s.with(access, "DELETE", "/api/users/"+ada.ID, nil).Expect(204)
	s.enter(sign(d, asked)).Expect(401)
	if all := s.stored(); strings.Count(all, "passkeys/") != 1 {
		t.Errorf("got %s", all)
	}
}

// What is no answer of a browser is refused, however large it is.
func TestPasskeyInput(t *testing.T) {
	s := withPasskeys(t)
	s.proven("ada@example.com")
	access := s.signIn("ada@example.com").Access
	d := passkeytest.New("phone", origin)
	s.addPasskey(access, password, d)
	signed, err := d.Get(s.askPasskey())
	var right m
	if err := json.Unmarshal(must(t, signed, err), &right); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("A", 1<<20)
	b64 := base64.RawURLEncoding.EncodeToString
	for i, change := range []func(top, response m){
		func(top, _ m) { top["id"] = long },
		func(top, _ m) { top["rawId"] = "AAAA" },
		func(top, _ m) { top["id"], top["rawId"] = "?", "?" },
		func(top, _ m) { top["type"] = "password" },
		func(_, r m) { r["clientDataJSON"] = b64([]byte(long)) },
		func(_, r m) { r["clientDataJSON"] = b64([]byte(strings.Repeat("[", 4000))) },
		func(_, r m) { r["clientDataJSON"] = "" },
		func(_, r m) { r["authenticatorData"] = "" },
		func(_, r m) { r["authenticatorData"] = b64(make([]byte, 36)) },
		func(_, r m) { r["authenticatorData"] = b64(bytes.Repeat([]byte{0xff}, 3000)) },
		func(_, r m) { r["signature"] = "" },
		func(_, r m) { r["userHandle"] = "" },
		func(top, _ m) { delete(top, "response") },
	} {
		var top m
		if err := json.Unmarshal(signed, &top); err != nil {
			t.Fatal(err)
		}
		change(top, top["response"].(m))
		body, err := json.Marshal(m{"credential": top})
		if err != nil {
			t.Fatal(err)
		}
		r := s.Call("POST", "/api/sessions/passkey", functiontest.Nobody, string(body))
		if r.Status != 401 && r.Status != 413 && r.Status != 422 || len(r.Body) > 4000 {
			t.Errorf("%d: got %d %.300s", i, r.Status, r.Body)
		}
	}
	nested := append(append([]byte{0xa1, 0x63}, "fmt"...), bytes.Repeat([]byte{0x81}, 5000)...)
	for i, object := range [][]byte{
		nil, {0xff}, bytes.Repeat([]byte{0x81}, 8000), nested, {0xbf},
		{0xa1, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		r := s.with(access, "POST", "/api/passkeys", m{"name": "x", "credential": m{
			"id": "AAAA", "rawId": "AAAA", "type": "public-key",
			"response": m{"clientDataJSON": b64([]byte("{}")), "attestationObject": b64(object)},
		}})
		if r.Status != 422 {
			t.Errorf("%d: got %d %.300s", i, r.Status, r.Body)
		}
	}
}

// A passkey that counts its signatures and is shown with a count of before has a copy: it is refused, and the user is
// told once. One that does not count is not refused for that.
func TestCopiedPasskey(t *testing.T) {
	s := withPasskeys(t)
	s.proven("ada@example.com")
	d := passkeytest.New("phone", origin)
	s.addPasskey(s.signIn("ada@example.com").Access, password, d)
	copied := d.Copy()
	s.showPasskey(d).Expect(201)
	s.showPasskey(d).Expect(201)
	s.AllEmitted()
	s.showPasskey(copied).Expect(401)
	if got := one(s, mailed(s, events.UserSecurityChanged)); got.What != "passkey-copied" {
		t.Errorf("got %+v", got)
	}
	copied.Keys[0].Count = 1
	s.showPasskey(copied).Expect(401)
	if got := mailed(s, events.UserSecurityChanged); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	s.showPasskey(d).Expect(201)

	s.proven("bob@example.com")
	synced := passkeytest.New("cloud", origin)
	synced.Countless = true
	s.addPasskey(s.signIn("bob@example.com").Access, password, synced)
	s.showPasskey(synced).Expect(201)
	s.showPasskey(synced.Copy()).Expect(201)
}

// A passkey needs a proven address, and a recent proof; a user has ten at most. Without a site there are none.
func TestPasskeyNeeds(t *testing.T) {
	s := withPasskeys(t)
	s.register("ada@example.com")
	begin := m{"current_password": password}
	s.with(s.signIn("ada@example.com").Access, "POST", "/api/passkeys/options", begin).Expect(409)
	s.proven("bob@example.com")
	access := s.signIn("bob@example.com").Access
	s.with(access, "POST", "/api/passkeys/options", m{}).Expect(422)
	s.with(access, "POST", "/api/passkeys/options", m{"current_password": "not the password"}).Expect(422)
	var d *passkeytest.Device
	for i := range 11 {
		var last *functiontest.Response
		if i == 0 {
			last = s.with(access, "POST", "/api/passkeys/options", m{"current_password": password})
		} else {
			last = s.recently(access, s.stepUpWith(access, d), "POST", "/api/passkeys/options", m{})
		}
		if i == 10 {
			last.Expect(409)
			break
		}
		d = passkeytest.New(fmt.Sprint("key ", i), origin)
		if p := s.finishPasskey(access, d, options(last)); (i == 0) != (len(p.Recovery) == 10) {
			t.Errorf("%d: got %+v", i, p)
		}
	}
	s = open(t)
	s.Call("POST", "/api/sessions/passkey/options", functiontest.Nobody, nil).Expect(409)
	s.proven("ada@example.com")
	s.with(s.signIn("ada@example.com").Access, "POST", "/api/passkeys/options", begin).Expect(409)
	s.with(s.signIn("ada@example.com").Access, "POST", "/api/sessions/current/step-up/options", nil).Expect(409)
}

// An admin who removes a passkey without a proof is told of the header field, as a removal has no body for a password.
func TestRemovalNamesTheProof(t *testing.T) {
	s := withPasskeys(t, "EBB_ADDRESS_PROOF", "off", "EBB_ADMIN_EMAIL", rootEmail, "EBB_ADMIN_PASSWORD", rootPassword)
	ada := s.register("ada@example.com")
	p := s.addPasskey(s.signIn("ada@example.com").Access, password, passkeytest.New("phone", origin))
	r := s.with(s.root().Access, "DELETE", "/api/users/"+ada.ID+"/passkeys/"+p.ID, nil).Expect(422)
	if body := string(r.Body); !strings.Contains(body, "header.Ebb-Step-Up") || strings.Contains(body, "password") {
		t.Errorf("got %s", body)
	}
}

// An access token of an admin, which may be stolen, gives the passkey of another user no other name, by which the user
// would remove the wrong one. With a proof the admin may.
func TestStolenTokenRenamesNoPasskey(t *testing.T) {
	s := withPasskeys(t, "EBB_ADMIN_EMAIL", rootEmail, "EBB_ADMIN_PASSWORD", rootPassword)
	ada, root := s.proven("ada@example.com"), s.root().Access
	added := s.addPasskey(s.signIn("ada@example.com").Access, password, passkeytest.New("phone", origin))
	path, body := "/api/users/"+ada.ID+"/passkeys/"+added.ID, m{"name": "Old phone"}
	s.with(root, "PATCH", path, body).Expect(422)
	s.recently(root, "made.up", "PATCH", path, body).Expect(422)
	s.surely(root, rootPassword, "PATCH", path, body).Expect(200)
}

// A recovery by the configured password is told to the admin by mail: another password, no app, no passkeys.
func TestRecoveryIsTold(t *testing.T) {
	s := withPasskeys(t, "EBB_ADMIN_EMAIL", rootEmail, "EBB_ADMIN_PASSWORD", rootPassword)
	root := s.root().Access
	d := passkeytest.New("key", origin)
	s.addPasskey(root, rootPassword, d)
	var key struct{ Secret string }
	s.recently(root, s.stepUpWith(root, d), "POST", "/api/second-factor", m{}).Expect(201).JSON(&key)
	s.with(root, "POST", "/api/second-factor/confirmation", m{"code": s.code(key.Secret)}).Expect(200)
	s.AllEmitted()
	s.reconfigure(map[string]string{"EBB_ADMIN_PASSWORD": "another first admin"})
	s.login(rootEmail, "another first admin").Expect(201)
	var told []string
	for _, c := range mailed(s, events.UserSecurityChanged) {
		told = append(told, c.What)
	}
	want := []string{"password-changed", "second-factor-removed", "passkey-removed"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	s.login(rootEmail, "another first admin").Expect(201)
	if told := mailed(s, events.UserSecurityChanged); len(told) > 0 {
		t.Errorf("a further sign-in tells %+v", told)
	}
}
