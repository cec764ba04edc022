package local

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/manifest"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// double is an instance whose start and stop a test defines.
type double struct {
	http.Handler
	start, stop func() error
}

func (d *double) Declaration() *manifest.Declaration            { return nil }
func (d *double) Start(context.Context) error                   { return d.start() }
func (d *double) Stop(context.Context) error                    { return d.stop() }
func (d *double) Tick(context.Context, time.Time) (bool, error) { return false, nil }
func (d *double) Receive(_ context.Context, batch []ce.Event) []broker.Result {
	return make([]broker.Result, len(batch))
}

func supervisorOf(d *double) *supervisor {
	return &supervisor{
		name: "x", logger: slog.New(slog.DiscardHandler), make: func() (host.Instance, error) { return d, nil },
	}
}

func nothing() error { return nil }

// Every waiter of a failed start gets its error, and the next call starts again.
func TestFailedStart(t *testing.T) {
	var tries atomic.Int32
	s := supervisorOf(&double{stop: nothing, start: func() error {
		time.Sleep(20 * time.Millisecond)
		if tries.Add(1) == 1 {
			return errors.New("no disk")
		}
		return nil
	}})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := s.acquire(t.Context()); !fault.Is(err, fault.Unavailable) {
				t.Errorf("got %v, want unavailable", err)
			}
		})
	}
	all.Wait()
	if _, err := s.acquire(t.Context()); err != nil || tries.Load() != 2 {
		t.Errorf("after %d tries: %v", tries.Load(), err)
	}
	results := supervisorOf(
		&double{stop: nothing, start: func() error { return errors.New("no disk") }},
	).receive(t.Context(), make([]ce.Event, 2))
	if len(results) != 2 || results[1].Status != http.StatusServiceUnavailable {
		t.Errorf("events are answered %v, want 503 so that they come again", results)
	}
}

// A waiter whose context ends does not end the start for the others.
func TestWaiterContextEnds(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := supervisorOf(&double{stop: nothing, start: func() error { close(begun); <-goOn; return nil }})
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() { _, err := s.acquire(ctx); gaveUp <- err }()
	<-begun
	cancel()
	if err := <-gaveUp; err == nil {
		t.Error("it got an instance that had not started")
	}
	close(goOn)
	if _, err := s.acquire(t.Context()); err != nil {
		t.Error(err)
	}
}

// A function with running calls is not stopped, and calls wait while it stops.
func TestStopping(t *testing.T) {
	var running atomic.Int32
	d := &double{}
	d.start = func() error {
		if running.Add(1) > 1 {
			t.Error("two instances at once")
		}
		return nil
	}
	d.stop = func() error { time.Sleep(20 * time.Millisecond); running.Add(-1); return nil }
	s := supervisorOf(d)
	if _, err := s.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.reap(t.Context(), 0); running.Load() != 1 {
		t.Error("it was dropped while it was busy")
	}
	s.release()
	go s.reap(t.Context(), 0)
	for {
		s.mu.Lock()
		going := s.running == nil
		s.mu.Unlock()
		if going {
			break
		}
	}
	if _, err := s.acquire(t.Context()); err != nil || s.starts.Load() != 2 {
		t.Errorf("started %d times, %v", s.starts.Load(), err)
	}
	s.release()
	s.close(t.Context())
	if _, err := s.acquire(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after the end: %v", err)
	}
}
