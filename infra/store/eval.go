package store

import (
	"encoding/json"
	"strings"

	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

// Match reports whether a document's data satisfies every filter.
func Match(data json.RawMessage, where []Filter) bool {
	for _, f := range where {
		if !f.match(field.Value(data, f.Field)) {
			return false
		}
	}
	return true
}

func (f Filter) match(v any) bool {
	if v == nil || field.Kind(v) != field.Kind(f.Value) {
		return false
	}
	c := field.Compare(v, f.Value)
	switch f.Op {
	case Equal:
		return c == 0
	case Less:
		return c < 0
	case LessOrEqual:
		return c <= 0
	case Greater:
		return c > 0
	case GreaterOrEqual:
		return c >= 0
	}
	return false
}

// PositionOf returns the place of a document in an order.
func PositionOf(d Document, order []Order) Position {
	p := Position{ID: d.ID}
	for _, o := range order {
		p.Values = append(p.Values, field.Value(d.Data, o.Field))
	}
	return p
}

// Compare returns a negative number when position a comes before b in the order, a positive one when it comes after,
// and 0 when they are the same. Both must be positions in that order. Ascending: missing fields, then false, true,
// numbers (as float64), strings (by their bytes), and ties by id in the direction of the last Order.
func Compare(a, b Position, order []Order) int {
	for i, o := range order {
		if c := field.Compare(a.Values[i], b.Values[i]); c != 0 {
			return directed(c, o.Desc)
		}
	}
	return directed(strings.Compare(a.ID, b.ID), len(order) > 0 && order[len(order)-1].Desc)
}

func directed(c int, desc bool) int {
	if desc {
		return -c
	}
	return c
}
