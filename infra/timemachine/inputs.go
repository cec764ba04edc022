package timemachine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/rerun"
	"github.com/ebb-dev/ebb/infra/system"
)

// Input is what came from outside of the functions: a request that is made again, or an event that is given to them as
// it was recorded.
type Input struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"` // POST /api/orders, or the type of the event
	By      string    `json:"by,omitempty"`
	Given   bool      `json:"given,omitempty"`   // it is an event
	Subject string    `json:"subject,omitempty"` // of the first event that came of it
	Status  int       `json:"status,omitempty"`  // of the answer to the request, in the run
	Answer  string    `json:"answer,omitempty"`  // of one that was refused
}

// input is an Input of a run, with the events that came of it at the time.
type input struct {
	Input
	correlation string
	source      string
	emitted     []int // of the recording
	request     rerun.Request
}

// inputs finds what came from outside: the events without a cause, those of one function and one correlation together.
// The events of timers are none: the clock of the run publishes them.
func (w *world) inputs() []*input {
	var found []*input
	byKey := map[string]*input{}
	for i, e := range w.events {
		if w.others[i] || event.Extension(e, event.CausationID) != "" && w.byID[event.Extension(e, event.CausationID)] ||
			w.timer[e.ID()] {
			continue
		}
		key := correlationOf(e) + " " + e.Source()
		in := byKey[key]
		if in == nil {
			in = &input{correlation: correlationOf(e), source: e.Source()}
			in.At, in.Subject = e.Time(), e.Subject()
			byKey[key], found = in, append(found, in)
		}
		in.emitted = append(in.emitted, i)
	}
	for _, in := range found {
		w.plan(in)
	}
	return found
}

// plan decides whether an input is a request or given as it was recorded.
func (w *world) plan(in *input) {
	emitted := make([]ce.Event, len(in.emitted))
	for n, i := range in.emitted {
		emitted[n] = w.events[i]
	}
	name := functionOf(in.source)
	if d, known := w.sys.Lookup(name); known && d.Rerun != nil && d.Rerun.Request != nil {
		if r, ok := d.Rerun.Request(emitted, w); ok {
			in.request, in.By = r, cmp.Or(r.Subject, "anybody")
			in.What = r.Method + " " + r.Path
			return
		}
	}
	in.Given, in.What = true, emitted[0].Type()
	for _, i := range in.emitted {
		w.given[i] = true
	}
}

// functionOf returns the name of the function that a source names.
func functionOf(source string) string { return strings.TrimPrefix(source, "/functions/") }

// notesOf tells what is given because no recipe makes its request again, each type once.
func notesOf(inputs []*input, sys system.System) (notes []string) {
	count := map[string]int{}
	for _, in := range inputs {
		if in.Given {
			count[strings.TrimPrefix(in.What, "dev.ebb.")+" of "+functionOf(in.source)]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(count)) {
		_, function, _ := strings.Cut(name, " of ")
		why := "no request is known that makes it"
		if _, known := sys.Lookup(function); !known {
			why = "this build has no such function"
		}
		notes = append(notes, fmt.Sprintf("%s is given as it was recorded, %s: %s", name, times(count[name]), why))
	}
	return notes
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
