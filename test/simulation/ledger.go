package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// Ledger returns a small system of a function that uses its store in every way that the shop does not. Many requests
// come at once, so that its units of work meet.
func Ledger(b Broken) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
			l := &ledger{sim: sim, rng: rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))}
			return l.scenario(r, b)
		},
	}
}

// ledger is the state of one run.
type ledger struct {
	sim       *simulate.Simulation
	rng       *rand.Rand
	deposited int64
	sent      int
	holders   int
	label     string // the text that was written last
	swept     bool   // all scraps were removed
}

func (l *ledger) scenario(r *rand.Rand, b Broken) *simulate.Scenario {
	made := []simulate.Function{
		{Name: "ledger", New: l.declare(declareFirst), Next: l.declare(declareNext), Env: env("30s")},
		{Name: "hall", New: newHall, Next: newHall, Env: env("30s")},
		{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
	}
	if b.Change != nil {
		b.Change(&made[0])
	}
	sc := &simulate.Scenario{
		Functions: made, Handle: b.Handle, Serve: b.Serve,
		Setup: func(*simulate.Simulation) { l.send("PUT", "/api/purses/main", purse{Owner: owner}, nil) },
		Check: l.check, Refused: l.refused,
	}
	for n := range 1 + r.IntN(6) {
		at, size := time.Duration(r.Int64N(int64(time.Minute))), 2+r.IntN(4)
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: fmt.Sprintf("%d deposits at once, number %d", size, n),
			Do: func(*simulate.Simulation) {
				for range size {
					l.deposit()
				}
			},
		})
	}
	for n := range 1 + r.IntN(3) {
		at, length := time.Duration(r.Int64N(int64(time.Minute))), 2+r.IntN(4)
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: fmt.Sprintf("%d guests take the seat %d one after the other", length, n),
			Do: func(*simulate.Simulation) { l.seat(fmt.Sprint("seat-", n), length) },
		})
	}
	for n := range 1 + r.IntN(5) {
		at, weight := time.Duration(r.Int64N(int64(time.Minute))), 1+r.IntN(100)
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: fmt.Sprintf("both pans are loaded with %d, and weighed, number %d", weight, n),
			Do: func(*simulate.Simulation) { l.weigh(n, weight) },
		})
	}
	at := time.Duration(r.Int64N(int64(time.Minute)))
	sc.Actions = append(sc.Actions, simulate.Action{
		At: at, What: "a label is written again and again, and persons come and go",
		Do: func(*simulate.Simulation) { l.write(20 + r.IntN(40)) },
	})
	if r.IntN(4) == 0 {
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: fmt.Sprintf("%d scraps are written and removed", scraps),
			Do: func(*simulate.Simulation) {
				l.send("POST", "/api/scraps", nil, func(a simulate.Response) {
					if a.OK() {
						l.send("DELETE", "/api/scraps", nil, func(a simulate.Response) { l.swept = a.OK() })
					}
				})
			},
		})
	}
	for n := range 2 + r.IntN(8) {
		at, open := time.Duration(r.Int64N(int64(time.Minute))), time.Duration(r.Int64N(int64(400*time.Millisecond)))
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: fmt.Sprintf("two claim the name %d, and no claim counts after %s", n, open),
			Do: func(*simulate.Simulation) { l.claimBoth(fmt.Sprint("name-", n), open) },
		})
	}
	return sc
}

// send sends a request of its own Idempotency-Key, and counts one that succeeds.
func (l *ledger) send(method, path string, body any, done func(simulate.Response)) {
	l.sent++
	request := simulate.Request{
		Function: "ledger", Method: method, Path: path, Body: body, Token: token("admin"), Key: fmt.Sprint("key-", l.sent),
	}
	l.sim.Send(request, func(a simulate.Response) {
		if a.OK() {
			l.sim.Count("changes", 1)
		}
		if done != nil {
			done(a)
		}
	})
}

func (l *ledger) deposit() {
	amount := int64(1 + l.sent%9)
	l.send("POST", "/api/deposits", deposit{Owner: owner, Amount: amount}, func(a simulate.Response) {
		if a.OK() {
			l.deposited += amount
		}
	})
}

// seat has a guest take a seat and leave it, which is said twice at once, and then the next.
func (l *ledger) seat(id string, length int) {
	if length == 0 {
		return
	}
	l.holders++
	body := guest{Name: fmt.Sprint("guest-", l.holders)}
	l.send("POST", "/api/seats/"+id+"/taking", body, func(a simulate.Response) {
		if !a.OK() {
			return
		}
		left := false
		for range 2 {
			l.send("POST", "/api/seats/"+id+"/leaving", body, func(a simulate.Response) {
				if a.OK() && !left {
					left = true
					l.seat(id, length-1)
				}
			})
		}
	})
}

// write writes a label a number of times, each after the one before, and each time has a person come and go.
func (l *ledger) write(times int) {
	text := fmt.Sprint("text ", times)
	body, id := map[string]string{"text": text}, fmt.Sprint("/api/persons/", times)
	l.send("PUT", id, nil, func(simulate.Response) { l.send("DELETE", id, nil, nil) })
	l.send("PUT", "/api/labels/one", body, func(a simulate.Response) {
		if a.OK() {
			l.label = text
		}
		if times > 0 {
			l.sim.After(time.Second, func() { l.write(times - 1) })
		}
	})
}

// checkLabels checks that both versions of the function read what was written last.
func (l *ledger) checkLabels(sim *simulate.Simulation) {
	one, other := documents[label](sim, "ledger", "labels"), documents[nextLabel](sim, "ledger", "labels")
	if l.label != one["one"].Text || l.label != other["one"].Text {
		sim.Violated("an acknowledged write takes no effect: %s",
			fmt.Sprintf("%q is read as %q and %q", l.label, one["one"].Text, other["one"].Text))
	}
	for id, p := range documents[nextPerson](sim, "ledger", "persons") {
		if p.Erased && p.Phone != "" {
			sim.Violated("what another version has stored of a person is not erased: %s", id)
		}
	}
	if left := len(sim.Documents("ledger", "scraps")); l.swept && left > 0 {
		sim.Violated("what was removed until there was no next page is there: %s", fmt.Sprint(left, " documents"))
	}
}

// weigh loads both pans and weighs them at the same time, by requests and by an event. They weigh the same in every
// state that is committed.
func (l *ledger) weigh(n, weight int) {
	l.sim.Publish(emitted(l.sim, n, pansWeighed.New("pans", guest{"x"}), n))
	for range 2 {
		l.send("POST", "/api/weighings", nil, func(a simulate.Response) {
			if a.Status == http.StatusUnprocessableEntity {
				l.sim.Violated("a request is refused for a state that never was: %s", a.Body)
			}
		})
	}
	l.send("PUT", "/api/pans", pan{weight}, nil)
}

// claimBoth has two claim a name at once, and closes it after a while: then nothing comes of a claim.
func (l *ledger) claimBoth(name string, open time.Duration) {
	for i, who := range []string{"ann", "bob"} {
		l.sim.Publish(emitted(l.sim, i, nameClaimed.New(name, guest{who}).Keyed(name+who), i))
	}
	l.sim.After(open, func() { l.send("POST", "/api/names/"+name+"/closing", nil, nil) })
}

// refused reports whether a claim was refused because another has the name.
func (l *ledger) refused(_ string, e ce.Event) bool {
	if e.Type() != nameClaimed.Name() {
		return false
	}
	var claim guest
	has, taken := documents[guest](l.sim, "ledger", "names")[e.Subject()]
	return json.Unmarshal(e.Data(), &claim) == nil && taken && has != claim
}

// checkSeats checks that each seat has the guest who has taken it and not left, and that the hall knows it.
func (l *ledger) checkSeats(sim *simulate.Simulation) {
	seats, shown := documents[guest](sim, "ledger", "seats"), documents[shownSeat](sim, "hall", "seats")
	sitting := map[string]string{}
	for name, v := range documents[visit](sim, "ledger", "visits") {
		if !v.Left {
			sitting[v.Seat] += name
		}
	}
	for id, known := range shown {
		if got := seats[id].Name; got != sitting[id] {
			sim.Violated("a guest has lost a seat: %s", fmt.Sprintf("%s has %q, not %q", id, got, sitting[id]))
		}
		if known.Name != seats[id].Name {
			sim.Violated("a consumer has dropped the latest event: %s",
				fmt.Sprintf("%s has %q, and the hall shows %q", id, seats[id].Name, known.Name))
		}
	}
}

func (l *ledger) check(sim *simulate.Simulation) {
	l.checkSeats(sim)
	l.checkLabels(sim)
	for id, a := range documents[purse](sim, "ledger", "purses") {
		if a.Balance != l.deposited {
			sim.Violated("an acknowledged deposit is lost: %s", fmt.Sprintf("%s has %d of %d", id, a.Balance, l.deposited))
		}
	}
}

const owner = "ann"

type purse struct {
	Owner   string `json:"owner"`
	Balance int64  `json:"balance"`
}

type deposit struct {
	Owner  string `json:"owner"`
	Amount int64  `json:"amount"`
}

// guest is who has a seat; without a name: the seat is free.
type guest struct {
	Name string `json:"name"`
}

type visit struct {
	Seat string `json:"seat"`
	Left bool   `json:"left,omitempty"`
}

type shownSeat struct {
	guest
	function.Revision
}

var seatChanged = event.Define(depotEvents, "ledger.seat-changed", 1, event.Fact, "A seat has changed.", guest{"g1"})

// newHall makes a function that shows who has which seat.
func newHall(e function.Env) (*function.Function, error) {
	f := function.New("hall", e)
	seats := function.Collection[shownSeat](f, "seats")
	function.On(f, seatChanged, func(ctx context.Context, tx *function.Tx, g guest) error {
		id := tx.Event().Subject()
		known, _, err := seats.Find(ctx, tx, id)
		if err != nil || !known.Before(tx.Revision()) {
			return err
		}
		return seats.Put(ctx, tx, id, shownSeat{g, tx.Revision()})
	})
	return f, nil
}

type pan struct {
	Weight int `json:"weight"`
}

type closed struct {
	At time.Time `json:"at"`
}

var (
	pansWeighed = event.Define(depotEvents, "ledger.weigh", 1, event.Command, "Weigh the pans.", guest{"x"})
	nameClaimed = event.Define(depotEvents, "ledger.claim", 1, event.Command, "Claim a name.", guest{"ann"})
)

// declarePans declares two documents that are always the same, and a check of that which reads one after the other.
func (l *ledger) declarePans(f *function.Function) {
	pans := function.Collection[pan](f, "pans")
	weigh := func(ctx context.Context, tx *function.Tx) error {
		left, _, err := pans.Find(ctx, tx, "left")
		if err != nil {
			return err
		}
		right, _, err := pans.Find(ctx, tx, "right")
		if err == nil && left != right {
			err = fault.New(fault.Invalid, "the left pan has %d and the right one %d", left.Weight, right.Weight)
		}
		return err
	}
	function.On(f, pansWeighed, func(ctx context.Context, tx *function.Tx, _ guest) error { return weigh(ctx, tx) })
	function.Serve(f, changes(http.MethodPost, "/api/weighings"),
		func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) { return nil, weigh(ctx, tx) })
	function.Serve(f, changes(http.MethodPut, "/api/pans"),
		func(ctx context.Context, tx *function.Tx, in *struct{ Body pan }) (*struct{}, error) {
			if err := pans.Put(ctx, tx, "left", in.Body); err != nil {
				return nil, err
			}
			return nil, pans.Put(ctx, tx, "right", in.Body)
		})
}

// declareNames declares names that the first to claim one gets, unless the name is closed.
func declareNames(f *function.Function) {
	names, closings := function.Collection[guest](f, "names"), function.Collection[closed](f, "closings")
	function.On(f, nameClaimed, func(ctx context.Context, tx *function.Tx, claim guest) error {
		name := tx.Event().Subject()
		has, taken, err := names.Find(ctx, tx, name)
		if err != nil {
			return err
		}
		if taken && has != claim {
			return fault.New(fault.Invalid, "%s has the name", has.Name)
		}
		if _, late, err := closings.Find(ctx, tx, name); err != nil || late {
			return err
		}
		return names.Put(ctx, tx, name, claim)
	})
	function.Serve(f, changes(http.MethodPost, "/api/names/{id}/closing"),
		func(ctx context.Context, tx *function.Tx, in *struct {
			ID string `path:"id"`
		}) (*struct{}, error) {
			return nil, closings.Put(ctx, tx, in.ID, closed{tx.Now()})
		})
}

// label is a document of the previous version of the function.
type label struct {
	Text string `json:"Text"`
}

// nextLabel is the same of the next version, which spells the member in another case.
type nextLabel struct {
	Text string `json:"text"`
}

type labelInput struct {
	ID   string `path:"id"`
	Body struct {
		Text string `json:"text"`
	}
}

// person is a document of the previous version of the function.
type person struct {
	Name   string `json:"name"`
	Erased bool   `json:"erased,omitempty"`
}

// nextPerson is the same of the next version, which stores more.
type nextPerson struct {
	person
	Phone string `json:"phone,omitempty"`
}

type personInput struct {
	ID string `path:"id"`
}

// declareFirst declares what the previous version of the function has.
func declareFirst(f *function.Function) {
	declareVersion(f, func(text string) label { return label{text} }, person{Name: "ann"}, person{Erased: true})
}

// declareNext declares the same of the next version.
func declareNext(f *function.Function) {
	declareVersion(f, func(text string) nextLabel { return nextLabel{text} },
		nextPerson{person{Name: "ann"}, "555"}, nextPerson{person: person{Erased: true}})
}

func declareVersion[L, P any](f *function.Function, made func(text string) L, known, erased P) {
	labels, persons := function.Collection[L](f, "labels"), function.Collection[P](f, "persons")
	function.Serve(f, changes(http.MethodPut, "/api/labels/{id}"),
		func(ctx context.Context, tx *function.Tx, in *labelInput) (*struct{}, error) {
			return nil, labels.Put(ctx, tx, in.ID, made(in.Body.Text))
		})
	function.Serve(f, changes(http.MethodPut, "/api/persons/{id}"),
		func(ctx context.Context, tx *function.Tx, in *personInput) (*struct{}, error) {
			return nil, persons.Put(ctx, tx, in.ID, known)
		})
	function.Serve(f, changes(http.MethodDelete, "/api/persons/{id}"),
		func(ctx context.Context, tx *function.Tx, in *personInput) (*struct{}, error) {
			return nil, persons.Replace(ctx, tx, in.ID, erased)
		})
}

// scraps is how many documents are written and removed together, more than a query returns.
const scraps = store.MaxLimit + 500

// declareScraps declares documents that come and go in large numbers.
func declareScraps(f *function.Function) {
	all := function.Collection[guest](f, "scraps")
	function.Serve(f, changes(http.MethodPost, "/api/scraps"),
		func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
			for n := range scraps {
				if err := all.Create(ctx, tx, fmt.Sprint(n), guest{"x"}); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
	function.Serve(f, changes(http.MethodDelete, "/api/scraps"),
		func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
			for {
				page, err := all.Query(ctx, tx, store.Find{Limit: store.MaxLimit})
				if err != nil {
					return nil, err
				}
				for _, s := range page.Items {
					if err := all.Delete(ctx, tx, s.ID); err != nil {
						return nil, err
					}
				}
				if page.Next == "" {
					return nil, nil
				}
			}
		})
}

type seatInput struct {
	ID   string `path:"id"`
	Body guest
}

// declareSeats declares seats, whose documents come and go.
func (l *ledger) declareSeats(f *function.Function) {
	seats := function.Collection[guest](f, "seats", store.Entity)
	visits := function.Collection[visit](f, "visits")
	function.Emits(f, seatChanged)
	function.Serve(f, changes(http.MethodPost, "/api/seats/{id}/taking"),
		func(ctx context.Context, tx *function.Tx, in *seatInput) (*struct{}, error) {
			_, taken, err := seats.Find(ctx, tx, in.ID)
			if err != nil {
				return nil, err
			}
			if taken {
				return nil, fault.New(fault.Invalid, "the seat is taken")
			}
			tx.Emit(seatChanged.New(in.ID, in.Body))
			if err := visits.Put(ctx, tx, in.Body.Name, visit{Seat: in.ID}); err != nil {
				return nil, err
			}
			return nil, seats.Put(ctx, tx, in.ID, in.Body)
		})
	function.Serve(f, changes(http.MethodPost, "/api/seats/{id}/leaving"),
		func(ctx context.Context, tx *function.Tx, in *seatInput) (*struct{}, error) {
			has, _, err := seats.Find(ctx, tx, in.ID)
			if err != nil || has != in.Body {
				return nil, err
			}
			l.sim.Sleep(time.Duration(l.rng.Int64N(int64(50 * time.Millisecond))))
			tx.Emit(seatChanged.New(in.ID, guest{}))
			if err := visits.Put(ctx, tx, in.Body.Name, visit{Seat: in.ID, Left: true}); err != nil {
				return nil, err
			}
			return nil, seats.Delete(ctx, tx, in.ID)
		})
}

// unsteady is a store that fails to commit one claim of a name in three, and does nothing then.
type unsteady struct {
	store.Driver
	l *ledger
}

// Commit implements store.Driver.
func (d unsteady) Commit(ctx context.Context, b store.Batch) error {
	for _, m := range b.Mutations {
		if m.Collection == "names" && d.l.rng.IntN(3) == 0 {
			return fault.New(fault.Unavailable, "the store is unavailable")
		}
	}
	return d.Driver.Commit(ctx, b)
}

// Pause forwards to the simulated store, which store.Update waits with.
func (d unsteady) Pause(ctx context.Context, n int) {
	d.Driver.(interface{ Pause(context.Context, int) }).Pause(ctx, n)
}

// declare returns a version of the function, which declares labels and persons.
func (l *ledger) declare(version func(*function.Function)) func(function.Env) (*function.Function, error) {
	return func(e function.Env) (*function.Function, error) { return l.made(e, version) }
}

func (l *ledger) made(e function.Env, version func(*function.Function)) (*function.Function, error) {
	open := e.Store
	e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
		db, err := open(ctx, name, schema)
		if err != nil {
			return nil, err
		}
		return unsteady{db, l}, nil
	}
	f := function.New("ledger", e)
	l.declareSeats(f)
	l.declarePans(f)
	declareNames(f)
	declareScraps(f)
	version(f)
	purses := function.Collection[purse](f, "purses", store.On("owner"))
	function.Serve(f, changes(http.MethodPut, "/api/purses/{id}"),
		func(ctx context.Context, tx *function.Tx, in *struct {
			ID   string `path:"id"`
			Body purse
		}) (*struct{}, error) {
			return nil, purses.Put(ctx, tx, in.ID, in.Body)
		})
	function.Serve(f, changes(http.MethodPost, "/api/deposits"),
		func(ctx context.Context, tx *function.Tx, in *struct{ Body deposit }) (*struct{}, error) {
			found, err := purses.Query(ctx, tx, store.Find{
				Where: []store.Filter{{Field: "owner", Op: store.Equal, Value: in.Body.Owner}},
			})
			if err != nil {
				return nil, err
			}
			if len(found.Items) != 1 {
				return nil, fault.New(fault.NotFound, "%s has %d purses", in.Body.Owner, len(found.Items))
			}
			a := found.Items[0]
			a.Value.Balance += in.Body.Amount
			return nil, purses.Put(ctx, tx, a.ID, a.Value)
		})
	return f, nil
}

func changes(method, path string) function.Operation {
	return function.Operation{Method: method, Path: path, Access: function.Only(auth.RoleAdmin)}
}
