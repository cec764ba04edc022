package functions

import (
	"slices"
	"testing"

	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/personal"
)

// Every function that reads or writes personal fields has its part in the export of a person's data.
func TestPersonalDataIsExported(t *testing.T) {
	all, err := System().Declare()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range all.Functions {
		if !slices.ContainsFunc(f.Settings, func(s manifest.Setting) bool { return s.Variable == personal.Variable }) {
			continue
		}
		found++
		if !slices.ContainsFunc(f.Routes, func(r manifest.Route) bool { return r.Person != "" }) {
			t.Errorf("%s has personal data, and no operation with Person", f.Name)
		}
	}
	if found < 2 {
		t.Errorf("%d functions have personal data", found)
	}
}
