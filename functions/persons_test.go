package functions

import "testing"

// Every function that reads or writes personal fields has its part in the export of a person's data. The archive has
// only copies of events, which their functions export, and encrypts what an operator mends.
func TestPersonalDataIsExported(t *testing.T) {
	all, err := System().Declare()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range all.Functions {
		personal, exports := false, false
		for _, s := range f.Settings {
			personal = personal || s.Variable == "EBB_PERSONAL_KEYS"
		}
		for _, r := range f.Routes {
			exports = exports || r.Person != ""
		}
		if personal && !exports && f.Name != "archive" {
			t.Errorf("%s has personal data, and no operation with Person", f.Name)
		}
		if personal {
			found++
		}
	}
	if found < 2 {
		t.Errorf("%d functions have personal data", found)
	}
}
