package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// leg is the data of the commands and answers of a journey's steps. Every step has the same types of event, so that
// only the cause of an answer tells which step it is for.
type leg struct {
	ID    string `json:"id" minLength:"1"`
	Step  string `json:"step" minLength:"1"`
	Final bool   `json:"final,omitempty" doc:"It must not be refused."`
}

var (
	journeyEvents = event.NewNamespace("com.example", "https://example.com/schemas/")

	deskHold    = defineLeg("desk.hold", event.Command)
	deskHeld    = defineLeg("desk.held", event.Fact)
	deskRefused = defineLeg("desk.refused", event.Fact)
	deskDrop    = defineLeg("desk.drop", event.Command)
	deskDropped = defineLeg("desk.dropped", event.Fact)

	carsRent        = defineLeg("cars.rent", event.Command)
	carsRented      = defineLeg("cars.rented", event.Fact)
	carsUnavailable = defineLeg("cars.unavailable", event.Fact)
	carsReturn      = defineLeg("cars.return", event.Command)
	carsReturned    = defineLeg("cars.returned", event.Fact)

	bossApproved = defineLeg("boss.approved", event.Fact)
	bossRejected = defineLeg("boss.rejected", event.Fact)
)

func defineLeg(name string, kind event.Kind) event.Type[leg] {
	return event.Define(journeyEvents, name, 1, kind, "A step of a journey.", leg{ID: "1", Step: "a", Final: true},
		leg{ID: "1", Step: "a"})
}

// journey is the state of a saga of these functions.
type journey struct {
	saga.Instance
}

// BrokenJourneys declares how journeys differ from the real ones. The zero BrokenJourneys is the real system.
type BrokenJourneys struct {
	Change    func(*simulate.Simulation, *simulate.Function)                    // changes a function; nil: none
	Handle    func(*simulate.Simulation, string, broker.Handler) broker.Handler // wraps the event handler; nil: none
	Patient   bool                                                              // no saga is ever stuck
	Unchanged bool                                                              // both builds declare version 1
}

// Journeys returns a system of sagas with everything that a saga can have: parallel steps, a step that waits for an
// event from outside, a pivot, a child saga in another function. The functions that carry the steps out share their
// types of event. The next version has a step inserted, appended, removed, renamed or moved, or one
// of the same name that means something else. For some time the desk may not answer undos.
func Journeys(b BrokenJourneys) simulate.System {
	return simulate.System{
		Settle: 4 * time.Hour, Deadline: 10 * time.Second,
		Faults: append(simulate.Kinds(), slices.Repeat([]simulate.Kind{simulate.Deploy}, 6)...),
		Begin:  func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return journeys(sim, r, b) },
	}
}

const legDeadline = 8 * time.Second

func hold(step string, final bool) saga.Step[journey] {
	data := func(j journey) leg { return leg{ID: j.ID, Step: step, Final: final} }
	s := saga.Step[journey]{
		Name: step, Deadline: legDeadline, UndoDeadline: legDeadline / 2, Command: saga.Send(deskHold, data), Done: deskHeld,
	}
	if !final {
		s.Failed, s.Undo, s.Undone = deskRefused, saga.Send(deskDrop, data), deskDropped
	}
	return s
}

// itinerary returns the steps of a journey: flight, then hotel and car and an approval in parallel, then the payment,
// which is the pivot, then the ticket.
func itinerary() []saga.Step[journey] {
	hotel, pay := hold("hotel", false), hold("pay", false)
	car := saga.Step[journey]{
		Name: "car", Deadline: 6 * legDeadline, UndoDeadline: 2 * legDeadline, After: []string{"flight"},
		Command: saga.Send(carsRent, func(j journey) leg { return leg{ID: j.ID, Step: "car"} }), Done: carsRented,
		Failed: carsUnavailable,
		Undo:   saga.Send(carsReturn, func(j journey) leg { return leg{ID: j.ID, Step: "car"} }), Undone: carsReturned,
	}
	approval := saga.Step[journey]{
		Name: "approval", Deadline: 6 * legDeadline, After: []string{"flight"}, Done: bossApproved, Failed: bossRejected,
	}
	pay.After, pay.Pivot = []string{"hotel", "car", "approval"}, true
	return []saga.Step[journey]{hold("flight", false), hotel, car, approval, pay, hold("ticket", true)}
}

// otherMeaning is the itinerary, of those that the seed chooses from, whose hotel is a suite.
const otherMeaning = 6

func suite(j journey) leg { return leg{ID: j.ID, Step: "suite"} }

// rerouted returns another itinerary, chosen by the seed.
func rerouted(seed uint64) []saga.Step[journey] {
	steps := itinerary()
	switch seed % 7 {
	case otherMeaning:
		steps[1].Command, steps[1].Undo = saga.Send(deskHold, suite), saga.Send(deskDrop, suite)
		return steps
	case 0: // a step is inserted, and others depend on it
		insured := hold("insurance", false)
		steps[1].After = []string{"insurance"}
		return slices.Insert(steps, 1, insured)
	case 1: // inserted at the front
		return append([]saga.Step[journey]{hold("visa", false)}, steps...)
	case 2: // appended
		return append(steps, hold("postcard", true))
	case 3: // removed
		steps[4].After = []string{"car", "approval"}
		steps[2].After = []string{"flight"}
		return slices.Delete(steps, 1, 2)
	case 4: // renamed
		steps[1] = hold("pension", false)
		steps[4].After[0] = "pension"
		return steps
	default: // reordered, and one after the other
		steps[0], steps[1] = steps[1], steps[0]
		steps[2].After, steps[3].After, steps[4].After = nil, nil, nil
		return steps
	}
}

// Itinerary returns the steps of a version of a journey, 1 or 2, as a saga stores them when it begins.
func Itinerary(version int, seed uint64) []saga.StepProgress {
	steps := itinerary()
	if version > 1 {
		steps = rerouted(seed)
	}
	all := make([]saga.StepProgress, len(steps))
	for i, s := range steps {
		all[i] = saga.StepProgress{Name: s.Name, State: saga.ToDo, After: s.After, Pivot: s.Pivot}
	}
	return all
}

func journeys(sim *simulate.Simulation, r *rand.Rand, b BrokenJourneys) *simulate.Scenario {
	s := &travels{sim: sim}
	if r.IntN(3) == 0 {
		s.deafFrom = time.Duration(r.Int64N(int64(time.Minute)))
		s.deafFor = time.Duration(r.Int64N(int64(90 * time.Second)))
	}
	stuckAfter := 0
	if b.Patient {
		stuckAfter = 1 << 30
	}
	next := 2
	if b.Unchanged {
		next = 1
	}
	travelling := func(version int, steps []saga.Step[journey]) func(function.Env) (*function.Function, error) {
		return func(e function.Env) (*function.Function, error) {
			d := saga.Declaration[journey]{
				Name: "journey", Version: version, Steps: steps, Strict: true, StuckAfter: stuckAfter,
			}
			if version > 1 {
				d.Earlier = map[int][]saga.Step[journey]{1: itinerary()}
			}
			return takingJourneys(e, d)
		}
	}
	renting := func(e function.Env) (*function.Function, error) {
		f := function.New("cars", e)
		_, err := saga.New(f, saga.Declaration[journey]{
			Name: "car", Steps: []saga.Step[journey]{hold("key", false), hold("fuel", false)}, Strict: true,
			StuckAfter: stuckAfter,
			Child: &saga.Child[journey]{
				Start: saga.Begin(carsRent, func(leg) journey { return journey{} }),
				Done:  saga.Send(carsRented, carOf), Failed: saga.Send(carsUnavailable, carOf), Undo: carsReturn,
				Undone: saga.Send(carsReturned, carOf),
			},
		})
		return f, err
	}
	sc := &simulate.Scenario{
		Functions: []simulate.Function{
			{
				Name: "trips", New: travelling(1, itinerary()), Next: travelling(next, rerouted(sim.Seed())), Env: env("30s"),
			},
			{Name: "cars", New: renting, Next: renting, Env: env("30s")},
			{Name: "desk", New: s.desk, Next: s.desk, Env: env("30s")},
			{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
		},
		Settled: s.settled, Check: s.check,
	}
	if b.Handle != nil {
		sc.Handle = func(name string, next broker.Handler) broker.Handler { return b.Handle(sim, name, next) }
	}
	if b.Change != nil {
		for i := range sc.Functions {
			b.Change(sim, &sc.Functions[i])
		}
	}
	for n := range 5 + r.IntN(25) {
		at, approval := time.Duration(r.Int64N(int64(90*time.Second))), r.IntN(10)
		delay := time.Duration(r.Int64N(int64(10*time.Second))) - time.Second/2
		id := fmt.Sprintf("j%d", n)
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: "journey " + id + " begins", Do: func(sim *simulate.Simulation) { s.begin(id, approval, delay) },
		})
		if r.IntN(10) == 0 {
			sc.Actions = append(sc.Actions, simulate.Action{
				At: at + time.Duration(r.Int64N(int64(15*time.Second))), What: "journey " + id + " is cancelled",
				Do: func(sim *simulate.Simulation) { s.cancel(id) },
			})
		}
	}
	return sc
}

func carOf(j journey) leg { return leg{ID: j.ID, Step: "car"} }

func takingJourneys(e function.Env, d saga.Declaration[journey]) (*function.Function, error) {
	f := function.New("trips", e)
	s, err := saga.New(f, d)
	function.Serve(f, function.Operation{Method: http.MethodPut, Path: "/api/trips/{id}"},
		func(ctx context.Context, tx *function.Tx, in *struct {
			ID string `path:"id"`
		}) (*struct{}, error) {
			if _, ok, err := s.Find(ctx, tx, in.ID); err != nil || ok {
				return nil, err
			}
			_, err := s.Start(ctx, tx, in.ID, journey{})
			return nil, err
		})
	return f, err
}

// travels is the state of one run.
type travels struct {
	sim      *simulate.Simulation
	began    int
	deafFrom time.Duration // when the desk begins not to answer undos, from the epoch of the run
	deafFor  time.Duration
}

func (s *travels) begin(id string, approval int, delay time.Duration) {
	s.began++
	s.sim.Count("journeys", 1)
	s.sim.Send(simulate.Request{
		Function: "trips", Method: http.MethodPut, Path: "/api/trips/" + id, Token: token("admin"), Key: id,
	}, func(a simulate.Response) {
		if !a.OK() {
			s.sim.Violated("a journey was not taken: %d %s", a.Status, a.Body)
			return
		}
		if approval == 0 {
			return // nobody says anything
		}
		says := bossApproved
		if approval == 1 {
			says = bossRejected
		}
		s.sim.After(max(delay, 0), func() {
			e := emitted(s.sim, 0, says.New(id, leg{ID: id, Step: "approval"}), 1)
			e.SetExtension(event.Sequence, nil)
			s.sim.Publish(e)
		})
	})
}

func (s *travels) cancel(id string) {
	s.sim.Send(simulate.Request{
		Function: "trips", Method: http.MethodPost, Path: "/api/sagas/journey/" + id + "/cancel", Token: token("admin"),
		Body: map[string]string{"reason": "a change of mind"},
	}, func(a simulate.Response) {
		if !a.OK() && a.Status != http.StatusConflict && a.Status != http.StatusNotFound {
			s.sim.Violated("a cancellation is answered %d", a.Status)
		}
	})
}

// held is what the desk stores of a step.
type held struct {
	State string `json:"state"` // held, refused or dropped
}

// desk makes the function that carries out the steps. It refuses some, and answers what it has decided again.
func (s *travels) desk(e function.Env) (*function.Function, error) {
	f := function.New("desk", e)
	places := function.Collection[held](f, "places")
	decide := func(ctx context.Context, tx *function.Tx, l leg, state string) error {
		return places.Put(ctx, tx, l.ID+"/"+l.Step, held{state})
	}
	function.On(f, deskHold, func(ctx context.Context, tx *function.Tx, l leg) error {
		p, ok, err := places.Find(ctx, tx, l.ID+"/"+l.Step)
		if err != nil {
			return err
		}
		if !ok {
			if p.State = "held"; !l.Final && unlucky(s.sim.Seed(), l) {
				p.State = "refused"
			}
		}
		switch p.State {
		case "held":
			tx.Emit(deskHeld.New(l.ID, l))
		default:
			tx.Emit(deskRefused.New(l.ID, l))
		}
		return decide(ctx, tx, l, p.State)
	})
	function.On(f, deskDrop, func(ctx context.Context, tx *function.Tx, l leg) error {
		if since := s.sim.Now().Sub(simulationEpoch) - s.deafFrom; since < 0 || since >= s.deafFor {
			tx.Emit(deskDropped.New(l.ID, l))
		}
		return decide(ctx, tx, l, "dropped")
	})
	function.Emits(f, deskHeld, deskRefused, deskDropped)
	return f, nil
}

var simulationEpoch = time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)

// unlucky decides whether a step is refused, the same however often it is asked.
func unlucky(seed uint64, l leg) bool {
	h := fnv.New32a()
	fmt.Fprint(h, seed, l.ID, l.Step)
	return h.Sum32()%16 == 0
}

func (s *travels) settled(sim *simulate.Simulation) bool {
	for _, at := range [][2]string{{"trips", "journey"}, {"cars", "car"}} {
		for _, d := range sim.Documents(at[0], at[1]) {
			if bytes.Contains(d.Data, []byte(`"saga":{"status":"running"`)) ||
				bytes.Contains(d.Data, []byte(`"saga":{"status":"undoing"`)) {
				return false
			}
		}
	}
	return len(sim.Documents("clock", "timers")) == 0
}

// check checks that every journey holds all that it has done, and nothing else.
func (s *travels) check(sim *simulate.Simulation) {
	places := documents[held](sim, "desk", "places")
	wanted := map[string]bool{} // places that are held
	all := documents[journey](sim, "trips", "journey")
	if len(all) != s.began {
		sim.Violated("journeys are lost: %s", fmt.Sprintf("%d began, %d are stored", s.began, len(all)))
	}
	rents := documents[journey](sim, "cars", "car")
	for id, j := range all {
		s.want(wanted, id, j)
		if car, ok := rents[id]; ok && j.Saga.Status != car.Saga.Status {
			sim.Violated("a journey and its car end in different ways: %s",
				fmt.Sprintf("%s is %s, the car %s", id, j.Saga.Status, car.Saga.Status))
		}
	}
	for id, j := range rents {
		s.want(wanted, id, j)
	}
	for place, p := range places {
		if (p.State == "held") != wanted[place] {
			sim.Violated("a place is held wrongly: %s", fmt.Sprintf("%s is %s", place, p.State))
		}
		delete(wanted, place)
	}
	for place := range wanted {
		sim.Violated("a place is not held: %s", place)
	}
	s.checkTold(sim)
	checkTimers(sim)
	for _, at := range [][2]string{{"trips", "journey"}, {"cars", "car"}} {
		for _, d := range sim.Documents(at[0], at[1]) {
			if d.Version > 150 {
				sim.Violated("a saga is changed without end: %s", fmt.Sprintf("%s has version %d", d.ID, d.Version))
			}
		}
	}
}

// want notes what a journey holds by its steps, and checks that it has ended as they say.
func (s *travels) want(wanted map[string]bool, id string, j journey) {
	for _, step := range j.Saga.Steps {
		ok := step.State == saga.Done
		if j.Saga.Status == saga.Reversed {
			ok = slices.Contains([]saga.State{saga.ToDo, saga.Failed, saga.Undone}, step.State)
		}
		if !ok {
			s.sim.Violated("a journey has ended, and a step has not: %s",
				fmt.Sprintf("%s is %s, %s is %s", id, j.Saga.Status, step.Name, step.State))
		}
		place := step.Name
		if place == "hotel" && j.Saga.Version == 2 && s.sim.Seed()%7 == otherMeaning {
			place = "suite"
		}
		if step.State == saga.Done && step.Name != "car" && step.Name != "approval" {
			wanted[id+"/"+place] = true
		}
	}
}

// checkTold checks that a journey whose undo was repeated five times, or more often, has told that it is stuck. Each
// repetition is a command of its own.
func (s *travels) checkTold(sim *simulate.Simulation) {
	undos, told := map[string]map[string]bool{}, map[string]bool{}
	for _, e := range sim.Published() {
		if e.Source() == poison {
			continue
		}
		switch e.Type() {
		case event.SagaStuck.Name():
			told[e.Subject()] = true
		case deskDrop.Name():
			var l leg
			_ = json.Unmarshal(e.Data(), &l)
			key := e.Source() + " " + l.ID + " " + l.Step
			if undos[key] == nil {
				undos[key] = map[string]bool{}
			}
			undos[key][e.ID()] = true
		}
	}
	for key, ids := range undos {
		if id := strings.Fields(key)[1]; len(ids) > 5 && !told[id] {
			sim.Violated("an undo was asked for again and again, and nobody was told: %s",
				fmt.Sprintf("%s %d times", key, len(ids)))
		}
	}
}

// checkTimers checks that no timer was set for a time that had passed.
func checkTimers(sim *simulate.Simulation) {
	for _, e := range sim.Published() {
		if e.Type() != event.ClockSchedule.Name() || e.Source() == poison {
			continue
		}
		var timer event.ScheduleEvent
		if json.Unmarshal(e.Data(), &timer) == nil && !timer.Due.After(e.Time()) {
			sim.Violated("a timer is set in the past: %s", fmt.Sprintf("%s of %s", timer.TimerID, e.Source()))
		}
	}
}
