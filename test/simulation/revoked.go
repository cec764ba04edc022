package simulation

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// clerk is an admin who may be demoted.
const clerk = "clerk"

// tokenLife is how long the tokens of the simulation are valid: longer than a run lasts before days pass.
const tokenLife = 24 * time.Hour

// revoked is what the run knows of revoked tokens. Each subject here has one revoked token, and customers who signed
// out have another one that is good.
type revoked struct {
	sent   map[string]bool        // by subject: a revocation was published
	again  map[string]bool        // by subject: signed in again
	learnt map[revokedAt]struct{} // handled by a function
}

type revokedAt struct{ function, subject string }

func newRevoked() *revoked {
	return &revoked{sent: map[string]bool{}, again: map[string]bool{}, learnt: map[revokedAt]struct{}{}}
}

// revoke publishes a revocation, as users does. change names what of the subject's tokens is revoked; nil: all.
func (s *run) revoke(who string, change func(*event.RevokedAccess)) {
	until := s.sim.Now().Add(tokenLife)
	r := event.RevokedAccess{Subject: who, IssuedBefore: until, Until: until}
	if change != nil {
		change(&r)
	}
	s.revoked.sent[who] = true
	e := emitted(s.sim, 0, event.AccessRevoked.New(who, r).Keyed(who+"/access"), 0)
	e.SetID("revoked-" + who)
	e.SetExtension(event.Sequence, nil)
	s.sim.Publish(e)
}

// leave deletes a customer's account.
func (s *run) leave(n int, who string) {
	s.sim.Publish(emitted(s.sim, n, events.UserDeleted.New(who, events.DeletedUser{UserID: who}), n))
	if s.revoked.again[who] {
		return // the run follows one token of a customer
	}
	s.revoke(who, nil)
}

// revocations returns the actions by which tokens are revoked, and some that use them then. It draws from r last.
func (s *run) revocations(r *rand.Rand, at func() time.Duration, add func(time.Duration, func(), string, ...any)) {
	soon := func() time.Duration { return time.Duration(r.Int64N(int64(5 * time.Second))) }
	for n := range r.IntN(3) {
		who, when := customer(r.IntN(customers)), at()
		session := func(x *event.RevokedAccess) { x.Sessions = []string{sessionOf(who)} }
		what, all := "%s signs out and in again", r.IntN(3) > 0
		if all {
			what = "all tokens of %s are revoked"
		}
		add(when, func() {
			switch {
			case s.revoked.sent[who]:
			case all:
				s.revoke(who, nil)
			default:
				s.revoked.again[who] = true
				s.revoke(who, session)
			}
		}, what, who)
		for i := range 9 { // some just before and while functions learn of it
			add(when-time.Second/2+soon()/2, func() { s.orderWith(100+10*n+i, who, token(who), good, []line{{0, 1}}) },
				"%s orders with the token of before", who)
		}
	}
	if r.IntN(3) > 0 {
		when, product := at(), r.IntN(len(s.prices))
		add(when, func() {
			s.revoke(clerk, func(x *event.RevokedAccess) { x.Roles = []string{auth.RoleAdmin} })
		}, "the clerk is an admin no more")
		for range 4 {
			price := 100 + r.Int64N(5000)
			add(when-time.Second+soon(), func() { s.price(clerk, product, price) },
				"the clerk says that product %d costs %d", product, price)
		}
	}
}

// learn wraps the event handler of a function and records which revocations it has handled.
func (s *run) learn(function string, next broker.Handler) broker.Handler {
	return func(ctx context.Context, batch []ce.Event) []broker.Result {
		results := next(ctx, batch)
		for i, e := range batch {
			if e.Type() == event.AccessRevoked.Name() && e.Source() != poison && results[i].OK() {
				known := s.revoked.learnt
				if strings.HasPrefix(e.Subject(), "robot-") {
					known = s.keys.revoked
				}
				known[revokedAt{function, e.Subject()}] = struct{}{}
			}
			if e.Type() == event.APIKeyChanged.Name() && e.Source() != poison && results[i].OK() {
				s.learnKey(function, e.Subject(), e.Data())
			}
		}
		return results
	}
}

// knows reports whether a function has handled the revocation of a subject's token.
func (s *run) knows(function, who string) bool {
	_, ok := s.revoked.learnt[revokedAt{function, who}]
	return ok
}

// send sends a request of a customer or an admin. It checks that a function that has handled the revocation of its
// token refuses it, and that no other token is refused. It calls done unless the token was refused.
func (s *run) send(who string, r simulate.Request, done func(simulate.Response)) {
	refusal := http.StatusUnauthorized
	if who == clerk {
		refusal = http.StatusForbidden
	}
	revocable := r.Token == token(who)
	known := revocable && s.knows(r.Function, who)
	if known {
		s.sim.Count("revoked tokens", 1)
	}
	s.sim.Send(r, func(a simulate.Response) {
		switch {
		case known && a.OK():
			s.sim.Violated("a request with a revoked token succeeds: %s", fmt.Sprint(who, ": ", r.Method, " ", r.Path))
		case a.Status == refusal && !(revocable && s.revoked.sent[who]):
			s.sim.Violated("a token is refused that is not revoked: %s", fmt.Sprint(who, ": ", r.Method, " ", r.Path))
		case a.Status != refusal && !known:
			done(a)
		}
	})
}

// judge checks what a function commits.
func (s *run) judge(function string, b store.Batch) {
	s.committed(function, b)
	s.committedByKey(function, b)
	s.recorded(function, b)
}

// committed checks that no order is committed for a customer after the function has handled that the token is revoked.
func (s *run) committed(function string, b store.Batch) {
	if function != "orders" {
		return
	}
	for _, m := range b.Mutations {
		if m.Collection != "orders" || m.Version != 1 {
			continue
		}
		for n := range customers {
			who := customer(n)
			if s.knows(function, who) && !s.revoked.again[who] && bytes.Contains(m.Data, []byte(`"customer_id":"`+who+`"`)) {
				s.sim.Violated("an order is committed after its customer's token was revoked: %s", who)
			}
		}
	}
}

// checkRevoked checks at rest that every revoked token is refused wherever it could be used.
func (s *run) checkRevoked(sim *simulate.Simulation) {
	type probe struct{ function, method, path string }
	open := []probe{
		{"orders", http.MethodGet, "/api/orders"}, {"views", http.MethodGet, "/api/views/orders"},
		{"payments", http.MethodGet, "/api/payments/none"},
	}
	staff := []probe{{"clock", http.MethodGet, "/api/timers"}}
	refuses := func(p probe, who string, want int) {
		a := sim.Call(simulate.Request{Function: p.function, Method: p.method, Path: p.path, Token: token(who)})
		if a.Status != want {
			sim.Violated("at rest %s answers a revoked token wrongly: %s", p.function, fmt.Sprint(a.Status, " to ", p.path))
		}
	}
	for _, who := range slices.Sorted(maps.Keys(s.revoked.sent)) {
		if who == clerk {
			for _, p := range staff {
				refuses(p, who, http.StatusForbidden)
			}
			continue
		}
		for _, p := range open {
			refuses(p, who, http.StatusUnauthorized)
		}
	}
}
