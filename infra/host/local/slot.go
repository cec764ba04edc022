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

// startLimit and stopLimit bound what a function may take to come and to go.
const (
	startLimit = 30 * time.Second
	stopLimit  = 30 * time.Second
)

// slot is where one function runs, or does not. At any time it has one instance at most.
type slot struct {
	name      string
	make      func() (host.Instance, error)
	first     host.Instance // the one that make returns first; nil: it has been used
	telemetry *telemetry.Telemetry
	logger    *slog.Logger
	instances []discovery.Instance // as discovery lists it: the slot itself

	mu      sync.Mutex
	running host.Instance // nil: at zero, or coming, or going
	busy    int           // calls that are under way in running
	idle    time.Time     // since when busy is 0
	change  *change       // not nil while an instance comes or goes
	closed  bool

	starts atomic.Int64
}

// change is an instance that comes or goes. When done is closed it has, and err says why it did not come.
type change struct {
	done chan struct{}
	err  error
}

// acquire is the running instance, started if there is none. Release it after the call.
func (s *slot) acquire(ctx context.Context) (host.Instance, error) {
	s.mu.Lock()
	for s.running == nil {
		if s.closed {
			s.mu.Unlock()
			return nil, fault.New(fault.Unavailable, "the system is shutting down")
		}
		if s.change == nil {
			s.change = &change{done: make(chan struct{})}
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
			return nil, fault.Wrap(c.err, fault.Unavailable, "%s cannot be started just now", s.name)
		}
		s.mu.Lock()
	}
	s.busy++
	running := s.running
	s.mu.Unlock()
	return running, nil
}

// newInstance returns the instance that was made when the system was, and later new ones.
func (s *slot) newInstance() (host.Instance, error) {
	s.mu.Lock()
	i := s.first
	s.first = nil
	s.mu.Unlock()
	if i != nil {
		return i, nil
	}
	return s.make()
}

func (s *slot) release() {
	s.mu.Lock()
	if s.busy--; s.busy == 0 {
		s.idle = time.Now()
	}
	s.mu.Unlock()
}

// start belongs to no caller: whoever caused it may give up, others wait for it too.
func (s *slot) start(c *change) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	began := time.Now()
	i, err := s.newInstance()
	if err == nil {
		if err = i.Start(ctx); err != nil {
			_ = i.Stop(ctx) // the reason why it does not start is the better error
		}
	}
	if err != nil {
		s.logger.Error("the function does not start", "error", err)
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

// sweep drops the instance if it has been idle for that long, and reports whether it did.
func (s *slot) sweep(ctx context.Context, idle time.Duration) bool {
	s.mu.Lock()
	if s.running == nil || s.busy > 0 || time.Since(s.idle) < idle {
		s.mu.Unlock()
		return false
	}
	s.drop(ctx)
	return true
}

// drop stops the running instance. It is called with the lock held, which it gives back.
func (s *slot) drop(ctx context.Context) {
	i, c := s.running, &change{done: make(chan struct{})}
	s.running, s.change = nil, c
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := i.Stop(ctx); err != nil {
		s.logger.Error("the function did not stop well", "error", err)
	}
	s.telemetry.Stopped(s.name)
	s.logger.Debug("the function has stopped")

	s.mu.Lock()
	s.change = nil
	s.mu.Unlock()
	close(c.done)
}

// close drops the instance for good once it has nothing to do, or when ctx ends.
func (s *slot) close(ctx context.Context) {
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
			s.drop(ctx)
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

// receive hands a batch of events to the function, which is started if need be.
func (s *slot) receive(ctx context.Context, batch []ce.Event) []broker.Result {
	i, err := s.acquire(ctx)
	if err != nil {
		answers := make([]broker.Result, len(batch))
		for n := range answers {
			answers[n] = broker.Result{Status: http.StatusServiceUnavailable, Message: fault.Public(err)}
		}
		return answers
	}
	defer s.release()
	return i.Receive(ctx, batch)
}

// tick tells the function the time, as often as it has more to do.
func (s *slot) tick(ctx context.Context, now time.Time) error {
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
