package local

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// startLimit and stopLimit are the longest times for starting and stopping a function.
const (
	startLimit = 30 * time.Second
	stopLimit  = 30 * time.Second
)

// supervisor starts and stops the instances of one function. At any time there is at most one instance.
type supervisor struct {
	name      string
	make      func() (host.Instance, error)
	first     host.Instance // the first instance, made with the host; nil: it has been used
	telemetry *telemetry.Telemetry
	logger    *slog.Logger
	instances []discovery.Instance // as discovery lists it: the slot itself

	mu      sync.Mutex
	running host.Instance // nil: none runs, or one is starting or stopping
	busy    int           // running calls of the instance
	idle    time.Time     // the time when busy became 0
	change  *transition   // not nil while an instance starts or stops
	closed  bool

	starts atomic.Int64
}

// transition is the start or stop of an instance. done is closed at its end; err is the error of a start.
type transition struct {
	done chan struct{}
	err  error
}

// acquire returns the running instance, and starts one when none runs. The caller calls release after the call.
func (s *supervisor) acquire(ctx context.Context) (host.Instance, error) {
	s.mu.Lock()
	for s.running == nil {
		if s.closed {
			s.mu.Unlock()
			return nil, fault.New(fault.Unavailable, "the system is shutting down")
		}
		if s.change == nil {
			s.change = &transition{done: make(chan struct{})}
			go s.start(s.change)
		}
		c := s.change
		s.mu.Unlock()
		select {
		case <-c.done:
		case <-ctx.Done():
			return nil, fault.Wrap(ctx.Err(), fault.KindOf(ctx.Err()), "waiting for %s to start", s.name)
		}
		if c.err != nil {
			return nil, fault.Wrap(c.err, fault.Unavailable, "the function %s cannot be started", s.name)
		}
		s.mu.Lock()
	}
	s.busy++
	running := s.running
	s.mu.Unlock()
	return running, nil
}

// newInstance returns the first instance, which was made with the host, and after that new ones.
func (s *supervisor) newInstance() (host.Instance, error) {
	s.mu.Lock()
	i := s.first
	s.first = nil
	s.mu.Unlock()
	if i != nil {
		return i, nil
	}
	return s.make()
}

// release ends a call that acquire began.
func (s *supervisor) release() {
	s.mu.Lock()
	if s.busy--; s.busy == 0 {
		s.idle = time.Now()
	}
	s.mu.Unlock()
}

// start starts an instance. It uses no caller's context, because several callers may wait for it.
func (s *supervisor) start(c *transition) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	began := time.Now()
	i, err := s.newInstance()
	if err == nil {
		if err = i.Start(ctx); err != nil {
			_ = i.Stop(ctx) // the error of Start is the cause
		}
	}
	if err != nil {
		s.logger.Error("the function did not start", "error", err)
	} else {
		s.telemetry.ColdStart(s.name, time.Since(began))
		s.starts.Add(1)
		s.logger.Debug("the function has started", "took", time.Since(began))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.err = err; err == nil {
		s.running, s.idle = i, time.Now()
	}
	s.change = nil
	close(c.done)
}

// reap stops the instance when it has been idle for that long, and reports whether it did.
func (s *supervisor) reap(ctx context.Context, idle time.Duration) bool {
	s.mu.Lock()
	if s.running == nil || s.busy > 0 || time.Since(s.idle) < idle {
		s.mu.Unlock()
		return false
	}
	s.stopRunning(ctx)
	return true
}

// stopRunning stops the running instance. The caller holds the lock, and stopRunning releases it.
func (s *supervisor) stopRunning(ctx context.Context) {
	i, c := s.running, &transition{done: make(chan struct{})}
	s.running, s.change = nil, c
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := i.Stop(ctx); err != nil {
		s.logger.Error("the function stopped with an error", "error", err)
	}
	s.telemetry.Stopped(s.name)
	s.logger.Debug("the function has stopped")

	s.mu.Lock()
	s.change = nil
	s.mu.Unlock()
	close(c.done)
}

// close stops the instance when it has no running calls, or when ctx ends. Later calls are refused.
func (s *supervisor) close(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		s.closed = true
		overdue := ctx.Err() != nil
		switch {
		case s.change == nil && s.running == nil:
			s.mu.Unlock()
			return
		case s.running != nil && (s.busy == 0 || overdue):
			s.stopRunning(ctx)
			return
		}
		s.mu.Unlock()
		if overdue {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// receive delivers a batch of events to the function, which is started when it does not run.
func (s *supervisor) receive(ctx context.Context, batch []ce.Event) []broker.Result {
	i, err := s.acquire(ctx)
	if err != nil {
		results := make([]broker.Result, len(batch))
		for n := range results {
			results[n] = broker.Result{Status: http.StatusServiceUnavailable, Message: fault.Public(err)}
		}
		return results
	}
	defer s.release()
	return i.Receive(ctx, batch)
}

// tick calls the function's tick handler until no work is left.
func (s *supervisor) tick(ctx context.Context, now time.Time) error {
	i, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer s.release()
	for {
		more, err := i.Tick(ctx, now)
		if err != nil || !more || ctx.Err() != nil {
			return err
		}
	}
}
