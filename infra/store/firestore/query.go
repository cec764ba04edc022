package firestore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"cloud.google.com/go/firestore"
	"google.golang.org/api/iterator"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

// query runs a query that the schema has checked, with one document more than its limit.
//
// Firestore orders values as package store does, null first and then bools, numbers and strings, and compares values of
// the same kind only. It always orders by the field of a range, so a query with a range and without Order is sorted by
// id here, which reads the whole range.
func (s *Store) query(ctx context.Context, q store.Query) ([]store.Document, error) {
	if contradicts(q.Where) {
		return nil, ctx.Err()
	}
	c, err := s.collection(q.Collection)
	if err != nil {
		return nil, err
	}
	fq := c.Query
	ranged := false
	for _, f := range q.Where {
		v, err := operand(f)
		if err != nil {
			return nil, err
		}
		fq = fq.WherePath(keyPath(f.Field), string(f.Op), v)
		ranged = ranged || f.Op != store.Equal
	}
	if ranged && len(q.Order) == 0 {
		return s.byID(ctx, q, fq)
	}
	fq, err = ordered(fq, q)
	if err != nil {
		return nil, err
	}
	var docs []store.Document
	err = s.each(ctx, q, fq.Limit(q.Limit+1), func(d store.Document) { docs = append(docs, d) })
	if err != nil || len(q.Where)+len(q.Order) > 0 {
		return docs, err // marks have no keys, so that they are in no index
	}
	return s.withoutMarks(ctx, q, docs)
}

// withoutMarks returns the documents of a query by id that are no marks, and reads on for those that the marks took the
// place of.
func (s *Store) withoutMarks(ctx context.Context, q store.Query, docs []store.Document) ([]store.Document, error) {
	full, last := len(docs) > q.Limit, ""
	if full {
		last = docs[q.Limit].ID
	}
	docs = slices.DeleteFunc(docs, func(d store.Document) bool { return d.Version == 0 })
	if !full || len(docs) > q.Limit {
		return docs, nil
	}
	next := q
	next.After = &store.Position{ID: last}
	more, err := s.query(ctx, next)
	docs = append(docs, more...)
	return docs[:min(len(docs), q.Limit+1)], err
}

// byID returns the first documents by id of all that a query finds.
func (s *Store) byID(ctx context.Context, q store.Query, fq firestore.Query) (docs []store.Document, err error) {
	first := func() {
		slices.SortFunc(docs, func(a, b store.Document) int { return strings.Compare(a.ID, b.ID) })
		docs = docs[:min(len(docs), q.Limit+1)]
	}
	err = s.each(ctx, q, fq, func(d store.Document) {
		if q.After != nil && d.ID <= q.After.ID {
			return
		}
		if docs = append(docs, d); len(docs) > 4*q.Limit+8 {
			first()
		}
	})
	first()
	return docs, err
}

// each calls f for each document that a query finds.
func (s *Store) each(ctx context.Context, q store.Query, fq firestore.Query, f func(store.Document)) error {
	found := fq.Documents(ctx)
	defer found.Stop()
	for {
		snap, err := found.Next()
		if errors.Is(err, iterator.Done) {
			return nil
		}
		if err != nil {
			return err
		}
		d, err := s.found(q.Collection, snap)
		if err != nil {
			return err
		}
		f(d)
	}
}

// ordered adds the order, the id last, and the start position to a query.
func ordered(fq firestore.Query, q store.Query) (firestore.Query, error) {
	direction := firestore.Asc
	for _, o := range q.Order {
		if direction = firestore.Asc; o.Desc {
			direction = firestore.Desc
		}
		fq = fq.OrderByPath(keyPath(o.Field), direction)
	}
	fq = fq.OrderBy(firestore.DocumentID, direction)
	if q.After == nil {
		return fq, nil
	}
	name, err := layout.Name(q.After.ID)
	if err != nil {
		return fq, err
	}
	place := append(slices.Clone(q.After.Values), name)
	return fq.StartAfter(place...), nil
}

// contradicts reports whether no document can satisfy all filters, for filters that Firestore might refuse.
func contradicts(where []store.Filter) bool {
	for i, f := range where {
		if field.Kind(f.Value) == 0 {
			return true
		}
		for _, g := range where[:i] {
			equals := f.Op == store.Equal && g.Op == store.Equal
			if f.Field == g.Field && (field.Kind(f.Value) != field.Kind(g.Value) ||
				equals && field.Compare(f.Value, g.Value) != 0) {
				return true
			}
		}
	}
	return false
}

// operand returns the value that Firestore compares a key with.
func operand(f store.Filter) (any, error) {
	switch v := f.Value.(type) {
	case bool:
		return v, nil
	case string:
		if !utf8.ValidString(v) {
			return nil, fault.New(fault.Invalid, "the value compared with %s is not UTF-8 text", f.Field)
		}
		if len(v) > maxIndexed {
			return nil, fault.New(
				fault.Invalid, "the value compared with %s has %d bytes; Firestore indexes at most %d", f.Field, len(v), maxIndexed,
			)
		}
		return v, nil
	}
	return field.Number(f.Value), nil
}

func keyPath(path string) firestore.FieldPath {
	return firestore.FieldPath{layout.Keys, layout.Key(path)}
}
