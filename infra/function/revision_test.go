package function_test

import (
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
)

// The sequence decides, and the time only where a sequence is missing or the same.
func TestRevision(t *testing.T) {
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	for _, c := range []struct {
		known, next function.Revision
		want        bool
	}{
		{function.Revision{}, function.Revision{Sequence: 1, At: early}, true},
		{function.Revision{Sequence: 1, At: late}, function.Revision{Sequence: 2, At: early}, true},
		{function.Revision{Sequence: 2, At: early}, function.Revision{Sequence: 1, At: late}, false},
		{function.Revision{Sequence: 2, At: early}, function.Revision{Sequence: 2, At: early}, true},
		{function.Revision{Sequence: 2, At: late}, function.Revision{At: early}, false},
		{function.Revision{At: early}, function.Revision{Sequence: 2, At: late}, true},
	} {
		if got := c.known.Before(c.next); got != c.want {
			t.Errorf("%+v before %+v: got %v, want %v", c.known, c.next, got, c.want)
		}
	}
}

// Whatever order words about an entity come in, the same is known in the end; two of the end among them.
func TestEntityRevisionConverges(t *testing.T) {
	said := func(sequence int64, deleted bool) function.EntityRevision {
		return function.EntityRevision{Revision: function.Revision{Sequence: sequence,
			At: time.Date(2026, 1, 1, 0, 0, int(sequence), 0, time.UTC)}, Deleted: deleted}
	}
	words := []function.EntityRevision{said(1, false), said(2, false), said(3, true), said(4, true), said(5, false)}
	var hear func(known function.EntityRevision, left []function.EntityRevision)
	hear = func(known function.EntityRevision, left []function.EntityRevision) {
		if len(left) == 0 && known != words[3] {
			t.Errorf("got %+v, want %+v", known, words[3])
		}
		for i, next := range left {
			if !known.Before(next) {
				next = known
			}
			hear(next, append(append([]function.EntityRevision{}, left[:i]...), left[i+1:]...))
		}
	}
	hear(function.EntityRevision{}, words)
}
