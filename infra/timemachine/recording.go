package timemachine

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

// The most that a recording has.
const (
	MaxEvents = 10_000
	maxFile   = 256 << 20 // bytes
	maxSpan   = 92 * 24 * time.Hour
)

// Recording is what was recorded of an entity or of a span of time.
type Recording struct {
	About  string     // the id of the entity, or a correlation; "": a span of time
	Events []ce.Event // that are run again and compared, in the order of their times
	Others []ce.Event // facts about entities that the events name, of the time before and meanwhile, oldest first
	Notes  []string   // what is missing in it, for people
}

// Selection selects what is recorded: all about an entity or a correlation, or the correlations that began in a span of
// time. A zero time is an open end.
type Selection struct {
	About        string
	Since, Until time.Time
}

// otherMark is the extension event.Replay of the facts of others, in files and in the run.
const otherMark = "timemachine"

// Write writes the recording as a batch of CloudEvents in JSON. The facts of others carry the extension that marks
// replayed events.
func (r *Recording) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	separator := "[\n"
	for _, e := range slices.Concat(marked(r.Others), r.Events) {
		data, err := event.ToJSON(e)
		if err != nil {
			return fmt.Errorf("the event %s cannot be written as JSON: %w", e.ID(), err)
		}
		_, _ = b.WriteString(separator) // Flush returns the error
		_, _ = b.Write(data)
		separator = ",\n"
	}
	if separator == "[\n" {
		_, _ = b.WriteString("[")
	}
	_, _ = b.WriteString("\n]\n")
	return b.Flush()
}

func marked(others []ce.Event) []ce.Event {
	all := make([]ce.Event, len(others))
	for i, e := range others {
		all[i] = e.Clone()
		all[i].SetExtension(event.Replay, otherMark)
	}
	return all
}

// Parse reads events that Write has written, or other CloudEvents in JSON: a batch, or one after the other as the
// command events prints them. The events may be from an untrusted source. The error tells which of them is not valid.
func Parse(r io.Reader) ([]ce.Event, error) {
	in := bufio.NewReader(io.LimitReader(r, maxFile+1))
	text, err := io.ReadAll(in)
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxFile:
		return nil, fmt.Errorf("it has more than %d MiB", maxFile>>20)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	var raws []json.RawMessage
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("not CloudEvents in JSON: %w", err)
		}
		var batch []json.RawMessage
		if raw[0] == '[' {
			if err := json.Unmarshal(raw, &batch); err != nil {
				return nil, fmt.Errorf("not CloudEvents in JSON: %w", err)
			}
		} else {
			batch = []json.RawMessage{raw}
		}
		raws = append(raws, batch...)
	}
	events := make([]ce.Event, len(raws))
	for i, raw := range raws {
		if events[i], err = event.FromJSON(raw); err == nil {
			err = event.CheckAttributes(events[i])
		}
		if err != nil {
			return nil, fmt.Errorf("event %d of %d is not valid: %w", i+1, len(raws), err)
		}
	}
	return events, nil
}

// Select returns the recording of a selection from events that Parse has returned. It returns an error when none of
// them is selected, or more than MaxEvents.
func Select(events []ce.Event, s Selection) (*Recording, error) {
	r := &Recording{About: s.About}
	var rest []ce.Event
	correlations, began := map[string]bool{}, map[string]time.Time{}
	for _, e := range events {
		c := correlationOf(e)
		if event.Extension(e, event.Replay) != "" {
			continue
		}
		if at, known := began[c]; !known || e.Time().Before(at) {
			began[c] = e.Time()
		}
		if s.About != "" && (e.Subject() == s.About || c == s.About) {
			correlations[c] = true
		}
	}
	for c, at := range began {
		if s.About == "" && within(at, s.Since, s.Until) {
			correlations[c] = true
		}
	}
	for _, e := range events {
		if event.Extension(e, event.Replay) != "" {
			e = e.Clone()
			e.SetExtension(event.Replay, nil)
			rest = append(rest, e)
		} else if correlations[correlationOf(e)] {
			r.Events = append(r.Events, e)
		} else {
			rest = append(rest, e)
		}
	}
	r.Events = sorted(r.Events)
	if s.About == "" {
		r.dropBegun()
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	last, named := r.last(), r.named()
	for _, e := range rest {
		if e.Time().Before(last) && (named[e.Subject()] || e.Type() == event.FlagsChanged.Name()) {
			r.Others = append(r.Others, e)
		}
	}
	r.Others = sorted(r.Others)
	return r, nil
}

// correlationOf returns the correlation of an event. One without is its own.
func correlationOf(e ce.Event) string { return cmp.Or(event.Extension(e, event.CorrelationID), e.ID()) }

func within(t, since, until time.Time) bool {
	return (since.IsZero() || !t.Before(since)) && (until.IsZero() || t.Before(until))
}

// ErrNone is returned when nothing was recorded of what is selected.
var ErrNone = errors.New("no event was recorded")

func (r *Recording) check() error {
	switch n := len(r.Events); {
	case n == 0 && r.About != "":
		return fmt.Errorf("%w about %s: want the id of an entity such as an order, or a correlation", ErrNone, r.About)
	case n == 0:
		return fmt.Errorf("%w in that time", ErrNone)
	case n > MaxEvents:
		return fmt.Errorf("%d events are more than the %d that a run takes: choose a shorter time", n, MaxEvents)
	}
	if span := r.last().Sub(r.first()); span > maxSpan {
		const day = 24 * time.Hour
		return fmt.Errorf("the events are spread over %d days, and a run takes %d", span/day, maxSpan/day)
	}
	return nil
}

// first returns the time of the earliest event that has one.
func (r *Recording) first() (first time.Time) {
	for _, e := range r.Events {
		if t := e.Time(); !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// last returns the time of the latest event.
func (r *Recording) last() (last time.Time) {
	for _, e := range r.Events {
		if e.Time().After(last) {
			last = e.Time()
		}
	}
	return last
}

// dropBegun leaves out the correlations that began before the first event of the recording.
func (r *Recording) dropBegun() {
	known, begun := map[string]bool{}, map[string]bool{}
	for _, e := range r.Events {
		known[e.ID()] = true
	}
	for id := range scheduledBy(r.Events) {
		known[id] = true
	}
	for _, e := range r.Events {
		if cause := event.Extension(e, event.CausationID); cause != "" && !known[cause] {
			begun[correlationOf(e)] = true
		}
	}
	if len(begun) == 0 {
		return
	}
	r.Events = slices.DeleteFunc(r.Events, func(e ce.Event) bool { return begun[correlationOf(e)] })
	r.Notes = append(r.Notes, fmt.Sprintf("%d correlations began before that time and are left out", len(begun)))
}

// scheduledBy returns the ids of the events that commands to the clock have scheduled.
func scheduledBy(events []ce.Event) map[string]bool {
	ids := map[string]bool{}
	for _, e := range events {
		if inner, ok := scheduled(e); ok {
			ids[inner.ID()] = true
		}
	}
	return ids
}

// scheduled returns the event that a command to the clock schedules. ok is false for other events.
func scheduled(e ce.Event) (inner ce.Event, ok bool) {
	if e.Type() != event.ClockSchedule.Name() {
		return inner, false
	}
	var timer event.ScheduleEvent
	if json.Unmarshal(e.Data(), &timer) != nil {
		return inner, false
	}
	inner, err := event.FromJSON(timer.Event)
	return inner, err == nil
}

// named returns the ids of the entities that the data of the events name: the texts of members that are called id or
// end with _id.
func (r *Recording) named() map[string]bool {
	ids := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				if id, ok := member.(string); ok && id != "" && (name == "id" || strings.HasSuffix(name, "_id")) {
					ids[id] = true
				}
				walk(member)
			}
		case []any:
			for _, element := range v {
				walk(element)
			}
		}
	}
	for _, e := range r.Events {
		if isMachinery(e.Type()) {
			continue
		}
		var data any
		if json.Unmarshal(e.Data(), &data) == nil {
			walk(data)
		}
	}
	return ids
}

// sorted returns the events by their times, each once.
func sorted(events []ce.Event) []ce.Event {
	slices.SortStableFunc(events, func(a, b ce.Event) int { return a.Time().Compare(b.Time()) })
	seen := map[string]bool{}
	return slices.DeleteFunc(events, func(e ce.Event) bool {
		known := seen[identity(e)]
		seen[identity(e)] = true
		return known
	})
}
