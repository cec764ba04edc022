package auth_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// revocations returns what the revocations add up to, told in this order at noon.
func revocations(all ...auth.Revocation) auth.Revocations {
	var l auth.Revocations
	for _, r := range all {
		l.Add(r, noon)
	}
	return l
}

func TestRevocationsCheck(t *testing.T) {
	until := noon.Add(15 * time.Minute)
	issued := func(after time.Duration, session string) auth.Principal {
		return auth.Principal{
			Subject: "ada", Roles: []string{"admin", "customer"}, Session: session, IssuedAt: noon.Add(after),
		}
	}
	all := auth.Revocation{IssuedBefore: noon, Until: until}
	ended := auth.Revocation{Sessions: []string{"s1"}, IssuedBefore: noon, Until: until}
	demoted := auth.Revocation{Roles: []string{"admin"}, IssuedBefore: noon, Until: until}
	undated := issued(0, "s2")
	undated.IssuedAt = time.Time{}
	for name, c := range map[string]struct {
		list  auth.Revocations
		who   auth.Principal
		roles []string // nil: the token is refused
	}{
		"nothing":                    {auth.Revocations{}, issued(-time.Hour, "s1"), []string{"admin", "customer"}},
		"nothing, no iat":            {auth.Revocations{}, undated, []string{"admin", "customer"}},
		"all, older":                 {revocations(all), issued(-time.Second, "s1"), nil},
		"all, not older":             {revocations(all), issued(0, "s1"), []string{"admin", "customer"}},
		"all, no iat":                {revocations(all), undated, nil},
		"session, older":             {revocations(ended), issued(-time.Hour, "s1"), nil},
		"session, newer":             {revocations(ended), issued(time.Hour, "s1"), nil},
		"another session":            {revocations(ended), issued(-time.Hour, "s2"), []string{"admin", "customer"}},
		"no session":                 {revocations(ended), issued(-time.Hour, ""), []string{"admin", "customer"}},
		"role, older":                {revocations(demoted), issued(-time.Second, "s1"), []string{"customer"}},
		"role, not older":            {revocations(demoted), issued(0, "s1"), []string{"admin", "customer"}},
		"role, no iat":               {revocations(demoted), undated, []string{"customer"}},
		"role, then another session": {revocations(demoted, ended), issued(-time.Second, "s2"), []string{"customer"}},
		"a part of a second counts up": {
			revocations(auth.Revocation{IssuedBefore: noon.Add(1), Until: until}), issued(0, ""), nil,
		},
	} {
		before := slices.Clone(c.who.Roles)
		got, err := c.list.Check(c.who)
		refused := fault.Is(err, fault.Unauthenticated)
		if c.roles == nil && !refused || c.roles != nil && (err != nil || !slices.Equal(got.Roles, c.roles)) {
			t.Errorf("%s: got %v, %v", name, got.Roles, err)
		}
		if !slices.Equal(c.who.Roles, before) {
			t.Errorf("%s: the roles of the caller are changed", name)
		}
	}
}

// Whatever the order in which revocations arrive, and however often, they add up to the same.
func TestRevocationsCommute(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	at := func() time.Time { return noon.Add(time.Duration(r.IntN(900)) * time.Second) }
	for range 200 {
		var some []auth.Revocation
		for range 1 + r.IntN(8) {
			one := auth.Revocation{IssuedBefore: at(), Until: at().Add(15 * time.Minute)}
			switch r.IntN(3) {
			case 0:
				one.Sessions = []string{fmt.Sprint("s", r.IntN(4))}
			case 1:
				one.Roles = []string{fmt.Sprint("r", r.IntN(3))}
			}
			some = append(some, one)
		}
		want, _ := json.Marshal(revocations(some...))
		some = append(some, some[r.IntN(len(some))])
		r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		if got, _ := json.Marshal(revocations(some...)); string(got) != string(want) {
			t.Fatalf("%+v: got %s, then %s", some, want, got)
		}
	}
}

// What can be forgotten goes with the next change, and a user who signs out again and again leaves a small document.
func TestRevocationsStaySmall(t *testing.T) {
	l := revocations(auth.Revocation{Sessions: []string{"old"}, IssuedBefore: noon, Until: noon.Add(time.Minute)})
	if l.Add(auth.Revocation{Sessions: []string{"late"}, IssuedBefore: noon, Until: noon}, noon) {
		t.Errorf("a revocation that is past its time is kept: %+v", l)
	}
	later := noon.Add(2 * time.Minute)
	if !l.Add(auth.Revocation{Sessions: []string{"new"}, IssuedBefore: later, Until: later.Add(time.Minute)}, later) {
		t.Error("a new revocation changes nothing")
	}
	if _, kept := l.Sessions["old"]; kept || len(l.Sessions) != 1 || l.Expires != later.Add(time.Minute).Unix() {
		t.Errorf("got %+v", l)
	}
	for n := range 1000 {
		l.Add(auth.Revocation{
			Sessions: []string{fmt.Sprint("session-", n)}, IssuedBefore: later, Until: later.Add(time.Hour),
		}, later)
	}
	if doc, _ := json.Marshal(l); len(doc) > 8<<10 {
		t.Errorf("a document has %d bytes", len(doc))
	}
	for n := range 1000 {
		p := auth.Principal{Subject: "ada", Session: fmt.Sprint("session-", n), IssuedAt: later.Add(-time.Second)}
		if _, err := l.Check(p); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("session %d: got %v", n, err)
		}
	}
}

// A user who signs in again and again, as a script does, ends the oldest session each time. The token that each sign-in
// gives is valid, also where the list of sessions is cut short.
func TestRevocationsSpareTheNewest(t *testing.T) {
	var l auth.Revocations
	for n := range 300 {
		now := noon.Add(time.Duration(n)*2*time.Second + 500*time.Millisecond)
		l.Add(auth.Revocation{
			Sessions: []string{fmt.Sprint("s", n)}, IssuedBefore: now.Truncate(time.Second).Add(time.Second),
			Until: now.Add(15 * time.Minute),
		}, now)
		fresh := auth.Principal{Subject: "ada", Session: fmt.Sprint("s", n+20), IssuedAt: now.Truncate(time.Second)}
		if _, err := l.Check(fresh); err != nil {
			t.Fatalf("sign-in %d: the new token is refused: %v", n, err)
		}
		old := fresh
		old.Session = fmt.Sprint("s", n/2)
		old.IssuedAt = noon
		if _, err := l.Check(old); err == nil {
			t.Fatalf("sign-in %d: the token of session %d is taken", n, n/2)
		}
	}
}

// API keys are refused, or lose roles, by their ids, whatever is revoked of tokens. In every order it adds up to the
// same, and a key whose own document says it is on the list no more.
func TestRevokedKeys(t *testing.T) {
	until := noon.Add(time.Hour)
	key := func(id string) auth.Principal {
		return auth.Principal{Subject: "ada", Roles: []string{"admin", "customer"}, Key: id}
	}
	some := []auth.Revocation{
		{Keys: []string{"refused", "both"}, Until: until},
		{Keys: []string{"narrowed", "both", "twice"}, Roles: []string{"admin"}, Until: until},
		{Keys: []string{"twice"}, Roles: []string{"customer"}, Until: until.Add(time.Hour)},
		{IssuedBefore: until, Until: until}, // of tokens
	}
	var want string
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 1, 3, 2, 0}} {
		var l auth.Revocations
		for _, n := range order {
			l.Add(some[n], noon)
		}
		got, _ := json.Marshal(l)
		if want == "" {
			want = string(got)
		}
		if string(got) != want {
			t.Errorf("got %s, then %s", want, got)
		}
		for id, roles := range map[string][]string{
			"refused": nil, "both": nil, "narrowed": {"customer"}, "twice": {}, "other": {"admin", "customer"},
		} {
			p, err := l.CheckKey(key(id), noon)
			if (err != nil) != (roles == nil) || err == nil && !slices.Equal(p.Roles, roles) {
				t.Errorf("%s: got %v, %v", id, p.Roles, err)
			}
		}
		for id, c := range map[string]struct {
			revoked bool
			roles   []string
			forgets bool
		}{
			"refused": {false, []string{"customer"}, false}, "narrowed": {false, []string{"admin"}, false},
			"other": {true, nil, false},
		} {
			if l.ForgetKey(id, c.revoked, c.roles) != c.forgets {
				t.Errorf("%s is forgotten: want %v", id, c.forgets)
			}
		}
		for _, id := range []string{"refused", "both", "narrowed", "twice"} {
			if !l.ForgetKey(id, id != "narrowed", []string{"customer"}) {
				t.Errorf("%s is not forgotten", id)
			}
		}
		if len(l.Keys) > 0 || l.Expires != until.Unix() {
			t.Errorf("got %+v", l)
		}
	}
}

// What is revoked of keys is forgotten with its time. A document with very many refuses all keys rather than to grow.
func TestRevokedKeysStaySmall(t *testing.T) {
	var l auth.Revocations
	l.Add(auth.Revocation{Keys: []string{"old"}, Until: noon.Add(time.Minute)}, noon)
	later := noon.Add(2 * time.Minute)
	if _, err := l.CheckKey(auth.Principal{Key: "new"}, later); err != nil {
		t.Errorf("a good key: got %v", err)
	}
	for n := range 2000 {
		l.Add(auth.Revocation{Keys: []string{fmt.Sprint("key-", n)}, Until: later.Add(time.Hour)}, later)
	}
	if doc, _ := json.Marshal(l); len(doc) > 64<<10 {
		t.Errorf("a document has %d bytes", len(doc))
	}
	if _, kept := l.Keys["old"]; kept || l.Expires != later.Add(time.Hour).Unix() {
		t.Errorf("got %+v", l)
	}
	for n := range 2000 {
		if _, err := l.CheckKey(auth.Principal{Key: fmt.Sprint("key-", n)}, later); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("key %d: got %v", n, err)
		}
	}
	if _, err := l.CheckKey(auth.Principal{Key: "key-0"}, later.Add(time.Hour)); err != nil {
		t.Errorf("afterwards: got %v", err)
	}
}
