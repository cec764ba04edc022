package functions_test

import (
	"testing"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/store/golden"
)

// Today's functions read every form of document that a function has ever stored, and the forms of today are recorded.
func TestDocumentsAreRecorded(t *testing.T) {
	declared, err := functions.System().Declare()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range declared.Functions {
		for _, violation := range golden.Check("testdata/documents", d.Name, d.Schema) {
			t.Error(violation)
		}
	}
}
