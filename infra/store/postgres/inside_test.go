package postgres

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
)

// awkward maps documents that JSONB would change or refuse to the JSONB that is stored.
var awkward = map[string]string{
	`{"a":1e3}`:                      `{"a":1000}`,
	`{"a":-0}`:                       `{"a":0}`,
	`{"a":[-0.00]}`:                  `{"a":[0]}`,
	`{"a":1E-400,"b":1e400}`:         `{"a":0,"b":null}`,
	`{"a":1,"b":2,"a":{"x":3}}`:      `{"a":1,"b":2}`,
	`{"a":{"x":1,"\u0078":2}}`:       `{"a":{"x":1}}`,
	`{"a":"\u0000"}`:                 `{"a":"\u0001\u0001"}`,
	`{"a":"x\u0001y"}`:               `{"a":"x\u0001\u0002y"}`,
	`{"\u0000":true}`:                `{"\u0001\u0001":true}`,
	`{"a":"\ud800"}`:                 "{\"a\":\"\uFFFD\"}",
	`{"a":"\uDE00x"}`:                "{\"a\":\"\uFFFDx\"}",
	"{\"a\":\"\xff\"}":               "{\"a\":\"\uFFFD\"}",
	`{"a":` + digits(400) + `}`:      `{"a":null}`,
	`{"a":0.` + zeros(400) + `1}`:    `{"a":0}`,
	`{"a":` + digits(301) + `}`:      `{"a":1.1111111111111112e+300}`,
	`{ "a" : [ 1 , 2e0 , "<" ] } `:   `{"a":[1,2,"\u003c"]}`,
	`{"a":[{},[],{"b":[]},[[1e0]]]}`: `{"a":[{},[],{"b":[]},[[1]]]}`,
}

func digits(n int) string { return strings.Repeat("1", n) }
func zeros(n int) string  { return strings.Repeat("0", n) }

// kept lists documents that JSONB preserves.
var kept = []string{
	`{}`, `{"a":1.50,"b":-0.5,"c":-10,"d":12345678901234567890}`, `{"a":"\ud83d\ude00 \u00e9 \n \\u0000"}`,
	`{"a":{"b":1},"b":{"b":1}}`,
	`[{"a":1},{"a":1}]`, `{"a":["a","a"],"b":"a"}`, " {\"a\" : null}\n", `{"x":true,"y":false}`, `{"a:":"b","a":":"}`,
}

func TestStored(t *testing.T) {
	for data, want := range awkward {
		doc, exact := stored([]byte(data))
		if doc != want || string(exact) != data {
			t.Errorf("%.80q: got %.80q and %.80q, want %.80q", data, doc, exact, want)
		}
	}
	var wide []string
	for i := range 2 * plainNames {
		wide = append(wide, fmt.Sprintf(`"%d":0`, i))
	}
	for _, data := range append(kept, "{"+strings.Join(wide, ",")+"}") {
		if doc, exact := stored([]byte(data)); doc != data || exact != nil {
			t.Errorf("%q: got %q and %q", data, doc, exact)
		}
	}
}

// Invalid JSON is passed on unchanged, for PostgreSQL to refuse.
func TestStoredInvalid(t *testing.T) {
	for _, data := range []string{
		``, `{`, `}`, `{"a"`, `{"a":1e}`, `{"a":1e0`, `{"a":1e0}}`, `{"a":1e0}{}`, `{"a\u0000"`, `"`, `"\`, `"\u`, `"\u000`,
		`-`, `[1e0`, `{"a":"\ud8`, `{1e0:1}`,
	} {
		if doc, exact := stored([]byte(data)); doc != data || exact != nil {
			t.Errorf("%q: got %q and %q", data, doc, exact)
		}
	}
}

// FuzzStored compares the values in the JSONB with those that package field, which decides in queries, finds in the
// document.
func FuzzStored(f *testing.F) {
	for data := range awkward {
		f.Add([]byte(data), "a")
	}
	for _, data := range kept {
		f.Add([]byte(data), "a.b")
	}
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		doc, exact := stored(data)
		if exact != nil && string(exact) != string(data) {
			t.Fatalf("%q: exact is %q", data, exact)
		}
		if !json.Valid(data) {
			return
		}
		switch {
		case !json.Valid([]byte(doc)), !utf8.ValidString(doc), strings.Contains(strings.ReplaceAll(doc, `\\`, ""), `\u0000`):
			t.Fatalf("%q: JSONB is given %q", data, doc)
		case exact == nil && doc != string(data):
			t.Fatalf("%q: has become %q", data, doc)
		}
		if strings.ContainsAny(path, "\x00\x01\uFFFD") || !utf8.ValidString(path) {
			return
		}
		want := field.Value(data, path)
		if s, ok := want.(string); ok {
			want = escape(s)
		}
		if got := field.Value([]byte(doc), path); got != want {
			t.Fatalf("%q of %q: %v has become %v in %q", path, data, want, got, doc)
		}
	})
}

// Keys made in Go and keys made by PostgreSQL are equal, and sort as the values do.
func TestKeys(t *testing.T) {
	c := pgtest.Connect(t, pgtest.Role(t))
	namespace := quote(pgtest.User(t, c.Config().ConnString()))
	if _, err := c.Exec(t.Context(), fmt.Sprintf(keyFunction, namespace)); err != nil {
		t.Fatal(err)
	}
	ascending := []any{
		nil, false, true, -math.MaxFloat64, -1e21, -1.5, -1.0, -math.SmallestNonzeroFloat64, 0.0,
		math.SmallestNonzeroFloat64, 5e-324, 0.1, 0.30000000000000004, 1.0, 10.0, 9007199254740992.0, 1e21,
		math.MaxFloat64, "", "\x00", "\x00\x00", "\x00a", "\x01", "\x01\x00", "\x02", " ", "A", "a", "aa", "é", "日本",
		"🚢",
	}
	for i, v := range ascending {
		data, err := json.Marshal(map[string]any{"v": v})
		if err != nil {
			t.Fatal(err)
		}
		doc, _ := stored(data)
		var got string
		if err := c.QueryRow(
			t.Context(), "SELECT "+namespace+".ebb_key($1::text::jsonb -> 'v')", doc,
		).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != key(v) {
			t.Errorf("%v: PostgreSQL's key is %q and ours %q", v, got, key(v))
		}
		if i > 0 && field.Compare(ascending[i-1], v) < 0 != (key(ascending[i-1]) < key(v)) {
			t.Errorf("%v and %v: the keys are in another order", ascending[i-1], v)
		}
	}
}

// A path finds members of objects only: none in arrays or strings, and none for a path that ends too early.
func TestPathsInSQL(t *testing.T) {
	url := pgtest.Role(t)
	s, err := Open(
		t.Context(), url, "orders",
		store.Schema{{Name: "things", Indexes: []store.Index{store.On("a.0"), store.On("a.it's"), store.On("%d")}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var b store.Batch
	for id, data := range map[string]string{
		"array": `{"a":["x"]}`, "object": `{"a":{"0":"x","it's":"y"}}`, "string": `{"a":"x"}`, "percent": `{"%d":"x"}`,
	} {
		b.Mutations = append(
			b.Mutations, store.Mutation{Key: store.Key{Collection: "things", ID: id}, Version: 1, Data: []byte(data)},
		)
	}
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][2]string{
		"a.0": {"x", "object"}, "a.it's": {"y", "object"}, "%d": {"x", "percent"},
	} {
		docs, _, err := s.Query(
			t.Context(),
			store.Query{Collection: "things", Limit: 5, Where: []store.Filter{{Field: path, Op: store.Equal, Value: want[0]}}},
		)
		if err != nil || len(docs) != 1 || docs[0].ID != want[1] {
			t.Errorf("%s: got %v, %v", path, docs, err)
		}
		docs, _, err = s.Query(t.Context(), store.Query{
			Collection: "things", Limit: 5, Order: []store.Order{{Field: path}},
			After: &store.Position{Values: []any{"a"}, ID: ""},
		})
		if err != nil || len(docs) != 1 || docs[0].ID != want[1] {
			t.Errorf("%s after: got %v, %v", path, docs, err)
		}
	}
}

// Queries use the declared index for their filters and order, also from a cursor on.
func TestQueriesUseIndexes(t *testing.T) {
	url := pgtest.Role(t)
	schema := store.Schema{{Name: "things", Indexes: []store.Index{store.On("kind", "n"), store.On("state.customer_id")}}}
	s, err := Open(t.Context(), url, "orders", schema)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for range 5 {
		var b store.Batch
		for range 1000 {
			n := len(b.Mutations)
			b.Mutations = append(b.Mutations, store.Mutation{Key: store.Key{
				Collection: "things", ID: fmt.Sprint(n * 7919 % 5003),
			}, Version: 1,
				Data: fmt.Appendf(
					nil, `{"kind":"k%d","n":%d,"state":{"customer_id":"c%d"},"text":%q}`, n%5, n, n%500, strings.Repeat("x", 300),
				)})
		}
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	c := pgtest.Connect(t, url)
	if _, err := c.Exec(t.Context(), "ANALYZE things"); err != nil {
		t.Fatal(err)
	}
	kind := []store.Filter{{Field: "kind", Op: store.Equal, Value: "k3"}}
	byID := (&opening{function: "orders"}).keyName(schema[0])
	byN := indexName(schema[0], schema[0].Indexes[0])
	for name, row := range map[string]struct {
		q     store.Query
		index string
		cond  []string
	}{
		"equal and in order": {store.Query{Where: kind, Order: []store.Order{{Field: "n"}}}, byN, []string{"kind"}},
		"equal and descending": {store.Query{
			Where: kind, Order: []store.Order{{Field: "n", Desc: true}},
		}, "Backward using " + byN,
			[]string{"kind"}},
		"a range": {store.Query{
			Where: append(slices.Clone(kind), store.Filter{Field: "n", Op: store.Greater, Value: int64(10)}),
			Order: []store.Order{{Field: "n"}},
		},
			byN, []string{"kind", "'n'"}},
		"from a cursor on": {store.Query{
			Where: kind, Order: []store.Order{{Field: "n"}}, After: &store.Position{Values: []any{500.0}, ID: "x"},
		},
			byN, []string{"kind", "ROW("}},
		"a path": {store.Query{Where: []store.Filter{{Field: "state.customer_id", Op: store.Equal, Value: "c7"}}},
			indexName(schema[0], schema[0].Indexes[1]), []string{"customer_id"}},
		"by id from a cursor on": {store.Query{After: &store.Position{ID: "3"}}, byID, []string{"id"}},
	} {
		row.q.Collection, row.q.Limit = "things", 20
		if err := schema.Check(row.q); err != nil {
			t.Fatal(name, err)
		}
		sql, args := s.tables["things"].selectSQL(row.q)
		rows, err := c.Query(t.Context(), "EXPLAIN (COSTS OFF) "+sql, args...)
		if err != nil {
			t.Fatal(name, err)
		}
		var plan, cond string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "Index Cond") {
				cond = line
			}
			plan += line + "\n"
		}
		bad := !strings.Contains(plan, row.index) || strings.Contains(plan, "Sort") && name != "a path"
		for _, want := range row.cond {
			bad = bad || !strings.Contains(cond, want)
		}
		if bad {
			t.Errorf("%s: the plan is\n%s", name, plan)
		}
	}
}
