package local

import (
	"fmt"
	"testing"
	"time"
)

// Memory is freed after each stop of a function, with a shortest interval, and twice more later.
func TestFreeMemory(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var now time.Time
	freed := ""
	f := memoryFreer{free: func() { freed += fmt.Sprintf("%d ", int(now.Sub(began).Seconds())) }}
	stops := map[int]bool{3: true, 4: true, 30: true, 90: true}
	for second := range 200 {
		now = began.Add(time.Duration(second) * time.Second)
		f.check(now, stops[second])
	}
	if want := "3 8 16 21 30 42 47 90 102 107 "; freed != want {
		t.Errorf("got %s, want %s", freed, want)
	}
}
