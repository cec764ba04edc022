package users_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/fault"
)

// crowd is a queue with what became of those who entered it, in order.
type crowd struct {
	users.Queue
	mu    sync.Mutex
	story []string
}

func (w *crowd) tell(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.story = append(w.story, what)
}
func (w *crowd) got() []string { w.mu.Lock(); defer w.mu.Unlock(); return slices.Clone(w.story) }

// enter lets a request wait for a place, in a bubble.
func (w *crowd) enter(ctx context.Context, who string, known bool, name string) {
	go func() {
		if err := w.Acquire(ctx, who, known); err != nil {
			name += " " + fault.KindOf(err).String()
		}
		w.tell(name)
	}()
	synctest.Wait()
}

// A caller who asks often does not keep another from its turn.
func TestQueueTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &crowd{Queue: users.NewQueue(1)}
		q.enter(t.Context(), "eve", false, "eve 0")
		for n := range 3 {
			q.enter(t.Context(), "eve", false, fmt.Sprint("eve ", n+1))
		}
		q.enter(t.Context(), "ada", false, "ada 1")
		q.enter(t.Context(), "ada", false, "ada 2")
		q.enter(t.Context(), "bob", true, "bob's device 1")
		q.enter(t.Context(), "bob", true, "bob's device 2")
		for range 7 {
			q.Release()
			synctest.Wait()
		}
		got := q.got()
		want := []string{"eve 0", "bob's device 1", "eve 1", "bob's device 2", "ada 1", "eve 2", "ada 2", "eve 3"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Nobody waits for longer than five seconds, nor after their request has ended, and what they leave is free.
func TestQueueEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &crowd{Queue: users.NewQueue(1)}
		q.enter(t.Context(), "eve", false, "eve")
		ctx, cancel := context.WithCancel(t.Context())
		q.enter(ctx, "ada", false, "ada")
		q.enter(t.Context(), "bob", false, "bob")
		cancel()
		synctest.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		q.Release()
		q.enter(t.Context(), "ada", false, "ada again")
		want := []string{"eve", "ada unavailable", "bob unavailable", "ada again"}
		if got := q.got(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// When all waiting places are taken, one more caller displaces the latest of whoever has most.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &crowd{Queue: users.NewQueue(1)}
		q.enter(t.Context(), "eve", false, "eve")
		waiting := 0
		for n := range 100 {
			for range 4 {
				before := len(q.got())
				q.enter(t.Context(), fmt.Sprint("stranger ", n), false, fmt.Sprint("stranger ", n))
				if len(q.got()) == before {
					waiting++
				}
			}
		}
		if refused := len(q.got()) - 1; waiting > 256+refused || refused < 100 {
			t.Errorf("%d were let in and %d refused", waiting, refused)
		}
		before := len(q.got())
		q.enter(t.Context(), "ada", false, "ada")
		q.enter(t.Context(), "bob", true, "bob")
		for _, refused := range q.got()[before:] {
			if refused == "ada unavailable" || refused == "bob unavailable" {
				t.Errorf("%s", refused)
			}
		}
		if len(q.got()) != before+2 {
			t.Errorf("%d were displaced, want 2", len(q.got())-before)
		}
		// One caller cannot take all waiting places.
		q = &crowd{Queue: users.NewQueue(1)}
		for range 100 {
			q.enter(t.Context(), "eve", false, "eve")
		}
		if refused := len(q.got()) - 1; refused != 100-1-32 {
			t.Errorf("%d of one caller were refused", refused)
		}
		time.Sleep(time.Minute) // all give up
	})
}

// A pod of 128 MiB checks two passwords at once, and a smaller one still checks one.
func TestPlacesFitTheMemory(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		limit int64
		cpus  int
		want  int
	}{
		{users.NoLimit, 1, 1}, {users.NoLimit, 2, 2}, {users.NoLimit, 64, 4},
		{102 * mib, 8, 1}, {120 * mib, 8, 2}, {60 * mib, 8, 1}, {10 * mib, 8, 1}, {1 << 30, 8, 4}, {1 << 30, 2, 2},
	} {
		if got := users.Places(c.limit, c.cpus); got != c.want {
			t.Errorf("%d MiB and %d processors: got %d places, want %d", c.limit/mib, c.cpus, got, c.want)
		}
	}
}

// Who signs in to many accounts of their own has as many known devices, and does not keep strangers out by them. Nor do
// strangers keep known devices out.
func TestQueueKeepsPlacesForStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &crowd{Queue: users.NewQueue(1)}
		q.enter(t.Context(), "eve", false, "eve")
		for n := range 30 {
			for range 32 {
				q.enter(t.Context(), fmt.Sprint("eve's device ", n), true, "eve's device")
			}
		}
		before := len(q.got())
		q.enter(t.Context(), "ada", false, "ada")
		q.enter(t.Context(), "bob", true, "bob")
		q.Release()
		synctest.Wait()
		q.Release()
		synctest.Wait()
		q.Release()
		synctest.Wait()
		if got := q.got()[before:]; slices.Contains(got, "ada unavailable") || !slices.Contains(got, "ada") {
			t.Errorf("got %q, want ada to get a place", got)
		}
		time.Sleep(time.Minute) // all give up
	})
}
