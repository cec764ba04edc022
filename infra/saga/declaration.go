package saga

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
)

// Declaration declares a saga over the state S, a struct that embeds Instance. Name and Steps are required.
type Declaration[S any] struct {
	// Name names the saga in the API, in metrics and, unless Store says otherwise, the collection that it is stored in:
	// a singular such as "order", in lower case.
	Name string

	// Version is raised by one whenever steps are added, removed, renamed or reordered, or when a step of the same name
	// means something else. 0 is 1.
	Version int

	Steps []Step[S]

	// Earlier has the steps of earlier versions, for as long as sagas run on them.
	Earlier map[int][]Step[S]

	// Ended is called in the unit of work in which a saga ends, with its status and reason. It may change the state and
	// emit events. It runs again when a saga that carries out a step of another one, and was completed, is undone. Nil:
	// nothing happens.
	Ended func(ctx context.Context, tx *function.Tx, s *S) error

	// Child declares that the saga carries out a step of another saga; nil: it does not.
	Child *Child[S]

	// StuckAfter is how often an undo, or a command after the pivot, is sent again before the saga is stuck. 0 is 5.
	StuckAfter int

	// Strict takes an answer only when its causationid names a command of the saga, and ignores one about a saga that does
	// not exist. It is for types of event that answer the sagas of several functions.
	Strict bool

	// Store is where sagas are stored. Nil: as documents of the collection Name.
	Store Store[S]

	// Timer is the event that the clock publishes when a deadline has passed. Nil: a type of the kit's own, such as
	// com.example.trips.trip-deadline.v1. It must be one that no other function consumes.
	Timer *Command[S]
}

// Step is one step of a saga over the state S.
type Step[S any] struct {
	Name string

	// After names the steps that must be done before this one begins; they stand before it in the list. Steps after the
	// same one run in parallel. Nil: the step before it in the list. Empty but not nil: it begins at once.
	After []string

	// When decides whether the step is needed, when the saga comes to it. Nil: it is.
	When func(S) bool

	// Command asks a function to carry the step out. Nil: the step waits for the event Done, or for a call of Complete.
	// Such an event counts also when it comes before the saga has come to the step.
	Command *Command[S]
	Done    event.Typed // the answer: the step is done; see Apply
	Failed  event.Typed // the answer: the step had no effect and never will; nil: it cannot fail. See Because

	Undo   *Command[S] // undoes the step; nil: nothing has to be undone
	Undone event.Typed // the answer: the step is undone

	Deadline     time.Duration // for the answer to the command; 0: a step without a command waits for ever
	UndoDeadline time.Duration // for the answer to the undo; 0: as Deadline, or a minute

	// Pivot marks the point of no return. Once it is done the saga only goes forward: a later step has no failure event,
	// its command is sent again after its deadline, and Cancel changes nothing. While the pivot is in doubt it is undone
	// like any other step. Every other step must come before it or after it.
	Pivot bool
}

// Child declares that a saga carries out a step of another saga, of this function or of another one. The step of the
// other saga has the same five types as its Command, Done, Failed, Undo and Undone.
type Child[S any] struct {
	Start event.Typed // begins a saga whose id is the event's subject; see Begin
	Done  *Command[S] // answers Start when the saga is completed
	// Failed answers Start when the saga was undone by itself.
	Failed *Command[S]
	Undo   event.Typed // undoes the saga, also after it was completed: it has no pivot then. Nil: it cannot be undone
	Undone *Command[S] // answers Undo when the saga is undone
}

// Command makes an event from the state of a saga. The event's subject and partition key are the saga's id.
type Command[S any] struct {
	info  *event.Info
	draft func(id string, s S) event.Draft
}

// Send returns a command, or another event, whose data is made from the state.
func Send[S, T any](t event.Type[T], data func(S) T) *Command[S] {
	return &Command[S]{t.Info(), func(id string, s S) event.Draft { return t.New(id, data(s)) }}
}

// answer is an event.Typed that says what the saga does with an event beside noting that it came.
type answer struct {
	event.Typed
	state  any // a nil *S of the state that it changes or makes; nil: of any
	apply  func(state any, e ce.Event) error
	reason func(e ce.Event) (reason, code string, err error)
	begin  func(e ce.Event) (state any, err error)
}

// Apply returns an answer that changes the state of the saga, for Step.Done and Step.Undone.
func Apply[S, T any](t event.Type[T], change func(*S, T)) event.Typed {
	return answer{Typed: t, state: (*S)(nil), apply: func(state any, e ce.Event) error {
		data, err := t.Decode(e)
		if err == nil {
			change(state.(*S), data)
		}
		return err
	}}
}

// Because returns an answer that says why a step failed, for people and for programs, for Step.Failed. Of an answer
// that is given without Because these are the members reason and code of the data, if it has them.
func Because[T any](t event.Type[T], why func(T) (reason, code string)) event.Typed {
	return answer{Typed: t, reason: func(e ce.Event) (string, string, error) {
		data, err := t.Decode(e)
		if err != nil {
			return "", "", err
		}
		reason, code := why(data)
		return reason, code, nil
	}}
}

// Begin returns an event that begins a saga with the state that is made from its data, for Child.Start.
func Begin[S, T any](t event.Type[T], state func(T) S) event.Typed {
	return answer{Typed: t, state: (*S)(nil), begin: func(e ce.Event) (any, error) {
		data, err := t.Decode(e)
		if err != nil {
			return nil, err
		}
		return state(data), nil
	}}
}

// reasonOf returns why a step failed.
func reasonOf(failed event.Typed, e reply) (reason, code string, err error) {
	if a, ok := failed.(answer); ok && a.reason != nil {
		return a.reason(e.Event)
	}
	var data struct {
		Reason, Code any
	}
	_ = json.Unmarshal(e.data, &data) // data without these members needs none
	reason, _ = data.Reason.(string)
	code, _ = data.Code.(string)
	return cmp.Or(reason, failed.Info().Short), code, nil
}

// is reports whether an answer is of the type.
func is(t event.Typed, eventType string) bool { return t != nil && t.Info().Name == eventType }

func (s *Step[S]) undoDeadline() time.Duration {
	return cmp.Or(s.UndoDeadline, s.Deadline, time.Minute)
}

// word is good in a path, in a type of event and in a command line.
var word = regexp.MustCompile(`^[a-z][a-z0-9-]{0,49}$`)

// check returns an error that names everything that is not valid in the declaration.
func (d *Declaration[S]) check() error {
	var errs []error
	invalid := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("saga %s: %s", d.Name, fmt.Sprintf(format, args...)))
	}
	if !word.MatchString(d.Name) {
		invalid("want a name of lower-case letters, digits and hyphens")
	}
	for _, v := range slices.Sorted(maps.Keys(d.Earlier)) {
		if v < 1 || v >= d.Version {
			invalid("earlier version %d: want one from 1 to %d", v, d.Version-1)
		}
		checkSteps(d.Earlier[v], func(format string, args ...any) {
			invalid("version %d: %s", v, fmt.Sprintf(format, args...))
		})
	}
	checkSteps(d.Steps, invalid)
	if c := d.Child; c != nil {
		begin, ok := c.Start.(answer)
		if !ok || begin.begin == nil || !fits[S](begin) || c.Done == nil || c.Failed == nil {
			invalid("a child wants Start, made by Begin, Done and Failed")
		}
		if (c.Undo == nil) != (c.Undone == nil) {
			invalid("a child wants Undo and Undone, or neither")
		}
		if c.Undo != nil && slices.ContainsFunc(d.Steps, func(s Step[S]) bool { return s.Pivot }) {
			invalid("a child with a pivot cannot be undone")
		}
	}
	return errors.Join(errs...)
}

// fits reports whether an answer is for sagas over the state S.
func fits[S any](t event.Typed) bool {
	a, ok := t.(answer)
	if !ok || a.state == nil {
		return true
	}
	_, ok = a.state.(*S)
	return ok
}

func checkSteps[S any](steps []Step[S], invalid func(format string, args ...any)) {
	if len(steps) == 0 {
		invalid("want at least one step")
	}
	p := planOf(steps)
	pivot := slices.IndexFunc(steps, func(s Step[S]) bool { return s.Pivot })
	for i, s := range steps {
		step := func(text string) { invalid("step %q %s", s.Name, text) }
		switch {
		case s.Name == "":
			step("has no name")
		case p.index(s.Name) != i:
			step("is there twice")
		}
		for _, name := range s.After {
			if at := p.index(name); at < 0 || at >= i {
				step(fmt.Sprintf("comes after %q, which is no step before it", name))
			}
		}
		if s.Command != nil && s.Done == nil {
			step("wants the event that says it is done")
		}
		if !fits[S](s.Done) || !fits[S](s.Undone) {
			step("has an answer for another state")
		}
		if (s.Undo == nil) != (s.Undone == nil) {
			step("wants an undo and its event, or neither")
		}
		if s.Command != nil && s.Deadline <= 0 || s.Deadline < 0 || s.UndoDeadline < 0 {
			step("wants a deadline")
		}
		if s.Done != nil && (s.Failed != nil && s.Done.Info() == s.Failed.Info() ||
			s.Undone != nil && s.Done.Info() == s.Undone.Info()) {
			step("has one event for two answers")
		}
		if pivot < 0 || i == pivot {
			continue
		}
		switch after := p.follows(i, pivot); {
		case s.Pivot:
			step("is a second pivot")
		case after && s.Failed != nil:
			step("comes after the pivot and must not fail")
		case !after && !p.follows(pivot, i):
			step("runs in parallel to the pivot")
		}
	}
}

// planOf returns the progress of a saga with the steps that has not begun.
func planOf[S any](steps []Step[S]) Progress {
	p := Progress{Status: Running, Steps: make([]StepProgress, len(steps))}
	for i, s := range steps {
		p.Steps[i] = StepProgress{
			Name: s.Name, State: ToDo, After: s.After, AtOnce: i > 0 && s.After != nil && len(s.After) == 0, Pivot: s.Pivot,
		}
	}
	return p
}

// follows reports whether step j begins after step i, directly or not.
func (p *Progress) follows(j, i int) bool {
	for k := i + 1; k <= j; k++ {
		if p.dependsOn(k, i) && (k == j || p.follows(j, k)) {
			return true
		}
	}
	return false
}
