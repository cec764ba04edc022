package local

import (
	"fmt"
	"testing"
	"time"
)

// Memory goes back when a function is dropped, not too often, for every one that is, and twice more when all is quiet.
func TestMemoryGoesBack(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var now time.Time
	freed := ""
	p := pages{free: func() { freed += fmt.Sprintf("%d ", int(now.Sub(began).Seconds())) }}
	drops := map[int]bool{3: true, 4: true, 30: true, 90: true}
	for second := range 200 {
		now = began.Add(time.Duration(second) * time.Second)
		p.look(now, drops[second])
	}
	if want := "3 8 16 21 30 42 47 90 102 107 "; freed != want {
		t.Errorf("got %s, want %s", freed, want)
	}
}
