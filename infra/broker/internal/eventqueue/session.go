package eventqueue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

const (
	// receiveMost bounds the messages of one Receive.
	receiveMost = 64

	// requestTimeout bounds Ack, Nack and Extend.
	requestTimeout = 10 * time.Second

	// failPause is how long a request that failed waits before it is tried again.
	failPause = time.Second
)

// item is a message that this process holds.
type item = delivery.Item[hold]

// hold says how a message is held.
type hold struct {
	receipt string
	marked  bool      // Mark has stored that an attempt begins; guarded by session.mu
	until   time.Time // when the hold ends that was extended last; guarded by session.mu, unused without a visibility
}

// session is a trigger while this process receives from its queue.
type session struct {
	queue   Queue
	trigger *delivery.Trigger
	engine  *delivery.Engine[hold]
	logger  *slog.Logger
	done    chan struct{} // acks or attempts wait

	storing sync.Mutex // one SetTries at a time, so that an older state never overwrites a newer one

	// mu is never taken while a lock of the engine is held.
	mu    sync.Mutex
	held  map[string]*item          // by receipt; until acknowledged, given back, or lost
	acks  []string                  // receipts of finished messages that are not acknowledged yet
	tries map[string]delivery.Tries // of messages, by receipt, that are not stored yet
}

func newSession(q Queue, t *delivery.Trigger, logger *slog.Logger) *session {
	s := &session{
		queue: q, trigger: t, logger: logger, done: make(chan struct{}, 1),
		held: make(map[string]*item), tries: make(map[string]delivery.Tries),
	}
	// Other processes may receive from the queue too: what the handlers of this one cannot take soon is left in it.
	s.engine = delivery.NewEngine(t, max(receiveMost, 2*t.Parallel()), s)
	return s
}

// run receives until ctx ends, waits for the handlers that run, acknowledges what has finished and gives the rest back.
func (s *session) run(ctx context.Context) error {
	// Acknowledging and extending go on while the handlers finish.
	held, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() { s.ackLoop(held) })
	if s.queue.Visibility() > 0 {
		background.Go(func() { s.extendLoop(held) })
	}
	err := s.receiveLoop(ctx)
	s.engine.Halt()
	stop()
	background.Wait()
	s.giveBack()
	return err
}

// receiveLoop hands what the queue has to the engine. It ends when ctx does, or with the error of a queue that fails.
func (s *session) receiveLoop(ctx context.Context) error {
	for ctx.Err() == nil && s.engine.WaitRoom(ctx) {
		messages, err := s.queue.Receive(ctx, receiveMost)
		s.take(messages)
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// take holds the messages and hands those that match the trigger to the engine; the others are acknowledged.
func (s *session) take(messages []Message) {
	var until time.Time
	if v := s.queue.Visibility(); v > 0 {
		until = time.Now().Add(v)
	}
	matched := make([]*item, 0, len(messages))
	s.mu.Lock()
	for i := range messages {
		m := &messages[i]
		it := delivery.NewItem(&m.Event, hold{receipt: m.Receipt, until: until})
		it.SetHistory(m.Tries, m.Lost)
		if m.Refused != nil {
			it.Refuse(*m.Refused)
		}
		s.held[m.Receipt] = it
		if s.trigger.Match(&m.Event) {
			matched = append(matched, it)
		} else {
			s.acks = append(s.acks, m.Receipt)
		}
	}
	s.engine.Hold(matched) // a handler that is quicker waits in Finished for the lock
	s.mu.Unlock()
	if len(matched) < len(messages) {
		delivery.Signal(s.done)
	}
}

// Finished implements delivery.Keeper: it has messages acknowledged. A dead letter is acknowledged only now, after its
// sink has taken it.
func (s *session) Finished(items []*item) {
	marked := false
	s.mu.Lock()
	for _, it := range items {
		s.acks = append(s.acks, it.Ref.receipt)
		delete(s.tries, it.Ref.receipt)
		if it.Ref.marked && !it.DeadLettered() { // it may be acknowledged too late
			s.tries[it.Ref.receipt] = delivery.Tries{}
			marked = true
		}
	}
	s.mu.Unlock()
	if marked {
		s.storeTries()
	}
	delivery.Signal(s.done)
}

// Tried implements delivery.Keeper.
func (s *session) Tried(tried []delivery.Tried[hold]) {
	s.mu.Lock()
	marked := false
	for _, t := range tried {
		s.tries[t.Item.Ref.receipt] = t.Tries
		marked, t.Item.Ref.marked = marked || t.Item.Ref.marked, false
	}
	s.mu.Unlock()
	if marked {
		s.storeTries()
	}
	delivery.Signal(s.done)
}

// Mark implements delivery.Keeper.
func (s *session) Mark(it *item, t delivery.Tries) error {
	s.storing.Lock()
	defer s.storing.Unlock()
	s.mu.Lock()
	delete(s.tries, it.Ref.receipt)
	it.Ref.marked = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	return s.queue.SetTries(ctx, map[string]delivery.Tries{it.Ref.receipt: t})
}

// ackLoop acknowledges what has finished, as much at once as there is, until ctx ends and once more then.
func (s *session) ackLoop(ctx context.Context) {
	for last := false; !last; {
		select {
		case <-s.done:
		case <-ctx.Done():
		}
		last = ctx.Err() != nil // before ack, which then sees everything
		stored := s.storeTries()
		if !s.ack() || !stored {
			delivery.Pause(ctx, failPause)
			delivery.Signal(s.done)
		}
	}
}

// storeTries stores the attempts that have changed. It returns false when that failed and is to be tried again.
func (s *session) storeTries() bool {
	s.storing.Lock()
	defer s.storing.Unlock()
	s.mu.Lock()
	tries := s.tries
	s.tries = make(map[string]delivery.Tries)
	s.mu.Unlock()
	if len(tries) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	err := s.queue.SetTries(ctx, tries)
	if err == nil {
		return true
	}
	s.logger.Warn("attempts were not stored; it is tried again", "trigger", s.trigger.Name(), "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	for receipt, t := range tries {
		if _, newer := s.tries[receipt]; !newer && s.held[receipt] != nil {
			s.tries[receipt] = t
		}
	}
	return false
}

// ack acknowledges what has finished. It returns false when that failed and is to be tried again.
func (s *session) ack() bool {
	s.mu.Lock()
	acks := s.acks
	s.acks = nil
	s.mu.Unlock()
	if len(acks) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	err := s.queue.Ack(ctx, acks)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.logger.Warn("messages were not acknowledged; it is tried again", "trigger", s.trigger.Name(), "error", err)
		for _, receipt := range acks {
			if s.held[receipt] != nil { // else lost meanwhile
				s.acks = append(s.acks, receipt)
			}
		}
		return false
	}
	for _, receipt := range acks {
		delete(s.held, receipt)
	}
	return true
}

// giveBack gives the messages back that have not finished, so that they come again at once.
func (s *session) giveBack() {
	s.mu.Lock()
	for _, receipt := range s.acks { // finished, though Ack failed: they need not come again at once
		delete(s.held, receipt)
	}
	receipts := make([]string, 0, len(s.held))
	for receipt := range s.held {
		receipts = append(receipts, receipt)
	}
	s.mu.Unlock()
	if len(receipts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if err := s.queue.Nack(ctx, receipts, 0); err != nil {
		s.logger.Warn("messages were not given back; they come again when their visibility has run out",
			"trigger", s.trigger.Name(), "messages", len(receipts), "error", err)
	}
}
