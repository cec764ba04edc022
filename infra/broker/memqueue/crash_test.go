package memqueue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue/queuetest"
	"github.com/ebb-dev/ebb/infra/broker/memqueue"
)

func TestQueues(t *testing.T) {
	queuetest.Run(t, queuetest.Harness{
		New: func(_ testing.TB, visibility time.Duration) eventqueue.Driver { return memqueue.NewQueues(visibility) },
		In:  synctest.Test,
	})
}

// visibility of the queues in these tests, in the bubble's time.
const visibility = 30 * time.Second

// wire is a connection to queues that can be cut: to the broker that uses it the product is gone, to the product the
// process is dead. It tells what is acknowledged.
type wire struct {
	eventqueue.Driver
	dead       chan struct{} // closed when the wire is cut
	refuseAcks atomic.Bool
	acked      func(n int)
}

var errCut = errors.New("the wire is cut")

func (w *wire) cut() { close(w.dead) }

func (w *wire) err() error {
	select {
	case <-w.dead:
		return errCut
	default:
		return nil
	}
}

func (w *wire) Open(ctx context.Context, trigger string) (eventqueue.Queue, error) {
	q, err := w.Driver.Open(ctx, trigger)
	return &wiredQueue{q, w}, err
}

type wiredQueue struct {
	eventqueue.Queue
	wire *wire
}

func (q *wiredQueue) Receive(ctx context.Context, limit int) ([]eventqueue.Message, error) {
	alive, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-q.wire.dead:
		case <-alive.Done():
		}
	}()
	messages, err := q.Queue.Receive(alive, limit)
	if cancel(); q.wire.err() != nil { // what was on its way then goes back
		for _, m := range messages {
			q.Queue.Nack(context.Background(), []string{m.Receipt}, 0)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return messages, err
}

func (q *wiredQueue) Ack(ctx context.Context, receipts []string) error {
	if q.wire.err() != nil || q.wire.refuseAcks.Load() {
		return errCut
	}
	if q.wire.acked != nil {
		q.wire.acked(len(receipts))
	}
	return q.Queue.Ack(ctx, receipts)
}

func (q *wiredQueue) Nack(ctx context.Context, receipts []string, delay time.Duration) error {
	if err := q.wire.err(); err != nil {
		return err
	}
	return q.Queue.Nack(ctx, receipts, delay)
}

func (q *wiredQueue) SetTries(ctx context.Context, tries map[string]delivery.Tries) error {
	if err := q.wire.err(); err != nil {
		return err
	}
	return q.Queue.SetTries(ctx, tries)
}

func (q *wiredQueue) Extend(ctx context.Context, receipts []string) ([]string, error) {
	if err := q.wire.err(); err != nil {
		return nil, err
	}
	return q.Queue.Extend(ctx, receipts)
}

// connect opens a broker over the queues through a wire of its own.
func connect(t *testing.T, q *memqueue.Queues) (*eventqueue.Broker, *wire) {
	w := &wire{Driver: q, dead: make(chan struct{})}
	b := eventqueue.New(w, eventqueue.Options{Logger: quiet})
	t.Cleanup(func() { b.Close(context.Background()) })
	return b, w
}

// log notes what happens, in order.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *log) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.lines, want) {
		t.Errorf("got %q, want %q", l.lines, want)
	}
}

func subscribe(t *testing.T, b broker.Broker, trigger broker.Trigger, h func(context.Context, event.Event) int) {
	t.Helper()
	trigger.Name = "x"
	_, err := b.Subscribe(t.Context(), trigger, func(ctx context.Context, batch []event.Event) []broker.Result {
		out := make([]broker.Result, len(batch))
		for i := range batch {
			out[i].Status = h(ctx, batch[i])
		}
		return out
	})
	if err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, b broker.Broker, events ...event.Event) {
	t.Helper()
	if err := b.Publish(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

// A process that dies while it handles an event gives nothing back: its messages come to the next process when their
// visibility has run out, and not before. What the dead one has acknowledged does not come again.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queues := memqueue.NewQueues(visibility)
		var seen log
		dying, w := connect(t, queues)
		release := make(chan struct{})
		defer close(release)
		subscribe(t, dying, broker.Trigger{}, func(_ context.Context, e event.Event) int {
			seen.add("dying %s", e.ID())
			if e.ID() == "2" {
				<-release
			}
			return 200
		})
		publish(t, dying, brokertest.Event("1", "k"))
		synctest.Wait()
		publish(t, dying, brokertest.Event("2", "k"), brokertest.Event("3", "k"))
		synctest.Wait()
		w.cut()

		next, _ := connect(t, queues)
		subscribe(t, next, broker.Trigger{}, func(_ context.Context, e event.Event) int {
			seen.add("next %s", e.ID())
			return 200
		})
		time.Sleep(visibility - time.Second)
		seen.expect(t, "dying 1", "dying 2")
		time.Sleep(2 * time.Second)
		seen.expect(t, "dying 1", "dying 2", "next 2", "next 3")
	})
}

// An event that cannot be delivered is acknowledged only after the dead-letter sink has taken it, so that no crash
// loses it in between.
func TestDeadLetterBeforeAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen log
		b, w := connect(t, memqueue.NewQueues(visibility))
		w.acked = func(int) { seen.add("acked") }
		asked := 0
		sink := func(_ context.Context, batch []event.Event) []broker.Result {
			if asked++; asked < 3 {
				seen.add("refused")
				return []broker.Result{{Status: 503}}
			}
			seen.add("taken %s", batch[0].ID())
			return []broker.Result{{Status: 202}}
		}
		subscribe(t, b, broker.Trigger{Delivery: broker.Delivery{DeadLetter: sink}}, func(context.Context, event.Event) int {
			seen.add("failed")
			return 400
		})
		publish(t, b, brokertest.Event("1", "k"))
		time.Sleep(time.Minute)
		seen.expect(t, "failed", "refused", "refused", "taken 1", "acked")
	})
}

// While an event is handled, or waits for its retry, for many times the visibility, its message stays held: no other
// process gets it, nor a later one of its key. Other keys go on.
func TestHeldWhileHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queues := memqueue.NewQueues(visibility)
		var seen log
		slow, _ := connect(t, queues)
		attempts := 0
		retry := broker.Delivery{Retry: 1, BackoffDelay: 5 * visibility} // the wait is twice that
		subscribe(t, slow, broker.Trigger{Delivery: retry}, func(_ context.Context, e event.Event) int {
			if e.ID() != "k/1" {
				seen.add("slow %s", e.ID())
				return 200
			}
			time.Sleep(10 * visibility)
			if attempts++; attempts == 1 {
				return 500
			}
			seen.add("slow %s", e.ID())
			return 200
		})
		publish(t, slow, brokertest.Event("k/1", "k"))
		synctest.Wait()
		other, _ := connect(t, queues)
		subscribe(t, other, broker.Trigger{}, func(_ context.Context, e event.Event) int {
			seen.add("other %s", e.ID())
			return 200
		})
		publish(t, other, brokertest.Event("k/2", "k"), brokertest.Event("l/1", "l"))
		time.Sleep(29 * visibility)
		seen.mu.Lock()
		if len(seen.lines) != 1 || seen.lines[0][len(seen.lines[0])-3:] != "l/1" {
			t.Errorf("got %q, want one of them to have handled l/1 only", seen.lines)
		}
		seen.lines = nil
		seen.mu.Unlock()
		time.Sleep(2 * visibility)
		synctest.Wait()
		seen.mu.Lock()
		defer seen.mu.Unlock()
		if len(seen.lines) != 2 || seen.lines[0] != "slow k/1" || seen.lines[1][len(seen.lines[1])-3:] != "k/2" {
			t.Errorf("got %q, want slow k/1 and then k/2", seen.lines)
		}
	})
}

// A process that cannot reach the product for longer than the visibility does not go on with what it held: another one
// has handled that by then, and later events of the key.
func TestLostHoldIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queues := memqueue.NewQueues(visibility)
		var seen log
		parted, w := connect(t, queues)
		retry := broker.Delivery{Retry: 5, BackoffPolicy: broker.Linear, BackoffDelay: 2 * visibility}
		subscribe(t, parted, broker.Trigger{Delivery: retry}, func(_ context.Context, e event.Event) int {
			seen.add("parted %s", e.ID())
			return 500
		})
		publish(t, parted, brokertest.Event("k/1", "k"), brokertest.Event("k/2", "k"))
		synctest.Wait()
		w.cut()
		next, _ := connect(t, queues)
		subscribe(t, next, broker.Trigger{}, func(_ context.Context, e event.Event) int {
			seen.add("next %s", e.ID())
			return 200
		})
		time.Sleep(20 * visibility)
		seen.expect(t, "parted k/1", "next k/1", "next k/2")
		if stats := parted.Stats(); len(stats) != 1 || stats[0].Open != 0 {
			t.Errorf("stats %+v, want nothing open", stats)
		}
	})
}

// When a trigger is closed, what it held and has not handled comes to the next process at once.
func TestCloseGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queues := memqueue.NewQueues(visibility)
		var seen log
		first, _ := connect(t, queues)
		retry := broker.Delivery{Retry: 5, BackoffDelay: time.Hour}
		subscribe(t, first, broker.Trigger{Delivery: retry}, func(_ context.Context, e event.Event) int {
			seen.add("first %s", e.ID())
			return 500
		})
		publish(t, first, brokertest.Event("1", "k"), brokertest.Event("2", "k"))
		synctest.Wait()
		if err := first.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		next, _ := connect(t, queues)
		subscribe(t, next, broker.Trigger{}, func(_ context.Context, e event.Event) int {
			seen.add("next %s", e.ID())
			return 200
		})
		seen.expect(t, "first 1", "next 1", "next 2")
	})
}

// An acknowledgement that fails is tried again, and the event is not handed out meanwhile.
func TestAckIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queues := memqueue.NewQueues(visibility)
		var seen log
		b, w := connect(t, queues)
		w.acked = func(n int) { seen.add("acked %d", n) }
		subscribe(t, b, broker.Trigger{}, func(_ context.Context, e event.Event) int {
			seen.add("handled %s", e.ID())
			w.refuseAcks.Store(true)
			return 200
		})
		publish(t, b, brokertest.Event("1", "k"))
		time.Sleep(visibility / 2)
		seen.expect(t, "handled 1")
		w.refuseAcks.Store(false)
		time.Sleep(10 * visibility)
		seen.expect(t, "handled 1", "acked 1")
	})
}

// Closing acknowledges what has finished while an acknowledgement was under way.
func TestCloseAcknowledges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen log
		b, w := connect(t, memqueue.NewQueues(visibility))
		w.acked = func(n int) {
			time.Sleep(time.Second)
			seen.add("acked %d", n)
		}
		subscribe(t, b, broker.Trigger{}, func(_ context.Context, e event.Event) int { return 200 })
		publish(t, b, brokertest.Event("1", ""))
		synctest.Wait()
		publish(t, b, brokertest.Event("2", ""))
		synctest.Wait()
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		seen.expect(t, "acked 1", "acked 1")
	})
}

// What the filters refuse is acknowledged and not handed out, and to lose it costs nothing.
func TestFilteredIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen log
		b, w := connect(t, memqueue.NewQueues(visibility))
		w.acked = func(n int) { seen.add("acked %d", n) }
		wanted := broker.Filter{Exact: map[string]string{"id": "wanted"}}
		subscribe(t, b, broker.Trigger{Filters: []broker.Filter{wanted}}, func(_ context.Context, e event.Event) int {
			seen.add("handled %s", e.ID())
			return 200
		})
		publish(t, b, brokertest.Event("other", "k"), brokertest.Event("other", "k"))
		seen.expect(t, "acked 2")
		publish(t, b, brokertest.Event("wanted", "k"))
		seen.expect(t, "acked 2", "handled wanted", "acked 1")

		w.refuseAcks.Store(true)
		publish(t, b, brokertest.Event("other", "k"))
		synctest.Wait()
		w.cut()
		time.Sleep(3 * visibility)
		if stats := b.Stats(); len(stats) != 1 || stats[0].Open != 0 {
			t.Errorf("stats %+v, want nothing open", stats)
		}
	})
}
