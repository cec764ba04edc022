package nats

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
)

// shared is a log on an external cluster, which other processes use as well.
type shared struct {
	*log
	mu     sync.Mutex
	leases jetstream.KeyValue
	stop   func() // ends the goroutine of Notify
}

var (
	_ eventlog.Log      = (*shared)(nil)
	_ eventlog.Notifier = (*shared)(nil)
	_ eventlog.Leaser   = (*shared)(nil)
)

// Append implements eventlog.Log. It also notifies the other processes.
func (s *shared) Append(ctx context.Context, events []event.Event) (uint64, error) {
	pos, err := s.log.Append(ctx, events)
	if err == nil {
		s.nc.Publish(s.wakeSubject(), nil) // after a lost notification they poll within pollEvery
	}
	return pos, err
}

// pollEvery limits the delay after a lost notification.
const pollEvery = 500 * time.Millisecond

// Notify implements eventlog.Notifier.
func (s *shared) Notify(wake func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, ticker := make(chan struct{}), time.NewTicker(pollEvery)
	s.stop = sync.OnceFunc(func() { ticker.Stop(); close(done) })
	if _, err := s.nc.Subscribe(s.wakeSubject(), func(*nats.Msg) { wake() }); err != nil {
		slog.Warn("cannot subscribe to notifications of other processes; the stream is polled", "error", err)
	}
	go func() {
		for {
			select {
			case <-ticker.C:
				wake()
			case <-done:
				return
			}
		}
	}()
}

// Close implements eventlog.Log.
func (s *shared) Close() error {
	s.mu.Lock()
	if s.stop != nil {
		s.stop()
	}
	s.mu.Unlock()
	return s.log.Close()
}

// bucket returns the key-value bucket of the leases. The server removes a key that is not renewed in time, and the
// process that creates the key holds the lease.
func (s *shared) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases != nil {
		return s.leases, nil
	}
	kv, err := s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: s.cfg.Stream + "-leases", TTL: s.cfg.Lease, Replicas: s.cfg.Replicas,
	})
	if err == nil {
		s.leases = kv
	}
	return kv, err
}

// Lease implements eventlog.Leaser.
func (s *shared) Lease(ctx context.Context, trigger string) (<-chan struct{}, func(), error) {
	kv, err := s.bucket(ctx)
	if err != nil {
		return nil, nil, err
	}
	owner := []byte(nuid.Next())
	for {
		revision, err := kv.Create(ctx, trigger, owner)
		if err == nil {
			lost, release := s.hold(kv, trigger, owner, revision)
			return lost, release, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return nil, nil, err
		}
		select {
		case <-time.After(s.cfg.Lease / 5):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// hold renews the lease until it is released or lost. It reports the lease as lost well before others can take it, so
// that two processes rarely serve one trigger.
func (s *shared) hold(kv jetstream.KeyValue, trigger string, owner []byte, revision uint64) (<-chan struct{}, func()) {
	lost, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		renewed := time.Now()
		for {
			select {
			case <-time.After(s.cfg.Lease / 4):
			case <-ctx.Done():
				return
			}
			attempt, stop := context.WithTimeout(ctx, s.cfg.Lease/4)
			next, err := kv.Update(attempt, trigger, owner, revision)
			stop()
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				revision, renewed = next, time.Now()
			case taken(err) || time.Since(renewed) > s.cfg.Lease/2:
				close(lost)
				return
			}
		}
	}()
	return lost, func() {
		cancel()
		<-ended
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Lease/4)
		defer cancel()
		kv.Delete(ctx, trigger, jetstream.LastRevision(revision)) // on failure it expires
	}
}

// taken reports whether the server refused a renewal because another process holds the lease.
func taken(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
