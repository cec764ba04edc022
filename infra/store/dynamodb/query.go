package dynamodb

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

// plan is how a query is read: the rows of a partition between two sort keys.
type plan struct {
	collection string
	fields     []string // of the index; nil: the documents themselves
	from, to   string   // inclusive
	not        string   // the sort key of the row that the page comes after; "": none
	desc       bool
	byID       bool   // the rows are read whole and sorted by id
	afterID    string // with byID: only later ids
	paged      bool   // with byID: afterID counts
}

func (p plan) partition() string {
	if p.fields == nil {
		return documentsOf(p.collection)
	}
	return rowsOf(p.collection, p.fields)
}

// plan returns how a query that the schema has checked is read; ok is false when no document can satisfy it.
func (s *Store) plan(q store.Query) (p plan, ok bool) {
	p = plan{collection: q.Collection}
	equal, ranged, ok := filters(q.Where)
	if !ok {
		return p, false
	}
	if len(equal) == 0 && ranged == "" && len(q.Order) == 0 {
		p.from, p.to = documentSort(""), "e"
		if q.After != nil {
			p.from, p.not = documentSort(q.After.ID), documentSort(q.After.ID)
		}
		return p, true
	}
	length := len(equal) + len(q.Order)
	if ranged != "" && len(q.Order) == 0 {
		length++
		p.byID = true
	}
	spec, _ := s.schema.Spec(q.Collection)
	p.fields = beginning(spec, equal, ranged, q.Order, length)
	prefix := ""
	for _, path := range p.fields[:len(equal)] {
		prefix += encode(equal[path])
	}
	p.from, p.to = prefix+separator, prefix+tagEnd
	p.narrow(prefix, q.Where)
	if q.After != nil {
		p.turn(prefix, *q.After)
	}
	p.desc = len(q.Order) > 0 && q.Order[0].Desc
	if q.After != nil && !p.byID {
		if p.desc {
			p.to = min(p.to, p.not)
		} else {
			p.from = max(p.from, p.not)
		}
	}
	return p, p.from <= p.to
}

// turn sets the place that the page comes after.
func (p *plan) turn(prefix string, place store.Position) {
	if p.byID {
		p.afterID, p.paged = place.ID, true
		return
	}
	key := prefix
	for _, v := range place.Values {
		key += encode(v)
	}
	p.not = key + separator + place.ID
}

// narrow applies the filters that compare otherwise than with Equal. They are on the field after the prefix.
func (p *plan) narrow(prefix string, where []store.Filter) {
	for _, f := range where {
		if f.Op == store.Equal {
			continue
		}
		first, end := kindBounds(f.Value)
		from, to, value := prefix+first, prefix+end, prefix+encode(f.Value)
		switch f.Op { // a row's key is longer than its values, so that none is equal to value
		case store.Less:
			to = value
		case store.LessOrEqual:
			to = after(value)
		case store.Greater:
			from = after(value)
		case store.GreaterOrEqual:
			from = value
		}
		p.from, p.to = max(p.from, from), min(p.to, to)
	}
}

// filters returns the values that fields are equal to, and the field of the other comparisons; ok is false when they
// contradict one another.
func filters(where []store.Filter) (equal map[string]any, ranged string, ok bool) {
	equal = map[string]any{}
	for _, f := range where {
		if field.Kind(f.Value) == 0 {
			return nil, "", false
		}
		if f.Op != store.Equal {
			ranged = f.Field
			continue
		}
		if v, twice := equal[f.Field]; twice && field.Compare(v, f.Value) != 0 {
			return nil, "", false
		}
		equal[f.Field] = f.Value
	}
	return equal, ranged, true
}

// beginning returns the beginning of a declared index that serves a query: the fields compared with Equal, in the
// index's order, then those of the order, or that of the range.
func beginning(spec store.Spec, equal map[string]any, ranged string, order []store.Order, length int) []string {
	rest := make([]string, 0, len(order)+1)
	for _, o := range order {
		rest = append(rest, o.Field)
	}
	if ranged != "" && len(order) == 0 {
		rest = append(rest, ranged)
	}
	for _, i := range spec.Indexes {
		if len(i.Fields) < length || !slices.Equal(i.Fields[len(equal):length], rest) {
			continue
		}
		if !slices.ContainsFunc(i.Fields[:len(equal)], func(f string) bool { _, there := equal[f]; return !there }) {
			return i.Fields[:length]
		}
	}
	return nil // the schema's check has found one
}

// row is one row of an index, or one document.
type row struct{ sort, id string }

// page is what was read of a plan: the first rows, and of documents by id the marks among them.
type page struct {
	rows  []row
	marks map[string]string // the unique attributes of marks, by their sort keys
	full  bool              // there may be further rows
}

// settle is how often the rows of a query are read until no new one has come.
const settle = 6

// query returns the first documents of a query, one more than its limit if there are further ones.
//
// The rows are read, then their documents at one moment, then the rows again. A document that was there at that moment
// and had no row at first has one now. Or it had one and has lost it again: of documents by id that shows by a mark.
func (s *Store) query(ctx context.Context, q store.Query) ([]store.Document, error) {
	for _, f := range q.Where {
		if v, text := f.Value.(string); text && !utf8.ValidString(v) {
			return nil, fault.New(fault.Invalid, "the value compared with %s is not UTF-8 text", f.Field)
		}
	}
	p, ok := s.plan(q)
	if !ok {
		return nil, ctx.Err()
	}
	want := q.Limit + 1
	found, err := s.rows(ctx, p, want)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		docs, err := s.documents(ctx, p, found.rows)
		if err != nil {
			return nil, err
		}
		short := found.full && len(docs) < q.Limit+1
		if short { // rows of documents that have changed, or whose document DynamoDB has removed first
			want += q.Limit + 1 - len(docs)
		}
		again, err := s.rows(ctx, p, want)
		if err != nil {
			return nil, err
		}
		if !short && (n >= settle || !p.newer(again, found)) {
			return docs[:min(len(docs), q.Limit+1)], nil
		}
		if n >= 4*settle || n > 1 && !pause(ctx, min(n, settle)) {
			return nil, fault.New(fault.Conflict, "the documents of %s change faster than they can be read; try again",
				q.Collection)
		}
		found = again
	}
}

// newer reports whether a page has a row, or a mark of a row that has come and gone, that the page before had not,
// although it reached as far.
func (p plan) newer(now, before page) bool {
	known := make(map[row]bool, len(before.rows))
	sorts := make(map[string]bool, len(before.rows))
	for _, r := range before.rows {
		known[r], sorts[r.sort] = true, true
	}
	for _, r := range now.rows {
		if !known[r] && p.reached(before, r) {
			return true
		}
	}
	for at, u := range now.marks {
		if !sorts[at] && before.marks[at] != u && p.reached(before, row{sort: at}) {
			return true
		}
	}
	return false
}

// reached reports whether a page would have a row.
func (p plan) reached(got page, r row) bool {
	if !got.full {
		return true
	}
	end := got.rows[len(got.rows)-1]
	switch {
	case p.byID:
		return r.id <= end.id
	case p.desc:
		return r.sort >= end.sort
	}
	return r.sort <= end.sort
}

// documents returns the documents of rows at one moment, in the order of the rows, without those that are not in the
// row's place then.
func (s *Store) documents(ctx context.Context, p plan, found []row) ([]store.Document, error) {
	keys := make([]store.Key, len(found))
	for i, r := range found {
		keys[i] = store.Key{Collection: p.collection, ID: r.id}
	}
	items, err := s.read(ctx, keys)
	if err != nil {
		return nil, err
	}
	docs := make([]store.Document, 0, len(found))
	for i, r := range found {
		it := items[keys[i]]
		if it.version == 0 || p.fields != nil && rowSort(p.fields, []byte(it.data), r.id) != r.sort {
			continue
		}
		docs = append(docs, s.document(keys[i], it))
	}
	return docs, nil
}

// rows returns the first rows of a plan.
func (s *Store) rows(ctx context.Context, p plan, limit int) (got page, err error) {
	got.marks = map[string]string{}
	err = s.each(ctx, p, limit, got.marks, func(r row) bool {
		if p.byID && p.paged && r.id <= p.afterID {
			return true
		}
		got.rows = append(got.rows, r)
		if p.byID {
			if len(got.rows) > 4*limit {
				got.rows = byID(got.rows, limit)
			}
			return true
		}
		return len(got.rows) < limit
	})
	if p.byID {
		got.rows = byID(got.rows, limit)
	}
	got.full = len(got.rows) == limit
	return got, err
}

func byID(found []row, limit int) []row {
	slices.SortFunc(found, func(a, b row) int { return strings.Compare(a.id, b.id) })
	return found[:min(len(found), limit)]
}

// each calls f for the rows of a plan until it returns false, and notes the marks among them.
func (s *Store) each(ctx context.Context, p plan, limit int, marks map[string]string, f func(row) bool) error {
	in := &dynamodb.QueryInput{
		TableName: &s.config.Table, ConsistentRead: aws.Bool(true), ScanIndexForward: aws.Bool(!p.desc),
		KeyConditionExpression: aws.String("p = :p AND s BETWEEN :from AND :to"),
		ExpressionAttributeValues: attributes{
			":p": textValue(p.partition()), ":from": textValue(cut(p.from, "")), ":to": textValue(cut(p.to, "\U0010ffff")),
		},
		ProjectionExpression:     aws.String("s, #id"),
		ExpressionAttributeNames: map[string]string{"#id": id},
	}
	if p.fields == nil {
		in.ProjectionExpression = aws.String("s, v, u")
		in.ExpressionAttributeNames = nil
	}
	if !p.byID {
		in.Limit = aws.Int32(int32(min(limit+1, 1000)))
	}
	for {
		out, err := s.calls.query(ctx, in)
		if err != nil {
			return err
		}
		for _, a := range out.Items {
			r := row{sort: text(a, sort), id: text(a, id)}
			if p.fields == nil {
				r.id = strings.TrimPrefix(r.sort, documentSort(""))
			}
			if r.sort < p.from || r.sort > p.to || p.not != "" && r.sort == p.not {
				continue
			}
			if p.fields == nil && integer(a, version) == 0 {
				marks[r.sort] = text(a, unique)
				continue
			}
			if !f(r) {
				return nil
			}
		}
		if len(out.LastEvaluatedKey) == 0 {
			return nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// cut returns a bound that DynamoDB takes as a sort key: one that is too long without its end, and with another one
// instead. What it lets in beside is left out later.
func cut(bound, end string) string {
	if len(bound) <= maxSort {
		return bound
	}
	return strings.ToValidUTF8(bound[:maxSort-len(end)], "") + end
}
