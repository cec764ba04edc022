package eventqueue

import (
	"context"
	"time"
)

// extendLoop holds on to the messages until ctx ends.
func (s *session) extendLoop(ctx context.Context) {
	every := s.queue.Visibility() / 3 // so that one request may fail
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.extend(ctx, every)
		case <-ctx.Done():
			return
		}
	}
}

// extend extends all held messages, and revokes those that are lost. A message whose visibility must have run out,
// because no request came through, counts as lost: another process may have handled it and later ones of its key by
// now.
func (s *session) extend(ctx context.Context, timeout time.Duration) {
	s.mu.Lock()
	receipts := make([]string, 0, len(s.held))
	for receipt := range s.held {
		receipts = append(receipts, receipt)
	}
	s.mu.Unlock()
	if len(receipts) == 0 {
		return
	}
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	lost, err := s.queue.Extend(ctx, receipts)
	if err != nil {
		s.logger.Warn("messages were not extended; it is tried again", "trigger", s.trigger.Name(), "error", err)
	} else {
		s.extended(receipts, asked.Add(s.queue.Visibility()))
	}
	s.revoke(lost)
}

func (s *session) extended(receipts []string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, receipt := range receipts {
		if it := s.held[receipt]; it != nil {
			it.Ref.until = until
		}
	}
}

// revoke takes lost messages back from the engine. Their events come again, here or to another process.
func (s *session) revoke(lost []string) {
	now := time.Now()
	var items []*item
	s.mu.Lock()
	for _, receipt := range lost {
		if it := s.held[receipt]; it != nil {
			it.Ref.until = now
		}
	}
	for receipt, it := range s.held {
		if !it.Ref.until.After(now) {
			delete(s.held, receipt)
			items = append(items, it)
		}
	}
	s.mu.Unlock()
	if len(items) == 0 {
		return
	}
	s.logger.Warn("messages could not be held; they come again", "trigger", s.trigger.Name(), "messages", len(items))
	s.engine.Revoke(items)
}
