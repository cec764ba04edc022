package notifications

import (
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
)

// Whatever order words about a user come in, the same is known in the end; two of the end among them.
func TestUserConverges(t *testing.T) {
	at := func(sequence int64) function.Moment {
		return function.Moment{Sequence: sequence, At: time.Date(2026, 1, 1, 0, 0, int(sequence), 0, time.UTC)}
	}
	words := []user{{Name: "ada", Moment: at(1)}, {Name: "ada king", Moment: at(2)}, {Moment: at(3), Deleted: true}, {Moment: at(4), Deleted: true}, {Name: "late", Moment: at(5)}}
	var hear func(known user, left []user)
	hear = func(known user, left []user) {
		if len(left) == 0 && known != words[3] {
			t.Errorf("got %+v, want %+v", known, words[3])
		}
		for i := range left {
			hear(known.accept(left[i]), append(append([]user{}, left[:i]...), left[i+1:]...))
		}
	}
	hear(user{}, words)
}
