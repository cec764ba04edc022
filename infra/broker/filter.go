package broker

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/ebb-dev/ebb/infra/broker/internal/cesql"
	"github.com/ebb-dev/ebb/infra/fault"
)

// A Matcher is a compiled list of filters. The zero Matcher passes every event.
// It may be used concurrently.
type Matcher struct{ tests []test }

type test func(*event.Event) bool

// Match reports whether the event passes all filters. It does not change the event.
func (m Matcher) Match(e *event.Event) bool { return all(m.tests, e) }

func all(tests []test, e *event.Event) bool {
	for _, t := range tests {
		if !t(e) {
			return false
		}
	}
	return true
}

// Compile checks the filters and makes them quick to apply. All faults are told at once,
// as fault.Invalid with one detail for each. An attribute that an event lacks passes no
// exact, prefix or suffix; a CESQL expression that fails, or is no boolean, does not pass.
func Compile(filters []Filter) (Matcher, error) {
	var c compiler
	m := Matcher{tests: c.list("filters", filters)}
	if len(c.faults) > 0 {
		first := c.faults[0]
		return Matcher{}, fault.New(fault.Invalid, "%s: %s", first.Location, first.Message).With(c.faults...)
	}
	return m, nil
}

// compiler gathers the faults of a list of filters, each under the place it is in.
type compiler struct{ faults []fault.Detail }

func (c *compiler) fail(at, format string, args ...any) test {
	c.faults = append(c.faults, fault.Detail{Location: at, Message: fmt.Sprintf(format, args...)})
	return nil
}

func (c *compiler) list(at string, filters []Filter) []test {
	tests := make([]test, 0, len(filters))
	for i := range filters {
		tests = append(tests, c.filter(fmt.Sprintf("%s[%d]", at, i), &filters[i]))
	}
	return tests
}

func (c *compiler) filter(at string, f *Filter) test {
	if n := f.dialects(); n != 1 {
		return c.fail(at, "has %d dialects, wants exactly one of exact, prefix, suffix, all, any, not, cesql", n)
	}
	switch {
	case f.Exact != nil:
		return c.compare(at+".exact", f.Exact, func(have, want string) bool { return have == want })
	case f.Prefix != nil:
		return c.compare(at+".prefix", f.Prefix, strings.HasPrefix)
	case f.Suffix != nil:
		return c.compare(at+".suffix", f.Suffix, strings.HasSuffix)
	case f.All != nil:
		tests := c.list(at+".all", f.All)
		return func(e *event.Event) bool { return all(tests, e) }
	case f.Any != nil:
		return c.any(at+".any", f.Any)
	case f.Not != nil:
		inner := c.filter(at+".not", f.Not)
		return func(e *event.Event) bool { return !inner(e) }
	}
	return c.cesql(at+".cesql", f.CESQL)
}

func (f *Filter) dialects() (n int) {
	for _, set := range [...]bool{len(f.Exact) > 0, len(f.Prefix) > 0, len(f.Suffix) > 0,
		len(f.All) > 0, len(f.Any) > 0, f.Not != nil, f.CESQL != ""} {
		if set {
			n++
		}
	}
	return n
}

// attributeName is what the CloudEvents specification allows as the name of an attribute.
var attributeName = regexp.MustCompile(`^[a-z0-9]+$`)

func (c *compiler) compare(at string, want map[string]string, ok func(have, want string) bool) test {
	var tests []test
	for _, name := range slices.Sorted(maps.Keys(want)) {
		value := want[name]
		switch {
		case !attributeName.MatchString(name):
			c.fail(at, "%q is no attribute name: lower-case letters and digits only", name)
		case value == "":
			c.fail(at, "the value for %q is empty", name)
		}
		if name == "type" { // the usual one, and quick to get
			tests = append(tests, func(e *event.Event) bool { return ok(typeOf(e), value) })
			continue
		}
		tests = append(tests, func(e *event.Event) bool {
			have, found := attribute(e, name)
			return found && ok(have, value)
		})
	}
	if len(tests) == 1 {
		return tests[0]
	}
	return func(e *event.Event) bool { return all(tests, e) }
}

// any tests the exact types among its filters with one look-up in a set, however many they
// are: that is what nearly every trigger of Ebb is.
func (c *compiler) any(at string, filters []Filter) test {
	typeSet := make(map[string]struct{})
	var rest []test
	for i := range filters {
		t := c.filter(fmt.Sprintf("%s[%d]", at, i), &filters[i])
		if want, ok := filters[i].Exact["type"]; ok && len(filters[i].Exact) == 1 {
			typeSet[want] = struct{}{}
			continue
		}
		rest = append(rest, t)
	}
	return func(e *event.Event) bool {
		if _, ok := typeSet[typeOf(e)]; ok {
			return true
		}
		return slices.ContainsFunc(rest, func(t test) bool { return t(e) })
	}
}

func (c *compiler) cesql(at, text string) test {
	expr, err := cesql.Compile(text)
	if err != nil {
		return c.fail(at, "cannot be parsed: %v", err)
	}
	return func(e *event.Event) bool {
		return expr.Match(func(name string) (any, bool) { return value(e, name) })
	}
}

// value is an attribute of the event as CESQL sees it: integers and booleans are such, all else is text.
func value(e *event.Event, name string) (any, bool) {
	switch v := e.Extensions()[name].(type) {
	case int32, bool:
		return v, true
	}
	return attribute(e, name)
}

// typeOf is e.Type() without the copy of the whole context that the SDK's getter makes.
func typeOf(e *event.Event) string {
	if c, ok := e.Context.(*event.EventContextV1); ok {
		return c.Type
	}
	return e.Type()
}

// attribute is the canonical text of an attribute of the event, and whether it has it.
func attribute(e *event.Event, name string) (string, bool) {
	c, ok := e.Context.(*event.EventContextV1)
	if !ok {
		c = e.Context.AsV1()
	}
	switch name {
	case "specversion":
		return c.GetSpecVersion(), true
	case "id":
		return c.ID, true
	case "source":
		return c.Source.String(), true
	case "type":
		return c.Type, true
	case "subject":
		return deref(c.Subject)
	case "datacontenttype":
		return deref(c.DataContentType)
	case "dataschema":
		if c.DataSchema == nil {
			return "", false
		}
		return c.DataSchema.String(), true
	case "time":
		if c.Time == nil {
			return "", false
		}
		return c.Time.String(), true
	}
	v, ok := c.Extensions[name]
	if !ok {
		return "", false
	}
	text, err := types.Format(v)
	return text, err == nil
}

func deref(s *string) (string, bool) {
	if s == nil {
		return "", false
	}
	return *s, true
}
