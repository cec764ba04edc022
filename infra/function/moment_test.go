package function_test

import (
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
)

// The sequence decides, and the time only where a sequence is missing or the same.
func TestMoment(t *testing.T) {
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	for _, c := range []struct {
		known, next function.Moment
		want        bool
	}{
		{function.Moment{}, function.Moment{Sequence: 1, At: early}, true},
		{function.Moment{Sequence: 1, At: late}, function.Moment{Sequence: 2, At: early}, true},
		{function.Moment{Sequence: 2, At: early}, function.Moment{Sequence: 1, At: late}, false},
		{function.Moment{Sequence: 2, At: early}, function.Moment{Sequence: 2, At: early}, true},
		{function.Moment{Sequence: 2, At: late}, function.Moment{At: early}, false},
		{function.Moment{At: early}, function.Moment{Sequence: 2, At: late}, true},
	} {
		if got := c.known.Precedes(c.next); got != c.want {
			t.Errorf("%+v before %+v: got %v, want %v", c.known, c.next, got, c.want)
		}
	}
}
