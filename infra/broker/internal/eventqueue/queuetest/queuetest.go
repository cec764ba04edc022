// Package queuetest is the suite that every eventqueue.Driver passes. A driver passes brokertest as well, as every
// broker does; this suite has what a broker in good health never shows: holds that run out, late receipts, several
// receivers.
package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// Harness is what a driver's test hands to the suite.
type Harness struct {
	// New returns a driver without triggers, whose queues have the given visibility. The suite closes it.
	New func(t testing.TB, visibility time.Duration) eventqueue.Driver

	// In runs one case; a driver in memory runs it in a bubble of testing/synctest. Nil: it is called as it stands, and
	// takes real time.
	In func(t *testing.T, test func(*testing.T))

	// Visibility is what the cases use; 0: a second.
	Visibility time.Duration

	// Connected says that a message is held as long as its queue is open, and that one open queue of a trigger gets all
	// of its messages, as with RabbitMQ. Then the visibility is only how long the cases wait.
	Connected bool

	// OneOfKey says that of a key one message is handed out at a time, also to one receiver, and that messages of
	// different keys come in any order.
	OneOfKey bool
}

// Run holds the driver against the suite.
func Run(t *testing.T, h Harness) {
	if h.In == nil {
		h.In = func(t *testing.T, test func(*testing.T)) { test(t) }
	}
	if h.Visibility == 0 {
		h.Visibility = time.Second
	}
	type testcase struct {
		name string
		test func(*fixture)
	}
	cases := []testcase{
		{"every declared queue gets every event, also one that was declared twice", testFanOut},
		{"events of one key come in order", testOrder},
		{"an acknowledged message never comes again", testAck},
		{"a message that was given back comes again, but not before the delay", testNack},
		{"what comes again comes before the later messages of its key", testComesAgainFirst},
		{"receiving waits for a message, and ends with its context", testWaits},
		{"a dropped queue is gone with its messages", testDrop},
	}
	if h.Connected {
		cases = append(cases,
			testcase{"what a queue held that was closed comes to the next one, in order", testClosedGivesBack},
			testcase{"while a queue is open, another one of its trigger gets nothing", testOneReceiver},
			testcase{"a receipt that does not hold its message any more changes nothing", testUsedReceipt},
		)
	} else {
		cases = append(cases,
			testcase{"a message that is not acknowledged comes again after the visibility", testVisibility},
			testcase{"a message that is extended stays held", testExtend},
			testcase{"a receiver that ends hides no message from the next one", testEnds},
			testcase{"a receipt that does not hold its message any more changes nothing", testLateReceipt},
			testcase{"while a message of a key is held, no other receiver gets one of that key", testKeyHeld},
		)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h.In(t, func(t *testing.T) {
				d := h.New(t, h.Visibility)
				defer d.Close()
				c.test(&fixture{T: t, Driver: d, visibility: h.Visibility, oneOfKey: h.OneOfKey})
			})
		})
	}
}

type fixture struct {
	*testing.T
	eventqueue.Driver
	visibility time.Duration
	oneOfKey   bool
}

// open declares a trigger and opens its queue.
func (f *fixture) open(trigger string) eventqueue.Queue {
	f.Helper()
	f.must(f.Declare(f.Context(), trigger))
	q, err := f.Open(f.Context(), trigger)
	f.must(err)
	return q
}

// publish publishes events named KEY/ID; without a slash they have no key.
func (f *fixture) publish(names ...string) {
	f.Helper()
	var events []event.Event
	for _, name := range names {
		key, _, found := strings.Cut(name, "/")
		if !found {
			key = ""
		}
		events = append(events, brokertest.Event(name, key))
	}
	f.must(f.Publish(f.Context(), events))
}

// none is what receive waits for when nothing may come.
const none = ""

// receive receives until it has as many messages as there are names, checks that they are those, and returns their
// receipts. For none it waits half a visibility and checks that nothing comes.
func (f *fixture) receive(q eventqueue.Queue, names ...string) (receipts []string) {
	f.Helper()
	limit := 10 * f.visibility
	nothing := len(names) == 1 && names[0] == none
	if nothing {
		names, limit = nil, f.visibility/2
	}
	ctx, cancel := context.WithTimeout(f.Context(), limit)
	defer cancel()
	var got []string
	for len(got) < len(names) || nothing {
		messages, err := q.Receive(ctx, 10)
		for _, m := range messages {
			got = append(got, m.Event.ID())
			receipts = append(receipts, m.Receipt)
		}
		if err != nil {
			break
		}
	}
	if f.oneOfKey {
		slices.Sort(got)
	}
	if !slices.Equal(got, names) {
		f.Fatalf("received %v, want %v", got, names)
	}
	return receipts
}

// drain receives and acknowledges one message after another.
func (f *fixture) drain(q eventqueue.Queue, names ...string) {
	f.Helper()
	for _, name := range names {
		f.must(q.Ack(f.Context(), f.receive(q, name)))
	}
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func testFanOut(f *fixture) {
	a, b := f.open("a"), f.open("b")
	f.publish("1")
	f.must(f.Declare(f.Context(), "a"))
	f.receive(a, "1")
	f.receive(b, "1")
	c := f.open("c")
	f.publish("2")
	f.receive(c, "2")
}

func testOrder(f *fixture) {
	q := f.open("a")
	f.publish("k/1", "k/2")
	f.publish("k/3")
	if f.oneOfKey {
		f.drain(q, "k/1", "k/2", "k/3")
		return
	}
	f.receive(q, "k/1", "k/2", "k/3")
}

func testAck(f *fixture) {
	q := f.open("a")
	f.publish("k/1", "k/2")
	if f.oneOfKey {
		f.drain(q, "k/1")
		f.must(q.Nack(f.Context(), f.receive(q, "k/2"), 0))
		f.drain(q, "k/2")
		for range 4 {
			f.receive(q, none)
		}
		return
	}
	receipts := f.receive(q, "k/1", "k/2")
	f.must(q.Ack(f.Context(), receipts[:1]))
	f.must(q.Nack(f.Context(), receipts[1:], 0))
	f.must(q.Ack(f.Context(), f.receive(q, "k/2")))
	for range 4 { // two visibilities
		f.receive(q, none)
	}
}

func testVisibility(f *fixture) {
	q := f.open("a")
	f.publish("k/1")
	before := time.Now()
	first := f.receive(q, "k/1")
	second := f.receive(q, "k/1")
	if took := time.Since(before); took < f.visibility {
		f.Errorf("it came again after %v, want %v at least", took, f.visibility)
	}
	if first[0] == second[0] {
		f.Errorf("both have the receipt %q", first[0])
	}
}

func testExtend(f *fixture) {
	q := f.open("a")
	f.publish("k/1")
	receipts := f.receive(q, "k/1")
	for range 4 {
		f.receive(q, none)
		if lost, err := q.Extend(f.Context(), receipts); err != nil || len(lost) > 0 {
			f.Fatalf("lost %v, %v", lost, err)
		}
	}
	f.receive(q, "k/1")
}

func testNack(f *fixture) {
	q := f.open("a")
	f.publish("k/1")
	before := time.Now()
	f.must(q.Nack(f.Context(), f.receive(q, "k/1"), 0))
	receipts := f.receive(q, "k/1")
	if took := time.Since(before); took >= f.visibility {
		f.Errorf("it came again after %v, want at once", took)
	}
	before = time.Now()
	f.must(q.Nack(f.Context(), receipts, 3*f.visibility))
	f.receive(q, "k/1")
	if took := time.Since(before); took < 3*f.visibility {
		f.Errorf("it came again after %v, want %v at least", took, 3*f.visibility)
	}
}

func testLateReceipt(f *fixture) {
	q := f.open("a")
	f.publish("k/1")
	old := f.receive(q, "k/1")
	now := f.receive(q, "k/1")
	f.must(q.Ack(f.Context(), old))
	f.must(q.Nack(f.Context(), old, 0))
	lost, err := q.Extend(f.Context(), append(now, old...))
	if err != nil || !slices.Equal(lost, old) {
		f.Fatalf("lost %v, %v, want %v", lost, err, old)
	}
	f.receive(q, none)
	f.receive(q, "k/1")
}

func testKeyHeld(f *fixture) {
	one, other := f.open("a"), f.open("a")
	f.publish("k/1")
	held := f.receive(one, "k/1")
	f.publish("k/2", "l/1", "m")
	f.receive(other, "l/1", "m")
	f.receive(other, none)
	f.must(one.Ack(f.Context(), held))
	f.receive(other, "k/2")
}

func testClosedGivesBack(f *fixture) {
	q := f.open("a")
	f.publish("k/1", "k/2", "3")
	f.receive(q, "k/1", "k/2", "3")
	f.must(q.Close())
	f.publish("k/4")
	next := f.open("a")
	f.receive(next, "k/1", "k/2", "3", "k/4")
}

func testOneReceiver(f *fixture) {
	one, other := f.open("a"), f.open("a")
	f.publish("k/1", "l/1")
	f.receive(one, "k/1", "l/1")
	f.publish("m")
	f.receive(other, none)
	f.must(one.Close())
	f.receive(other, "k/1", "l/1", "m")
}

func testUsedReceipt(f *fixture) {
	q := f.open("a")
	f.publish("k/1")
	old := f.receive(q, "k/1")
	f.must(q.Nack(f.Context(), old, 0))
	now := f.receive(q, "k/1")
	f.must(q.Ack(f.Context(), old))
	f.must(q.Nack(f.Context(), old, 0))
	f.receive(q, none)
	f.must(q.Ack(f.Context(), now))
	f.must(q.Ack(f.Context(), now))
}

func testComesAgainFirst(f *fixture) {
	q := f.open("a")
	f.publish("k/1", "k/2")
	if f.oneOfKey {
		f.must(q.Nack(f.Context(), f.receive(q, "k/1"), 0))
		f.publish("k/3")
		f.drain(q, "k/1", "k/2", "k/3")
		return
	}
	receipts := f.receive(q, "k/1", "k/2")
	f.publish("k/3")
	f.must(q.Nack(f.Context(), receipts, 0))
	f.receive(q, "k/1", "k/2", "k/3")
}

func testWaits(f *fixture) {
	q := f.open("a")
	ctx, cancel := context.WithCancel(f.Context())
	ended := make(chan error)
	go func() {
		_, err := q.Receive(ctx, 1)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		f.Errorf("got %v, want %v", err, context.Canceled)
	}
	got := make(chan []eventqueue.Message)
	go func() {
		messages, _ := q.Receive(f.Context(), 1)
		got <- messages
	}()
	f.publish("1")
	if messages := <-got; len(messages) != 1 || messages[0].Event.ID() != "1" {
		f.Errorf("got %v, want one message", messages)
	}
}

// testEnds ends a receiver at many moments of a request.
func testEnds(f *fixture) {
	q := f.open("a")
	for i := range 40 {
		name := fmt.Sprint(i)
		f.publish(name)
		ctx, cancel := context.WithCancel(f.Context())
		time.AfterFunc(time.Duration(i)*200*time.Microsecond, cancel)
		messages, _ := q.Receive(ctx, 10)
		cancel()
		if len(messages) > 0 {
			f.must(q.Ack(f.Context(), []string{messages[0].Receipt}))
			continue
		}
		began := time.Now()
		f.must(q.Ack(f.Context(), f.receive(q, name)))
		if took := time.Since(began); took > f.visibility/2 {
			f.Fatalf("a message came %v after its first receiver had ended", took)
		}
	}
}

func testDrop(f *fixture) {
	f.open("a").Close()
	f.publish("1")
	f.must(f.Drop(f.Context(), "a"))
	f.must(f.Drop(f.Context(), "a"))
	q := f.open("a")
	f.publish("2")
	f.receive(q, "2")
}
