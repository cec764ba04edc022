package config_test

import (
	"testing"

	"github.com/ebb-dev/ebb/infra/config"
)

// The first origin that has a value counts; an empty one has none, and a secret is shown by none.
func TestReportOf(t *testing.T) {
	variables := []config.Variable{
		{Name: "A", Default: "1", Reload: true, Desc: "how many"}, {Name: "B", Secret: true}, {Name: "C"},
		{Name: "D", Also: "PLAIN"}, {Name: "E"}, {Name: "F", Default: "x"}, {Name: "G"},
	}
	environment := config.Map(map[string]string{
		"A": "2", "B": "hidden", "C": "amqp://ada:hidden@broker:5672", "PLAIN": "p", "E": "hidden", "F": "",
	})
	parameters := config.Map(map[string]string{"E": "hidden", "F": ""})
	r := config.ReportOf(variables, config.Origin{Name: config.FromParameter, Lookup: parameters, Secret: true},
		config.Origin{Name: "nothing"}, config.Origin{Name: config.FromEnvironment, Lookup: environment})
	want := []config.Setting{
		{Variable: "A", Value: "2", Origin: "environment", Reload: true, Description: "how many"},
		{Variable: "B", Value: "***", Origin: "environment"},
		{Variable: "C", Value: "amqp://ada:xxxxx@broker:5672", Origin: "environment"},
		{Variable: "D", Value: "p", Origin: "environment"}, {Variable: "E", Value: "***", Origin: "parameter"},
		{Variable: "F", Value: "x", Origin: "default"}, {Variable: "G", Origin: "unset"},
	}
	for i, s := range r.Settings {
		if s != want[i] {
			t.Errorf("got %+v, want %+v", s, want[i])
		}
	}
	host := config.Map(map[string]string{"A": "9", "F": "made", "G": "made"})
	for i, s := range r.Given(host).Settings {
		if i >= 5 {
			want[i].Value, want[i].Origin = "***", "host"
		}
		if s != want[i] {
			t.Errorf("of the host: got %+v, want %+v", s, want[i])
		}
	}
}
