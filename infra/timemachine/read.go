package timemachine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/system"
)

// Query selects events of an archive. Empty fields select all.
type Query struct {
	Subject, Correlation, Type string
	Since, Until               time.Time // of arrival
	Newest                     bool      // the newest first; otherwise in the order of arrival
	Limit                      int       // of the page
	Cursor                     string    // the next of the page before
}

// Archive returns pages of recorded events. next is the cursor of the next page, "" after the last one; a page may be
// short and still have a next one.
type Archive interface {
	Events(ctx context.Context, q Query) (page []ce.Event, next string, err error)
}

const (
	pageSize = 500

	// late is how much later than its time an event may reach the archive.
	late = 5 * time.Second

	// tail is for how long after a span the events of correlations that began in it are read.
	tail = 15 * time.Minute

	// recent is how many events of an entity are read of the time before, the latest; and of the feature flags.
	recent = 100
	flags  = 500
	during = 1000 // of an entity during the time of the events
	latest = 5    // of one type

	// maxPages is how many pages are read to find them.
	maxPages = 10

	// maxNamed is of how many entities the time before is read.
	maxNamed = 2000
)

// Read reads a recording from an archive. It returns ErrNone when nothing was recorded, and the errors of the archive.
func Read(ctx context.Context, a Archive, s Selection, sys system.System) (*Recording, error) {
	declared, err := sys.Declare()
	if err != nil {
		return nil, err
	}
	r := &Recording{About: s.About}
	if s.About != "" {
		err = r.readAbout(ctx, a, s.About)
	} else {
		err = r.readSpan(ctx, a, s)
	}
	if err == nil {
		err = r.check()
	}
	if err == nil {
		err = r.readOthers(ctx, a, declared.Types())
	}
	return r, err
}

// all returns all events of a query, and an error when there are more than a run takes.
func all(ctx context.Context, a Archive, q Query) (events []ce.Event, err error) {
	q.Limit = pageSize
	for {
		page, next, err := a.Events(ctx, q)
		if err != nil {
			return nil, err
		}
		if events = append(events, page...); len(events) > MaxEvents {
			return nil, fmt.Errorf("more than the %d events that a run takes: choose a shorter time", MaxEvents)
		}
		if q.Cursor = next; next == "" {
			return events, nil
		}
	}
}

// readAbout reads all events of the correlations with an event about an entity.
func (r *Recording) readAbout(ctx context.Context, a Archive, id string) error {
	about, err := all(ctx, a, Query{Subject: id})
	if err != nil {
		return err
	}
	correlations := []string{id}
	for _, e := range about {
		if c := event.Extension(e, event.CorrelationID); c != "" && !slices.Contains(correlations, c) {
			correlations = append(correlations, c)
		}
	}
	found := about
	for _, c := range correlations {
		more, err := all(ctx, a, Query{Correlation: c})
		if err != nil {
			return err
		}
		if found = append(found, more...); len(found) > 2*MaxEvents {
			break // check returns the error
		}
	}
	r.Events = sorted(found)
	return nil
}

// readSpan reads the correlations that began in a span of time.
func (r *Recording) readSpan(ctx context.Context, a Archive, s Selection) error {
	q := Query{Since: s.Since, Until: s.Until}
	if !s.Until.IsZero() {
		q.Until = s.Until.Add(tail)
	}
	found, err := all(ctx, a, q)
	if err != nil {
		return err
	}
	began := map[string]bool{}
	for _, e := range found {
		if within(e.Time(), time.Time{}, s.Until) {
			began[correlationOf(e)] = true
		}
	}
	r.Events = slices.DeleteFunc(found, func(e ce.Event) bool { return !began[correlationOf(e)] })
	r.dropBegun()
	return nil
}

// readOthers reads the facts of others about the entities that the events name: the latest of the time before, and
// those of the time of the events; and the feature flags. An entity with many events may have the latest of a type
// before those that are read: then it is looked for by type.
func (r *Recording) readOthers(ctx context.Context, a Archive, types event.Catalogue) error {
	first, last, named := r.first(), r.last(), slices.Sorted(maps.Keys(r.named()))
	if len(named) > maxNamed {
		r.Notes = append(r.Notes, fmt.Sprintf("the events name %d entities: what others did is read of %d of them",
			len(named), maxNamed))
		named = named[:maxNamed]
	}
	own := map[string]bool{}
	for _, e := range r.Events {
		own[identity(e)] = true
	}
	read := func(q Query) (full bool, err error) {
		for range maxPages {
			page, next, err := a.Events(ctx, q)
			if err != nil {
				return false, err
			}
			for _, e := range page {
				info, known := types.Lookup(e.Type())
				if known && info.Kind == event.Fact && !own[identity(e)] && e.Time().Before(last) &&
					(q.Newest == e.Time().Before(first)) {
					r.Others = append(r.Others, e)
				}
			}
			if q.Limit -= len(page); next == "" || q.Limit <= 0 {
				return next != "", nil
			}
			q.Cursor = next
		}
		return true, nil
	}
	before := Query{Until: first.Add(late), Newest: true}
	meanwhile := Query{Since: first.Add(-late), Until: last.Add(late), Limit: during}
	for _, id := range named {
		before, meanwhile := before, meanwhile
		before.Subject, before.Limit, meanwhile.Subject = id, recent, id
		full, err := read(before)
		if err == nil {
			_, err = read(meanwhile)
		}
		if err != nil {
			return err
		}
		if !full {
			continue
		}
		for _, info := range types.All() {
			if info.Kind != event.Fact {
				continue
			}
			before.Type, before.Limit = info.Name, latest
			if _, err := read(before); err != nil {
				return err
			}
		}
	}
	before.Type, before.Limit, meanwhile.Type = event.FlagsChanged.Name(), flags, event.FlagsChanged.Name()
	if _, err := read(before); err != nil {
		return err
	}
	if _, err := read(meanwhile); err != nil {
		return err
	}
	r.Others = sorted(r.Others)
	return nil
}
