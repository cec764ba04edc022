package broker_test

import (
	"encoding/json"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Whatever list of filters comes in, it is either refused as invalid or tells of every event, always the same, whether
// it passes; and what one filter passes, its negation does not.
func FuzzFilters(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{}]`, `null`, `[{"exact":{"type":"dev.ebb.orders.placed.v1","subject":"42"}}]`,
		`[{"prefix":{"type":"dev."}},{"suffix":{"type":".v1"}}]`,
		`[{"any":[{"exact":{"type":"x"}},{"not":{"all":[{"exact":{"sequence":"3"}}]}}]}]`, `[{"any":[]}]`, `[{"not":{}}]`,
		`[{"cesql":"type LIKE 'dev.ebb.orders.%' AND sequence > 2"}]`, `[{"exact":{"Type":""},"cesql":"((("}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var filters []broker.Filter
		if json.Unmarshal(text, &filters) != nil {
			return
		}
		e := placed()
		got, ok := passes(t, filters)
		for i := range filters {
			negated, fine := passes(t, []broker.Filter{{Not: &filters[i]}})
			if fine != ok && ok {
				t.Errorf("%s: a filter of a list that is taken is refused when it is negated", text)
			}
			if one, _ := passes(t, filters[i:i+1]); fine && one == negated {
				t.Errorf("%s: filter %d and its negation both say %v of %v", text, i, one, e)
			}
			if got && negated {
				t.Errorf("%s passes, and so does the negation of filter %d", text, i)
			}
		}
	})
}

// Any text as a CESQL expression is refused as invalid, or answers every event without bringing the process down.
func FuzzCESQL(f *testing.F) {
	for _, seed := range []string{
		"", "TRUE", "type LIKE 'dev.ebb.orders.%' AND sequence > 2", "EXISTS replayto", "INT(subject) / 0 = 1", "NO_SUCH(",
		"'", `"\"`,
		"type IN ('a', 'b') OR NOT (id = '1')", "CONCAT_WS('.', type, id) != SUBSTRING(subject, -1)",
		"-2147483648 % -1 = 0", "2147483648 = 1", "((((", "ABS(-2147483648) > 0",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		passes(t, []broker.Filter{{CESQL: text}})
	})
}

// passes reports whether the filters pass an event; ok is false when they are refused.
func passes(t *testing.T, filters []broker.Filter) (pass, ok bool) {
	t.Helper()
	m, err := broker.Compile(filters)
	if err != nil {
		if !fault.Is(err, fault.Invalid) || len(fault.DetailsOf(err)) == 0 {
			t.Errorf("%v: got %v with details %v, want fault.Invalid with a detail", filters, err, fault.DetailsOf(err))
		}
		return false, false
	}
	e := placed()
	before := e.String()
	pass = m.Match(&e)
	if again := m.Match(&e); again != pass {
		t.Errorf("%v: got %v, then %v", filters, pass, again)
	}
	if e.String() != before {
		t.Errorf("%v: matching changed the event", filters)
	}
	return pass, true
}
