package function_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/auth/keyfile"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// An instance that starts after the signing keys have rotated, such as a cold pod, takes the tokens of the key before
// and of the new one. It refuses what was revoked before it started, whether an instance of before has learnt that or
// the event has waited for it, and nothing else.
func TestColdStart(t *testing.T) {
	n := &notes{}
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	n.h = functiontest.New(t, func(env function.Env) (*function.Function, error) {
		published, err := json.Marshal(ring.Public()) // EBB_VERIFICATION_KEYS as it is when the instance starts
		if err != nil {
			return nil, err
		}
		verifier, err := keyfile.NewVerifier(string(published), auth.VerifierConfig{
			Issuer: functiontest.Issuer, Audience: functiontest.Audience, Clock: env.Now,
		})
		if err != nil {
			return nil, err
		}
		env.Authenticator = apikey.Beside(verifier)
		return n.declare(env)
	})
	sign := func(subject, session string) string {
		t.Helper()
		token, _, err := auth.NewIssuer(ring, functiontest.Issuer, functiontest.Audience, n.h.Clock.Now).Issue(auth.Grant{
			Subject: subject, Session: session, Roles: []string{auth.RoleCustomer}, TTL: 15 * time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	expect := func(token string, want int) {
		t.Helper()
		n.h.Call("PUT", "/api/notes/n", functiontest.Nobody, nil, "Authorization", "Bearer "+token).Expect(want)
		n.h.Call("GET", "/api/notes/n", functiontest.Nobody, nil, "Authorization", "Bearer "+token).Expect(want)
	}
	ends := func(session string) func(*event.RevokedAccess) {
		return func(r *event.RevokedAccess) { r.Sessions = []string{session} }
	}
	const lead = 5 * time.Minute
	if ring, err = ring.Schedule(n.h.Clock.Now(), lead, 15*time.Minute); err != nil {
		t.Fatal(err)
	}
	learnt, waits, good := sign("ada", "s1"), sign("bob", "s2"), sign("cleo", "s3")
	for _, token := range []string{learnt, waits, good} {
		expect(token, 200)
	}
	n.h.MustDeliver(revocation(n.h, "ada", ends("s1")))
	waiting := revocation(n.h, "bob", ends("s2"))

	n.h.Clock.Advance(lead + time.Minute) // the new key signs
	n.h.Restart()
	expect(learnt, 401)
	expect(good, 200)
	expect(sign("ada", "s4"), 200)
	n.h.MustDeliver(waiting)
	expect(waits, 401)

	// The next rotation still leaves the key before while its tokens are valid.
	if ring, err = ring.Schedule(n.h.Clock.Now(), lead, 15*time.Minute); err != nil {
		t.Fatal(err)
	}
	n.h.Restart()
	expect(good, 200)
	expect(learnt, 401)
	expect(waits, 401)
}
