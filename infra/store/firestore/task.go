package firestore

import (
	"context"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

// task is work that several calls wait for. It runs in its own goroutine, so that a call whose context ends does not
// end it for the others. A failed task is started again by the next call.
type task struct {
	run func(context.Context) error

	mu      sync.Mutex
	running chan struct{} // closed when it ends
	err     error
	done    time.Time // the start of the last successful run
}

// wait starts the task unless it is done or runs, and waits for it. A run that was done before since is repeated.
func (t *task) wait(ctx context.Context, background *lifetime.Lifetime, since time.Time) error {
	ended := t.begin(ctx, background, since)
	if ended == nil {
		return nil
	}
	select {
	case <-ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// begin starts the task unless it runs, with the values of ctx, until the background ends. It returns nil when the task
// is done, and otherwise a channel that is closed at its end.
func (t *task) begin(ctx context.Context, background *lifetime.Lifetime, since time.Time) (ended chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done.After(since) {
		return nil
	}
	if t.running != nil {
		return t.running
	}
	ended = make(chan struct{})
	t.running = ended
	ctx, release := background.Bind(context.WithoutCancel(ctx))
	go func() {
		defer release()
		begun := time.Now()
		err := t.run(ctx)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.running, t.err = nil, err; err == nil {
			t.done = begun
		}
		close(ended)
	}()
	return ended
}

// join waits for the end of a running task.
func (t *task) join() {
	t.mu.Lock()
	running := t.running
	t.mu.Unlock()
	if running != nil {
		<-running
	}
}
