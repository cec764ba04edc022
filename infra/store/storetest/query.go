package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// values lists values of every kind of a field, with the limits of each kind, in their order. Those in one group are
// equal.
var values = [][]string{
	{"", "null", `{"x":1}`, `[1,2]`}, // "" leaves the field out
	{"false"},
	{"true"},
	{"-1e300"},
	{"-1.5"},
	{"-1"},
	{"-0.1"},
	{"0", "-0", "0.0"},
	{"0.1"},
	{"0.30000000000000004"},
	{"1", "1.0", "1e0"},
	{"2"},
	{"10"},
	{"1700000000000"},
	{"9007199254740992", "9007199254740993"}, // numbers compare as float64
	{"1.7976931348623157e308"},
	{`""`},
	{`" "`},
	{`"10"`},
	{`"2"`},
	{`"A"`},
	{`"a"`, `"\u0061"`},
	{`"a b"`},
	{`"aa"`},
	{`"b"`},
	{`"z"`},
	{`"é"`, `"\u00e9"`},
	{`"日本"`},
	{`"🚢"`},
}

var queryCases = map[string]func(*testing.T, Harness){
	"without order by id": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(
			t, d, put(thing("b"), 1, `{}`), put(thing("a"), 1, `{}`), put(thing("é"), 1, `{}`), put(thing("B"), 1, `{}`),
			put(other("c"), 1, `{}`),
		)
		docs, more := query(t, d, store.Query{Collection: "things", Limit: 10})
		same(t, ids(docs), []string{"B", "a", "b", "é"})
		if more {
			t.Error("there are no more")
		}
	},

	"nothing found is no document": func(t *testing.T, h Harness) {
		docs, more := query(t, h.open(t), store.Query{Collection: "things", Limit: 10})
		if len(docs) > 0 || more {
			t.Errorf("got %v, %v", docs, more)
		}
	},

	"documents come with version and data": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 5, `{"n":1}`))
		docs, _ := query(t, d, store.Query{Collection: "things", Limit: 10})
		same(t, describe(docs), []string{"things/a@5 1"})
	},

	"at most limit of them and whether there are further ones": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(thing("a"), 1, `{}`), put(thing("b"), 1, `{}`), put(thing("c"), 1, `{}`))
		for limit, want := range map[int]bool{1: true, 2: true, 3: false, 4: false, store.MaxLimit: false} {
			docs, more := query(t, d, store.Query{Collection: "things", Limit: limit})
			if len(docs) != min(limit, 3) || more != want {
				t.Errorf("limit %d: got %v, more %v", limit, ids(docs), more)
			}
		}
	},

	"every filter with values of its own kind": func(t *testing.T, h Harness) {
		d := h.open(t)
		all := fill(t, d)
		for _, op := range []store.Op{store.Equal, store.Less, store.LessOrEqual, store.Greater, store.GreaterOrEqual} {
			for _, v := range []any{false, true, int64(-1), int64(0), 0.1, int64(1), 2.0, 1e308, "", "2", "a", "é", "zz"} {
				agree(t, d, all, store.Query{Collection: "things", Where: []store.Filter{where("n", op, v)}})
				agree(
					t, d, all,
					store.Query{Collection: "things", Where: []store.Filter{where("kind", store.Equal, "even"), where("n", op, v)}},
				)
			}
		}
	},

	"fields compare with values of their own kind only": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(
			thing("string"), 1, `{"n":"1"}`,
		), put(thing("number"), 1, `{"n":1}`), put(thing("null"), 1, `{"n":null}`),
			put(thing("bool"), 1, `{"n":true}`), put(thing("missing"), 1, `{}`), put(thing("object"), 1, `{"n":{}}`))
		for want, filters := range map[string][]store.Filter{
			"number": {
				where("n", store.Less, int64(5)), where("n", store.GreaterOrEqual, 0.5), where("n", store.Equal, 1.0),
				where("n", store.Greater, int64(-7)),
			},
			"string": {where("n", store.Less, "z"), where("n", store.Greater, ""), where("n", store.Equal, "1")},
			"bool":   {where("n", store.Greater, false), where("n", store.LessOrEqual, true), where("n", store.Equal, true)},
		} {
			for _, f := range filters {
				docs, _ := query(t, d, store.Query{Collection: "things", Where: []store.Filter{f}, Limit: 10})
				same(t, ids(docs), []string{want})
			}
		}
	},

	"a range has two ends": func(t *testing.T, h Harness) {
		d := h.open(t)
		agree(t, d, fill(t, d), store.Query{Collection: "things", Where: []store.Filter{
			where("kind", store.Equal, "odd"), where("n", store.Greater, int64(-1)), where("n", store.LessOrEqual, 10.0)}})
	},

	"contradicting filters find nothing": func(t *testing.T, h Harness) {
		d := h.open(t)
		agree(t, d, fill(t, d), store.Query{Collection: "things", Where: []store.Filter{
			where("n", store.Greater, int64(1)), where("n", store.Less, "b")}})
	},

	"in order with ties by id in the direction of the last order": func(t *testing.T, h Harness) {
		d := h.open(t)
		all := fill(t, d)
		for _, desc := range []bool{false, true} {
			agree(t, d, all, store.Query{Collection: "things", Order: []store.Order{by("n", desc)}})
			agree(t, d, all, store.Query{Collection: "things", Order: []store.Order{by("kind", desc), by("n", desc)}})
			agree(
				t, d, all,
				store.Query{Collection: "things", Order: []store.Order{by("kind", desc), by("n", desc), by("name", desc)}},
			)
			agree(t, d, all, store.Query{
				Collection: "things", Where: []store.Filter{where("kind", store.Equal, "odd")}, Order: []store.Order{by("n", desc)},
			})
			agree(t, d, all, store.Query{
				Collection: "things", Where: []store.Filter{where("n", store.Less, int64(3))}, Order: []store.Order{by("n", desc)},
			})
		}
	},

	"kinds in their order": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(
			thing("string"), 1, `{"n":"1"}`,
		), put(thing("number"), 1, `{"n":0}`), put(thing("null"), 1, `{"n":null}`),
			put(thing("true"), 1, `{"n":true}`), put(thing("false"), 1, `{"n":false}`), put(thing("missing"), 1, `{}`))
		docs, _ := query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 10})
		same(t, ids(docs), []string{"missing", "null", "false", "true", "number", "string"})
		docs, _ = query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "n", Desc: true}}, Limit: 10})
		same(t, ids(docs), []string{"string", "number", "true", "false", "null", "missing"})
	},

	"a field is a path with dots": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(t, d, put(
			thing("a"), 1, `{"state":{"customer_id":"c1"}}`,
		), put(thing("b"), 1, `{"state":{"customer_id":"c2"}}`),
			put(thing("c"), 1, `{"state.customer_id":"c1","customer_id":"c1"}`), put(thing("d"), 1, `{"state":"c1"}`))
		docs, _ := query(t, d, store.Query{Collection: "things", Limit: 10,
			Where: []store.Filter{where("state.customer_id", store.Equal, "c1")}})
		same(t, ids(docs), []string{"a"})
	},

	"a cursor that came through JSON": func(t *testing.T, h Harness) {
		d := h.open(t)
		commit(
			t, d, put(thing("a"), 1, `{"n":1}`), put(thing("b"), 1, `{"n":1}`), put(thing("c"), 1, `{"n":1.5}`),
			put(thing("z"), 1, `{}`),
		)
		docs, _ := query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 10,
			After: &store.Position{Values: []any{1.0}, ID: "a"}})
		same(t, ids(docs), []string{"b", "c"})
		// A position stays valid when its document was deleted.
		docs, _ = query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "n", Desc: true}}, Limit: 10,
			After: &store.Position{Values: []any{1.2}, ID: "gone"}})
		same(t, ids(docs), []string{"b", "a", "z"})
	},

	"what no index covers is refused": func(t *testing.T, h Harness) {
		d := h.open(t)
		for _, q := range []store.Query{
			{Limit: 1, Where: []store.Filter{where("name", store.Equal, "x")}},
			{Limit: 1, Order: []store.Order{{Field: "name"}}},
			{Limit: 1, Order: []store.Order{by("kind", false), by("n", true)}},
			{Limit: 0},
			{Limit: store.MaxLimit + 1},
		} {
			q.Collection = "things"
			_, _, err := d.Query(t.Context(), q)
			wantKind(t, err, fault.Internal)
		}
	},

	"the cursor of another query is refused": func(t *testing.T, h Harness) {
		_, _, err := h.open(t).Query(
			t.Context(),
			store.Query{Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 1, After: &store.Position{ID: "a"}},
		)
		wantKind(t, err, fault.Invalid)
	},

	"a query sees all that was committed before": func(t *testing.T, h Harness) {
		d := h.open(t)
		for n := int64(1); n <= 20; n++ {
			commit(t, d, put(thing("a"), n, fmt.Sprintf(`{"n":%d}`, n)))
			docs, _ := query(
				t, d, store.Query{Collection: "things", Where: []store.Filter{where("n", store.Equal, n)}, Limit: 2},
			)
			same(t, describe(docs), []string{fmt.Sprintf("things/a@%d %d", n, n)})
			docs, _ = query(t, d, store.Query{Collection: "things", Order: []store.Order{{Field: "n"}}, Limit: 2})
			same(t, ids(docs), []string{"a"})
		}
	},
}

// fill stores two documents for each value, so that there are ties, with ids that do not sort as the values do, and
// returns them.
func fill(t *testing.T, d store.Driver) (all []store.Document) {
	t.Helper()
	n, batch := 0, []store.Mutation(nil)
	for group, equal := range values {
		for _, v := range equal {
			for _, kind := range []string{"even", "odd"} {
				n++
				data := fmt.Sprintf(`{ "kind" : %q, "name":"name %d"`, kind, group%3)
				if v != "" {
					data += fmt.Sprintf(`,"n":%s `, v)
				}
				m := put(thing(fmt.Sprintf("%03d", n*37%997)), 1, data+`}`)
				all, batch = append(all, m.Document()), append(batch, m)
			}
		}
		commit(t, d, batch...)
		batch = nil
	}
	return all
}

// agree compares the results of a query with package store's own evaluation, in one page and in pages of seven.
func agree(t *testing.T, d store.Driver, all []store.Document, q store.Query) {
	t.Helper()
	want := ids(expected(all, q))
	for _, q.Limit = range []int{store.MaxLimit, 7} {
		if got := ids(pages(t, d, q)); !slices.Equal(got, want) {
			t.Errorf("where %v order %v limit %d:\ngot  %v\nwant %v", q.Where, q.Order, q.Limit, got, want)
		}
	}
}

func expected(all []store.Document, q store.Query) (docs []store.Document) {
	for _, d := range all {
		if store.Match(d.Data, q.Where) {
			docs = append(docs, d)
		}
	}
	slices.SortFunc(docs, func(a, b store.Document) int {
		return store.Compare(store.PositionOf(a, q.Order), store.PositionOf(b, q.Order), q.Order)
	})
	return docs
}

// pages returns the documents of all pages of a query, each page after the last document of the one before.
func pages(t *testing.T, d store.Driver, q store.Query) (all []store.Document) {
	t.Helper()
	for range 100 {
		docs, more := query(t, d, q)
		all = append(all, docs...)
		if !more || len(docs) == 0 {
			return all
		}
		last := store.PositionOf(docs[len(docs)-1], q.Order)
		q.After = &last
	}
	t.Errorf("query %+v has no end", q)
	return all
}

func where(field string, op store.Op, value any) store.Filter {
	return store.Filter{Field: field, Op: op, Value: value}
}

func by(field string, desc bool) store.Order { return store.Order{Field: field, Desc: desc} }
