package conformance

import (
	"fmt"
)

const sectionFilters = "CloudEvents Subscriptions API, 3.2.4: filters"

func not(f Filter) Filter       { return Filter{"not": f} }
func all(fs ...Filter) Filter   { return Filter{"all": fs} }
func some(fs ...Filter) Filter  { return Filter{"any": fs} }
func prefix(n, v string) Filter { return Filter{"prefix": map[string]string{n: v}} }
func suffix(n, v string) Filter { return Filter{"suffix": map[string]string{n: v}} }
func cesql(expr string) Filter  { return Filter{"cesql": expr} }
func both(d, n, v, m, w string) Filter {
	return Filter{d: map[string]string{n: v, m: w}}
}

// filterCase is a trigger with filters, events that pass them and events that do not.
type filterCase struct {
	id, sentence string
	level        Level
	filters      []Filter
	pass, stop   []message // members that differ from the sample's
}

// sample holds the members that the events of filter cases have by default.
var sample = message{
	"subject": "orders/42", "datacontenttype": "application/json", "dataschema": "https://example.com/schema",
	"region": "eu-west", "tier": "gold", "number": "7",
}

func filterCases() []Case {
	var cases []Case
	for _, f := range allFilters {
		cases = append(cases, Case{ID: "filter-" + f.id, Section: sectionFilters, Level: f.level, Sentence: f.sentence,
			run: func(t *trial) { t.filters(f) }})
	}
	for _, r := range refusedFilters {
		cases = append(cases, Case{ID: "filter-refuses-" + r.id, Section: sectionFilters, Level: r.level,
			Sentence: "a trigger with " + r.what + " is refused", run: func(t *trial) { t.refusesFilter(r) }})
	}
	return append(cases,
		Case{ID: "filter-attributes", Section: sectionFilters, Level: Must,
			Sentence: "the attributes filter of a trigger passes events that match all its pairs " +
				"exactly", run: filterAttributes},
		Case{ID: "filter-all-attributes", Section: sectionFilters, Level: Must,
			Sentence: "every context attribute can be filtered by, and every extension", run: filterAllAttributes},
	)
}

// m returns a message with the members, of which nil ones are kept: sampled removes a member whose value is nil.
func m(members ...any) message {
	out := message{}
	for i := 0; i < len(members); i += 2 {
		out[members[i].(string)] = members[i+1]
	}
	return out
}

var allFilters = []filterCase{
	{id: "none", level: Must, sentence: "a trigger without filters, or with an empty list of them, passes every event",
		filters: []Filter{}, pass: []message{m(), m("subject", nil)}},
	{id: "exact", level: Must, sentence: "exact passes an attribute that is the value, and nothing else",
		filters: []Filter{exact("subject", "orders/42")}, pass: []message{m()},
		stop: []message{m("subject", "orders/4"), m("subject", "orders/421"), m("subject", "Orders/42"), m("subject", nil)}},
	{id: "exact-many", level: Must, sentence: "exact with several attributes passes when all of them match",
		filters: []Filter{both("exact", "region", "eu-west", "tier", "gold")}, pass: []message{m()},
		stop: []message{m("region", "us"), m("tier", "Gold"), m("tier", nil)}},
	{id: "prefix", level: Must, sentence: "prefix passes an attribute that begins with the value, case-sensitively",
		filters: []Filter{prefix("subject", "orders/")}, pass: []message{m(), m("subject", "orders/")},
		stop: []message{m("subject", "Orders/42"), m("subject", "my/orders/"), m("subject", nil)}},
	{id: "prefix-many", level: Must, sentence: "prefix with several attributes passes when all of them match",
		filters: []Filter{both("prefix", "region", "eu", "tier", "go")}, pass: []message{m()},
		stop: []message{m("region", "us-west"), m("tier", "silver"), m("region", nil)}},
	{id: "suffix", level: Must, sentence: "suffix passes an attribute that ends with the value, case-sensitively",
		filters: []Filter{suffix("subject", "/42")}, pass: []message{m(), m("subject", "/42")},
		stop: []message{m("subject", "orders/421"), m("subject", "orders-42"), m("subject", nil)}},
	{id: "suffix-many", level: Must, sentence: "suffix with several attributes passes when all of them match",
		filters: []Filter{both("suffix", "region", "west", "tier", "old")}, pass: []message{m()},
		stop: []message{m("region", "eu-East"), m("tier", "silver"), m("tier", nil)}},
	{id: "all", level: Must, sentence: "all passes when every nested filter does",
		filters: []Filter{all(exact("tier", "gold"), prefix("region", "eu"), suffix("subject", "42"))}, pass: []message{m()},
		stop: []message{m("tier", "silver"), m("region", "us"), m("subject", "43")}},
	{id: "any", level: Must, sentence: "any passes when at least one nested filter does",
		filters: []Filter{some(exact("tier", "gold"), prefix("region", "eu"))},
		pass:    []message{m(), m("tier", "silver"), m("region", "us")}, stop: []message{m("tier", "silver", "region", "us"),
			m("tier", nil, "region", nil)}},
	{id: "any-types", level: Must, sentence: "any of several exact types passes each of them",
		filters: []Filter{some(exact("number", "1"), exact("number", "2"), exact("number", "3"))},
		pass:    []message{m("number", "1"), m("number", "2"), m("number", "3")}, stop: []message{m(), m("number", nil)}},
	{id: "not", level: Must, sentence: "not passes when the nested filter does not",
		filters: []Filter{not(exact("tier", "gold"))}, pass: []message{m("tier", "silver")}, stop: []message{m()}},
	{id: "not-absent", level: Must, sentence: "not passes an event that lacks the attribute",
		filters: []Filter{not(exact("tier", "gold"))}, pass: []message{m("tier", nil)}, stop: []message{m()}},
	{id: "nested", level: Must, sentence: "filters nest: not of any of all, and all of not",
		filters: []Filter{not(some(all(exact("tier", "gold"), exact("region", "us")),
			all(not(prefix("subject", "orders/")))))},
		pass: []message{m(), m("tier", "silver", "region", "us")}, stop: []message{m("region", "us"),
			m("subject", "users/1")}},
	{id: "list", level: Must, sentence: "an event is delivered only when every filter of the list passes it",
		filters: []Filter{prefix("subject", "orders/"), not(exact("tier", "silver")),
			suffix("region", "west")}, pass: []message{m()},
		stop: []message{m("subject", "x"), m("tier", "silver"), m("region", "eu-east")}},
	{id: "integer", level: Must, sentence: "an attribute that is no string is compared in its canonical form",
		filters: []Filter{exact("number", "7")}, pass: []message{m("number", 7)}, stop: []message{m("number", 8),
			m("number", true)}},
}

// sampled returns an event with the sample's members and those given. The value nil removes a member.
func (t *trial) sampled(members message) message {
	e := t.event()
	for _, from := range []message{sample, members} {
		for name, value := range from {
			e = e.with(name, value)
		}
	}
	return e
}

// filters posts the events that must not pass before those that must, and waits for the latter.
func (t *trial) filters(f filterCase) {
	control := t.subscribe(nil, nil)
	k := t.subscribe(nil, nil, f.filters...)
	var stopped, passed []message
	for _, members := range f.stop {
		e := t.sampled(members)
		stopped = append(stopped, e)
		t.sendStructured(e)
	}
	for _, members := range f.pass {
		e := t.sampled(members)
		passed = append(passed, e)
		t.sendStructured(e)
	}
	for i, e := range passed {
		t.await(control, e.id(), 1)
		t.mayWait(k, e.id(), fmt.Sprintf("%v passes %v", f.filters, f.pass[i]))
	}
	for _, e := range stopped {
		t.await(control, e.id(), 1)
	}
	t.waitQuiet()
	for i, e := range stopped {
		t.never(k, e.id(), fmt.Sprintf("%v does not pass %v", f.filters, f.stop[i]))
	}
}

// mayWait waits for a delivery. When none comes, it records a failure and the trial continues.
func (t *trial) mayWait(k *sink, id, expected string) {
	defer func() {
		if p := recover(); p == stopped {
			t.mu.Lock()
			t.failures[len(t.failures)-1] = Failure{expected, "no delivery"}
			t.mu.Unlock()
		} else if p != nil {
			panic(p)
		}
	}()
	t.await(k, id, 1)
}

func filterAttributes(t *trial) {
	k := t.subscribeTo(nil, Trigger{Attributes: map[string]string{"type": t.typ(), "tier": "gold"}})
	control := t.subscribe(nil, nil)
	stopped := []message{t.sampled(m("tier", "silver")), t.sampled(m("tier", nil)), t.sampled(m("tier", "Gold"))}
	passed := t.sampled(m())
	for _, e := range append(stopped, passed) {
		t.send(e)
		t.await(control, e.id(), 1)
	}
	t.one(k, passed.id())
	t.waitQuiet()
	for _, e := range stopped {
		t.never(k, e.id(), fmt.Sprintf("tier %v does not pass", e["tier"]))
	}
}

func filterAllAttributes(t *trial) {
	e := t.sampled(m("time", "2024-02-29T01:02:03Z"))
	e["data"] = "{}"
	other := e.with("id", e.id()+"-other", "source", "/elsewhere", "subject", "x", "dataschema",
		"https://example.com/other",
		"datacontenttype", "text/plain", "time", "2025-02-28T01:02:03Z", "region", "x")
	names := []string{"id", "source", "subject", "dataschema", "datacontenttype", "region", "time"}
	sinks := make(map[string]*sink, len(names))
	each(t, names, func(name string) {
		k := t.subscribe(nil, nil, exact(name, fmt.Sprint(e[name])))
		t.mu.Lock()
		sinks[name] = k
		t.mu.Unlock()
	})
	version := t.subscribe(nil, nil, exact("specversion", "1.0"))
	t.send(other)
	t.send(e)
	t.await(version, other.id(), 1)
	for _, name := range names {
		t.mayWait(sinks[name], e.id(), fmt.Sprintf("exact %s %v passes", name, e[name]))
	}
	t.waitQuiet()
	for _, name := range names {
		t.never(sinks[name], other.id(), fmt.Sprintf("exact %s %v does not pass %v", name, e[name], other[name]))
	}
}

type refusedFilter struct {
	id, what string
	level    Level
	filter   Filter
}

var refusedFilters = []refusedFilter{
	{"dialect", "a filter of an unknown dialect", Must, Filter{"regex": map[string]string{"type": ".*"}}},
	{"two-dialects", "a filter of two dialects", Should, Filter{"exact": map[string]string{"type": "a"},
		"prefix": map[string]string{"type": "a"}}},
	{"no-dialect", "a filter of no dialect", Should, Filter{}},
	{"empty-value", "exact for an empty value", Must, exact("subject", "")},
	{"empty-prefix", "prefix for an empty value", Must, prefix("subject", "")},
	{"empty-suffix", "suffix for an empty value", Must, suffix("subject", "")},
	{"empty-name", "exact for an attribute without a name", Must, exact("", "x")},
	{"bad-name", "exact for a name that no attribute can have", Should, exact("Not-OK", "x")},
	{"empty-all", "all of nothing", Must, Filter{"all": []Filter{}}},
	{"empty-any", "any of nothing", Must, Filter{"any": []Filter{}}},
	{"nested", "an invalid filter inside another", Must, not(all(some(exact("subject", ""))))},
	{"wrong-shape", "exact with a value that is no map", Must, Filter{"exact": "subject"}},
}

func (t *trial) refusesFilter(r refusedFilter) {
	err := t.create(Trigger{Sink: t.sink(nil).url, Filters: []Filter{t.ours(), r.filter}})
	switch {
	case err == nil:
		t.fail("a trigger with "+r.what+" is refused", "the broker made it")
	case !refused(err):
		t.fail("a trigger with "+r.what+" is refused", err.Error())
	}
}
