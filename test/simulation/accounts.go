package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/functions/users/passkeytest"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// Accounts returns a system of the users function and of a desk, which takes notes of users with a token or an API key.
// An admin signs in with passkeys and recovery codes, ends sessions, one by one, all others, by a new password and with
// a passkey that is removed, and makes and revokes keys. What was ended is refused by users from the answer on, by the
// desk once it has handled the event, and everywhere at rest; and a signature of a passkey, and a recovery code, open
// one session at most. No clock is off: a token of one that is a minute ahead is from the future for the others, which
// refuse it for that.
func Accounts(b Broken) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Faults: slices.DeleteFunc(simulate.Kinds(), func(k simulate.Kind) bool {
			return k == simulate.Deadly || k == simulate.Skew
		}),
		Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
			return (&accounts{sim: sim, learnt: map[string]bool{}}).scenario(r, b)
		},
	}
}

const (
	accountsAdmin    = "root@example.com"
	accountsPassword = "the admin of accounts"
	accountsOrigin   = "https://shop.example"
)

// pass is a token of a session, or an API key.
type pass struct {
	id, token, refresh string // refresh is empty for a key
	ending             bool   // its end was asked for
	ended              bool   // and answered
}

type accounts struct {
	sim      *simulate.Simulation
	verifier *auth.Verifier
	id       string // of the admin
	devices  []*passkeytest.Device
	passkeys []string // ids, by device; empty: removed
	main     *pass    // the session that ends others, and stays
	passes   []*pass
	recovery []string
	learnt   map[string]bool // sessions and keys of whose end the desk has heard
	removals int             // how often the end of all other sessions was asked for
	sent     int
}

func (a *accounts) scenario(r *rand.Rand, b Broken) *simulate.Scenario {
	e := a.env()
	sc := &simulate.Scenario{
		Setup: a.setup, Check: a.check,
		Handle: func(name string, next broker.Handler) broker.Handler {
			if b.Handle != nil {
				next = b.Handle(name, next)
			}
			return a.learn(name, next)
		},
	}
	for _, f := range []simulate.Function{
		{Name: "users", New: users.New, Next: users.New, Env: e},
		{Name: "desk", New: newNotes, Next: newNotes, Env: e},
		{Name: "clock", New: clock.New, Next: clock.New, Env: e},
	} {
		if b.Change != nil {
			b.Change(&f)
		}
		sc.Functions = append(sc.Functions, f)
	}
	add := func(at time.Duration, what string, do func()) {
		sc.Actions = append(sc.Actions, simulate.Action{At: at, What: what, Do: func(*simulate.Simulation) { do() }})
	}
	at := func() time.Duration { return time.Duration(r.Int64N(int64(2 * time.Minute))) }
	for range 3 + r.IntN(4) {
		device, twice := r.IntN(2), r.IntN(2) == 0
		add(at(), "the admin signs in with a passkey", func() { a.signIn(device, twice) })
	}
	for range 1 + r.IntN(2) {
		add(at(), "the admin makes an API key", a.makeKey)
	}
	for range 4 + r.IntN(5) {
		n := r.IntN(1 << 20)
		add(at(), "a session or a key is ended", func() { a.end(n) })
	}
	for range 20 {
		n := r.IntN(1 << 20)
		add(at(), "a note is taken", func() { a.note(n) })
	}
	if r.IntN(2) == 0 {
		add(at(), "the second passkey is removed", a.removeSecond)
	}
	switch r.IntN(5) {
	case 0:
		add(at(), "the admin has another password", a.changePassword)
	case 1:
		add(at(), "all other sessions are ended", func() {
			a.endOthers(simulate.Request{Method: http.MethodDelete, Path: "/api/users/" + a.id + "/sessions"}, func() {})
		})
	case 2, 3: // with the configured password, so not beside another one
		add(at(), "the admin signs in with a recovery code", a.recover)
	}
	return sc
}

// env returns the environment of all functions, whose tokens are valid for longer than a run lasts.
func (a *accounts) env() function.Env {
	e := env("30s")
	k := secrets()
	var err error
	if a.verifier, err = auth.NewVerifier(auth.VerifierConfig{
		Keys: k.keyRing.Public(), Issuer: "ebb", Audience: "ebb", Clock: a.sim.Now,
	}); err != nil {
		panic(err)
	}
	e.Authenticator = apikey.Beside(a.verifier)
	e.Lookup = config.Map(map[string]string{
		"EBB_SIGNING_KEYS": k.private, "EBB_CLOCK_SWEEP": "25s", personal.Variable: k.wrapping,
		"EBB_ACCESS_TTL": "24h", "EBB_STAFF_ACCESS_TTL": "24h",
		"EBB_ADMIN_EMAIL": accountsAdmin, "EBB_ADMIN_PASSWORD": accountsPassword,
		"EBB_PASSKEY_RP_ID": "shop.example", "EBB_PASSKEY_ORIGINS": accountsOrigin,
	})
	return e
}

// newNotes declares the desk, which takes a note of each user with a token or a key.
func newNotes(e function.Env) (*function.Function, error) {
	f := function.New("desk", e)
	notes := function.Collection[struct {
		By string `json:"by"`
	}](f, "notes")
	op := function.Operation{Method: http.MethodPost, Path: "/api/notes"}
	function.Serve(f, op, func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
		return nil, notes.Put(ctx, tx, tx.NewID(), struct {
			By string `json:"by"`
		}{tx.Principal().Subject})
	})
	return f, nil
}

// learn wraps the event handler of the desk and records of which ends it has heard.
func (a *accounts) learn(name string, next broker.Handler) broker.Handler {
	return func(ctx context.Context, batch []ce.Event) []broker.Result {
		results := next(ctx, batch)
		for i, e := range batch {
			if name != "desk" || !results[i].OK() {
				continue
			}
			switch e.Type() {
			case event.AccessRevoked.Name():
				if r, err := event.AccessRevoked.Decode(e); err == nil {
					for _, id := range r.Sessions {
						a.learnt[id] = true
					}
				}
			case event.APIKeyChanged.Name():
				if k, err := event.APIKeyChanged.Decode(e); err == nil && k.Revoked {
					a.learnt[k.KeyID] = true
				}
			}
		}
		return results
	}
}

// post returns a request to users.
func post(path, token string, body any) simulate.Request {
	return simulate.Request{Function: "users", Method: http.MethodPost, Path: path, Token: token, Body: body}
}

type fields = map[string]any

// answer is what the operations of users answer, as far as it is used here.
type answer struct {
	ID      string          `json:"id"`
	Key     string          `json:"key"`
	Access  string          `json:"access_token"`
	Refresh string          `json:"refresh_token"`
	StepUp  string          `json:"step_up_token"`
	Options json.RawMessage `json:"public_key"`
	Codes   []string        `json:"recovery_codes"`
}

// ask sends a request and passes what was answered, if it was taken.
func (a *accounts) ask(r simulate.Request, then func(answer)) {
	a.sim.Send(r, func(got simulate.Response) {
		var out answer
		if !got.OK() {
			return
		}
		if err := got.JSON(&out); err != nil && len(got.Body) > 0 {
			a.sim.Violated("an answer cannot be read: %v", err)
			return
		}
		then(out)
	})
}

// setup signs the admin in by the password and adds two passkeys, on devices that do not count signatures.
func (a *accounts) setup(sim *simulate.Simulation) {
	call := func(r simulate.Request) (out answer) {
		got := sim.Call(r)
		if err := got.JSON(&out); err != nil || !got.OK() {
			sim.Violated("the setup fails: %s", fmt.Sprint(r.Path, " ", got.Status, " ", string(got.Body)))
		}
		return out
	}
	in := call(post("/api/sessions", "", fields{"email": accountsAdmin, "password": accountsPassword}))
	a.main = a.opened(in)
	proof := post("/api/passkeys/options", in.Access, fields{"current_password": accountsPassword})
	for _, name := range []string{"phone", "laptop"} {
		d := passkeytest.New(name, accountsOrigin)
		d.Countless = true
		made, err := d.Create(call(proof).Options)
		if err != nil {
			sim.Violated("no passkey: %v", err)
			return
		}
		added := call(post("/api/passkeys", in.Access, fields{"name": name, "credential": made}))
		a.devices, a.passkeys = append(a.devices, d), append(a.passkeys, added.ID)
		a.recovery = append(a.recovery, added.Codes...)
		signed := a.sign(d, call(post("/api/sessions/current/step-up/options", in.Access, nil)).Options)
		token := call(post("/api/sessions/current/step-up", in.Access, fields{"passkey": signed})).StepUp
		proof = post("/api/passkeys/options", in.Access, fields{})
		proof.Header = map[string]string{"Ebb-Step-Up": token}
	}
}

func (a *accounts) sign(d *passkeytest.Device, options json.RawMessage) json.RawMessage {
	signed, err := d.Get(options)
	if err != nil {
		a.sim.Violated("no signature: %v", err)
	}
	return signed
}

// opened returns the session of an answer.
func (a *accounts) opened(in answer) *pass {
	who, err := a.verifier.Verify(in.Access)
	if err != nil {
		a.sim.Violated("a token that users has issued is refused: %v", err)
		return &pass{}
	}
	a.id = who.Subject
	return &pass{id: who.Session, token: in.Access, refresh: in.Refresh}
}

// signIn opens a session with a passkey. With twice, somebody else has the signature too and sends it at the same time.
func (a *accounts) signIn(device int, twice bool) {
	gone := a.passkeys[device] == ""
	a.ask(post("/api/sessions/passkey/options", "", nil), func(o answer) {
		times := 1
		if twice {
			times = 2
		}
		signed := a.sign(a.devices[device], o.Options)
		a.open("a signature", post("/api/sessions/passkey", "", fields{"credential": signed}), times, func() {
			if gone {
				a.sim.Violated("a passkey signs in that was removed")
			}
		})
	})
}

// recover signs in with the password and a recovery code, which somebody else sends at the same time.
func (a *accounts) recover() {
	if len(a.recovery) == 0 {
		return
	}
	in := fields{"email": accountsAdmin, "password": accountsPassword, "code": a.recovery[0]}
	a.open("a recovery code", post("/api/sessions", "", in), 2, func() {})
}

// open sends a sign-in a number of times at once, of which one may open a session.
func (a *accounts) open(what string, r simulate.Request, times int, then func()) {
	opened, removals := 0, a.removals
	for range times {
		a.ask(r, func(in answer) {
			a.sim.Count("sessions", 1)
			if opened++; opened > 1 {
				a.sim.Violated("%s opens two sessions", what)
			}
			then()
			s := a.opened(in)
			s.ending = removals != a.removals // it may have ended at once
			a.passes = append(a.passes, s)
		})
	}
}

// recently gets a step-up token by the first passkey.
func (a *accounts) recently(then func(token string)) {
	a.ask(post("/api/sessions/current/step-up/options", a.main.token, nil), func(o answer) {
		signed := a.sign(a.devices[0], o.Options)
		a.ask(post("/api/sessions/current/step-up", a.main.token, fields{"passkey": signed}), func(s answer) {
			then(s.StepUp)
		})
	})
}

func (a *accounts) makeKey() {
	a.recently(func(token string) {
		r := post("/api/api-keys", a.main.token, fields{
			"name": "robot", "scopes": []string{"desk:write"}, "roles": []string{auth.RoleCustomer},
		})
		r.Header = map[string]string{"Ebb-Step-Up": token}
		a.ask(r, func(k answer) {
			a.sim.Count("keys", 1)
			a.passes = append(a.passes, &pass{id: k.ID, token: k.Key})
		})
	})
}

// pick returns one of the sessions and keys; nil if there is none.
func (a *accounts) pick(n int) *pass {
	if len(a.passes) == 0 {
		return nil
	}
	return a.passes[n%len(a.passes)]
}

// end ends a session or revokes a key, and then tries it at users.
func (a *accounts) end(n int) {
	p := a.pick(n)
	if p == nil || p.ended {
		return
	}
	p.ending = true
	r := simulate.Request{Function: "users", Method: http.MethodDelete, Token: a.main.token}
	if r.Path = "/api/api-keys/" + p.id; p.refresh != "" {
		r.Path = "/api/users/" + a.id + "/sessions/" + p.id
	}
	a.sim.Send(r, func(got simulate.Response) {
		if got.OK() || got.Status == http.StatusNotFound { // the answer to a first attempt may be lost
			a.sim.Count("ended", 1)
			p.ended = true
			a.atUsers(p)
		}
	})
}

// atUsers tries what has ended at users, which refuses it at once.
func (a *accounts) atUsers(p *pass) {
	refused := func(what string) func(simulate.Response) {
		return func(got simulate.Response) {
			if got.OK() {
				a.sim.Violated("%s of a session that has ended is taken by users", what)
			}
		}
	}
	if p.refresh == "" {
		return // no key opens anything there
	}
	a.sim.Send(post("/api/sessions/refresh", "", fields{"refresh_token": p.refresh}), refused("the refresh token"))
	a.sim.Send(simulate.Request{Function: "users", Method: http.MethodGet, Path: "/api/users/" + a.id, Token: p.token},
		refused("the access token"))
}

// endOthers sends a request of the main session to users, with a step-up token, that ends all other sessions.
func (a *accounts) endOthers(r simulate.Request, then func()) {
	a.recently(func(token string) {
		a.removals++
		others := append([]*pass{}, a.passes...)
		for _, p := range others {
			p.ending = p.ending || p.refresh != ""
		}
		r.Function, r.Token, r.Header = "users", a.main.token, map[string]string{"Ebb-Step-Up": token}
		a.sim.Send(r, func(got simulate.Response) {
			if !got.OK() && got.Status != http.StatusNotFound { // the answer to a first attempt may be lost
				return
			}
			a.sim.Count("ended all", 1)
			for _, p := range others {
				if p.refresh != "" {
					p.ended = true
					a.atUsers(p)
				}
			}
			then()
		})
	})
}

func (a *accounts) removeSecond() {
	a.endOthers(simulate.Request{
		Method: http.MethodDelete, Path: "/api/users/" + a.id + "/passkeys/" + a.passkeys[1],
	}, func() {
		a.passkeys[1] = ""
		a.signIn(1, false)
	})
}

func (a *accounts) changePassword() {
	body := fields{"password": "another horse battery"}
	a.endOthers(simulate.Request{Method: http.MethodPatch, Path: "/api/users/" + a.id, Body: body}, func() {})
}

// note has the desk take a note.
func (a *accounts) note(n int) {
	p := a.pick(n)
	if p == nil {
		return
	}
	knew := a.learnt[p.id]
	a.sent++
	a.sim.Send(simulate.Request{
		Function: "desk", Method: http.MethodPost, Path: "/api/notes", Token: p.token, Key: fmt.Sprint("note-", a.sent),
	}, func(got simulate.Response) {
		switch {
		case got.OK() && knew:
			a.sim.Violated("the desk takes what it knows to have ended")
		case got.Status == http.StatusUnauthorized && !p.ending && p.refresh != "":
			a.sim.Violated("a good token is refused")
		case got.OK():
			a.sim.Count("notes", 1)
		}
	})
}

// check checks that all that has ended is refused everywhere.
func (a *accounts) check(sim *simulate.Simulation) {
	for i, p := range a.passes {
		if !p.ended {
			continue
		}
		got := sim.Call(simulate.Request{
			Function: "desk", Method: http.MethodPost, Path: "/api/notes", Token: p.token, Key: fmt.Sprint("last-", i),
		})
		if got.Status != http.StatusUnauthorized {
			sim.Violated("what has ended is taken by the desk at rest: %s", fmt.Sprint(got.Status))
		}
		a.atUsers(p)
	}
	sim.Rest(time.Minute)
}
