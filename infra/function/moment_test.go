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

// Whatever order words about an entity come in, the same is known in the end; two of the end among them.
func TestLifeConverges(t *testing.T) {
	said := func(sequence int64, deleted bool) function.Life {
		return function.Life{Moment: function.Moment{Sequence: sequence, At: time.Date(2026, 1, 1, 0, 0, int(sequence), 0, time.UTC)}, Deleted: deleted}
	}
	words := []function.Life{said(1, false), said(2, false), said(3, true), said(4, true), said(5, false)}
	var hear func(known function.Life, left []function.Life)
	hear = func(known function.Life, left []function.Life) {
		if len(left) == 0 && known != words[3] {
			t.Errorf("got %+v, want %+v", known, words[3])
		}
		for i, next := range left {
			if !known.Precedes(next) {
				next = known
			}
			hear(next, append(append([]function.Life{}, left[:i]...), left[i+1:]...))
		}
	}
	hear(function.Life{}, words)
}
