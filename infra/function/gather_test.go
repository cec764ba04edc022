package function_test

import (
	"testing"

	"github.com/ebb-dev/ebb/infra/function"
)

// Follow-ups that are ready share a unit, however late the function comes to look: so a simulation, which makes calls
// at once, has the same units each time.
func TestReadyFollowUpsShareAUnit(t *testing.T) {
	if got := function.Gathered(100); got != 100 {
		t.Errorf("%d of 100 share a unit", got)
	}
}
