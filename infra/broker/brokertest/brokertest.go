// Package brokertest is the suite that every driver of the broker port passes. Its cases are named
// after the sentence of Knative's data-plane specification, or of the port, that they hold.
package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Harness opens a driver for the suite.
type Harness struct {
	// New opens an empty broker. The suite closes it.
	New func(t testing.TB) broker.Broker
	// Reopen opens what b, which is closed, has left behind. Nil: the driver keeps nothing.
	Reopen func(t testing.TB, b broker.Broker) broker.Broker
	// Kill ends b as the death of its process does: whatever b does from then on changes nothing, and handlers that run
	// get no answer through. It opens what b has left behind. Nil: the driver keeps nothing.
	Kill func(t testing.TB, b broker.Broker) broker.Broker

	// Backlog is how many events a slow trigger lets wait; 0: 20,000. An emulator may be slow with many.
	Backlog int

	// OneOfKey says that the driver gets one event of a key at a time from its product, so that a batch has events of
	// different keys.
	OneOfKey bool
}

// patience is how long the suite waits for what must happen.
const patience = 20 * time.Second

// sentence is a case of the suite, with the sentence that it holds.
type sentence struct {
	name string
	test func(*testing.T, Harness)
}

// Sentences returns what the suite holds, in its order: the names of its subtests.
func Sentences() (names []string) {
	for _, s := range sentences() {
		names = append(names, s.name)
	}
	return names
}

func sentences() []sentence {
	return []sentence{
		{"an event that matches is handed to the subscriber unchanged", testDelivery},
		{"an event that does not match is not", testFilters},
		{"404, 408, 409, 429 and 5xx are tried again", testRetried},
		{"every other status that is no success is final", testFinal},
		{"what is tried again succeeds in the end", testRetrySucceeds},
		{"a delivery is tried retry+1 times", testRetryCount},
		{"a final failure without a dead-letter sink is dropped", testDropped},
		{"linear backoff waits delay times attempt", testLinear},
		{"exponential backoff waits delay times two to the attempt", testExponential},
		{"429 and 503 are not tried again before Retry-After", testRetryAfter},
		{"an attempt is bounded by the timeout", testTimeout},
		{"a handler that ignores its timeout is given up", testStuckHandler},
		{"a panic counts as status 500", testPanic},
		{"a reply is published", testReply},
		{"a reply that breaks the specification fails the delivery", testBadReply},
		{"a dead letter carries knativeerrordest, knativeerrorcode and knativeerrordata", testDeadLetter},
		{"the dead-letter sink is tried until it takes the event", testDeadLetterRetried},
		{"events of one key come in order, under concurrency and retries", testOrder},
		{"a stuck key does not hold up others", testStuckKey},
		{"a skipped event comes again in order and does not count as an attempt", testSkipped},
		{"a batch is what is waiting and never more than asked for", testBatch},
		{"a batch of large events is limited in bytes", testLargeBatch},
		{"at most Concurrency calls run at once", testConcurrency},
		{"subscriptions of one name share the events", testShared},
		{"a trigger goes on where it stopped", testResubscribe},
		{"a new trigger begins with the next event", testNewTrigger},
		{"the subscription ends with its context", testContext},
		{"an event that breaks the specification is refused and nothing is taken", testRefused},
		{"a trigger that cannot be served is refused", testBadTrigger},
		{"a slow trigger holds up no other and loses nothing", testSlow},
		{"closing waits for handlers that run", testCloseWaits},
		{"a closed broker takes nothing", testClosed},
		{"a reopened broker redelivers what was unfinished and nothing that was finished", testReopen},
		{"a reopened broker goes on counting attempts", testAttemptsReopened},
		{"an event that kills the process is a dead letter after its attempts, and no other is", testDeaths},
		{"publishing without a trigger is no error", testNoTrigger},
	}
}

// Run runs the suite against the driver.
func Run(t *testing.T, h Harness) {
	for _, c := range sentences() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, h)
		})
	}
}

// fixture is a broker under test and what its handlers have seen.
type fixture struct {
	*testing.T
	broker.Broker
}

func open(t *testing.T, h Harness) *fixture {
	t.Helper()
	b := h.New(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		b.Close(ctx)
	})
	return &fixture{t, b}
}

func (f *fixture) subscribe(t broker.Trigger, h broker.Handler) broker.Subscription {
	f.Helper()
	sub, err := f.Subscribe(f.Context(), t, h)
	if err != nil {
		f.Fatalf("subscribe %s: %v", t.Name, err)
	}
	return sub
}

func (f *fixture) publish(events ...event.Event) {
	f.Helper()
	if err := f.Publish(context.Background(), events...); err != nil {
		f.Fatalf("publish: %v", err)
	}
}

// Event returns a valid event with an id and a partition key; without a key when that is empty.
func Event(id, key string) event.Event {
	e := event.New()
	e.SetID(id)
	e.SetSource("/brokertest")
	e.SetType("dev.ebb.test.happened.v1")
	if key != "" {
		e.SetExtension("partitionkey", key)
	}
	e.SetData(event.ApplicationJSON, map[string]string{"id": id})
	return e
}

// journal notes what handlers see.
type journal struct {
	mu    sync.Mutex
	seen  []event.Event
	times []time.Time
}

func (j *journal) add(events ...event.Event) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range events {
		j.seen = append(j.seen, e)
		j.times = append(j.times, time.Now())
	}
	return len(j.seen)
}

func (j *journal) ids() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var ids []string
	for _, e := range j.seen {
		ids = append(ids, e.ID())
	}
	return ids
}

func (j *journal) len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.seen)
}

// gaps returns the times between one delivery and the next.
func (j *journal) gaps() (out []time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := 1; i < len(j.times); i++ {
		out = append(out, j.times[i].Sub(j.times[i-1]))
	}
	return out
}

// answer returns a handler that notes the events and answers each with what f returns.
func (j *journal) answer(f func(e event.Event) broker.Result) broker.Handler {
	return func(_ context.Context, batch []event.Event) []broker.Result {
		j.add(batch...)
		out := make([]broker.Result, len(batch))
		for i := range batch {
			out[i] = f(batch[i])
		}
		return out
	}
}

func (j *journal) handler() broker.Handler {
	return j.answer(func(event.Event) broker.Result { return broker.Result{Status: 200} })
}

func always(status int) func(event.Event) broker.Result {
	return func(event.Event) broker.Result { return broker.Result{Status: status} }
}

// await waits until ok, and fails the test when that takes too long.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (j *journal) await(t *testing.T, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%d deliveries", n), func() bool { return j.len() >= n })
}

// settle gives what must not happen the time to happen.
func settle() { time.Sleep(50 * time.Millisecond) }

func quick(retries int) broker.Delivery {
	return broker.Delivery{Retry: retries, BackoffPolicy: broker.Linear, BackoffDelay: time.Millisecond}
}

func testDelivery(t *testing.T, h Harness) {
	f := open(t, h)
	var j journal
	f.subscribe(broker.Trigger{Name: "all"}, j.handler())
	want := Event("1", "k")
	want.SetSubject("s")
	want.SetTime(time.Date(2024, 2, 29, 1, 2, 3, 4, time.UTC))
	want.SetDataSchema("https://example.com/schema")
	want.SetExtension("number", 7)
	want.SetExtension("flag", true)
	binary := Event("2", "")
	binary.SetData("application/octet-stream", []byte{0, 1, 255})
	text := Event("3", "")
	text.SetData("text/plain", "hello\n")
	bare := event.New()
	bare.SetID("4")
	bare.SetSource("urn:x")
	bare.SetType("t")
	all := []event.Event{want, binary, text, bare}
	f.publish(all...)
	j.await(t, len(all))
	got := slices.Clone(j.seen)
	slices.SortFunc(got, func(a, b event.Event) int { return strings.Compare(a.ID(), b.ID()) })
	for i := range all {
		if g, w := got[i].String(), all[i].String(); g != w {
			t.Errorf("got %s\nwant %s", g, w)
		}
	}
}

func testFilters(t *testing.T, h Harness) {
	f := open(t, h)
	is := func(k, v string) map[string]string { return map[string]string{k: v} }
	for name, c := range map[string]struct {
		filters []broker.Filter
		want    string
	}{
		"none":   {nil, "a1 a2 b1"},
		"exact":  {[]broker.Filter{{Exact: is("id", "a1")}}, "a1"},
		"prefix": {[]broker.Filter{{Prefix: is("id", "a")}}, "a1 a2"},
		"suffix": {[]broker.Filter{{Suffix: is("id", "1")}}, "a1 b1"},
		"all":    {[]broker.Filter{{All: []broker.Filter{{Prefix: is("id", "a")}, {Suffix: is("id", "1")}}}}, "a1"},
		"any":    {[]broker.Filter{{Any: []broker.Filter{{Exact: is("id", "a2")}, {Exact: is("id", "b1")}}}}, "a2 b1"},
		"not":    {[]broker.Filter{{Not: &broker.Filter{Exact: is("id", "a1")}}}, "a2 b1"},
		"cesql":  {[]broker.Filter{{CESQL: "id LIKE 'a%' AND subject = 'x'"}}, "a2"},
		"and":    {[]broker.Filter{{Prefix: is("id", "a")}, {Suffix: is("id", "2")}}, "a2"},
		"absent": {[]broker.Filter{{Exact: is("subject", "x")}}, "a2"},
	} {
		var j journal
		f.subscribe(broker.Trigger{Name: name, Filters: c.filters}, j.handler())
		defer func() {
			j.await(t, len(strings.Fields(c.want)))
			settle()
			got := j.ids()
			slices.Sort(got)
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s: got %v, want %s", name, got, c.want)
			}
		}()
	}
	second := Event("a2", "")
	second.SetSubject("x")
	f.publish(Event("a1", ""), second, Event("b1", ""))
}

func testRetried(t *testing.T, h Harness) {
	f := open(t, h)
	for _, status := range []int{0, 404, 408, 409, 429, 500, 502, 503, 504, 599} {
		if n := f.attempts(status); n != 3 {
			t.Errorf("status %d: %d attempts, want 3", status, n)
		}
	}
}

func testFinal(t *testing.T, h Harness) {
	f := open(t, h)
	for _, status := range []int{301, 400, 401, 403, 405, 410, 413, 415, 422, 425, 451} {
		if n := f.attempts(status); n != 1 {
			t.Errorf("status %d: %d attempts, want 1", status, n)
		}
	}
}

// attempts returns how often an event is tried, with two retries, that is always answered with the status.
func (f *fixture) attempts(status int) int {
	var tries, dead journal
	d := quick(2)
	d.DeadLetter = dead.handler()
	sub := f.subscribe(broker.Trigger{Name: fmt.Sprintf("status-%d", status), Delivery: d}, tries.answer(always(status)))
	defer sub.Close()
	f.publish(Event(fmt.Sprint("status-", status), "")) // another id each time: a broker may drop an event that it knows
	dead.await(f.T, 1)
	return tries.len()
}

func testRetrySucceeds(t *testing.T, h Harness) {
	f := open(t, h)
	var tries, dead journal
	d := quick(5)
	d.DeadLetter = dead.handler()
	f.subscribe(broker.Trigger{Name: "flaky", Delivery: d}, tries.answer(func(event.Event) broker.Result {
		if tries.len() < 3 {
			return broker.Result{Status: 503}
		}
		return broker.Result{Status: 204}
	}))
	f.publish(Event("1", ""))
	tries.await(t, 3)
	settle()
	if tries.len() != 3 || dead.len() != 0 {
		t.Errorf("%d attempts and %d dead letters, want 3 and 0", tries.len(), dead.len())
	}
}

func testRetryCount(t *testing.T, h Harness) {
	f := open(t, h)
	for _, retries := range []int{0, 1, 4} {
		var tries, dead journal
		d := quick(retries)
		d.DeadLetter = dead.handler()
		f.subscribe(broker.Trigger{Name: fmt.Sprintf("retry-%d", retries), Delivery: d}, tries.answer(always(500)))
		f.publish(Event(fmt.Sprint("retry-", retries), ""))
		dead.await(t, 1)
		if want := retries + 1; tries.len() != want {
			t.Errorf("%d attempts, want %d", tries.len(), want)
		}
	}
}

func testDropped(t *testing.T, h Harness) {
	f := open(t, h)
	var j journal
	f.subscribe(broker.Trigger{Name: "drop"}, j.answer(always(500)))
	f.publish(Event("1", "k"))
	f.publish(Event("2", "k"))
	j.await(t, 2)
	settle()
	if got := j.ids(); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("got %v, want each once", got)
	}
}

func testLinear(t *testing.T, h Harness) {
	testBackoff(t, h, broker.Linear, 20*time.Millisecond, 40*time.Millisecond, 60*time.Millisecond)
}

func testExponential(t *testing.T, h Harness) {
	testBackoff(t, h, broker.Exponential, 40*time.Millisecond, 80*time.Millisecond, 160*time.Millisecond)
}

func testBackoff(t *testing.T, h Harness, policy broker.BackoffPolicy, want ...time.Duration) {
	f := open(t, h)
	var j journal
	d := broker.Delivery{Retry: len(want), BackoffPolicy: policy, BackoffDelay: 20 * time.Millisecond}
	f.subscribe(broker.Trigger{Name: "backoff", Delivery: d}, j.answer(always(500)))
	f.publish(Event("1", ""))
	j.await(t, len(want)+1)
	for i, gap := range j.gaps() {
		if gap < want[i] || gap > want[i]+5*time.Second {
			t.Errorf("wait %d is %v, want %v", i+1, gap, want[i])
		}
	}
}

func testRetryAfter(t *testing.T, h Harness) {
	f := open(t, h)
	for _, status := range []int{429, 503} {
		var j journal
		trigger := broker.Trigger{Name: fmt.Sprintf("after-%d", status), Delivery: quick(1)}
		f.subscribe(trigger, j.answer(func(event.Event) broker.Result {
			return broker.Result{Status: status, RetryAfter: 150 * time.Millisecond}
		}))
		f.publish(Event(fmt.Sprint("after-", status), ""))
		j.await(t, 2)
		if gap := j.gaps()[0]; gap < 150*time.Millisecond {
			t.Errorf("status %d: tried again after %v, want 150ms at least", status, gap)
		}
	}
}

func testTimeout(t *testing.T, h Harness) {
	f := open(t, h)
	var j journal
	d := quick(1)
	d.Timeout = 30 * time.Millisecond
	f.subscribe(broker.Trigger{Name: "timeout", Delivery: d},
		func(ctx context.Context, batch []event.Event) []broker.Result {
			if j.add(batch...) > 1 {
				return []broker.Result{{Status: 200}}
			}
			<-ctx.Done()
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("the attempt ended with %v", ctx.Err())
			}
			return []broker.Result{{Status: 504}}
		})
	f.publish(Event("1", ""))
	j.await(t, 2)
	if gap := j.gaps()[0]; gap < d.Timeout {
		t.Errorf("tried again after %v, before the timeout", gap)
	}
}

func testStuckHandler(t *testing.T, h Harness) {
	f := open(t, h)
	var j, dead journal
	d := broker.Delivery{Timeout: 30 * time.Millisecond, DeadLetter: dead.handler()}
	release := make(chan struct{})
	f.subscribe(broker.Trigger{Name: "stuck", Delivery: d}, func(_ context.Context, batch []event.Event) []broker.Result {
		if j.add(batch...) == 1 {
			<-release
		}
		return []broker.Result{{Status: 200}}
	})
	f.publish(Event("1", "k"), Event("2", "k"))
	j.await(t, 2)
	dead.await(t, 1)
	if code := dead.seen[0].Extensions()[broker.ErrorCode]; fmt.Sprint(code) != "504" {
		t.Errorf("%s is %v, want 504", broker.ErrorCode, code)
	}
	close(release)
	settle()
	if got := j.ids(); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("handled %v, want 1 2", got)
	}
}

func testPanic(t *testing.T, h Harness) {
	f := open(t, h)
	var j, dead journal
	d := quick(1)
	d.DeadLetter = dead.handler()
	f.subscribe(broker.Trigger{Name: "panic", Delivery: d}, func(_ context.Context, batch []event.Event) []broker.Result {
		j.add(batch...)
		panic("on purpose")
	})
	f.publish(Event("1", ""))
	dead.await(t, 1)
	if code := fmt.Sprint(dead.seen[0].Extensions()[broker.ErrorCode]); j.len() != 2 || code != "500" {
		t.Errorf("%d attempts, code %s, want 2 and 500", j.len(), code)
	}
}

func testReply(t *testing.T, h Harness) {
	f := open(t, h)
	var replies journal
	f.subscribe(broker.Trigger{Name: "asks", Filters: []broker.Filter{{Exact: map[string]string{"id": "question"}}}},
		func(context.Context, []event.Event) []broker.Result {
			answer := Event("answer", "")
			return []broker.Result{{Status: 200, Reply: &answer}}
		})
	answers := []broker.Filter{{Exact: map[string]string{"id": "answer"}}}
	f.subscribe(broker.Trigger{Name: "hears", Filters: answers}, replies.handler())
	f.publish(Event("question", ""))
	replies.await(t, 1)
}

func testBadReply(t *testing.T, h Harness) {
	f := open(t, h)
	var dead journal
	d := quick(1)
	d.DeadLetter = dead.handler()
	f.subscribe(broker.Trigger{Name: "asks", Delivery: d}, func(context.Context, []event.Event) []broker.Result {
		bad := event.New()
		return []broker.Result{{Status: 200, Reply: &bad}}
	})
	f.publish(Event("question", ""))
	dead.await(t, 1)
}

func testDeadLetter(t *testing.T, h Harness) {
	f := open(t, h)
	var dead journal
	message := "it is wrong:\n" + strings.Repeat("x", 3000)
	d := broker.Delivery{DeadLetter: dead.handler()}
	f.subscribe(broker.Trigger{Name: "fails", Subscriber: "http://orders/events", Delivery: d},
		func(context.Context, []event.Event) []broker.Result {
			return []broker.Result{{Status: 422, Message: message}}
		})
	f.publish(Event("1", "k"))
	dead.await(t, 1)
	e := dead.seen[0]
	x := e.Extensions()
	data := fmt.Sprint(x[broker.ErrorData])
	if x[broker.ErrorDest] != "http://orders/events" || fmt.Sprint(x[broker.ErrorCode]) != "422" ||
		len(data) != 1024 || !strings.HasPrefix(data, "it is wrong: xxx") {
		t.Errorf("the dead letter carries %v", x)
	}
	if e.ID() != "1" || x["partitionkey"] != "k" || string(e.Data()) != `{"id":"1"}` {
		t.Errorf("the dead letter is not the event: %s", e)
	}
}

func testDeadLetterRetried(t *testing.T, h Harness) {
	f := open(t, h)
	var tries, dead journal
	d := broker.Delivery{BackoffDelay: time.Millisecond}
	d.DeadLetter = dead.answer(func(event.Event) broker.Result {
		if dead.len() < 4 {
			return broker.Result{Status: 400}
		}
		return broker.Result{Status: 200}
	})
	f.subscribe(broker.Trigger{Name: "fails", Delivery: d}, tries.answer(always(400)))
	f.publish(Event("1", "k"))
	dead.await(t, 4)
	settle()
	if tries.len() != 1 || dead.len() != 4 {
		t.Errorf("%d attempts and %d at the sink, want 1 and 4", tries.len(), dead.len())
	}
}

func testOrder(t *testing.T, h Harness) {
	f := open(t, h)
	const keys, each = 16, 60
	var mu sync.Mutex
	last, inFlight, tries := map[string]int{}, map[string]bool{}, map[string]int{}
	var done atomic.Int64
	d := quick(10)
	f.subscribe(broker.Trigger{Name: "ordered", Delivery: d, Batch: 4, Concurrency: 8},
		func(_ context.Context, batch []event.Event) []broker.Result {
			out := make([]broker.Result, len(batch))
			failed := map[string]bool{}
			mine := map[string]bool{}
			for i, e := range batch {
				var key string
				var n int
				fmt.Sscanf(e.ID(), "%s %d", &key, &n)
				mu.Lock()
				if inFlight[key] && !mine[key] {
					t.Errorf("key %s is in two calls at once", key)
				}
				inFlight[key], mine[key] = true, true
				tries[e.ID()]++
				switch {
				case failed[key]:
					out[i].Skipped = true
				case n%7 == 3 && tries[e.ID()] < 3:
					out[i].Status, failed[key] = 503, true
				default:
					if n != last[key]+1 {
						t.Errorf("key %s: %d after %d", key, n, last[key])
					}
					last[key] = n
					out[i].Status = 200
					done.Add(1)
				}
				mu.Unlock()
			}
			time.Sleep(100 * time.Microsecond)
			mu.Lock()
			for key := range mine {
				inFlight[key] = false
			}
			mu.Unlock()
			return out
		})
	var wg sync.WaitGroup
	for k := range keys {
		wg.Go(func() {
			for n := 1; n <= each; n++ {
				key := fmt.Sprint("k", k)
				f.publish(Event(fmt.Sprintf("%s %d", key, n), key))
			}
		})
	}
	wg.Wait()
	await(t, "all events", func() bool { return done.Load() == keys*each })
}

func testStuckKey(t *testing.T, h Harness) {
	f := open(t, h)
	var good journal
	d := broker.Delivery{Retry: 3, BackoffDelay: time.Hour}
	f.subscribe(broker.Trigger{Name: "stuck", Delivery: d}, func(_ context.Context, batch []event.Event) []broker.Result {
		if batch[0].Extensions()["partitionkey"] == "bad" {
			return []broker.Result{{Status: 500}}
		}
		good.add(batch...)
		return []broker.Result{{Status: 200}}
	})
	for i := range 50 {
		f.publish(Event(fmt.Sprint("bad", i), "bad"), Event(fmt.Sprint("good", i), "good"), Event(fmt.Sprint("free", i), ""))
	}
	good.await(t, 100)
}

func testSkipped(t *testing.T, h Harness) {
	f := open(t, h)
	var mu sync.Mutex
	var done []string
	tries := map[string]int{}
	var dead journal
	d := quick(3)
	d.DeadLetter = dead.handler()
	gate := make(chan struct{})
	f.subscribe(broker.Trigger{Name: "skips", Delivery: d, Batch: 3},
		func(_ context.Context, batch []event.Event) []broker.Result {
			<-gate
			mu.Lock()
			defer mu.Unlock()
			out := make([]broker.Result, len(batch))
			failed := false
			for i, e := range batch {
				tries[e.ID()]++
				switch {
				case failed:
					out[i].Skipped = true
				case e.ID() == "1" && tries["1"] < 4:
					out[i].Status, failed = 500, true
				default:
					out[i].Status = 200
					done = append(done, e.ID())
				}
			}
			return out
		})
	f.publish(Event("0", "k"), Event("1", "k"), Event("2", "k"), Event("3", "k"))
	close(gate)
	await(t, "all four", func() bool { mu.Lock(); defer mu.Unlock(); return len(done) == 4 })
	if !slices.Equal(done, []string{"0", "1", "2", "3"}) || dead.len() != 0 {
		t.Errorf("done %v with %d dead letters, want 0 1 2 3 and none", done, dead.len())
	}
}

func testBatch(t *testing.T, h Harness) {
	f := open(t, h)
	var mu sync.Mutex
	var sizes []int
	var ids []string
	gate, started := make(chan struct{}), make(chan struct{}, 36)
	f.subscribe(broker.Trigger{Name: "batches", Batch: 10}, func(_ context.Context, batch []event.Event) []broker.Result {
		started <- struct{}{}
		<-gate
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, len(batch))
		out := make([]broker.Result, len(batch))
		for i := range out {
			ids = append(ids, batch[i].ID())
			out[i].Status = 200
		}
		return out
	})
	f.publish(Event("000", "k"))
	<-started // a lone event does not wait for company
	var want []string
	for i := range 36 {
		want = append(want, fmt.Sprintf("%03d", i))
		key := "k"
		if h.OneOfKey {
			key += want[i]
		}
		if i > 0 {
			f.publish(Event(want[i], key))
		}
	}
	settle()
	close(gate)
	await(t, "all events", func() bool { mu.Lock(); defer mu.Unlock(); return len(ids) == 36 })
	if h.OneOfKey {
		slices.Sort(ids)
	}
	if !slices.Equal(sizes, []int{1, 10, 10, 10, 5}) || !slices.Equal(ids, want) {
		t.Errorf("batches of %v: %v, want 1 10 10 10 5, in order", sizes, ids)
	}
}

func testLargeBatch(t *testing.T, h Harness) {
	f := open(t, h)
	const size, all = 100 << 10, 40
	var mu sync.Mutex
	var most, handled int
	f.subscribe(broker.Trigger{Name: "large", Batch: 100}, func(_ context.Context, batch []event.Event) []broker.Result {
		mu.Lock()
		defer mu.Unlock()
		most, handled = max(most, len(batch)), handled+len(batch)
		out := make([]broker.Result, len(batch))
		for i := range out {
			out[i].Status = 200
		}
		return out
	})
	mu.Lock() // the first batch waits until all are published
	for i := range all {
		e := Event(fmt.Sprintf("%03d", i), fmt.Sprint(i%3))
		e.DataEncoded = bytes.Repeat([]byte("x"), size)
		f.publish(e)
	}
	settle()
	mu.Unlock()
	await(t, "all events", func() bool { mu.Lock(); defer mu.Unlock(); return handled == all })
	if most > broker.MaxBatchBytes/size+1 {
		t.Errorf("a batch has %d events of %d bytes", most, size)
	}
}

func testConcurrency(t *testing.T, h Harness) {
	f := open(t, h)
	var running, most, done atomic.Int64
	published := make(chan struct{})
	f.subscribe(broker.Trigger{Name: "parallel", Concurrency: 4}, func(context.Context, []event.Event) []broker.Result {
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-published
		time.Sleep(5 * time.Millisecond)
		running.Add(-1)
		done.Add(1)
		return []broker.Result{{Status: 200}}
	})
	for i := range 40 {
		f.publish(Event(fmt.Sprint(i), ""))
	}
	for end := time.Now().Add(patience); running.Load() < 4 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	close(published)
	await(t, "all events", func() bool { return done.Load() == 40 })
	if most.Load() != 4 {
		t.Errorf("%d calls at once, want 4", most.Load())
	}
}

func testShared(t *testing.T, h Harness) {
	f := open(t, h)
	var a, b journal
	first := f.subscribe(broker.Trigger{Name: "shared"}, a.handler())
	f.subscribe(broker.Trigger{Name: "shared"}, b.handler())
	for i := range 20 {
		f.publish(Event(fmt.Sprint(i), ""))
	}
	await(t, "all events", func() bool { return a.len()+b.len() == 20 })
	settle()
	if a.len()+b.len() != 20 || a.len() == 0 || b.len() == 0 {
		t.Errorf("%d and %d events, want 20 in all and some for each", a.len(), b.len())
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	before := a.len()
	f.publish(Event("x", ""), Event("y", ""))
	await(t, "the other to go on", func() bool { return a.len()+b.len() == 22 })
	if a.len() != before {
		t.Error("a closed subscription was handed an event")
	}
}

func testResubscribe(t *testing.T, h Harness) {
	f := open(t, h)
	var j journal
	sub := f.subscribe(broker.Trigger{Name: "again"}, j.handler())
	f.publish(Event("1", ""))
	j.await(t, 1)
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	f.publish(Event("2", ""), Event("3", ""))
	settle()
	if j.len() != 1 {
		t.Fatalf("a closed subscription was handed %v", j.ids())
	}
	f.subscribe(broker.Trigger{Name: "again"}, j.handler())
	f.publish(Event("4", ""))
	j.await(t, 4)
	settle()
	got := j.ids()
	slices.Sort(got) // they have no key, and so no order
	if !slices.Equal(got, []string{"1", "2", "3", "4"}) {
		t.Errorf("got %v, want 1 2 3 4", got)
	}
}

func testNewTrigger(t *testing.T, h Harness) {
	f := open(t, h)
	f.publish(Event("before", ""))
	var j journal
	f.subscribe(broker.Trigger{Name: "new"}, j.handler())
	f.publish(Event("after", ""))
	j.await(t, 1)
	settle()
	if got := j.ids(); !slices.Equal(got, []string{"after"}) {
		t.Errorf("got %v, want what came after only", got)
	}
}

func testContext(t *testing.T, h Harness) {
	f := open(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	var j journal
	if _, err := f.Subscribe(ctx, broker.Trigger{Name: "ends"}, j.handler()); err != nil {
		t.Fatal(err)
	}
	f.publish(Event("1", ""))
	j.await(t, 1)
	cancel()
	settle()
	f.publish(Event("2", ""))
	settle()
	if j.len() != 1 {
		t.Error("an event came after the context had ended")
	}
}

func testRefused(t *testing.T, h Harness) {
	f := open(t, h)
	var j journal
	f.subscribe(broker.Trigger{Name: "all"}, j.handler())
	noType := Event("x", "")
	noType.SetType("")
	noSource := Event("x", "")
	noSource.Context = &event.EventContextV1{ID: "x", Type: "t"}
	badName := Event("x", "")
	source := Event("", "").Context.AsV1().Source
	badName.Context = &event.EventContextV1{
		ID: "x", Type: "t", Source: source, Extensions: map[string]any{"Bad_Name": "v"},
	}
	badValue := badName
	badValue.Context = &event.EventContextV1{
		ID: "x", Type: "t", Source: source, Extensions: map[string]any{"good": []int{1}},
	}
	large := Event("x", "")
	large.SetData("text/plain", strings.Repeat("x", 2<<20))
	for name, bad := range map[string]event.Event{
		"no id": Event("", ""), "no type": noType, "no source": noSource, "no attributes": {},
		"bad extension name": badName, "bad extension value": badValue, "over size": large,
	} {
		err := f.Publish(context.Background(), Event("good", ""), bad)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want fault.Invalid", name, err)
		}
	}
	f.publish(Event("last", ""))
	j.await(t, 1)
	settle()
	if got := j.ids(); !slices.Equal(got, []string{"last"}) {
		t.Errorf("got %v, want nothing of what was refused", got)
	}
}

func testBadTrigger(t *testing.T, h Harness) {
	f := open(t, h)
	var j journal
	for name, c := range map[string]struct {
		trigger broker.Trigger
		handler broker.Handler
	}{
		"no name":    {broker.Trigger{}, j.handler()},
		"no label":   {broker.Trigger{Name: "Not A Label"}, j.handler()},
		"bad filter": {broker.Trigger{Name: "x", Filters: []broker.Filter{{CESQL: "((("}}}, j.handler()},
		"no handler": {broker.Trigger{Name: "x"}, nil},
	} {
		if _, err := f.Subscribe(t.Context(), c.trigger, c.handler); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want fault.Invalid", name, err)
		}
	}
}

func testSlow(t *testing.T, h Harness) {
	f := open(t, h)
	n := int64(h.Backlog)
	if n == 0 {
		n = 20_000
	}
	gate := make(chan struct{})
	var slow, fast sync.Map
	var slowN, fastN atomic.Int64
	count := func(seen *sync.Map, n *atomic.Int64) broker.Handler {
		return func(_ context.Context, batch []event.Event) []broker.Result {
			out := make([]broker.Result, len(batch))
			for i := range batch {
				if _, again := seen.LoadOrStore(batch[i].ID(), true); !again {
					n.Add(1)
				}
				out[i].Status = 200
			}
			return out
		}
	}
	counted := count(&slow, &slowN)
	f.subscribe(broker.Trigger{Name: "slow", Batch: 100}, func(ctx context.Context, batch []event.Event) []broker.Result {
		<-gate
		return counted(ctx, batch)
	})
	f.subscribe(broker.Trigger{Name: "fast", Batch: 100}, count(&fast, &fastN))
	for i := int64(0); i < n; i += 200 {
		events := make([]event.Event, 200)
		for j := range events {
			events[j] = Event(fmt.Sprint(int(i)+j), "")
		}
		f.publish(events...)
	}
	await(t, "the fast one", func() bool { return fastN.Load() == n })
	close(gate)
	await(t, "the slow one", func() bool { return slowN.Load() == n })
	f.publish(Event("after", ""))
	await(t, "the slow one to have joined again", func() bool { return slowN.Load() == n+1 })
}

func testCloseWaits(t *testing.T, h Harness) {
	for _, what := range []string{"subscription", "broker"} {
		f := open(t, h)
		started := make(chan struct{})
		var finished atomic.Bool
		var tail journal
		tails := []broker.Filter{{Exact: map[string]string{"id": "tail"}}}
		f.subscribe(broker.Trigger{Name: "tail", Filters: tails}, tail.handler())
		sub := f.subscribe(broker.Trigger{Name: "busy"}, func(ctx context.Context, batch []event.Event) []broker.Result {
			if batch[0].ID() != "1" {
				return []broker.Result{{Status: 200}}
			}
			close(started)
			time.Sleep(100 * time.Millisecond)
			if ctx.Err() != nil {
				t.Error("the handler's context ended while it was waited for")
			}
			if err := f.Publish(ctx, Event("tail", "")); err != nil {
				t.Errorf("a handler could not publish while it was waited for: %v", err)
			}
			finished.Store(true)
			return []broker.Result{{Status: 200}}
		})
		f.publish(Event("1", ""))
		<-started
		var err error
		if what == "broker" {
			err = f.Close(context.Background())
		} else {
			err = sub.Close()
		}
		if err != nil || !finished.Load() {
			t.Errorf("%s: closed with %v, handler finished: %v", what, err, finished.Load())
		}
	}
}

func testClosed(t *testing.T, h Harness) {
	f := open(t, h)
	if err := f.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := f.Publish(context.Background(), Event("1", "")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("publish: %v, want fault.Unavailable", err)
	}
	var j journal
	_, err := f.Subscribe(context.Background(), broker.Trigger{Name: "x"}, j.handler())
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("subscribe: %v, want fault.Unavailable", err)
	}
	if err := f.Close(context.Background()); err != nil {
		t.Errorf("the second close: %v", err)
	}
}

func testReopen(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("the driver keeps nothing")
	}
	f := open(t, h)
	var before, after journal
	trigger := broker.Trigger{Name: "again", Concurrency: 4, Delivery: broker.Delivery{Retry: 1, BackoffDelay: time.Hour}}
	f.subscribe(trigger, before.answer(func(e event.Event) broker.Result {
		if e.ID() == "stuck" {
			return broker.Result{Status: 500}
		}
		return broker.Result{Status: 200}
	}))
	f.publish(Event("done", ""), Event("stuck", "k"), Event("behind", "k"))
	before.await(t, 2)
	for i := range 100 {
		f.publish(Event(fmt.Sprint("done", i), ""))
	}
	before.await(t, 102)
	if err := f.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	b := h.Reopen(t, f.Broker)
	t.Cleanup(func() { b.Close(context.Background()) })
	g := &fixture{t, b}
	g.publish(Event("new", "")) // it waits for the trigger, which is known although no process serves it
	began := time.Now()
	g.subscribe(trigger, after.handler())
	after.await(t, 3)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the first events came after %v, want at once", took)
	}
	settle()
	got := after.ids()
	slices.Sort(got)
	if !slices.Equal(got, []string{"behind", "new", "stuck"}) {
		t.Errorf("got %v, want what was unfinished and what is new", got)
	}
}

func testNoTrigger(t *testing.T, h Harness) {
	f := open(t, h)
	f.publish()
	f.publish(Event("1", ""))
}
