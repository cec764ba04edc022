package saga_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// data is the data of every event in these tests.
type data struct {
	ID   string `json:"id" minLength:"1"`
	Seat string `json:"seat,omitempty"`
}

var ns = event.NewNamespace("com.example", "https://example.com/schemas/")

func define(name string, kind event.Kind) event.Type[data] {
	return event.Define(ns, name, 1, kind, "An event.", data{ID: "1", Seat: "9a"}, data{ID: "1"})
}

var (
	book, booked      = define("flights.book", event.Command), define("flights.booked", event.Fact)
	refused           = define("flights.refused", event.Fact)
	free, freed       = define("flights.free", event.Command), define("flights.freed", event.Fact)
	travel, travelled = define("trips.travel", event.Command), define("trips.travelled", event.Fact)
	stayed            = define("trips.stayed", event.Fact)
	recall, recalled  = define("trips.recall", event.Command), define("trips.recalled", event.Fact)
	ended             = define("trips.ended", event.Fact)
)

type trip struct {
	saga.Instance
	Owner string `json:"owner"`
	Seat  string `json:"seat,omitempty"`
}

func send(t event.Type[data]) *saga.Command[trip] {
	return saga.Send(t, func(k trip) data { return data{ID: k.ID, Seat: k.Seat} })
}

// flight is a saga of one step, which has everything that a step can have.
func flight() saga.Declaration[trip] {
	return saga.Declaration[trip]{Name: "trip", Steps: []saga.Step[trip]{{
		Name: "flight", Deadline: 10 * time.Second, UndoDeadline: 20 * time.Second, Command: send(book),
		Done:   saga.Apply(booked, func(k *trip, e data) { k.Seat = e.Seat }),
		Failed: saga.Because(refused, func(e data) (string, string) { return "the plane is full", "full" }),
		Undo:   send(free), Undone: freed,
	}}}
}

// trips declares a function with the saga, and returns the saga too.
func trips(d saga.Declaration[trip], into **saga.Saga[trip]) func(function.Env) (*function.Function, error) {
	return func(env function.Env) (*function.Function, error) {
		f := function.New("trips", env)
		function.Emits(f, ended)
		d := d
		d.Ended = func(_ context.Context, tx *function.Tx, k *trip) error {
			tx.Emit(ended.New(k.ID, data{ID: k.ID, Seat: string(k.Saga.Status)}))
			return nil
		}
		s, err := saga.New(f, d)
		*into = s
		type in struct {
			ID string `path:"id"`
		}
		act := func(below string, do func(context.Context, *function.Tx, string) (trip, error)) {
			function.Serve(f, function.Operation{Method: "POST", Path: "/api/trips/{id}" + below},
				func(ctx context.Context, tx *function.Tx, in *in) (*struct{ Body trip }, error) {
					k, err := do(ctx, tx, in.ID)
					return &struct{ Body trip }{k}, err
				})
		}
		act("", func(ctx context.Context, tx *function.Tx, id string) (trip, error) {
			return s.Start(ctx, tx, id, trip{Owner: tx.Principal().Subject})
		})
		act("/approve", func(ctx context.Context, tx *function.Tx, id string) (trip, error) {
			return s.Complete(ctx, tx, id, "approve", func(k *trip) { k.Seat = "by " + tx.Principal().Subject })
		})
		act("/reject", func(ctx context.Context, tx *function.Tx, id string) (trip, error) {
			return s.Fail(ctx, tx, id, "approve", "too dear", "dear")
		})
		return f, err
	}
}

func begin(t *testing.T, h *functiontest.Harness) {
	t.Helper()
	h.Call("POST", "/api/trips/1", functiontest.As("ada"), nil).Expect(200)
}

func emitted(h *functiontest.Harness) string {
	return strings.ReplaceAll(strings.Join(functiontest.Types(h.Emitted()), " "), ".v1", "")
}

func want(t *testing.T, h *functiontest.Harness, emits string) {
	t.Helper()
	if got := emitted(h); got != emits {
		t.Errorf("emitted %q, want %q", got, emits)
	}
}

// show returns a saga as an operator sees it.
func show(t *testing.T, h *functiontest.Harness) (k struct {
	Status, Reason, Code, Step string
	Version, Again             int
	Stuck                      *saga.Stuck
	Steps                      []saga.StepProgress
}) {
	t.Helper()
	h.Call("GET", "/api/sagas/trip/1", functiontest.Admin(), nil).Expect(200).JSON(&k)
	return k
}

// A saga is stored, its answers are consumed, its timer is set once and cancelled, and an answer changes its state.
func TestSaga(t *testing.T) {
	var s *saga.Saga[trip]
	h := functiontest.New(t, trips(flight(), &s))
	begin(t, h)
	commands := h.Emitted()
	if got := functiontest.Types(commands); fmt.Sprint(got) != "[flights.book.v1 clock.schedule.v1]" {
		t.Fatalf("emitted %v", got)
	}
	h.Restart()
	h.MustDeliver(booked.New("1", data{ID: "1", Seat: "9a"}))
	want(t, h, "trips.ended clock.cancel")
	err := h.F.Read(t.Context(), func(ctx context.Context, tx *function.Tx) error {
		k, err := s.Get(ctx, tx, "1")
		if k.Seat != "9a" || k.Owner != "ada" || k.Saga.Status != saga.Completed || k.EndedAt.IsZero() || k.Timer != "" {
			t.Errorf("got %+v", k)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	h.MustDeliver(booked.New("1", data{ID: "1"}), refused.New("1", data{ID: "1"}))
	want(t, h, "")
	if r := h.Deliver(booked.New("nothing", data{ID: "1"}))[0]; r.Status != 422 {
		t.Errorf("an answer about no saga: %+v", r)
	}
}

// The deadlines of a command and of its undo differ, and each sets a timer in the future.
func TestDeadlines(t *testing.T) {
	var s *saga.Saga[trip]
	h := functiontest.New(t, trips(flight(), &s))
	begin(t, h)
	want(t, h, "flights.book clock.schedule")
	h.Advance(10 * time.Second)
	want(t, h, "flights.free clock.schedule")
	h.Advance(19 * time.Second)
	want(t, h, "")
	h.Advance(time.Second)
	want(t, h, "flights.free clock.schedule")
	h.MustDeliver(freed.New("1", data{ID: "1"}))
	want(t, h, "trips.ended clock.cancel")
	if k := show(t, h); k.Status != "undone" || k.Reason != "step flight timed out" || k.Code != "deadline" {
		t.Errorf("got %+v", k)
	}
}

// Where the clock function is ahead, its timers come early. The saga waits by its own clock, without a timer that goes
// off again at once.
func TestEarlyTimer(t *testing.T) {
	var s *saga.Saga[trip]
	h := functiontest.New(t, trips(flight(), &s))
	begin(t, h)
	const ahead = 6 * time.Second
	fired := map[string]bool{}
	for range 60 {
		h.Clock.Advance(time.Second)
		for _, timer := range h.Timers() {
			if fired[timer.ID] || timer.Due.After(h.Clock.Now().Add(ahead)) {
				continue
			}
			if !timer.Due.After(h.Clock.Now().Add(-time.Second)) {
				t.Fatalf("timer %d was set in the past", len(fired))
			}
			h.Receive(timer.Event)
			fired[timer.ID] = true
		}
		if strings.Contains(emitted(h), "flights.free") {
			break
		}
	}
	if k := show(t, h); k.Status != "undoing" || len(fired) > 2 {
		t.Errorf("after %d timers it is %s", len(fired), k.Status)
	}
}

// A timer whose event is lost, as a dead letter is, is set again by an operator's retry and by the next answer.
func TestLostTimer(t *testing.T) {
	for _, act := range []string{"retry at once", "retry", "answer"} {
		var s *saga.Saga[trip]
		d := flight()
		d.Steps = append(d.Steps, saga.Step[trip]{Name: "approve", Deadline: time.Hour})
		h := functiontest.New(t, trips(d, &s))
		begin(t, h)
		want(t, h, "flights.book clock.schedule")
		if act != "retry at once" {
			h.Clock.Advance(time.Hour)
		}
		if act != "answer" {
			h.Call("POST", "/api/sagas/trip/1/retry", functiontest.Admin(), nil).Expect(200)
			want(t, h, "flights.book clock.cancel clock.schedule")
		} else {
			h.MustDeliver(booked.New("1", data{ID: "1"}))
			want(t, h, "clock.cancel clock.schedule")
		}
	}
}

// A saga that cannot undo tells somebody once: an event and a log line. An operator sees it and mends it.
func TestStuck(t *testing.T) {
	for _, act := range []string{"retry", "skip", "end"} {
		t.Run(act, func(t *testing.T) {
			var s *saga.Saga[trip]
			var log bytes.Buffer
			tele, err := telemetry.Start(t.Context(), telemetry.Config{Service: "test", Log: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
				env.Logger, env.Telemetry = slog.New(slog.NewTextHandler(&log, nil)), tele
				return trips(flight(), &s)(env)
			})
			begin(t, h)
			h.Advance(time.Hour * 6)
			var told []ce.Event
			for _, e := range h.Emitted() {
				if e.Type() == event.SagaStuck.Name() {
					told = append(told, e)
				}
			}
			if len(told) != 1 || !strings.Contains(log.String(), "a saga is stuck") {
				t.Fatalf("told %v, logged %s", told, log.String())
			}
			d, err := event.SagaStuck.Decode(told[0])
			if err != nil || d.Function != "trips" || d.Saga != "trip" || d.ID != "1" || d.Step != "flight" ||
				d.Status != "undoing" {
				t.Errorf("told %+v, %v", d, err)
			}
			w := httptest.NewRecorder()
			scrape := httptest.NewRequest("GET", "http://localhost/metrics", nil)
			scrape.RemoteAddr = "127.0.0.1:40000"
			tele.MetricsHandler().ServeHTTP(w, scrape)
			if !strings.Contains(w.Body.String(), `ebb_sagas_stuck_total{function="trips"`) {
				t.Errorf("the metric is missing")
			}
			var page struct{ Items []struct{ ID string } }
			h.Call("GET", "/api/sagas/trip?status=stuck", functiontest.Admin(), nil).Expect(200).JSON(&page)
			if len(page.Items) != 1 || page.Items[0].ID != "1" {
				t.Errorf("listed %+v", page)
			}
			body := map[string]string{"reason": "by hand"}
			if act == "skip" {
				body["step"] = "flight"
			}
			h.Call("POST", "/api/sagas/trip/1/"+act, functiontest.As("ada"), body).Expect(403)
			h.Call("POST", "/api/sagas/trip/1/"+act, functiontest.Admin(), body).Expect(200)
			switch k := show(t, h); act {
			case "retry":
				if want(t, h, "flights.free clock.cancel clock.schedule"); k.Stuck != nil || k.Again != 0 {
					t.Errorf("got %+v", k)
				}
			default:
				if want(t, h, "trips.ended clock.cancel"); k.Status != "undone" || k.Steps[0].Skipped == "" {
					t.Errorf("got %+v", k)
				}
				h.Call("POST", "/api/sagas/trip/1/"+act, functiontest.Admin(), body).Expect(409)
			}
			h.Call("POST", "/api/sagas/trip/2/"+act, functiontest.Admin(), body).Expect(404)
		})
	}
}

// An operator lists sagas by status, page by page, and cancels one.
func TestList(t *testing.T) {
	var s *saga.Saga[trip]
	h := functiontest.New(t, trips(flight(), &s))
	for n := range 7 {
		h.Call("POST", fmt.Sprint("/api/trips/", n), functiontest.As("ada"), nil).Expect(200)
	}
	for _, n := range []int{2, 5, 6} {
		body := map[string]string{"reason": "x"}
		h.Call("POST", fmt.Sprintf("/api/sagas/trip/%d/cancel", n), functiontest.Admin(), body).Expect(200)
	}
	h.MustDeliver(freed.New("6", data{ID: "6"}), booked.New("0", data{ID: "0"}))
	for status, want := range map[string]string{
		"open": "5 2 4 3 1", "running": "4 3 1", "undoing": "5 2", "stuck": "", "completed": "0", "undone": "6",
	} {
		var got []string
		next := "x"
		for cursor := ""; next != ""; cursor = "&cursor=" + next {
			var page struct {
				Items []struct{ ID string }
				Next  string
			}
			h.Call("GET", "/api/sagas/trip?limit=2&status="+status+cursor, functiontest.Admin(), nil).Expect(200).JSON(&page)
			for _, k := range page.Items {
				got = append(got, k.ID)
			}
			next = page.Next
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: listed %q, want %q", status, got, want)
		}
	}
	h.Call("GET", "/api/sagas/trip", functiontest.As("ada"), nil).Expect(403)
	h.Call("GET", "/api/sagas/trip?status=odd", functiontest.Admin(), nil).Expect(422)
}

// A step waits for a person, whose request completes it or has the saga undone.
func TestPerson(t *testing.T) {
	d := flight()
	d.Steps = append([]saga.Step[trip]{{Name: "approve", Deadline: time.Hour}}, d.Steps...)
	for act, emits := range map[string]string{
		"approve": "flights.book clock.cancel clock.schedule", "reject": "trips.ended clock.cancel",
	} {
		var s *saga.Saga[trip]
		h := functiontest.New(t, trips(d, &s))
		begin(t, h)
		want(t, h, "clock.schedule")
		h.Call("POST", "/api/trips/1/"+act, functiontest.As("grace"), nil).Expect(200)
		want(t, h, emits)
		h.Call("POST", "/api/trips/1/"+act, functiontest.As("grace"), nil).Expect(409)
	}
}

// child returns a saga that carries out a step of another saga.
func child() saga.Declaration[trip] {
	d := flight()
	d.Child = &saga.Child[trip]{
		Start: saga.Begin(travel, func(e data) trip { return trip{Owner: e.Seat} }),
		Done:  send(travelled), Failed: send(stayed), Undo: recall, Undone: send(recalled),
	}
	return d
}

// A child answers the command that began it when it has ended, however often that comes, and is undone by its undo:
// before it began, on its way, and after it was completed. Its answers name the command that they answer.
func TestChild(t *testing.T) {
	type step struct {
		in    event.Draft
		emits string
		cause string // the input whose id the last answer names
	}
	one := data{ID: "1"}
	start, undo := travel.New("1", one), recall.New("1", one)
	for name, steps := range map[string][]step{
		"completed, asked again, undone": {
			{start, "flights.book clock.schedule", ""}, {booked.New("1", one), "trips.ended trips.travelled clock.cancel", "0"},
			{start, "trips.travelled", "2"}, {undo, "flights.free clock.schedule", ""},
			{freed.New("1", one), "trips.ended trips.recalled clock.cancel", "3"}, {undo, "trips.recalled", "5"},
		},
		"refused": {
			{start, "flights.book clock.schedule", ""}, {start, "", ""},
			{refused.New("1", one), "trips.ended trips.stayed clock.cancel", "1"},
		},
		"undone on its way": {
			{start, "flights.book clock.schedule", ""}, {undo, "flights.free", ""}, {undo, "", ""},
			{booked.New("1", one), "", ""}, {freed.New("1", one), "trips.ended trips.recalled clock.cancel", "2"},
		},
		"undone before it began": {
			{undo, "trips.recalled", "0"}, {undo, "trips.recalled", "1"}, {start, "trips.recalled", "1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s *saga.Saga[trip]
			h := functiontest.New(t, trips(child(), &s))
			ids := map[string]string{}
			for n, b := range steps {
				e := h.Event(b.in)
				ids[fmt.Sprint(n)] = e.ID()
				if r := h.Receive(e)[0]; !r.OK() {
					t.Fatalf("step %d: %+v", n, r)
				}
				es := h.Emitted()
				if got := strings.ReplaceAll(strings.Join(functiontest.Types(es), " "), ".v1", ""); got != b.emits {
					t.Fatalf("step %d emits %q, want %q", n, got, b.emits)
				}
				for _, e := range es {
					if e.Type() == travelled.Name() || e.Type() == stayed.Name() || e.Type() == recalled.Name() {
						if got := event.Extension(e, event.CausationID); got != ids[b.cause] {
							t.Errorf("step %d: %s answers another event", n, e.Type())
						}
					}
				}
			}
		})
	}
}

// The declaration is complete: the function consumes and emits what the saga needs, and serves its operators.
func TestDeclared(t *testing.T) {
	var s *saga.Saga[trip]
	d, err := function.Declare(trips(child(), &s))
	if err != nil {
		t.Fatal(err)
	}
	m, _ := json.Marshal(d.Function)
	for _, want := range []string{
		"flights.booked.v1", "flights.refused.v1", "flights.freed.v1", "flights.book.v1", "flights.free.v1",
		"com.example.trips.trip-deadline.v1", "dev.ebb.sagas.stuck.v1", "trips.travel.v1", "trips.recalled.v1",
		`"path":"/api/sagas/trip/{id}/skip"`, `"indexes":[["saga.status","id"]]`,
	} {
		if !bytes.Contains(m, []byte(want)) {
			t.Errorf("want %s in %s", want, m)
		}
	}
	broken := flight()
	broken.Steps[0].Deadline = 0
	if _, err := function.Declare(trips(broken, &s)); err == nil || !strings.Contains(err.Error(), "wants a deadline") {
		t.Errorf("got %v", err)
	}
}

var (
	seatedV1 = event.Define(ns, "flights.seated", 1, event.Fact, "An event.", struct {
		ID string `json:"id"`
	}{"1"})
	seated = event.Define(ns, "flights.seated", 2, event.Fact, "An event.", data{ID: "1", Seat: "9a"}, data{ID: "1"})
	_      = event.Upcast(seatedV1, seated, func(old struct {
		ID string `json:"id"`
	}) (data, error) {
		return data{ID: old.ID, Seat: "any"}, nil
	})
)

// An answer of an older version of its type is read as the one that the saga consumes.
func TestOlderAnswer(t *testing.T) {
	d := flight()
	d.Steps[0].Done = saga.Apply(seated, func(k *trip, e data) { k.Seat = e.Seat })
	var s *saga.Saga[trip]
	h := functiontest.New(t, trips(d, &s))
	begin(t, h)
	h.Emitted()
	h.MustDeliver(seatedV1.New("1", struct {
		ID string `json:"id"`
	}{"1"}))
	want(t, h, "trips.ended clock.cancel")
}
