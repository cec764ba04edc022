package storetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// propertyCases compare a driver with a model over random sequences of calls, and check that concurrent calls are
// linearizable. A failing sequence is shrunk. `-rapid.checks` sets the number of sequences.
var propertyCases = map[string]func(*testing.T, Harness){
	"any sequence of calls answers as a map would": func(t *testing.T, h Harness) {
		d := closing(t, h.New(t, propertySchema))
		rapid.Check(t, func(rt *rapid.T) {
			w := &modelled{t: t, h: h, d: d, docs: map[store.Key]store.Document{}, last: map[store.Key]int64{}}
			w.empty(rt)
			rt.Repeat(map[string]func(*rapid.T){
				"commit": w.commit, "write": w.write, "get": w.get, "query": w.query, "turn": w.turn, "reopen": w.reopen,
			})
			w.everything(rt)
			d = w.d
		})
	},

	"calls at the same time are as if one came after the other": linearizable,
}

// propertySchema has a collection of every layout: with indexes, without, and for large documents.
var propertySchema = append(
	slices.Clone(Schema), store.Spec{Name: "bulky", Large: true, Indexes: []store.Index{store.On("n")}},
)

// modelled is a database with its expected content.
type modelled struct {
	t    *testing.T
	h    Harness
	d    store.Driver
	docs map[store.Key]store.Document
	last map[store.Key]int64 // the largest version that a deleted document of an id had
}

// empty deletes the documents of the sequence before, because all sequences use one database.
func (w *modelled) empty(rt *rapid.T) {
	for _, spec := range propertySchema {
		docs, _, err := w.d.Query(w.t.Context(), store.Query{Collection: spec.Name, Limit: store.MaxLimit})
		w.fine(rt, err)
		var batch store.Batch
		for _, d := range docs {
			batch.Mutations = append(batch.Mutations, remove(d.Key))
		}
		w.fine(rt, w.d.Commit(w.t.Context(), batch))
		for _, id := range someIDs { // what the deletions left
			k := store.Key{Collection: spec.Name, ID: id}
			docs, err := w.d.Get(w.t.Context(), k)
			w.fine(rt, err)
			w.last[k] = docs[0].Last
		}
	}
}

func (w *modelled) fine(rt *rapid.T, err error) {
	rt.Helper()
	if err != nil {
		rt.Fatal(err)
	}
}

var (
	somewhere = rapid.SampledFrom([]string{"things", "things", "others", "bulky", "once"})
	someIDs   = []string{
		"a", "b", "c", "d", "é", "A", "", "a'; --", "0190b5a0-0000-7000-8000-000000000001",
		"0190b5a0-0000-7000-8000-000000000002",
	}
	someID  = rapid.SampledFrom(someIDs)
	someKey = rapid.Custom(func(rt *rapid.T) store.Key {
		return store.Key{Collection: somewhere.Draw(rt, "collection"), ID: someID.Draw(rt, "id")}
	})
	someValue = rapid.OneOf(
		rapid.SampledFrom(slices.Concat(values...)),
		rapid.Map(rapid.IntRange(-3, 3), func(n int) string { return fmt.Sprint(n) }),
		rapid.Map(rapid.Float64(), func(f float64) string { b, _ := json.Marshal(f); return string(b) }),
		rapid.Map(rapid.String(), func(s string) string { b, _ := json.Marshal(s); return string(b) }),
	)
	// someData draws an object in which each indexed field may be missing or of any kind.
	someData = rapid.Custom(func(rt *rapid.T) string {
		var fields []string
		for _, name := range []string{"kind", "n", "name"} {
			if v := someValue.Draw(rt, name); v != "" {
				fields = append(fields, fmt.Sprintf("%q:%s", name, v))
			}
		}
		if rapid.Bool().Draw(rt, "state") {
			fields = append(fields, fmt.Sprintf(`"state":{"x":[],"customer_id":%q}`, someID.Draw(rt, "customer")))
		}
		if rapid.IntRange(0, 9).Draw(rt, "long") == 0 { // more than a page of most databases
			fields = append(fields, `"text":"`+strings.Repeat("ebb ", rapid.IntRange(500, 6000).Draw(rt, "length"))+`"`)
		}
		return "{" + strings.Join(fields, ",") + "}"
	})
)

// batch draws a batch; about half of them have a precondition that does not hold. The version is mostly one more than
// the stored one or Last, as package store writes it, but a driver accepts any, except for a document that is created.
func (w *modelled) batch(rt *rapid.T) (b store.Batch, holds bool) {
	holds = true
	for _, k := range rapid.SliceOfNDistinct(someKey, 0, 4, rapid.ID).Draw(rt, "preconditions") {
		p := at(k, w.docs[k].Version)
		if rapid.IntRange(0, 7).Draw(rt, "another version") == 0 {
			p.Version = rapid.Int64Range(0, 4).Draw(rt, "version")
		}
		holds = holds && p.Version == w.docs[k].Version
		b.Preconditions = append(b.Preconditions, p)
	}
	for _, k := range rapid.SliceOfNDistinct(someKey, 0, 5, rapid.ID).Draw(rt, "mutations") {
		m := remove(k)
		if rapid.IntRange(0, 3).Draw(rt, "delete") > 0 {
			before := max(w.docs[k].Version, w.last[k])
			m = put(k, max(1, before+rapid.Int64Range(0, 2).Draw(rt, "step")), someData.Draw(rt, "data"))
		} else if rapid.Bool().Draw(rt, "versioned") {
			m.Version = w.docs[k].Version + 1
		}
		b.Mutations = append(b.Mutations, m)
		// Most batches have preconditions on the documents that they write.
		conditioned := slices.ContainsFunc(b.Preconditions, func(p store.Precondition) bool { return p.Key == k })
		if !conditioned && rapid.Bool().Draw(rt, "condition") {
			b.Preconditions = append(b.Preconditions, at(k, w.docs[k].Version))
			conditioned = true
		}
		creates := m.Data != nil && conditioned && w.docs[k].Version == 0
		holds = holds && (!creates || m.Version > w.last[k])
	}
	return b, holds
}

func (w *modelled) commit(rt *rapid.T) {
	b, holds := w.batch(rt)
	w.commitAs(rt, b, holds)
}

// write changes one document as a unit of work does: with the version that was read.
func (w *modelled) write(rt *rapid.T) {
	k := someKey.Draw(rt, "key")
	v := w.docs[k].Version
	b := store.Batch{
		Preconditions: []store.Precondition{at(k, v)},
		Mutations:     []store.Mutation{put(k, max(v, w.last[k])+1, someData.Draw(rt, "data"))},
	}
	w.commitAs(rt, b, true)
}

func (w *modelled) commitAs(rt *rapid.T, b store.Batch, holds bool) {
	rt.Helper()
	// The driver may keep and change the batch, so the model has copies.
	err := w.d.Commit(
		w.t.Context(), store.Batch{Preconditions: slices.Clone(b.Preconditions), Mutations: slices.Clone(b.Mutations)},
	)
	if !holds {
		if !fault.Is(err, fault.Conflict) {
			rt.Fatalf("commit %s: got %v, want a conflict", show(b), err)
		}
		return
	}
	if err != nil {
		rt.Fatalf("commit %s: %v", show(b), err)
	}
	for _, m := range b.Mutations {
		if m.Data != nil {
			w.docs[m.Key] = m.Document()
			continue
		}
		if d, there := w.docs[m.Key]; there && !singleUse(m.Collection) {
			w.last[m.Key] = max(w.last[m.Key], d.Version, m.Version)
		}
		delete(w.docs, m.Key)
	}
}

func singleUse(collection string) bool {
	spec, _ := propertySchema.Spec(collection)
	return spec.SingleUse
}

func (w *modelled) get(rt *rapid.T) {
	keys := rapid.SliceOfN(someKey, 1, 6).Draw(rt, "keys")
	got, err := w.d.Get(w.t.Context(), keys...)
	w.fine(rt, err)
	want := make([]store.Document, len(keys))
	for i, k := range keys {
		want[i] = w.docs[k]
		want[i].Key = k
		if want[i].Version == 0 {
			want[i].Last = w.last[k]
		}
	}
	w.agree(rt, "get", got, want)
}

// indexed draws an index, and returns its collection and fields.
func indexed(rt *rapid.T) (collection string, fields []string) {
	spec := rapid.SampledFrom(propertySchema).Draw(rt, "spec")
	if len(spec.Indexes) == 0 {
		return spec.Name, nil
	}
	return spec.Name, rapid.SampledFrom(spec.Indexes).Draw(rt, "index").Fields
}

// someQuery draws a query that the schema covers: Equal for some fields of an index, perhaps a range over the next
// field, and an order by the following ones.
func someQuery(rt *rapid.T) store.Query {
	collection, fields := indexed(rt)
	q := store.Query{Collection: collection, Limit: rapid.IntRange(1, 6).Draw(rt, "limit")}
	n := rapid.IntRange(0, len(fields)).Draw(rt, "equal")
	for _, f := range fields[:n] {
		q.Where = append(q.Where, where(f, store.Equal, someFilterValue.Draw(rt, "value")))
	}
	fields = fields[n:]
	if len(fields) > 0 && rapid.Bool().Draw(rt, "range") {
		for range rapid.IntRange(1, 2).Draw(rt, "ends") {
			op := rapid.SampledFrom(
				[]store.Op{store.Less, store.LessOrEqual, store.Greater, store.GreaterOrEqual},
			).Draw(rt, "op")
			q.Where = append(q.Where, where(fields[0], op, someFilterValue.Draw(rt, "value")))
		}
	}
	desc := rapid.Bool().Draw(rt, "descending")
	for _, f := range fields[:rapid.IntRange(0, len(fields)).Draw(rt, "order")] {
		q.Order = append(q.Order, by(f, desc))
	}
	return q
}

var someFilterValue = rapid.OneOf(
	rapid.SampledFrom(
		[]any{true, false, int64(-1), int64(0), int64(1), int64(2), 0.1, -0.1, 1e300, "", "a", "aa", "é", "10"},
	),
	rapid.Map(rapid.Int64Range(-3, 3), func(n int64) any { return n }),
)

// query reads all pages of a query, each with a cursor that was encoded and decoded.
func (w *modelled) query(rt *rapid.T) {
	q := someQuery(rt)
	want := expected(slices.Collect(maps.Values(w.in(q.Collection))), q)
	var got []store.Document
	for page := 0; ; page++ {
		docs, more, err := w.d.Query(w.t.Context(), q)
		w.fine(rt, err)
		got = append(got, docs...)
		switch full := len(docs) == q.Limit; {
		case more != (len(got) < len(want)), more && !full, len(docs) > q.Limit:
			rt.Fatalf("query %+v: page %d has %v, more %v\nwant %v", q, page, ids(docs), more, ids(want))
		}
		if !more {
			break
		}
		q.After = w.through(rt, store.PositionOf(docs[len(docs)-1], q.Order))
	}
	w.agree(rt, fmt.Sprintf("query %+v", q), got, want)
}

// turn reads one page after a position that may have no document.
func (w *modelled) turn(rt *rapid.T) {
	q := someQuery(rt)
	p := store.Position{ID: someID.Draw(rt, "after")}
	p.Values = store.PositionOf(store.Document{Data: json.RawMessage(someData.Draw(rt, "place"))}, q.Order).Values
	q.After = w.through(rt, p)
	var want []store.Document
	for _, d := range expected(slices.Collect(maps.Values(w.in(q.Collection))), q) {
		if store.Compare(store.PositionOf(d, q.Order), *q.After, q.Order) > 0 {
			want = append(want, d)
		}
	}
	got, more, err := w.d.Query(w.t.Context(), q)
	w.fine(rt, err)
	if more != (len(want) > q.Limit) {
		rt.Fatalf("query %+v: more is %v with %d documents to come", q, more, len(want))
	}
	w.agree(rt, fmt.Sprintf("query %+v", q), got, want[:min(len(want), q.Limit)])
}

func (w *modelled) through(rt *rapid.T, p store.Position) *store.Position {
	again, err := store.DecodeCursor(store.EncodeCursor(p))
	w.fine(rt, err)
	return &again
}

func (w *modelled) reopen(rt *rapid.T) {
	if w.h.Reopen == nil {
		rt.Skip("the driver cannot open a database again")
	}
	if rapid.IntRange(0, 7).Draw(rt, "reopen") > 0 {
		return // it takes much longer than the other calls
	}
	w.fine(rt, w.d.Close())
	w.d = closing(w.t, w.h.Reopen(w.t, propertySchema))
}

// everything compares all documents.
func (w *modelled) everything(rt *rapid.T) {
	for _, spec := range propertySchema {
		q := store.Query{Collection: spec.Name, Limit: store.MaxLimit}
		got, _, err := w.d.Query(w.t.Context(), q)
		w.fine(rt, err)
		w.agree(rt, "all of "+spec.Name, got, expected(slices.Collect(maps.Values(w.in(spec.Name))), q))
	}
}

func (w *modelled) in(collection string) map[store.Key]store.Document {
	found := maps.Clone(w.docs)
	maps.DeleteFunc(found, func(k store.Key, _ store.Document) bool { return k.Collection != collection })
	return found
}

// agree compares documents with the expected ones. Data may have other white space.
func (w *modelled) agree(rt *rapid.T, what string, got, want []store.Document) {
	rt.Helper()
	if !slices.EqualFunc(got, want, equal) {
		rt.Fatalf("%s:\ngot  %s\nwant %s", what, showAll(got), showAll(want))
	}
}

func equal(a, b store.Document) bool {
	return a.Key == b.Key && a.Version == b.Version && a.Last == b.Last && (a.Data == nil) == (b.Data == nil) &&
		(a.Data == nil || canonical(a.Data) == canonical(b.Data))
}

func canonical(data json.RawMessage) string {
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err.Error() + string(data)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func show(b store.Batch) string {
	var parts []string
	for _, p := range b.Preconditions {
		parts = append(parts, fmt.Sprintf("if %s/%s@%d", p.Collection, p.ID, p.Version))
	}
	for _, m := range b.Mutations {
		parts = append(parts, showOne(m.Document()))
	}
	return strings.Join(parts, ", ")
}

func showAll(docs []store.Document) string {
	parts := make([]string, len(docs))
	for i, d := range docs {
		parts[i] = showOne(d)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func showOne(d store.Document) string {
	data := string(d.Data)
	if len(data) > 120 {
		data = fmt.Sprintf("%s… (%d bytes)", data[:120], len(data))
	}
	if d.Last > 0 {
		data = fmt.Sprintf("(last %d)", d.Last)
	}
	return fmt.Sprintf("%s/%s@%d %s", d.Collection, d.ID, d.Version, data)
}
