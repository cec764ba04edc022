package rabbitmq_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/rabbitmq"
	"github.com/ebb-dev/ebb/infra/fault"
)

// admin returns a channel with which a test changes what the driver has made.
func admin(t *testing.T) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(server(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// handler returns a handler that reports the ids of events.
func handler(seen chan<- string) broker.Handler {
	return func(_ context.Context, batch []ce.Event) []broker.Result {
		results := make([]broker.Result, len(batch))
		for i := range batch {
			seen <- batch[i].ID()
			results[i].Status = 200
		}
		return results
	}
}

func subscribe(t *testing.T, b broker.Broker, trigger broker.Trigger, h broker.Handler) broker.Subscription {
	t.Helper()
	sub, err := b.Subscribe(context.Background(), trigger, h)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func expect(t *testing.T, seen <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-seen:
			if got != w {
				t.Fatalf("got %q, want %q", got, w)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("waited in vain for %q", w)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// RabbitMQ confirms a message that no queue takes. That is an error when there is a trigger, whose queue is made again.
func TestUnroutable(t *testing.T) {
	b := open(t, rabbitmq.Config{Name: name()})
	must(t, b.Declare(t.Context(), "audit"))
	queue := rabbitmq.QueueName(b, "audit")
	if _, err := admin(t).QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), brokertest.Event("1", "k")); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("got %v, want unavailable", err)
	}
	must(t, b.Publish(t.Context(), brokertest.Event("2", "k"), brokertest.Event("3", "k")))
	seen := make(chan string, 10)
	subscribe(t, b, broker.Trigger{Name: "audit"}, handler(seen))
	expect(t, seen, "2", "3")
}

// A channel that RabbitMQ closes, as the exchange is missing, is an error of the events in flight only.
func TestExchangeIsDeleted(t *testing.T) {
	n := name()
	b := open(t, rabbitmq.Config{Name: n})
	seen := make(chan string, 10)
	subscribe(t, b, broker.Trigger{Name: "audit"}, handler(seen))
	must(t, b.Publish(t.Context(), brokertest.Event("1", "k")))
	must(t, admin(t).ExchangeDelete(n, false, false))
	err := b.Publish(t.Context(), brokertest.Event("2", "k"))
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "NOT_FOUND") {
		t.Fatalf("got %v, want unavailable as it was not found", err)
	}
	must(t, b.Publish(t.Context(), brokertest.Event("3", "k")))
	expect(t, seen, "1", "3")
}

// A queue that is deleted while it is served is made again and served.
func TestQueueIsDeleted(t *testing.T) {
	b := open(t, rabbitmq.Config{Name: name()})
	seen := make(chan string, 10)
	subscribe(t, b, broker.Trigger{Name: "audit"}, handler(seen))
	must(t, b.Publish(t.Context(), brokertest.Event("1", "k")))
	expect(t, seen, "1")
	if _, err := admin(t).QueueDelete(rabbitmq.QueueName(b, "audit"), false, false, false); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if err := b.Publish(t.Context(), brokertest.Event("2", "k")); err == nil {
			break
		} else if i > 100 {
			t.Fatal(err)
		}
	}
	expect(t, seen, "2")
}

// With the policy of docs/brokers.md RabbitMQ deletes the queue of a trigger that nothing serves. One that is served
// stays, and so does the queue for messages that are no events, which nothing ever serves.
func TestUnservedQueueExpires(t *testing.T) {
	n := name()
	b := open(t, rabbitmq.Config{Name: n})
	seen := make(chan string, 10)
	subscribe(t, b, broker.Trigger{Name: "served"}, handler(seen))
	removed := subscribe(t, b, broker.Trigger{Name: "removed"}, handler(make(chan string, 10)))
	must(t, removed.Close())
	must(t, server(t).Control("set_policy", n, "^"+n+`\.[a-z0-9-]+\.[0-9]+$`, `{"expires":1}`, "--apply-to", "queues"))
	exists := func(queue string) bool {
		_, err := admin(t).QueueDeclarePassive(queue, true, false, false, false, nil)
		return err == nil
	}
	for deadline := time.Now().Add(20 * time.Second); exists(n + ".removed.0"); {
		if time.Now().After(deadline) {
			t.Fatal("the queue that nothing serves is still there")
		}
	}
	for _, queue := range []string{".served.0", ".served.parked", ".served.0.tries", ".removed.parked"} {
		if !exists(n + queue) {
			t.Errorf("the queue %s is deleted", queue)
		}
	}
	must(t, b.Publish(t.Context(), brokertest.Event("1", "k")))
	expect(t, seen, "1")
}

// What exists with other settings is refused with a sentence that names it.
func TestOtherSettings(t *testing.T) {
	n := name()
	b := open(t, rabbitmq.Config{Name: n})
	ch := admin(t)
	queue := rabbitmq.QueueName(b, "audit")
	if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	_, err := b.Subscribe(t.Context(), broker.Trigger{Name: "audit"}, handler(nil))
	if text := fault.Public(err); !fault.Is(err, fault.Conflict) || !strings.Contains(text, "other settings") ||
		!strings.Contains(text, queue) || strings.Contains(text, "\n") {
		t.Errorf("got %v", err)
	}
	for _, shards := range []int{2, 3} {
		_, err = rabbitmq.Open(t.Context(), rabbitmq.Config{URL: server(t).URL(), Name: n, Shards: shards})
		if text := fault.Public(err); !fault.Is(err, fault.Conflict) || !strings.Contains(text, "number of shards") {
			t.Errorf("%d shards: got %v", shards, err)
		}
		n = name()
		open(t, rabbitmq.Config{Name: n, Shards: 2}) // the next one asks for 3
	}
}

// A server that refuses, or is away, gives one sentence without the password.
func TestRefused(t *testing.T) {
	at := server(t).Addr()
	for url, c := range map[string]struct {
		kind fault.Kind
		want string
	}{
		"amqp://guest:hunter2@" + at + "/":  {fault.Unauthenticated, "does not accept the user \"guest\""},
		"amqp://guest:guest@" + at + "/no":  {fault.Denied, "has no virtual host \"no\""},
		"amqp://guest:hunter2@127.0.0.1:1/": {fault.Unavailable, "cannot be reached"},
		"amqps://guest:hunter2@" + at + "/": {fault.Unavailable, "cannot be reached"},
	} {
		opener, err := rabbitmq.Opener(url)
		must(t, err)
		b, err := opener(t.Context(), broker.Options{Logger: quiet})
		text := fault.Public(err)
		if b != nil || !fault.Is(err, c.kind) || !strings.Contains(text, c.want) {
			t.Errorf("%s: got %v", url, err)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") || strings.Contains(text, "\n") {
			t.Errorf("%s: %s", url, text)
		}
	}
}

// Messages of other programs are handled when they are CloudEvents, and parked when they are not; those behind them go
// on. What is parked is kept.
func TestForeignMessages(t *testing.T) {
	n := name()
	b := open(t, rabbitmq.Config{Name: n})
	seen := make(chan string, 10)
	subscribe(t, b, broker.Trigger{Name: "audit"}, handler(seen))
	ch := admin(t)
	must(t, ch.Confirm(false))
	send := func(m amqp.Publishing) {
		t.Helper()
		c, err := ch.PublishWithDeferredConfirm(n, "any", true, false, m)
		if err != nil || !c.Wait() {
			t.Fatal(err)
		}
	}
	send(amqp.Publishing{Body: []byte("no event")})
	send(amqp.Publishing{ContentType: "application/cloudevents+json; charset=utf-8",
		Body: []byte(`{"specversion":"1.0","id":"structured","source":"/a","type":"b","data":{}}`)})
	send(amqp.Publishing{ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0"}`)})
	send(amqp.Publishing{ContentType: "text/plain", Body: []byte("x"), Headers: amqp.Table{
		"cloudEvents_specversion": "1.0", "cloudEvents_id": "binary", "cloudEvents_source": "/a", "cloudEvents_type": "b",
		"cloudEvents_time": time.Now(), "cloudEvents_small": int16(3),
	}})
	send(amqp.Publishing{Headers: amqp.Table{
		"cloudEvents:specversion": "1.0", "cloudEvents:id": "x", "cloudEvents:source": "/a", "cloudEvents:type": "b",
		"cloudEvents:list": []any{"a"},
	}})
	must(t, b.Publish(t.Context(), brokertest.Event("own", "k")))
	expect(t, seen, "structured", "binary", "own")
	parked := 0
	for end := time.Now().Add(20 * time.Second); parked < 3 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, ok, err := ch.Get(n+".audit.parked", true); err != nil {
			t.Fatal(err)
		} else if ok {
			parked++
		}
	}
	if parked != 3 {
		t.Errorf("%d messages are parked, want 3", parked)
	}
}

// An event that is too large is refused before anything is published.
func TestTooLarge(t *testing.T) {
	b := open(t, rabbitmq.Config{Name: name()})
	large := brokertest.Event("large", "k")
	large.DataEncoded = make([]byte, b.MaxEvent()+1)
	if err := b.Publish(t.Context(), brokertest.Event("small", "k"), large); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
	if rabbitmq.Capabilities().MaxEvent != b.MaxEvent() {
		t.Errorf("the capabilities say %d, the broker %d", rabbitmq.Capabilities().MaxEvent, b.MaxEvent())
	}
}

// A second process gets what the first one held, in order, when that one is gone.
func TestTakesOver(t *testing.T) {
	n := name()
	first, second := open(t, rabbitmq.Config{Name: n}), open(t, rabbitmq.Config{Name: n})
	others, blocked := make(chan string, 10), make(chan struct{})
	subscribe(t, first, broker.Trigger{Name: "audit"}, func(context.Context, []ce.Event) []broker.Result {
		close(blocked)
		select {} // until its process dies
	})
	subscribe(t, second, broker.Trigger{Name: "audit"}, handler(others))
	must(t, second.Publish(t.Context(), brokertest.Event("1", "k"), brokertest.Event("2", "k"),
		brokertest.Event("3", "l")))
	<-blocked
	rabbitmq.Kill(first)
	got := []string{<-others, <-others, <-others}
	if slices.Index(got, "1") > slices.Index(got, "2") {
		t.Errorf("got %v", got)
	}
}

// cable passes connections on to the server until it is cut.
type cable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func newCable(t *testing.T) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := &cable{Listener: l}
	t.Cleanup(func() { l.Close(); c.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", server(t).Addr())
			if err != nil {
				in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			c.mu.Unlock()
			go func() { io.Copy(in, out); in.Close() }()
			go func() { io.Copy(out, in); out.Close() }()
		}
	}()
	return c
}

// cut ends all connections; new ones may be made.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// Connections that break with publishes in flight lose no event whose Publish has returned, and none that is published
// again until it does; the first deliveries of a key come in order. What is delivered twice is what was unfinished.
func TestReconnect(t *testing.T) {
	c := newCable(t)
	b, err := rabbitmq.Open(t.Context(), rabbitmq.Config{
		URL: "amqp://guest:guest@" + c.Addr().String() + "/", Name: name(), Logger: quiet,
	})
	must(t, err)
	t.Cleanup(func() { b.Close(context.Background()) })
	const keys, each = 4, 50
	var mu sync.Mutex
	first := map[string][]string{} // by key, in the order of their first deliveries
	total := 0
	done := make(chan struct{})
	subscribe(t, b, broker.Trigger{Name: "audit", Batch: 8, Concurrency: 2, Delivery: broker.DefaultDelivery},
		func(_ context.Context, batch []ce.Event) []broker.Result {
			mu.Lock()
			defer mu.Unlock()
			results := make([]broker.Result, len(batch))
			for i, e := range batch {
				results[i].Status = 200
				key := e.Extensions()["partitionkey"].(string)
				if !slices.Contains(first[key], e.ID()) {
					first[key] = append(first[key], e.ID())
					if total++; total == keys*each {
						close(done)
					}
				}
			}
			return results
		})
	var publishers sync.WaitGroup
	for k := range keys {
		publishers.Go(func() {
			for i := range each {
				e := brokertest.Event(fmt.Sprintf("%d-%02d", k, i), fmt.Sprint(k))
				if k == 0 && i%10 == 5 {
					go c.cut()
				}
				for b.Publish(context.Background(), e) != nil {
				}
			}
		})
	}
	publishers.Wait()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
	}
	mu.Lock()
	defer mu.Unlock()
	for k := range keys {
		if got := first[fmt.Sprint(k)]; len(got) != each || !slices.IsSorted(got) {
			t.Errorf("key %d: %d events of %d: %v", k, len(got), each, got)
		}
	}
}

// A message is in the binary mode of CloudEvents' AMQP binding.
func TestBinding(t *testing.T) {
	n := name()
	b := open(t, rabbitmq.Config{Name: n})
	must(t, b.Declare(t.Context(), "audit"))
	e := brokertest.Event("1", "k")
	e.SetTime(time.Date(2024, 2, 29, 1, 2, 3, 4, time.UTC))
	e.SetExtension("number", 7)
	must(t, b.Publish(t.Context(), e))
	messages, err := admin(t).Consume(rabbitmq.QueueName(b, "audit"), "", true, false, false, false, nil)
	must(t, err)
	m := <-messages
	for name, want := range map[string]any{
		"cloudEvents:specversion": "1.0", "cloudEvents:id": "1", "cloudEvents:source": "/brokertest",
		"cloudEvents:type": "dev.ebb.test.happened.v1", "cloudEvents:time": "2024-02-29T01:02:03.000000004Z",
		"cloudEvents:partitionkey": "k", "cloudEvents:number": int32(7),
	} {
		if m.Headers[name] != want {
			t.Errorf("%s is %v, want %v", name, m.Headers[name], want)
		}
	}
	if m.ContentType != "application/json" || string(m.Body) != `{"id":"1"}` || m.DeliveryMode != amqp.Persistent {
		t.Errorf("got %s %s", m.ContentType, m.Body)
	}
}
