package broker_test

import (
	"encoding/json"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

func placed() ce.Event {
	e := ce.New()
	e.SetID("1")
	e.SetSource("/functions/orders")
	e.SetType("dev.ebb.orders.placed.v1")
	e.SetSubject("42")
	e.SetExtension("sequence", 3)
	return e
}

// Each dialect passes and stops what the Subscriptions API says.
func TestMatch(t *testing.T) {
	e := placed()
	for text, want := range map[string]bool{
		`[]`: true,
		`[{"exact":{"type":"dev.ebb.orders.placed.v1"}}]`:                                  true,
		`[{"exact":{"type":"dev.ebb.orders.placed"}}]`:                                     false,
		`[{"exact":{"type":"dev.ebb.orders.placed.v1","subject":"41"}}]`:                   false,
		`[{"exact":{"type":"dev.ebb.orders.placed.v1","subject":"42"}}]`:                   true,
		`[{"exact":{"sequence":"3"}}]`:                                                     true,
		`[{"exact":{"specversion":"1.0"}}]`:                                                true,
		`[{"exact":{"source":"/functions/orders"}}]`:                                       true,
		`[{"exact":{"time":"x"}}]`:                                                         false,
		`[{"exact":{"nothing":"x"}}]`:                                                      false,
		`[{"prefix":{"type":"dev.ebb.orders."}}]`:                                          true,
		`[{"prefix":{"type":"dev.ebb.users."}}]`:                                           false,
		`[{"prefix":{"nothing":"x"}}]`:                                                     false,
		`[{"suffix":{"type":".v1"}}]`:                                                      true,
		`[{"suffix":{"type":".v2"}}]`:                                                      false,
		`[{"suffix":{"nothing":"x"}}]`:                                                     false,
		`[{"all":[{"suffix":{"type":".v1"}},{"exact":{"subject":"42"}}]}]`:                 true,
		`[{"all":[{"suffix":{"type":".v1"}},{"exact":{"subject":"41"}}]}]`:                 false,
		`[{"any":[{"exact":{"type":"x"}},{"exact":{"type":"dev.ebb.orders.placed.v1"}}]}]`: true,
		`[{"any":[{"exact":{"type":"x"}},{"exact":{"type":"y"}}]}]`:                        false,
		`[{"any":[{"exact":{"type":"x"}},{"exact":{"subject":"42"}}]}]`:                    true,
		`[{"any":[{"exact":{"type":"dev.ebb.orders.placed.v1","subject":"41"}}]}]`:         false,
		`[{"not":{"exact":{"subject":"42"}}}]`:                                             false,
		`[{"not":{"exact":{"nothing":"x"}}}]`:                                              true,
		`[{"cesql":"type LIKE 'dev.ebb.orders.%' AND sequence > 2"}]`:                      true,
		`[{"cesql":"sequence > 3"}]`:                                                       false,
		`[{"cesql":"nothing = 'x'"}]`:                                                      false,
		`[{"cesql":"INT(subject) / 0 = 1"}]`:                                               false,
		`[{"cesql":"subject"}]`:                                                            false,
		`[{"exact":{"subject":"42"}},{"prefix":{"type":"x"}}]`:                             false,
	} {
		var filters []broker.Filter
		if err := json.Unmarshal([]byte(text), &filters); err != nil {
			t.Fatal(text, err)
		}
		m, err := broker.Compile(filters)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := m.Match(&e); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}

// A list that cannot be right is refused, and every fault is named with its place.
func TestCompileRefuses(t *testing.T) {
	bad := []broker.Filter{
		{},
		{CESQL: "(((", Exact: map[string]string{"id": "1"}},
		{Exact: map[string]string{"Type": "x"}},
		{Prefix: map[string]string{"type": ""}},
		{Any: []broker.Filter{{Exact: map[string]string{"id": "1"}}, {Not: &broker.Filter{CESQL: "((("}}}},
		{CESQL: "NO_SUCH_FUNCTION("},
	}
	_, err := broker.Compile(bad)
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("got %v, want fault.Invalid", err)
	}
	var places []string
	for _, d := range fault.DetailsOf(err) {
		places = append(places, d.Location)
	}
	want := "filters[0] filters[1] filters[2].exact filters[3].prefix filters[4].any[1].not.cesql filters[5].cesql"
	if got := strings.Join(places, " "); got != want {
		t.Errorf("faults in\n%s, want\n%s", got, want)
	}
}

func BenchmarkMatch(b *testing.B) {
	types := make([]broker.Filter, 12)
	for i := range types {
		types[i].Exact = map[string]string{"type": "dev.ebb.x.v" + strings.Repeat("1", i)}
	}
	for name, filters := range map[string][]broker.Filter{
		"any-of-12-types": {{Any: types}},
		"prefix":          {{Prefix: map[string]string{"type": "dev.ebb.orders."}}},
		"cesql":           {{CESQL: "type LIKE 'dev.ebb.orders.%'"}},
	} {
		m, err := broker.Compile(filters)
		if err != nil {
			b.Fatal(err)
		}
		e := placed()
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m.Match(&e)
			}
		})
	}
}
