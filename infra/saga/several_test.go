package saga_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/saga"
)

// answerTo returns the answer to a command.
func answerTo(t event.Type[data], command string) event.Draft {
	d := t.New("1", data{ID: "1", Seat: "9a"})
	d.Cause = command
	return d
}

// Two sagas of one function book flights with the same command: a trip, and the saga of the same id that carries out
// its second step. Each answer is for the saga whose command it names, whatever the other waits for, and an answer that
// comes again, also after its saga has ended, counts for neither.
func TestTwoSagasWaitForOneType(t *testing.T) {
	parent := flight()
	parent.Name = "journey"
	parent.Steps = append(parent.Steps, saga.Step[trip]{
		Name: "travel", Deadline: time.Minute, Command: send(travel), Done: travelled, Failed: stayed,
		Undo: send(recall), Undone: recalled,
	})
	var outer *saga.Saga[trip]
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		var inner *saga.Saga[trip]
		f, err := trips(child(), &inner)(env)
		if err == nil {
			outer, err = saga.New(f, parent)
		}
		return f, err
	})
	err := h.F.Update(t.Context(), func(ctx context.Context, tx *function.Tx) error {
		_, err := outer.Start(ctx, tx, "1", trip{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	first := h.Emitted()[0]
	h.MustDeliver(answerTo(booked, first.ID()))
	es := h.Emitted()
	if len(es) != 1 || es[0].Type() != travel.Name() {
		t.Fatalf("the journey emitted %v, want the command of its second step", functiontest.Types(es))
	}
	h.Receive(es[0])
	second := h.Emitted()[0]
	h.MustDeliver(answerTo(booked, first.ID()), answerTo(booked, ""), answerTo(freed, first.ID()))
	want(t, h, "") // the first answer again, and answers to nothing

	h.MustDeliver(answerTo(booked, second.ID()))
	es = h.Emitted()
	if es[1].Type() != travelled.Name() {
		t.Fatalf("the child emitted %v, want its answer", functiontest.Types(es))
	}
	h.Receive(es[1])
	want(t, h, "clock.cancel")
	h.MustDeliver(answerTo(booked, second.ID()), answerTo(refused, first.ID()))
	want(t, h, "")
	for _, name := range []string{"journey", "trip"} {
		var s struct{ Status string }
		h.Call("GET", "/api/sagas/"+name+"/1", functiontest.Admin(), nil).Expect(200).JSON(&s)
		if s.Status != "completed" {
			t.Errorf("the %s is %s", name, s.Status)
		}
	}
	nobody := booked.New("2", data{ID: "2"})
	if r := h.Deliver(nobody)[0]; r.Status != http.StatusUnprocessableEntity {
		t.Errorf("an answer about no saga: %+v", r)
	}
}

// An answer that comes again after its saga has ended is no event from outside for another saga, which waits for one.
func TestLateAnswerIsNotFromOutside(t *testing.T) {
	waits := child()
	waits.Steps = []saga.Step[trip]{{Name: "wait", Done: booked}, {Name: "approve"}}
	waits.Child.Undo, waits.Child.Undone = nil, nil
	var outer, inner *saga.Saga[trip]
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f, err := trips(waits, &inner)(env)
		if err == nil {
			d := flight()
			d.Name = "journey"
			outer, err = saga.New(f, d)
		}
		return f, err
	})
	err := h.F.Update(t.Context(), func(ctx context.Context, tx *function.Tx) error {
		_, err := outer.Start(ctx, tx, "1", trip{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	asked := h.Emitted()[0]
	h.MustDeliver(answerTo(booked, asked.ID()), travel.New("1", data{ID: "1"}))
	waiting := func() string {
		var s struct {
			Steps []struct{ State string }
		}
		h.Call("GET", "/api/sagas/trip/1", functiontest.Admin(), nil).Expect(200).JSON(&s)
		return s.Steps[0].State
	}
	if h.MustDeliver(answerTo(booked, asked.ID())); waiting() != "running" {
		t.Errorf("the step that waits for an event from outside is %s after an answer to another saga", waiting())
	}
	if h.MustDeliver(answerTo(booked, "")); waiting() != "done" {
		t.Errorf("the step that waits for an event from outside is %s after one", waiting())
	}
}
