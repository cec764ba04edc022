package store

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

// Expiry declares until when the documents of a collection are stored. A document whose field is missing, zero, or not
// a time stays.
type Expiry struct {
	Field string        // of the document itself: a time.Time in UTC, a text in its form, or an integer of Unix seconds
	After time.Duration // how long after that time the document is removed
	Text  bool          `json:",omitempty"` // the field is a time.Time, which JSON has as a text
	// Final declares that a document is not changed once it is written, so that it is removed without being read again.
	Final bool `json:",omitempty"`
}

func (e Expiry) declare(s *Spec) { s.Expiry = &e }

// Expire declares that a document is removed once the time in its field has passed: "expires_at". The field is a
// time.Time in UTC or an integer of Unix seconds; a document without it stays. The kit removes expired documents in
// small portions with the units of work of the function, so a reader may still find one: where that matters, the
// handler compares the time itself.
func Expire(field string) Option { return Expiry{Field: field} }

// Retain declares that a document is removed when the time in its field is longer ago than d: "created_at". Otherwise
// it is like Expire. It panics when d is negative.
func Retain(field string, d time.Duration) Option {
	if d < 0 {
		panic(fmt.Sprintf("store: invalid retention %s: want 0 or more", d))
	}
	return Expiry{Field: field, After: d}
}

// resolve completes the declaration of a collection of t: the kind of the field, and the index that finds the expired
// documents. It panics when t has no such field.
func (s *Spec) resolve(t reflect.Type) {
	if s.Expiry == nil {
		return
	}
	if t.Kind() == reflect.Struct {
		s.Expiry.Text = s.isTime(t)
	}
	for _, i := range s.Indexes {
		if i.Fields[0] == s.Expiry.Field {
			return
		}
	}
	s.Indexes = append(s.Indexes, On(s.Expiry.Field))
}

func (s *Spec) isTime(t reflect.Type) bool {
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		if name != s.Expiry.Field {
			continue
		}
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		switch {
		case kind == reflect.TypeFor[time.Time]() || kind.Kind() == reflect.String:
			return true
		case kind.Kind() == reflect.Int64 || kind.Kind() == reflect.Int:
			return false
		}
	}
	panic(fmt.Sprintf("store: %s expires by %q: want a field of type time.Time, string, int64 or int in %s",
		s.Name, s.Expiry.Field, t))
}

// where returns the filters that find documents which are past their time. A text is compared as a text, where a
// fraction of a second comes before the second without one: so it is found a second late.
func (e Expiry) where(now time.Time) []Filter {
	limit := now.Add(-e.After)
	if e.Text {
		return []Filter{
			{Field: e.Field, Op: Greater, Value: time.Time{}.Format(time.RFC3339)},
			{Field: e.Field, Op: Less, Value: limit.Add(-time.Second).UTC().Format(time.RFC3339)},
		}
	}
	return []Filter{{Field: e.Field, Op: Greater, Value: int64(0)}, {Field: e.Field, Op: LessOrEqual, Value: limit.Unix()}}
}

// Expired reports whether a document is past its time.
func (e Expiry) Expired(d Document, now time.Time) bool {
	var until time.Time
	switch v := field.Value(d.Data, e.Field).(type) {
	case float64:
		until = time.Unix(int64(v), 0)
		if v <= 0 {
			return false
		}
	case string:
		var err error
		if until, err = time.Parse(time.RFC3339Nano, v); err != nil || until.IsZero() {
			return false
		}
	default:
		return false
	}
	return !now.Before(until.Add(e.After))
}

// prunePages is how many pages of documents Prune looks at that match and are not past their time.
const prunePages = 10

// Prune removes documents of the collection that are past their time, oldest first, at most limit of them, and reports
// how many, and whether there may be more. Documents whose field is no time, or a time that is not in UTC, may come
// first in the order of texts: Prune passes over them, over about ten times limit in one call. The commit of the
// transaction fails with fault.Conflict when another one has changed such a document since, unless its expiry is Final.
func (tx *Tx) Prune(ctx context.Context, spec Spec, now time.Time, limit int) (removed int, more bool, err error) {
	if spec.Expiry == nil || limit < 1 {
		return 0, false, nil
	}
	q := Query{
		Collection: spec.Name, Where: spec.Expiry.where(now), Order: []Order{{Field: spec.Expiry.Field}}, Limit: limit,
	}
	for range prunePages {
		found, further, err := tx.Query(ctx, q)
		if err != nil {
			return removed, false, err
		}
		for n, d := range found {
			if removed == limit {
				return removed, true, nil
			}
			switch {
			case !spec.Expiry.Expired(d, now):
				continue
			case spec.Expiry.Final:
				tx.Discard(d.Key)
			default:
				if err := tx.Delete(ctx, d.Key); err != nil {
					return removed, false, err
				}
			}
			removed++
			more = further || n < len(found)-1
		}
		if !further || removed == limit {
			return removed, more, nil
		}
		p := PositionOf(found[len(found)-1], q.Order)
		q.After = &p
	}
	return removed, removed > 0, nil
}
