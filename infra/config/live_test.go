package config_test

import (
	"fmt"
	"testing"

	"github.com/ebb-dev/ebb/infra/config"
)

// Settings that change while they are read are read again, so that all are of one moment. Those that are not valid do
// not count.
func TestFollow(t *testing.T) {
	type pair struct {
		First  int `envconfig:"FIRST"`
		Second int `envconfig:"SECOND"`
	}
	moments := []string{"1", "2", "3", "x", "5"}
	now, change := 0, false
	lookup := func(name string) (string, bool) {
		switch {
		case name == config.Generation:
			return fmt.Sprint(now), true
		case name == "SECOND" && change:
			now, change = now+1, false
		}
		return moments[now], true
	}
	initial, err := config.Load[pair]("", lookup)
	if err != nil {
		t.Fatal(err)
	}
	live := config.Follow("", lookup, initial)
	expect := func(want int) {
		t.Helper()
		for range 2 {
			if got := live.Get(); got != (pair{want, want}) {
				t.Errorf("got %v, want %d", got, want)
			}
		}
	}
	expect(1)
	now, change = 1, true // and to the next while it is read
	expect(3)
	now = 3
	expect(3)
	now = 4
	expect(5)
	if got := config.Follow("", nil, pair{7, 7}).Get(); got != (pair{7, 7}) {
		t.Errorf("without a lookup: %v", got)
	}
}
