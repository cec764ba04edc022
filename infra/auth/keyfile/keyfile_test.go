package keyfile_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/keyfile"
)

// deployment is an issuer and a verifier, each with a file of its own, and a clock.
type deployment struct {
	t               *testing.T
	now             time.Time
	private, public string
	issuer          *auth.Issuer
	verifier        *keyfile.Verifier
}

func deploy(t *testing.T) *deployment {
	dir := t.TempDir()
	d := &deployment{
		t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		private: filepath.Join(dir, "private.json"), public: filepath.Join(dir, "public.json"),
	}
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	d.writePrivate(ring)
	d.writePublic(ring)
	clock := func() time.Time { return d.now }
	rings, err := keyfile.Open(keyfile.Scheme+d.private, auth.ParseKeyRing, clock)
	if err != nil {
		t.Fatal(err)
	}
	d.issuer = auth.NewRotatingIssuer(rings.Now, "ebb", "ebb", clock)
	cfg := auth.VerifierConfig{Issuer: "ebb", Audience: "ebb", Clock: clock}
	if d.verifier, err = keyfile.NewVerifier(keyfile.Scheme+d.public, cfg); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *deployment) ring() *auth.KeyRing {
	d.t.Helper()
	text, err := os.ReadFile(d.private)
	if err != nil {
		d.t.Fatal(err)
	}
	ring, err := auth.ParseKeyRing(text)
	if err != nil {
		d.t.Fatal(err)
	}
	return ring
}

func (d *deployment) writePrivate(ring *auth.KeyRing) {
	d.t.Helper()
	text, err := ring.Marshal()
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(d.private, text)
}

func (d *deployment) writePublic(ring *auth.KeyRing) {
	d.t.Helper()
	text, err := json.Marshal(ring.Public())
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(d.public, text)
}

func (d *deployment) write(path string, text []byte) {
	d.t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deployment) token() string {
	d.t.Helper()
	token, _, err := d.issuer.Issue(auth.Grant{Subject: "ann", TTL: 15 * time.Minute})
	if err != nil {
		d.t.Fatal(err)
	}
	return token
}

func (d *deployment) accepts(token string) error {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	_, err := d.verifier.Authenticate(r)
	return err
}

// Rotations by schedule, with processes that learn of each later, refuse no token that has not ended, and leave no key
// behind that nothing needs: rare ones, and ones that are more frequent than tokens end.
func TestRotationBySchedule(t *testing.T) {
	for _, c := range []struct{ every, lead, published, keys int }{{420, 60, 30, 2}, {12, 6, 3, 4}} { // minutes
		rotations(t, c.every, c.lead, c.published, c.keys)
	}
}

func rotations(t *testing.T, every, lead, published, keys int) {
	t.Helper()
	d := deploy(t)
	type issued struct {
		token string
		until time.Time
	}
	var valid []issued
	first := d.token()
	kids := map[string]bool{}
	var next *auth.KeyRing
	for minute := range 12 * every {
		d.now = d.now.Add(time.Minute)
		switch minute % every {
		case 0:
			var err error
			next, err = d.ring().Schedule(d.now, time.Duration(lead)*time.Minute, 15*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			d.writePrivate(next)
		case published: // the public keys come later, before the next key signs
			d.writePublic(next)
		}
		valid = append(valid, issued{d.token(), d.now.Add(14 * time.Minute)})
		for valid[0].until.Before(d.now) {
			valid = valid[1:]
		}
		for _, v := range []issued{valid[0], valid[len(valid)-1]} {
			if err := d.accepts(v.token); err != nil {
				t.Fatalf("every %d, minute %d: %v", every, minute, err)
			}
		}
		if n := len(d.ring().Public().Keys); n > keys {
			t.Fatalf("every %d, minute %d: there are %d keys", every, minute, n)
		}
		kids[d.ring().Public().Keys[0].Kid] = true
	}
	if len(kids) != 12 {
		t.Errorf("every %d: there were %d keys", every, len(kids))
	}
	if d.accepts(first) == nil {
		t.Errorf("every %d: the first token is still accepted", every)
	}
}

// A schedule that runs twice adds one key, and a key that is not valid yet signs nothing.
func TestScheduleTwice(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	once, err := ring.Schedule(now, time.Hour, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := once.Schedule(now.Add(time.Minute), time.Hour, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if len(once.Public().Keys) != 2 || once.String() != twice.String() {
		t.Errorf("once %v, twice %v", once, twice)
	}
	if !once.Next().Equal(now.Add(time.Hour)) {
		t.Errorf("it signs from %v", once.Next())
	}
}

// A token of a key that came a moment ago is accepted: the file is read again for it.
func TestUnknownKey(t *testing.T) {
	d := deploy(t)
	before := d.token()
	next, err := d.ring().Rotate()
	if err != nil {
		t.Fatal(err)
	}
	d.now = d.now.Add(2 * time.Second)
	d.writePublic(next)
	issuer := auth.NewIssuer(next, "ebb", "ebb", func() time.Time { return d.now })
	token, _, err := issuer.Issue(auth.Grant{Subject: "ann", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"new": token, "old": before} {
		if err := d.accepts(token); err != nil {
			t.Errorf("of the %s key: %v", name, err)
		}
	}
}

// A file that is broken or gone changes nothing, and the next one counts. A key that is taken out counts no more, not
// even for a token that was accepted before.
func TestBrokenFile(t *testing.T) {
	d := deploy(t)
	token := d.token()
	if err := d.accepts(token); err != nil {
		t.Fatal(err)
	}
	d.write(d.public, []byte(`{"keys":[`))
	d.now = d.now.Add(time.Minute)
	if err := d.accepts(token); err != nil {
		t.Errorf("while it is broken: %v", err)
	}
	if err := os.Remove(d.public); err != nil {
		t.Fatal(err)
	}
	d.now = d.now.Add(time.Minute)
	if err := d.accepts(token); err != nil {
		t.Errorf("while it is gone: %v", err)
	}
	other, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	d.writePublic(other)
	d.now = d.now.Add(time.Minute)
	if d.accepts(token) == nil {
		t.Error("a token of a key that was taken out is accepted")
	}
}

// While one request looks for the key of its token, others with tokens of that key wait for it: none is refused because
// another one looks.
func TestUnknownKeyIsLookedForOnce(t *testing.T) {
	d := deploy(t)
	reading, read := make(chan struct{}), make(chan struct{})
	first := true
	verifier, err := keyfile.NewVerifierOf(keyfile.Scheme+d.public, func(text []byte) (auth.JWKS, error) {
		if !first {
			close(reading)
			<-read
		}
		first = false
		return auth.ParseJWKS(text)
	}, auth.VerifierConfig{Issuer: "ebb", Audience: "ebb", Clock: func() time.Time { return d.now }})
	if err != nil {
		t.Fatal(err)
	}
	d.verifier = verifier
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	d.writePrivate(ring)
	d.writePublic(ring)
	d.now = d.now.Add(time.Minute)
	token := d.token()
	results := make(chan error, 2)
	ask := func() { results <- d.accepts(token) }
	go ask()
	<-reading
	go ask()
	for range 100_000 { // a refusal would come meanwhile
		runtime.Gosched()
	}
	close(read)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
