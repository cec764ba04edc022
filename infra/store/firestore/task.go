package firestore

import (
	"context"
	"sync"
	"time"
)

// task is something that several calls wait for and that none of them does, so that one which gives up does not take it from
// the others. A task that failed is begun again by the next who waits.
type task struct {
	run func(context.Context) error

	mu      sync.Mutex
	running chan struct{} // closed when it ends
	err     error
	done    time.Time // when that began which ended well
}

// wait begins the task unless it is done or runs, and waits for it. One that was done before a time has to be done again.
func (t *task) wait(ctx, background context.Context, since time.Time) error {
	ended := t.begin(background, since)
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

// begin begins the task unless it is done, which is nil, or runs. What it returns is closed when the task ends.
func (t *task) begin(background context.Context, since time.Time) (ended chan struct{}) {
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
	go func() {
		begun := time.Now()
		err := t.run(background)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.running, t.err = nil, err; err == nil {
			t.done = begun
		}
		close(ended)
	}()
	return ended
}

// join waits for the task to end, if it runs.
func (t *task) join() {
	t.mu.Lock()
	running := t.running
	t.mu.Unlock()
	if running != nil {
		<-running
	}
}
