package simulation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// robots is how many customers use an API key and have no token. The last of them is an admin's, which sets prices.
const robots = 3

func robot(n int) string { return fmt.Sprint("robot-", n) }

const buyer = robots - 1

// keys is what the run knows of the API keys of the robots.
type keys struct {
	sent    map[string]bool        // by robot: that the key is revoked was published
	learnt  map[revokedAt]struct{} // that a function has handled that there is the key
	revoked map[revokedAt]struct{} // that a function has handled that it is revoked
}

func newKeys() *keys {
	return &keys{sent: map[string]bool{}, learnt: map[revokedAt]struct{}{}, revoked: map[revokedAt]struct{}{}}
}

// keyOf returns the API key of a robot, the same in all runs.
func keyOf(robot string) string { return secrets().keys[robot] }

// tellKey publishes a change of a robot's key, as users does.
func (s *run) tellKey(n int, version int64) {
	who := robot(n)
	k := event.ChangedAPIKey{
		KeyID: "key-of-" + who, Hash: apikey.Hash(keyOf(who)), Subject: who, Roles: []string{auth.RoleCustomer},
		Scopes: []string{"orders:read", "orders:write", "views:read"}, Version: version,
		ExpiresAt: s.sim.Now().Add(tokenLife).Truncate(time.Second), Revoked: version > 1,
	}
	if n == buyer {
		k.Roles, k.Scopes = []string{auth.RoleAdmin}, []string{"catalog:write"}
	}
	e := emitted(s.sim, 0, event.APIKeyChanged.New(k.KeyID, k).Keyed(k.KeyID+"/key"), 0)
	e.SetID(fmt.Sprint(k.KeyID, "-", version))
	e.SetExtension(event.Sequence, nil)
	s.sim.Publish(e)
}

// refuseKey publishes that a robot's key is refused with others whose own events follow, as users does for very many.
func (s *run) refuseKey(n int) {
	who := robot(n)
	e := emitted(s.sim, 0, event.AccessRevoked.New(who, event.RevokedAccess{
		Subject: who, Keys: []string{"key-of-" + who}, IssuedBefore: time.Unix(0, 0).UTC(), Until: s.sim.Now().Add(tokenLife),
	}).Keyed(who+"/access"), 0)
	e.SetID("refused-key-of-" + who)
	e.SetExtension(event.Sequence, nil)
	s.sim.Publish(e)
}

// makeKeys registers the robots and publishes their keys.
func (s *run) makeKeys() {
	for n := range robots {
		id := robot(n)
		u := events.RegisteredUser{UserID: id, Name: "Robot " + fmt.Sprint(n), Email: id + "@example.com"}
		s.sim.Publish(emitted(s.sim, n, events.UserRegistered.New(id, u), 1))
		s.tellKey(n, 1)
	}
}

// withKeys returns the actions of robots, some of whose keys are revoked. It draws from r last.
func (s *run) withKeys(r *rand.Rand, at func() time.Duration, add func(time.Duration, func(), string, ...any)) {
	soon := func() time.Duration { return time.Duration(r.Int64N(int64(5 * time.Second))) }
	for n := range robots {
		ends := at()
		if n == 0 && r.IntN(2) == 0 {
			add(ends, func() { s.keys.sent[robot(n)] = true; s.refuseKey(n) }, "the key of %s is refused with others", robot(n))
			add(ends+ownEvent, func() { s.tellKey(n, 2) }, "the key of %s is revoked", robot(n))
		} else {
			add(ends, func() { s.keys.sent[robot(n)] = true; s.tellKey(n, 2) }, "the key of %s is revoked", robot(n))
		}
		for i := range 8 { // most of them while functions learn of it
			when := ends - time.Second + soon()/2
			if n == buyer {
				product, price := r.IntN(len(s.prices)), 100+r.Int64N(5000)
				add(when, func() { s.priceByKey(robot(n), product, price) },
					"%s says that product %d costs %d", robot(n), product, price)
				continue
			}
			lines := []line{{r.IntN(len(s.prices)), 1}}
			add(when, func() { s.orderBy(200+10*n+i, robot(n), s.sendByKey, simulate.Request{}, good, lines) },
				"%s orders with its key", robot(n))
		}
	}
}

// ownEvent is how long after a key is refused with others its own event is published.
const ownEvent = 4 * time.Second

// learnKey records which changes of keys a function has handled.
func (s *run) learnKey(function, subject string, data []byte) {
	var k struct {
		Subject string `json:"subject"`
		Revoked bool   `json:"revoked"`
	}
	if err := json.Unmarshal(data, &k); err != nil {
		s.sim.Violated("a change of a key cannot be read: %v", err)
	}
	into := s.keys.learnt
	if k.Revoked {
		into = s.keys.revoked
	}
	into[revokedAt{function, k.Subject}] = struct{}{}
}

// sendByKey sends a request with the key of a robot. It checks that a function that has handled that the key is revoked
// refuses it, and that no key is refused that is known and not revoked. It calls done unless the key was refused.
func (s *run) sendByKey(who string, r simulate.Request, done func(simulate.Response)) {
	at := revokedAt{r.Function, who}
	_, known := s.keys.learnt[at]
	_, refuses := s.keys.revoked[at]
	if refuses {
		s.sim.Count("revoked keys", 1)
	}
	r.Header = maps.Clone(r.Header)
	if r.Header == nil {
		r.Header = map[string]string{}
	}
	r.Header[apikey.Header] = keyOf(who)
	s.sim.Send(r, func(a simulate.Response) {
		what := fmt.Sprint(who, ": ", r.Method, " ", r.Path)
		switch {
		case refuses && a.OK():
			s.sim.Violated("a request with a revoked key succeeds: %s", what)
		case a.Status == http.StatusUnauthorized && known && !s.keys.sent[who]:
			s.sim.Violated("a key is refused that is known and not revoked: %s", what)
		case a.Status == http.StatusForbidden:
			s.sim.Violated("a key may not do what its scopes and roles say: %s", what)
		case a.Status != http.StatusUnauthorized && !refuses:
			done(a)
		}
	})
}

// priceByKey changes a price with the key of a robot.
func (s *run) priceByKey(who string, product int, price int64) {
	s.priceBy(who, s.sendByKey, simulate.Request{}, product, price)
}

// committedByKey checks that nothing is committed for a robot after the function has handled that its key is revoked.
func (s *run) committedByKey(function string, b store.Batch) {
	for n := range robots {
		who := robot(n)
		if _, refuses := s.keys.revoked[revokedAt{function, who}]; !refuses {
			continue
		}
		for _, m := range b.Mutations {
			ordered := m.Collection == "orders" && m.Version == 1 &&
				bytes.Contains(m.Data, []byte(`"customer_id":"`+who+`"`))
			acted := m.Collection == "_audit" && bytes.Contains(m.Data, []byte(`"by":"`+who+`"`))
			if function == "orders" && ordered || acted && m.Data != nil {
				s.sim.Violated("a commit comes after its key was revoked: %s", who+" at "+function)
			}
		}
	}
}

// recorded checks that a change of a product or of a stock is committed together with the record of the act of staff.
func (s *run) recorded(function string, b store.Batch) {
	changes, acts := 0, 0
	for _, m := range b.Mutations {
		switch {
		case function == "catalog" && m.Collection == "products":
			changes++
		case m.Collection == "_audit" && m.Data != nil:
			acts++
		}
	}
	if changes != acts && function == "catalog" && !migrates(b) {
		s.sim.Violated("products change without a record of it: %s", fmt.Sprint(changes, " changes, ", acts, " records"))
	}
}

// migrates reports whether a batch is one of the kit's that rewrites documents for a new version.
func migrates(b store.Batch) bool {
	return slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool {
		return strings.HasPrefix(m.Collection, "_migrat")
	})
}

// checkKeys checks at rest that every revoked key is refused wherever it could be used, and every other one accepted.
func (s *run) checkKeys(sim *simulate.Simulation) {
	for n := range buyer {
		who := robot(n)
		for _, at := range [...]struct{ function, path string }{
			{"orders", "/api/orders"}, {"views", "/api/views/orders"},
		} {
			function, path := at.function, at.path
			a := sim.Call(simulate.Request{
				Function: function, Method: http.MethodGet, Path: path,
				Header: map[string]string{"Authorization": "Bearer " + keyOf(who)},
			})
			want := http.StatusOK
			if s.keys.sent[who] {
				want = http.StatusUnauthorized
			}
			if a.Status != want {
				sim.Violated("at rest %s answers a key wrongly: %s", function, fmt.Sprint(who, " ", a.Status, ", want ", want))
			}
		}
	}
	told := map[string]bool{}
	for _, e := range sim.Published() {
		if e.Type() == event.ActRecorded.Name() {
			var act event.RecordedAct
			if json.Unmarshal(e.Data(), &act) == nil {
				told[act.Function+" "+act.ActID] = true
			}
		}
	}
	for _, function := range s.functions {
		for _, d := range sim.Documents(function, "_audit") {
			if !told[function+" "+d.ID] {
				sim.Violated("an act of staff is recorded and not emitted: %s", function+" "+d.ID)
			}
		}
	}
}
