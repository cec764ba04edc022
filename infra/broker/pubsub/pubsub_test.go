package pubsub_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apiv1 "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"github.com/cloudevents/sdk-go/v2/event"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/files"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue/queuetest"
	"github.com/ebb-dev/ebb/infra/broker/pubsub"
	"github.com/ebb-dev/ebb/infra/fault"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// fake is Google's fake server. It hands out one message of an ordering key at a time, as a push subscription does.
var fake *pstest.Server

func TestMain(m *testing.M) {
	pstest.SetMinAckDeadline(time.Second)
	fake = pstest.NewServerWithAddress("127.0.0.1:0")
	var clock atomic.Int64 // the fake orders messages by their time, which has to differ
	fake.SetTimeNowFunc(func() time.Time {
		for {
			last, now := clock.Load(), time.Now().UnixNano()
			if now = max(now, last+1); clock.CompareAndSwap(last, now) {
				return time.Unix(0, now)
			}
		}
	})
	code := m.Run()
	fake.Close()
	os.Exit(code)
}

func options() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(fake.Addr), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(countDeliveries, limit)),
	}
}

// deliveries counts how often a subscription has handed out a message, by the names of both. The fake counts those of
// all subscriptions together.
var deliveries sync.Map

func countDeliveries(
	ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, in, out, conn, opts...)
	pull, ok := in.(*pubsubpb.PullRequest)
	if !ok || err != nil {
		return err
	}
	for _, m := range out.(*pubsubpb.PullResponse).ReceivedMessages {
		n, _ := deliveries.LoadOrStore(pull.Subscription+" "+m.Message.MessageId, new(atomic.Int32))
		if count := n.(*atomic.Int32).Add(1); m.DeliveryAttempt > 0 {
			m.DeliveryAttempt = count
		}
	}
	return nil
}

var names atomic.Int64

// name returns the name of a broker that no other test has.
func name() string { return fmt.Sprint("test-", names.Add(1)) }

// limit refuses requests that may be too large for Pub/Sub; the fake takes them.
func limit(
	ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	receipts := 0
	switch in := in.(type) {
	case *pubsubpb.PublishRequest:
		if proto.Size(in) > 10_000_000 || len(in.Messages) > 1000 {
			return status.Errorf(codes.InvalidArgument, "%d messages of %d bytes", len(in.Messages), proto.Size(in))
		}
	case *pubsubpb.AcknowledgeRequest:
		receipts = len(in.AckIds)
	case *pubsubpb.ModifyAckDeadlineRequest:
		receipts = len(in.AckIds)
	}
	if receipts > 1000 { // less than Pub/Sub takes
		return status.Errorf(codes.InvalidArgument, "%d receipts", receipts)
	}
	return invoke(ctx, method, in, out, conn, opts...)
}

func blobs(t testing.TB) *blob.Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "blobs")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) }) // not t.TempDir: a broker that was killed may be writing
	d, err := files.Open(files.Config{Dir: dir})
	must(t, err)
	return blob.New(d, blob.Rules{})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a broker on the fake server, and closes it after the test.
func open(t testing.TB, cfg pubsub.Config) *pubsub.Broker {
	t.Helper()
	cfg.Project, cfg.Options, cfg.Logger, cfg.Poll = "shop", options(), quiet, 10*time.Millisecond
	cfg.Retention = 7 * 24 * time.Hour // the fake knows no longer one
	if cfg.Visibility == 0 {
		cfg.Visibility = 2 * time.Second
	}
	b, err := pubsub.Open(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		b.Close(ctx)
	})
	return b
}

// The driver passes the suite of the port.
func TestBroker(t *testing.T) {
	t.Parallel()
	var all sync.Map // broker → its configuration
	openAs := func(t testing.TB, cfg pubsub.Config) broker.Broker {
		b := open(t, cfg)
		all.Store(broker.Broker(b), cfg)
		return b
	}
	again := func(t testing.TB, b broker.Broker) broker.Broker {
		cfg, _ := all.Load(b)
		return openAs(t, cfg.(pubsub.Config))
	}
	brokertest.Run(t, brokertest.Harness{
		New:    func(t testing.TB) broker.Broker { return openAs(t, pubsub.Config{Name: name(), Blobs: blobs(t)}) },
		Reopen: again, Backlog: 4_000, OneOfKey: true,
		Kill: func(t testing.TB, b broker.Broker) broker.Broker {
			pubsub.Kill(b.(*pubsub.Broker))
			return again(t, b)
		},
	})
}

// The driver passes the suite of queues with acknowledgements.
func TestQueues(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, queuetest.Harness{
		New: func(t testing.TB, visibility time.Duration) eventqueue.Driver {
			return pubsub.Driver(open(t, pubsub.Config{Name: name(), Visibility: visibility}))
		},
		Visibility: time.Second, OneOfKey: true,
	})
}

func clients(t *testing.T) (*apiv1.TopicAdminClient, *apiv1.SubscriptionAdminClient) {
	t.Helper()
	topics, err := apiv1.NewTopicAdminClient(t.Context(), options()...)
	must(t, err)
	subs, err := apiv1.NewSubscriptionAdminClient(t.Context(), options()...)
	must(t, err)
	t.Cleanup(func() { topics.Close(); subs.Close() })
	return topics, subs
}

// collect subscribes a trigger and returns the channel of its events.
func collect(t *testing.T, b broker.Broker, trigger string) chan event.Event {
	t.Helper()
	handled := make(chan event.Event, 100)
	handle := func(_ context.Context, batch []event.Event) []broker.Result {
		out := make([]broker.Result, len(batch))
		for i, e := range batch {
			handled <- e
			out[i].Status = 200
		}
		return out
	}
	_, err := b.Subscribe(t.Context(), broker.Trigger{Name: trigger}, handle)
	must(t, err)
	return handled
}

func next(t *testing.T, c chan event.Event) event.Event {
	t.Helper()
	select {
	case e := <-c:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("waited in vain for an event")
		return event.Event{}
	}
}

// A subscription that exists with settings that would lose events, or their order, is refused with a sentence that
// names it.
func TestConflict(t *testing.T) {
	topics, subs := clients(t)
	type subscription = pubsubpb.Subscription
	for want, change := range map[string]func(*subscription){
		"it has no message ordering":               func(s *subscription) { s.EnableMessageOrdering = false },
		"it has 5 delivery attempts, want 100":     func(s *subscription) { s.DeadLetterPolicy.MaxDeliveryAttempts = 5 },
		"another topic: projects/shop/topics/othe": func(s *subscription) { s.Topic = "projects/shop/topics/other" },
		"its messages are pushed": func(s *subscription) {
			s.PushConfig = &pubsubpb.PushConfig{PushEndpoint: "https://a"}
		},
	} {
		n := name()
		b := open(t, pubsub.Config{Name: n})
		for _, topic := range []string{"other", "dead"} {
			_, _ = topics.CreateTopic(t.Context(), &pubsubpb.Topic{Name: "projects/shop/topics/" + topic})
		}
		s := &pubsubpb.Subscription{
			Name: "projects/shop/subscriptions/" + n + "-orders", Topic: "projects/shop/topics/" + n,
			EnableMessageOrdering: true, AckDeadlineSeconds: 10, DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{
				DeadLetterTopic: "projects/shop/topics/dead", MaxDeliveryAttempts: 100,
			},
		}
		change(s)
		_, err := subs.CreateSubscription(t.Context(), s)
		must(t, err)
		err = b.Declare(t.Context(), "orders")
		if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Public(err), n+"-orders") ||
			!strings.Contains(fault.Public(err), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// What is made never expires, and holds messages for as long as Pub/Sub does.
func TestMade(t *testing.T) {
	_, subs := clients(t)
	n := name()
	must(t, open(t, pubsub.Config{Name: n}).Declare(t.Context(), "orders"))
	for _, sub := range []string{n + "-orders", n + "-orders-dlq"} {
		s, err := subs.GetSubscription(t.Context(), &pubsubpb.GetSubscriptionRequest{
			Subscription: "projects/shop/subscriptions/" + sub,
		})
		must(t, err)
		if s.ExpirationPolicy == nil || s.ExpirationPolicy.Ttl != nil ||
			s.MessageRetentionDuration.AsDuration() != 7*24*time.Hour {
			t.Errorf("%s: got %v", sub, s)
		}
	}
}

// A message that is no CloudEvent is moved to the dead-letter topic, and the events behind it go on. Other programs
// publish in the binary or in the structured mode.
func TestOthers(t *testing.T) {
	topics, subs := clients(t)
	n := name()
	b := open(t, pubsub.Config{Name: n})
	must(t, b.Declare(t.Context(), "orders"))
	publish := func(data string, attributes map[string]string) {
		t.Helper()
		_, err := topics.Publish(t.Context(), &pubsubpb.PublishRequest{
			Topic:    "projects/shop/topics/" + n,
			Messages: []*pubsubpb.PubsubMessage{{Data: []byte(data), Attributes: attributes, OrderingKey: "k"}},
		})
		must(t, err)
	}
	publish(`{"specversion":"1.0"`, nil)
	publish(`hello`, map[string]string{"content-type": "text/plain"})
	publish(`{"specversion":"1.0","id":"plain","source":"/x","type":"t"}`, nil)
	publish("\x00\xff", map[string]string{
		"ce-specversion": "1.0", "ce-id": "binary", "ce-source": "/x", "ce-type": "t", "ce-subject": "s",
		"ce-time": "2026-01-02T03:04:05Z", "ce-color": "red", "Content-Type": "image/png",
	})
	handled := collect(t, b, "orders")
	if e := next(t, handled); e.ID() != "plain" {
		t.Errorf("got %v", e)
	}
	e := next(t, handled)
	if e.ID() != "binary" || string(e.Data()) != "\x00\xff" || e.DataContentType() != "image/png" || e.Subject() != "s" ||
		e.Extensions()["color"] != "red" || e.Extensions()["partitionkey"] != "k" || e.Time().Year() != 2026 {
		t.Errorf("got %v", e)
	}
	out, err := subs.Pull(t.Context(), &pubsubpb.PullRequest{
		Subscription: "projects/shop/subscriptions/" + n + "-orders-dlq", MaxMessages: 10,
	})
	must(t, err)
	if len(out.ReceivedMessages) != 2 {
		t.Errorf("%d messages in the dead-letter topic, want 2", len(out.ReceivedMessages))
	}
}

// An event arrives as it was published, whatever its attributes and its data are.
func TestRoundTrip(t *testing.T) {
	b := open(t, pubsub.Config{Name: name()})
	handled := collect(t, b, "orders")
	long := brokertest.Event("long", strings.Repeat("é", 800)) // more bytes than an ordering key has
	binary := brokertest.Event("binary", "k")
	must(t, binary.SetData("image/png", []byte(strings.Repeat("\x00\xff", 400_000))))
	strange := brokertest.Event("strange", "k")
	strange.SetSubject(strings.Repeat("ü", 2000))
	for _, want := range []event.Event{long, binary, strange} {
		must(t, b.Publish(t.Context(), want))
		if got := next(t, handled); got.String() != want.String() {
			t.Errorf("%s came with %d bytes of %d, and the attributes %v", want.ID(), len(got.Data()), len(want.Data()),
				got.Context)
		}
	}
}

// stuck is a store of blobs that does not respond to a Get.
type stuck struct{ blob.Driver }

func (stuck) Get(ctx context.Context, _ string, _ int64) (blob.Blob, error) {
	<-ctx.Done()
	return blob.Blob{}, ctx.Err()
}

// While the store of blobs does not respond, messages that come again are received early enough to extend them, however
// many they are.
func TestStuckAttempts(t *testing.T) {
	d := pubsub.Driver(open(t, pubsub.Config{
		Name: name(), Blobs: blob.New(stuck{}, blob.Rules{}), Visibility: 4 * time.Second,
	}))
	must(t, d.Declare(t.Context(), "orders"))
	q, err := d.Open(t.Context(), "orders")
	must(t, err)
	const count = 8
	for i := range count {
		must(t, d.Publish(t.Context(), []event.Event{brokertest.Event(fmt.Sprint(i), fmt.Sprint("k", i))}))
	}
	receive := func(lost int) (receipts []string) {
		for len(receipts) < count {
			messages, err := q.Receive(t.Context(), count)
			must(t, err)
			var some []string
			for _, m := range messages {
				some = append(some, m.Receipt)
				if m.Lost != lost {
					t.Errorf("event %s was lost %d times, want %d", m.Event.ID(), m.Lost, lost)
				}
			}
			if gone, err := q.Extend(t.Context(), some); err != nil || len(gone) > 0 {
				t.Errorf("%d of %d messages were not extended, %v", len(gone), len(some), err)
			}
			receipts = append(receipts, some...)
		}
		return receipts
	}
	must(t, q.Nack(t.Context(), receive(0), 0))
	must(t, q.Nack(t.Context(), receive(1), 0))
}

// A publisher publishes to a topic that exists, and makes nothing. What goes wrong may pass, and is tried again.
func TestPublisher(t *testing.T) {
	n := name()
	p, err := pubsub.NewPublisher("pubsub:projects/shop/topics/"+n, options()...)
	must(t, err)
	if err := p.Publish(t.Context(), brokertest.Event("1", "k")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without a topic: got %v", err)
	}
	handled := collect(t, open(t, pubsub.Config{Name: n}), "orders")
	must(t, p.Publish(t.Context(), brokertest.Event("1", "k"), brokertest.Event("2", "k")))
	if first, second := next(t, handled).ID(), next(t, handled).ID(); first != "1" || second != "2" {
		t.Errorf("got %s and %s", first, second)
	}
	large := brokertest.Event("large", "k")
	must(t, large.SetData("text/plain", strings.Repeat("x", p.MaxEvent())))
	if err := p.Publish(t.Context(), large); !fault.Is(err, fault.Invalid) {
		t.Errorf("a large event: got %v", err)
	}
	for _, url := range []string{"pubsub:", "pubsub://shop", "pubsub:projects/shop", "pubsub:projects/Shop/topics/a b"} {
		if _, err := pubsub.NewPublisher(url); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

// Many events, and events of many bytes, are several requests.
func TestLimits(t *testing.T) {
	d := pubsub.Driver(open(t, pubsub.Config{Name: name(), Visibility: time.Minute}))
	must(t, d.Declare(t.Context(), "orders"))
	const count = 1200
	events := make([]event.Event, count)
	for i := range events {
		events[i] = brokertest.Event(fmt.Sprint(i), "")
		if i < 1000 {
			events[i].SetSubject(strings.Repeat("s", 1000)) // in the data and beside it
			must(t, events[i].SetData("text/plain", strings.Repeat("x", 7500)))
		}
	}
	must(t, d.Publish(t.Context(), events))
	q, err := d.Open(t.Context(), "orders")
	must(t, err)
	var receipts []string
	for len(receipts) < count {
		messages, err := q.Receive(t.Context(), 1000)
		must(t, err)
		for _, m := range messages {
			receipts = append(receipts, m.Receipt)
		}
	}
	if lost, err := q.Extend(t.Context(), receipts); err != nil || len(lost) > 0 {
		t.Errorf("extend: lost %d, %v", len(lost), err)
	}
	must(t, q.Nack(t.Context(), receipts, time.Minute))
}
