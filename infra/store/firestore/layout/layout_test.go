package layout_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
)

// Most ids are their own names; ids that Firestore refuses have other names.
func TestNames(t *testing.T) {
	for id, want := range map[string]string{
		"0190b5a0-0000-7000-8000-000000000001": "0190b5a0-0000-7000-8000-000000000001",
		"a b":                                  "a b",
		"_inbox":                               "_inbox",
		"日本":                                   "日本",
		"":                                     "-",
		"-":                                    "--",
		".":                                    "-.d",
		"..":                                   "-.d.d",
		"a/b":                                  "a.sb",
		"a.b":                                  "a.db",
		"__x__":                                "_^bx__",
		"__":                                   "_^b",
		"_^":                                   "_^a",
		"a.sb":                                 "a.dsb",
	} {
		got, err := layout.Name(id)
		if err != nil || got != want {
			t.Errorf("%q: got %q, want %q, %v", id, got, want, err)
		}
	}
	if _, err := layout.Name("\xff"); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

// refused reports whether Firestore's documentation forbids a name.
var refused = regexp.MustCompile(`^$|/|^\.\.?$|^__.*__$`)

var someID = rapid.OneOf(rapid.String(), rapid.StringMatching(`[_^./d s\-a0~]{0,6}`))

// Every id has a valid name, from which the id can be computed, and names sort as the ids do.
func TestNamesAreReversibleAndInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := someID.Draw(t, "a"), someID.Draw(t, "b")
		x, err := layout.Name(a)
		if err != nil {
			t.Fatal(err)
		}
		y, err := layout.Name(b)
		if err != nil {
			t.Fatal(err)
		}
		if refused.MatchString(x) {
			t.Errorf("%q of %q would be refused", x, a)
		}
		if got := layout.IDOf(x); got != a || layout.IsHash(x) {
			t.Errorf("%q of %q is that of %q", x, a, got)
		}
		if strings.Compare(x, y) != strings.Compare(a, b) {
			t.Errorf("%q and %q do not sort as %q and %q", x, y, a, b)
		}
	})
}

// An id that is too long has a unique name, which sorts near ids with the same beginning.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("日", 500)
	names := []string{}
	for _, id := range []string{
		long, long + "a", long + "b", strings.Repeat("日", 499) + "a", strings.Repeat("/", 1000),
	} {
		name, err := layout.Name(id)
		if err != nil || len(name) > 1500 || slices.Contains(names, name) {
			t.Errorf("%d bytes: got %q, %v", len(id), name, err)
		}
		if layout.IsHash(name) != (len(id) != 1500 && len(id) != 1498) {
			t.Errorf("%d bytes: got %q", len(id), name)
		}
		names = append(names, name)
	}
	if !strings.HasPrefix(names[1], strings.Repeat("日", 466)+".~") {
		t.Errorf("got %q", names[1])
	}
}

// Keys have valid names and paths.
func TestPaths(t *testing.T) {
	for path, want := range map[string]string{
		"n":                 "keys.n",
		"state.customer_id": "keys.`state.customer_id`",
		"_n":                "keys.`._n`",
		"__x__":             "keys.`.__x__`",
		"":                  "keys.`.`",
		".n":                "keys.`..n`",
		"a`b\\":             "keys.`a\\`b\\\\`",
		"日":                 "keys.`日`",
	} {
		if got := layout.Path(path); got != want {
			t.Errorf("%q: got %s, want %s", path, got, want)
		}
	}
}

var schema = store.Schema{
	{Name: "orders", Indexes: []store.Index{store.On("state.customer_id", "placed"), store.On("at")}},
	{Name: "views", Indexes: []store.Index{store.On("g", "c", "p"), store.On("g", "c", "s", "p")}},
	{Name: "plain"},
}

// One field needs no composite index; of several fields each prefix needs two indexes, and each index exists once.
func TestIndexes(t *testing.T) {
	all, err := layout.Indexes(schema)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range all {
		text := i.Collection
		for _, f := range i.Fields {
			text += " " + f.Path + " " + strings.TrimSuffix(f.Order, "ENDING")
		}
		got = append(got, text)
	}
	want := []string{
		"orders keys.`state.customer_id` ASC keys.placed ASC", "orders keys.`state.customer_id` DESC keys.placed DESC",
		"views keys.g ASC keys.c ASC", "views keys.g DESC keys.c DESC",
		"views keys.g ASC keys.c ASC keys.p ASC", "views keys.g DESC keys.c DESC keys.p DESC",
		"views keys.g ASC keys.c ASC keys.s ASC", "views keys.g DESC keys.c DESC keys.s DESC",
		"views keys.g ASC keys.c ASC keys.s ASC keys.p ASC", "views keys.g DESC keys.c DESC keys.s DESC keys.p DESC",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	exempt, err := layout.Exempt(schema)
	if err != nil || len(exempt) != 6 || exempt[0] != (layout.Unindexed{Collection: "orders", Field: "data"}) {
		t.Errorf("got %v, %v", exempt, err)
	}
}

// served reports whether Firestore can run a query with the indexes: an order, after fields compared with Equal, needs
// one index with those fields first and then the order, in its direction. Without an order Firestore combines indexes
// of single fields.
func served(q store.Query, indexes []layout.Index) bool {
	equal, order := map[string]bool{}, q.Order
	for _, f := range q.Where {
		if f.Op == store.Equal {
			equal[layout.Path(f.Field)] = true
		} else if len(order) == 0 {
			order = []store.Order{{Field: f.Field}}
		}
	}
	if len(order) == 0 || len(order) == 1 && len(equal) == 0 {
		return true
	}
	return slices.ContainsFunc(indexes, func(i layout.Index) bool {
		if i.Collection != q.Collection || len(i.Fields) != len(equal)+len(order) {
			return false
		}
		for _, f := range i.Fields[:len(equal)] {
			if !equal[f.Path] {
				return false
			}
		}
		for n, o := range order {
			f := i.Fields[len(equal)+n]
			if f.Path != layout.Path(o.Field) || (f.Order == "DESCENDING") != o.Desc {
				return false
			}
		}
		return true
	})
}

// Firestore has an index for every query that the schema allows.
func TestEveryQueryHasItsIndex(t *testing.T) {
	indexes, err := layout.Indexes(schema)
	if err != nil {
		t.Fatal(err)
	}
	fields := []string{"state.customer_id", "placed", "at", "g", "c", "p", "s"}
	rapid.Check(t, func(t *rapid.T) {
		spec := rapid.SampledFrom(schema).Draw(t, "spec")
		from := fields
		if len(spec.Indexes) > 0 && rapid.IntRange(0, 3).Draw(t, "near") > 0 {
			from = rapid.SampledFrom(spec.Indexes).Draw(t, "index").Fields
		}
		q := store.Query{Collection: spec.Name, Limit: 1}
		desc := rapid.Bool().Draw(t, "desc")
		equal := rapid.IntRange(0, len(from)).Draw(t, "equal")
		for _, f := range from[:equal] {
			q.Where = append(q.Where, store.Filter{Field: f, Op: store.Equal, Value: "x"})
		}
		if equal < len(from) && rapid.Bool().Draw(t, "range") {
			q.Where = append(q.Where, store.Filter{Field: from[equal], Op: store.Greater, Value: "x"})
		}
		for _, f := range from[equal:rapid.IntRange(equal, len(from)).Draw(t, "order")] {
			q.Order = append(q.Order, store.Order{Field: f, Desc: desc})
		}
		if schema.Check(q) == nil && !served(q, indexes) {
			t.Errorf("%+v has no index", q)
		}
	})
}
