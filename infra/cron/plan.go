package cron

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // images have no database of time zones

	"github.com/robfig/cron/v3"
)

// Plan is when the runs of a schedule are due: a cron expression in a time zone. The zero Plan has no runs; Parse makes
// others.
type Plan struct {
	fields *cron.SpecSchedule
	zone   *time.Location
	hourly bool // the expression names no hour: see Next
}

// Parse returns the plan of a cron expression of five fields (minute, hour, day of the month, month, day of the week
// with Sunday as 0) in an IANA time zone; "": UTC. A plan that has no run within five years is an error.
func Parse(expression, zone string) (Plan, error) {
	if strings.Contains(expression, "=") {
		return Plan{}, fmt.Errorf("invalid cron expression %q: the time zone is not a part of it", expression)
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(expression)
	if err != nil {
		return Plan{}, fmt.Errorf("invalid cron expression %q: %w", expression, err)
	}
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return Plan{}, fmt.Errorf("invalid time zone %q: want an IANA name such as Europe/Berlin", zone)
	}
	p := Plan{parsed.(*cron.SpecSchedule), location, strings.HasPrefix(strings.Fields(expression)[1], "*")}
	if p.Next(time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Plan{}, fmt.Errorf("invalid cron expression %q: no day has this date", expression)
	}
	return p, nil
}

// Zone returns the time zone of the plan.
func (p Plan) Zone() *time.Location { return p.zone }

// window is longer than any change of an offset from UTC: zones have moved across the date line.
const window = 26 * time.Hour

// Next returns the first run after a time, in the plan's zone; the zero time when there is none within five years.
//
// Where clocks are set forward, a run that falls into the hour that is left out is due at once when the clocks have
// been set: "30 2 * * *" at 3:00. Where they are set back, a run in the hour that comes twice is due the first time. A
// plan that names no hour ("*/15 * * * *", "5 */2 * * *") goes by the time that passes instead: it has no runs in the
// hour that is left out, and has them again in the second hour.
func (p Plan) Next(after time.Time) time.Time {
	if p.fields == nil {
		return time.Time{}
	}
	changing := offset(after.Add(-window), p.zone) != offset(after.Add(window), p.zone)
	from := wall(after, p.zone)
	if !changing {
		for w := p.fields.Next(from); !w.IsZero(); w = p.fields.Next(w) {
			if t := p.first(w, after); !t.IsZero() {
				return t
			}
		}
		return time.Time{}
	}
	var next time.Time
	until := from.Add(window)
	for w := p.fields.Next(from.Add(-window)); !w.IsZero() && (next.IsZero() || w.Before(until)); w = p.fields.Next(w) {
		if t := p.first(w, after); !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// first returns the first instant after a time at which the clocks of the zone show w, as the plan takes it.
func (p Plan) first(w, after time.Time) time.Time {
	at := instants(w, p.zone)
	switch {
	case len(at) == 0 && p.hourly:
		return time.Time{}
	case len(at) == 0:
		// By the offset before the change, the time is after it.
		start, _ := w.Add(-offset(w.Add(-window), p.zone)).In(p.zone).ZoneBounds()
		at = []time.Time{start}
	case !p.hourly:
		at = at[:1]
	}
	for _, t := range at {
		if t.After(after) {
			return t.In(p.zone)
		}
	}
	return time.Time{}
}

// wall returns what the clocks of a zone show, as a time in UTC.
func wall(t time.Time, zone *time.Location) time.Time {
	return t.UTC().Add(offset(t, zone))
}

func offset(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// instants returns when the clocks of a zone show w: once, twice, or never.
func instants(w time.Time, zone *time.Location) (at []time.Time) {
	for _, around := range []time.Duration{-window, 0, window} {
		t := w.Add(-offset(w.Add(around), zone))
		if wall(t, zone).Equal(w) && !slices.ContainsFunc(at, t.Equal) {
			at = append(at, t)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// maxCounted bounds how many runs Due counts one by one.
const maxCounted = 10_000

// Due returns the last runs from one run on until now, at most limit of them, and how many runs before them are left
// out. Of more than ten thousand the number is not exact.
func (p Plan) Due(from, now time.Time, limit int) (runs []time.Time, left int) {
	for t := from; !t.IsZero() && !t.After(now); t = p.Next(t) {
		runs = append(runs, t)
		if len(runs) > limit {
			runs = runs[1:]
			left++
		}
		if left == maxCounted {
			return p.latest(t, now, limit), left
		}
	}
	return runs, left
}

// latest returns the last runs between two times, found from the end.
func (p Plan) latest(from, now time.Time, limit int) (runs []time.Time) {
	for span := time.Hour; ; span *= 2 {
		begin := now.Add(-span)
		if begin.Before(from) {
			begin = from
		}
		runs = runs[:0]
		for t := p.Next(begin); !t.IsZero() && !t.After(now); t = p.Next(t) {
			runs = append(runs, t)
		}
		if len(runs) >= limit || begin.Equal(from) {
			return runs[max(0, len(runs)-limit):]
		}
	}
}
