// Package simulation runs the whole shop under infra/simulate, with customers, carts, cards, cancellations and faults
// by seed, and checks the promises of the shop.
package simulation

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/functions/gateway"
	"github.com/ebb-dev/ebb/functions/orders"
	"github.com/ebb-dev/ebb/functions/payments"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// The payment tokens of customers.
const (
	good     = "tok_ok"
	declined = "tok_declined"
	flaky    = "tok_error_once"
	slow     = "tok_slow"
)

var cards = []string{good, good, good, good, good, good, declined, flaky, slow}

// Broken declares how a shop differs from the real one. The zero Broken is the real shop.
type Broken struct {
	Change   func(*simulate.Function)                    // changes a function of the shop; nil: none
	Handle   func(string, broker.Handler) broker.Handler // wraps the event handler of a function; nil: none
	Serve    func(string, http.Handler) http.Handler     // wraps the HTTP handler of a function; nil: none
	Trigger  func(broker.Trigger) broker.Trigger         // changes how functions are delivered to; nil: as declared
	Careless bool                                        // the bank captures as often as it is asked to
	Doubtful bool                                        // the bank declines what it has authorized, when asked again
	Patient  bool                                        // customers never cancel an order
}

// Shop returns the system of all functions behind the gateway, with the settings that they have by default.
func Shop(b Broken) simulate.System {
	return simulate.System{
		Faults: simulate.Kinds(), Settle: 20 * time.Minute,
		Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return begin(sim, r, b) },
	}
}

// run is the state of one run of the shop.
type run struct {
	sim  *simulate.Simulation
	bank *bank

	products []string
	prices   []int64
	asked    map[string]int    // orders sent, by customer
	acked    []string          // the ids of acknowledged orders
	byAction map[int]string    // the ids of acknowledged orders by action
	cards    map[string]string // the payment tokens of acknowledged orders
	log      []ce.Event
	revoked  *revoked
	keys     *keys
	arrivals *arrivals

	functions []string // their names
}

const customers = 5

func customer(n int) string { return fmt.Sprint("customer-", n) }

func begin(sim *simulate.Simulation, r *rand.Rand, b Broken) *simulate.Scenario {
	s := &run{
		sim:      sim,
		bank:     &bank{sim: sim, accounts: map[string]*account{}, careless: b.Careless, doubtful: b.Doubtful},
		asked:    map[string]int{},
		byAction: map[int]string{},
		cards:    map[string]string{},
		revoked:  newRevoked(),
		keys:     newKeys(),
		arrivals: newArrivals(),
	}
	sc := &simulate.Scenario{
		Setup: func(*simulate.Simulation) { s.setup(r) }, Settled: s.settled, Check: s.check,
		Projections: s.projections(), Archive: s.archived, Remotes: []string{"payments"}, Serve: b.Serve, Trigger: b.Trigger,
	}
	sc.Handle = func(name string, next broker.Handler) broker.Handler {
		if b.Handle != nil {
			next = b.Handle(name, next)
		}
		return s.learn(name, s.observe(name, next))
	}
	versions := &schemas{sim: sim, added: map[place]bool{}, committed: s.judge}
	for _, c := range functions.System().Functions {
		if c.Name == gateway.Name {
			continue
		}
		made := simulate.Function{Name: c.Name, New: c.New, Env: env("30s")}
		switch c.Name {
		case "payments":
			made.New = func(e function.Env) (*function.Function, error) { return payments.NewWith(e, s.bank), nil }
			made.Next = made.New
		case "orders":
			next, change := env("42s"), changedOrders(sim.Seed())
			made.Next = func(e function.Env) (*function.Function, error) {
				e.Lookup = next.Lookup
				return orders.NewVersion(e, 2, change)
			}
		default:
			made.Next = c.New
		}
		if b.Change != nil {
			b.Change(&made)
		}
		versions.change(&made)
		sc.Functions = append(sc.Functions, made)
		s.functions = append(s.functions, made.Name)
	}
	for range 2 + r.IntN(3) {
		s.prices = append(s.prices, 100+r.Int64N(5000))
	}
	sc.Actions = s.actions(r, b.Patient)
	return sc
}

// secrets returns the signing keys and the tokens that all runs share.
var secrets = sync.OnceValue(func() (k struct {
	private  string
	keyRing  *auth.KeyRing
	wrapping string // what the keys of persons are wrapped under
	verifier *auth.Verifier
	tokens   map[string]string
	keys     map[string]string // API keys by robot
	issuer   *auth.Issuer
}) {
	clock := func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
	keys, err := auth.GenerateKeyRing()
	if err != nil {
		panic(err)
	}
	private, err := keys.Marshal()
	if err != nil {
		panic(err)
	}
	k.private, k.keyRing, k.wrapping = string(private), keys, personal.NewKey()
	verifies := auth.VerifierConfig{Keys: keys.Public(), Issuer: "ebb", Audience: "ebb", Clock: clock}
	if k.verifier, err = auth.NewVerifier(verifies); err != nil {
		panic(err)
	}
	k.tokens = map[string]string{}
	issuer := auth.NewIssuer(keys, "ebb", "ebb", clock)
	k.issuer = issuer
	grant := func(subject string, roles ...string) {
		g := auth.Grant{Subject: subject, Roles: roles, Session: sessionOf(subject), TTL: tokenLife}
		if k.tokens[subject], _, err = issuer.Issue(g); err != nil {
			panic(err)
		}
	}
	for n := range customers {
		grant(customer(n), auth.RoleCustomer)
	}
	k.keys = map[string]string{}
	for n := range robots {
		k.keys[robot(n)] = apikey.Of256(sha256.Sum256([]byte(robot(n))))
	}
	grant("admin", auth.RoleAdmin)
	grant(clerk, auth.RoleAdmin)
	return k
})

func env(deadline string) function.Env {
	k := secrets()
	return function.Env{
		Authenticator: apikey.Beside(k.verifier),
		Lookup: config.Map(map[string]string{
			"EBB_SIGNING_KEYS": k.private, "EBB_ORDERS_STEP_DEADLINE": deadline, "EBB_CLOCK_SWEEP": "25s",
			personal.Variable: k.wrapping,
		}),
	}
}

func sessionOf(who string) string { return "session-of-" + who }

// token returns the token that somebody has at first, in a session.
func token(who string) string { return secrets().tokens[who] }

// current returns the token of a customer, of no session after signing out and in again.
func (s *run) current(who string) string {
	if s.revoked.again[who] {
		return own(who)
	}
	return token(who)
}

// own returns a token of a user who has registered.
func own(id string) string {
	grant := auth.Grant{Subject: id, Roles: []string{auth.RoleCustomer}, TTL: tokenLife}
	t, _, err := secrets().issuer.Issue(grant)
	if err != nil {
		panic(err)
	}
	return t
}

// emitted returns the event that its function would have sent.
func emitted(sim *simulate.Simulation, n int, d event.Draft, sequence int) ce.Event {
	data, err := d.Encode()
	if err != nil {
		sim.Violated("cannot encode %s: %v", d.Info.Name, err)
	}
	e := ce.New()
	e.SetID(fmt.Sprintf("%s-%d-%d", d.Subject, n, sequence))
	e.SetSource("/functions/" + d.Info.Function)
	e.SetType(d.Info.Name)
	e.SetSubject(d.Subject)
	e.SetTime(sim.Now())
	e.SetDataSchema(d.Info.DataSchema)
	e.SetExtension(event.PartitionKey, d.Key)
	e.SetExtension(event.Sequence, fmt.Sprint(sequence))
	_ = e.SetData(ce.ApplicationJSON, data)
	return e
}

// setup registers the customers and creates the products with their stock.
func (s *run) setup(r *rand.Rand) {
	for n := range customers {
		id := customer(n)
		u := events.RegisteredUser{UserID: id, Name: "Customer " + fmt.Sprint(n), Email: id + "@example.com"}
		s.sim.Publish(emitted(s.sim, n, events.UserRegistered.New(id, u), 1))
	}
	s.makeKeys()
	for n, price := range s.prices {
		var made struct {
			ID string `json:"id"`
		}
		answer := s.sim.Call(simulate.Request{
			Function: "catalog", Method: http.MethodPost, Path: "/api/products",
			Token: token("admin"), Key: fmt.Sprint("product-", n),
			Body: map[string]any{
				"name": fmt.Sprint("product ", n), "price": map[string]any{"amount": price, "currency": "EUR"},
			},
		})
		if answer.JSON(&made) != nil || made.ID == "" {
			s.sim.Violated("no product is made: %d", answer.Status)
			return
		}
		s.products = append(s.products, made.ID)
		s.stock(n, []int{5, 20, 100000}[r.IntN(3)], nil)
	}
}

func (s *run) stock(product, available int, done func(simulate.Response)) {
	r := simulate.Request{
		Function: "inventory",
		Method:   http.MethodPut,
		Path:     "/api/stock/" + s.products[product],
		Token:    token("admin"),
		Body:     map[string]any{"available": available},
	}
	if done == nil {
		s.sim.Call(r)
		return
	}
	s.sim.Send(r, done)
}

// actions returns what customers and admins do.
func (s *run) actions(r *rand.Rand, patient bool) []simulate.Action {
	const during = 90 * time.Second
	at := func() time.Duration { return time.Duration(r.Int64N(int64(during))) }
	var actions []simulate.Action
	add := func(at time.Duration, do func(), format string, args ...any) {
		actions = append(
			actions,
			simulate.Action{At: at, What: fmt.Sprintf(format, args...), Do: func(*simulate.Simulation) { do() }},
		)
	}
	for n := range 10 + r.IntN(90) {
		who, card, when := customer(r.IntN(customers)), cards[r.IntN(len(cards))], at()
		lines, text := s.cart(r)
		add(when, func() { s.order(n, who, card, lines) }, "order %d: %s orders %s with %s", n, who, text, card)
		if r.IntN(8) == 0 && !patient {
			add(when+time.Duration(r.Int64N(int64(3*time.Second))), func() { s.cancel(n, who) }, "%s cancels order %d", who, n)
		}
		if r.IntN(8) == 0 {
			add(when+time.Duration(r.Int64N(int64(5*time.Second))), func() { s.look(n, who) }, "%s looks at order %d", who, n)
		}
	}
	for range r.IntN(3) {
		product, available := r.IntN(len(s.prices)), r.IntN(30)
		add(at(), func() { s.stock(product, available, s.wants(http.StatusOK)) },
			"the shop counts %d of product %d", available, product)
	}
	for n := range r.IntN(3) {
		product, price := r.IntN(len(s.prices)), 100+r.Int64N(5000)
		add(at(), func() { s.price("admin", product, price) }, "price change %d: product %d costs %d", n, product, price)
	}
	for n := range r.IntN(4) {
		who := customer(r.IntN(customers))
		if r.IntN(3) == 0 {
			add(at(), func() { s.leave(100+n, who) }, "%s leaves", who)
			continue
		}
		name := fmt.Sprintf("%s the %dth", who, n)
		add(at(), func() {
			u := events.ChangedUser{UserID: who, Name: name, Email: who + "@example.org"}
			s.sim.Publish(emitted(s.sim, 10+n, events.UserChanged.New(who, u), 2+n))
		}, "%s changes name", who)
	}
	if r.IntN(20) == 0 { // rarely: hashing a password takes as long as simulating some orders
		when, leaves := at(), r.IntN(2) == 0
		add(when, func() { s.register(leaves) }, "ada registers")
	}
	if r.IntN(3) == 0 {
		add(at(), func() {
			s.sim.Send(
				simulate.Request{
					Function: "views",
					Method:   http.MethodPost,
					Path:     "/api/views/rebuild",
					Token:    token("admin"),
					Key:      "rebuild",
				},
				s.wants(http.StatusAccepted),
			)
		}, "the views are rebuilt")
	}
	s.revocations(r, at, add)
	s.withKeys(r, at, add)
	return actions
}

type line struct {
	product, quantity int
}

func (s *run) cart(r *rand.Rand) (lines []line, text string) {
	for _, p := range r.Perm(len(s.prices))[:1+r.IntN(2)] {
		l := line{p, 1 + r.IntN(3)}
		lines = append(lines, l)
		text += fmt.Sprintf("%d of product %d ", l.quantity, l.product)
	}
	return lines, text[:len(text)-1]
}

func (s *run) order(n int, who, card string, lines []line) {
	s.orderWith(n, who, s.current(who), card, lines)
}

// orderWith sends an order with a token of the customer.
func (s *run) orderWith(n int, who, with, card string, lines []line) {
	s.orderBy(n, who, s.send, simulate.Request{Token: with}, card, lines)
}

// sender sends a request of somebody, and calls done unless the credentials were refused.
type sender func(who string, r simulate.Request, done func(simulate.Response))

// orderBy sends an order with the credentials of a request.
func (s *run) orderBy(n int, who string, send sender, r simulate.Request, card string, lines []line) {
	var wanted []map[string]any
	for _, l := range lines {
		wanted = append(wanted, map[string]any{"product_id": s.products[l.product], "quantity": l.quantity})
	}
	s.sim.Count("orders", 1)
	s.asked[who]++
	r.Function, r.Method, r.Path, r.Key = "orders", http.MethodPost, "/api/orders", fmt.Sprint("order-", n)
	r.Body = map[string]any{"lines": wanted, "payment": map[string]any{"token": card}}
	send(who, r, func(a simulate.Response) {
		var o struct {
			ID string `json:"id"`
		}
		if a.Status != http.StatusAccepted || a.JSON(&o) != nil {
			s.sim.Violated("an order was not taken: %d %s", a.Status, a.Body)
			return
		}
		if !s.published(events.OrderPlaced.Name(), o.ID) && !s.waits(events.OrderPlaced.Name(), o.ID) {
			s.sim.Violated("an order is acknowledged whose event is neither published nor in the outbox: %s", o.ID)
		}
		s.acked = append(s.acked, o.ID)
		s.byAction[n], s.cards[o.ID] = o.ID, card
	})
}

// published reports whether an event was published.
func (s *run) published(name, subject string) bool {
	return slices.ContainsFunc(
		s.sim.Published(),
		func(e ce.Event) bool { return e.Subject() == subject && e.Type() == name },
	)
}

// waits reports whether an event is in the outbox of orders.
func (s *run) waits(name, subject string) bool {
	return slices.ContainsFunc(s.sim.Documents("orders", "_outbox"), func(d store.Document) bool {
		return bytes.Contains(d.Data, []byte(name)) && bytes.Contains(d.Data, []byte(`"`+subject+`"`))
	})
}

func (s *run) cancel(n int, who string) {
	id := s.byAction[n]
	if id == "" {
		return
	}
	s.send(
		who,
		simulate.Request{
			Function: "orders",
			Method:   http.MethodPost,
			Path:     "/api/orders/" + id + "/cancellation",
			Token:    s.current(who),
			Key:      fmt.Sprint("cancel-", n),
			Times:    4,
		},
		func(a simulate.Response) {
			if a.Status >= 400 && a.Status != http.StatusConflict && a.Status < 500 {
				s.sim.Violated("a cancellation is answered %d", a.Status)
			}
		},
	)
}

func (s *run) look(n int, who string) {
	if id := s.byAction[n]; id != "" {
		s.send(
			who, simulate.Request{Function: "orders", Method: http.MethodGet, Path: "/api/orders/" + id, Token: s.current(who)},
			s.wants(http.StatusOK),
		)
	}
	s.send(
		who, simulate.Request{Function: "views", Method: http.MethodGet, Path: "/api/views/orders", Token: s.current(who)},
		s.wants(http.StatusOK),
	)
}

// register registers a customer, who then changes her name and may leave.
func (s *run) register(leaves bool) {
	done := map[string]int{http.MethodPatch: http.StatusOK, http.MethodDelete: http.StatusNoContent}
	registered := 0 // how often the registration was sent
	change := func(method, id string, body any, then func()) {
		s.sim.Send(
			simulate.Request{Function: "users", Method: method, Path: "/api/users/" + id, Token: own(id), Body: body},
			func(a simulate.Response) {
				// 401: her account is deleted and the first answer was lost, or the answer to her registration was lost and
				// the second one had an id that no account has.
				lost := a.Sent > 1 && method == http.MethodDelete || registered > 1
				if a.Status != done[method] && !(lost && a.Status == http.StatusUnauthorized) {
					s.sim.Violated("a change of a user is answered %d", a.Status)
				}
				then()
			},
		)
	}
	s.sim.Send(simulate.Request{Function: "users", Method: http.MethodPost, Path: "/api/users", Times: 6,
		Body: map[string]any{
			"name":     "Ada",
			"email":    "ada@example.com",
			"password": "correct horse battery",
		}}, func(a simulate.Response) {
		var u struct {
			ID string `json:"id"`
		}
		registered = a.Sent
		switch {
		case a.Sent > 1 && a.Status != http.StatusCreated: // it got no final answer
			return
		case a.Status != http.StatusCreated || a.JSON(&u) != nil:
			s.sim.Violated("a registration is answered %d", a.Status)
			return
		}
		change(http.MethodPatch, u.ID, map[string]any{"name": "Ada King"}, func() {
			if leaves {
				change(http.MethodDelete, u.ID, nil, func() {})
			}
		})
	})
}

func (s *run) price(who string, product int, price int64) {
	s.priceBy(who, s.send, simulate.Request{Token: token(who)}, product, price)
}

// priceBy changes a price with the credentials of a request.
func (s *run) priceBy(who string, send sender, r simulate.Request, product int, price int64) {
	path := "/api/products/" + s.products[product]
	s.sim.Send(simulate.Request{Function: "catalog", Method: http.MethodGet, Path: path}, func(a simulate.Response) {
		if a.Status != http.StatusOK {
			s.sim.Violated("a product is answered %d", a.Status)
			return
		}
		r.Function, r.Method, r.Path, r.Times = "catalog", http.MethodPatch, path, 3
		r.Header = map[string]string{"If-Match": a.Header.Get("ETag")}
		r.Body = map[string]any{"price": map[string]any{"amount": price, "currency": "EUR"}}
		send(who, r, func(simulate.Response) {})
	})
}

func (s *run) wants(status int) func(simulate.Response) {
	return func(a simulate.Response) {
		if a.Status != status {
			s.sim.Violated("a request is answered %d %s", a.Status, a.Body)
		}
	}
}
