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
	return eventlog.Hold(ctx, s.cfg.Lease, &claim{kv: kv, trigger: trigger, owner: []byte(nuid.Next())})
}

// claim implements eventlog.Claim.
type claim struct {
	kv       jetstream.KeyValue
	trigger  string
	owner    []byte
	revision uint64 // of the key, as this process has written it last
}

func (c *claim) Take(ctx context.Context) (bool, error) {
	revision, err := c.kv.Create(ctx, c.trigger, c.owner)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return false, nil
	}
	c.revision = revision
	return err == nil, err
}

func (c *claim) Renew(ctx context.Context) (bool, error) {
	revision, err := c.kv.Update(ctx, c.trigger, c.owner, c.revision)
	if refused := (*jetstream.APIError)(nil); errors.As(err, &refused) &&
		refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return false, nil // another process has it
	}
	if err != nil {
		return false, err
	}
	c.revision = revision
	return true, nil
}

func (c *claim) Release(ctx context.Context) {
	_ = c.kv.Delete(ctx, c.trigger, jetstream.LastRevision(c.revision))
}
