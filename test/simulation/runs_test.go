package simulation_test

import (
	"sync/atomic"
	"testing"

	"github.com/ebb-dev/ebb/infra/simulate"
)

// holds runs seeds of a system and fails the test with the shortest trace of each that has a violation.
func holds(t *testing.T, r simulate.Runner) {
	t.Helper()
	r.Around = bubbled(t)
	p, failed := r.Run(t.Context())
	t.Log(p)
	for _, f := range failed {
		bubbled(t)(func() { t.Errorf("%s", simulate.Shrink(r.System, f.Seed)) })
	}
}

// search runs seeds of a broken system from 1 on, up to one whose report is meant; nil: every violation. It returns
// that report and logs its first violation, or returns nil.
func search(t *testing.T, r simulate.Runner, meant func(*simulate.Report) bool) *simulate.Report {
	t.Helper()
	var found atomic.Pointer[simulate.Report]
	r.First, r.Around = 1, bubbled(t)
	r.Enough = func(failed *simulate.Report) bool {
		if meant != nil && !meant(failed) {
			return false
		}
		found.Store(failed)
		return true
	}
	r.Run(t.Context())
	report := found.Load()
	if report != nil {
		t.Logf("seed %d: %s", report.Seed, report.Violations[0].Text)
	}
	return report
}
