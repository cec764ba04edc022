package eventlog

import (
	"context"
	"errors"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// source is the Broker as package delivery sees it.
type source Broker

// Register implements delivery.Source. A new trigger begins at the end of the log.
func (s *source) Register(ctx context.Context, trigger string) error {
	cur, err := s.log.LoadCursor(ctx, trigger)
	if err != nil || cur != nil {
		return err
	}
	end, err := s.log.End(ctx)
	if err != nil {
		return err
	}
	return s.log.CreateCursor(ctx, trigger, Cursor{Next: end}.encode())
}

// Serve implements delivery.Source: it serves the trigger from its saved cursor until it is stopped or the lease is
// lost.
func (s *source) Serve(ctx context.Context, t *delivery.Trigger) error {
	var lost <-chan struct{}
	if l, ok := s.log.(Leaser); ok {
		taken, release, err := l.Lease(ctx, t.Name())
		if err != nil {
			return err
		}
		defer release()
		lost = taken
	}
	saved, err := s.log.LoadCursor(ctx, t.Name())
	if err != nil {
		return err
	}
	cur, err := decodeCursor(saved)
	if err != nil {
		return err
	}
	b := (*Broker)(s)
	session := newSession(b, t, cur.Next)
	if err := session.begin(ctx, cur); err != nil {
		return err
	}
	if err := session.restore(ctx, cur); err != nil {
		session.engine.Halt()
		return err
	}
	return b.run(ctx, session, lost)
}

// run serves a session and saves its cursor at the end, unless another process has the trigger by then.
func (b *Broker) run(ctx context.Context, s *session, lost <-chan struct{}) error {
	name := s.trigger.Name()
	b.mu.Lock()
	b.sessions[name] = s
	b.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.feed(ctx)
	cancel()
	b.reader.leave(s)
	s.engine.Halt()

	b.mu.Lock()
	delete(b.sessions, name)
	b.mu.Unlock()
	select {
	case <-lost:
		return nil
	default:
		return errors.Join(b.saveCursor(s), s.saveAttempts(false))
	}
}
