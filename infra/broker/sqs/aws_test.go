package sqs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/files"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/sqs"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
	"github.com/ebb-dev/ebb/infra/internal/awstest"
)

// client returns a client of the emulator's SQS.
func client(t *testing.T) *awssqs.Client {
	t.Helper()
	awstest.Need(t)
	settings, err := awsconfig.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return awssqs.NewFromConfig(settings)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// collect subscribes a trigger and returns the channels of its events and of its dead letters.
func collect(t *testing.T, b broker.Broker, trigger string) (handled, dead chan event.Event) {
	t.Helper()
	handled, dead = make(chan event.Event, 100), make(chan event.Event, 100)
	to := func(c chan event.Event) broker.Handler {
		return func(_ context.Context, batch []event.Event) []broker.Result {
			out := make([]broker.Result, len(batch))
			for i, e := range batch {
				c <- e
				out[i].Status = 200
			}
			return out
		}
	}
	_, err := b.Subscribe(t.Context(), broker.Trigger{
		Name: trigger, Delivery: broker.Delivery{DeadLetter: to(dead)},
	}, to(handled))
	must(t, err)
	return handled, dead
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

// A queue that exists with settings that would lose events, or their order, is refused with a sentence that names it.
func TestConflict(t *testing.T) {
	c := client(t)
	for i, tc := range []struct {
		attributes map[string]string
		want       string
	}{
		{map[string]string{"DelaySeconds": "5"}, "DelaySeconds is 5, want 0"},
		{
			map[string]string{"RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:0:x","maxReceiveCount":"3"}`},
			"maxReceiveCount is 3, want 100 at least",
		},
	} {
		n := name()
		attributes := map[string]string{"FifoQueue": "true"}
		for k, v := range tc.attributes {
			attributes[k] = v
		}
		queue := n + "-orders.fifo"
		_, err := c.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: &queue, Attributes: attributes})
		must(t, err)
		_, err = open(t, sqs.Config{Name: n}).Subscribe(t.Context(), broker.Trigger{Name: "orders"},
			func(context.Context, []event.Event) []broker.Result { return nil })
		want := queue + " exists with other settings: " + tc.want
		if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Public(err), want) {
			t.Errorf("%d: got %v", i, err)
		}
	}
}

// Other settings of a queue that exists are its owner's, and two processes subscribe it once.
func TestExisting(t *testing.T) {
	c := client(t)
	n := name()
	queue := n + "-orders.fifo"
	_, err := c.CreateQueue(t.Context(), &awssqs.CreateQueueInput{
		QueueName: &queue, Attributes: map[string]string{"FifoQueue": "true", "VisibilityTimeout": "300"},
	})
	must(t, err)
	first, second := open(t, sqs.Config{Name: n}), open(t, sqs.Config{Name: n})
	must(t, first.Declare(t.Context(), "orders"))
	must(t, second.Declare(t.Context(), "orders"))
	if got := subscriptions(t, n); got != 1 {
		t.Errorf("the queue is subscribed %d times, want once", got)
	}
	handled, _ := collect(t, second, "orders")
	must(t, first.Publish(t.Context(), brokertest.Event("1", "k"), brokertest.Event("2", "k")))
	if a, b := next(t, handled).ID(), next(t, handled).ID(); a != "1" || b != "2" {
		t.Errorf("got %s and %s, want 1 and 2", a, b)
	}
}

// A subscription whose answer was lost is not made a second time, so that no event comes to the queue twice.
func TestSubscribedOnceWhenTheAnswerIsLost(t *testing.T) {
	client(t)
	emulator, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL"))
	must(t, err)
	lost := false
	proxy := httputil.NewSingleHostReverseProxy(emulator)
	way := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if lost || !strings.Contains(string(body), "Action=Subscribe&") {
			proxy.ServeHTTP(w, r)
			return
		}
		lost = true
		proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}))
	defer way.Close()
	n := name()
	t.Setenv("AWS_ENDPOINT_URL", way.URL)
	must(t, open(t, sqs.Config{Name: n}).Declare(t.Context(), "orders"))
	if got := subscriptions(t, n); got != 1 || !lost {
		t.Errorf("the queue is subscribed %d times, want once; an answer was lost: %v", got, lost)
	}
}

// subscriptions returns how many the topic of a broker has.
func subscriptions(t *testing.T, name string) int {
	t.Helper()
	settings, err := awsconfig.Load(t.Context(), "")
	must(t, err)
	list := sns.ListSubscriptionsByTopicInput{TopicArn: aws.String("arn:aws:sns:us-east-1:000000000000:" + name + ".fifo")}
	all, err := sns.NewFromConfig(settings).ListSubscriptionsByTopic(t.Context(), &list)
	must(t, err)
	return len(all.Subscriptions)
}

// A message that is no CloudEvent is moved to the dead-letter queue, and the events behind it go on.
func TestPoison(t *testing.T) {
	c := client(t)
	n := name()
	b := open(t, sqs.Config{Name: n})
	must(t, b.Declare(t.Context(), "orders"))
	queue := awssqs.GetQueueUrlInput{QueueName: aws.String(n + "-orders.fifo")}
	out, err := c.GetQueueUrl(t.Context(), &queue)
	must(t, err)
	for i, body := range []string{`{"specversion":"1.0"`, `"text"`, `{"specversion":"1.0","id":"x"}`} {
		_, err := c.SendMessage(t.Context(), &awssqs.SendMessageInput{
			QueueUrl: out.QueueUrl, MessageBody: &body, MessageGroupId: aws.String("key:k"),
			MessageDeduplicationId: aws.String(fmt.Sprint("poison-", i)),
		})
		must(t, err)
	}
	must(t, b.Publish(t.Context(), brokertest.Event("good", "k")))
	handled, dead := collect(t, b, "orders")
	if id := next(t, handled).ID(); id != "good" {
		t.Errorf("got %s, want good", id)
	}
	if len(dead) > 0 {
		t.Error("what is no event became a dead letter")
	}
	out, err = c.GetQueueUrl(t.Context(), &awssqs.GetQueueUrlInput{QueueName: aws.String(n + "-orders-dlq.fifo")})
	must(t, err)
	parked, err := c.GetQueueAttributes(t.Context(), &awssqs.GetQueueAttributesInput{
		QueueUrl: out.QueueUrl, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	must(t, err)
	if got := parked.Attributes["ApproximateNumberOfMessages"]; got != "3" {
		t.Errorf("%s messages in the dead-letter queue, want 3", got)
	}
}

// An event with the notification of SNS around it is read too: a subscription need not be raw.
func TestNotification(t *testing.T) {
	c := client(t)
	n := name()
	b := open(t, sqs.Config{Name: n})
	handled, _ := collect(t, b, "orders")
	out, err := c.GetQueueUrl(t.Context(), &awssqs.GetQueueUrlInput{QueueName: aws.String(n + "-orders.fifo")})
	must(t, err)
	inner, err := json.Marshal(brokertest.Event("inside", "k"))
	must(t, err)
	body, err := json.Marshal(map[string]string{"Type": "Notification", "Message": string(inner)})
	must(t, err)
	_, err = c.SendMessage(t.Context(), &awssqs.SendMessageInput{
		QueueUrl: out.QueueUrl, MessageBody: aws.String(string(body)), MessageGroupId: aws.String("g"),
		MessageDeduplicationId: aws.String("d"),
	})
	must(t, err)
	if id := next(t, handled).ID(); id != "inside" {
		t.Errorf("got %s, want inside", id)
	}
}

// The data of an event over 256 KiB travels by the store of blobs, and the handler sees the event as it was published.
// When the blob is gone, the event is a dead letter that says so.
func TestClaimCheck(t *testing.T) {
	awstest.Need(t)
	store := blobs(t)
	b := open(t, sqs.Config{Name: name(), Blobs: store})
	handled, _ := collect(t, b, "orders")
	text := brokertest.Event("text", "k")
	text.SetSubject("s")
	must(t, text.SetData("application/json", map[string]string{"x": strings.Repeat("é", 300_000)}))
	binary := brokertest.Event("binary", "k")
	must(t, binary.SetData("image/png", []byte(strings.Repeat("\x00\xff", 400_000))))
	small := brokertest.Event("small", "k")
	must(t, b.Publish(t.Context(), text, binary, small))
	for _, want := range []event.Event{text, binary, small} {
		if got := next(t, handled); got.String() != want.String() {
			t.Errorf("%s came with %d bytes of %d, and the attributes %v", want.ID(), len(got.Data()), len(want.Data()),
				got.Context)
		}
	}
	if b.MaxEvent() < 1<<20 {
		t.Errorf("an event has %d bytes at most, want 1 MiB", b.MaxEvent())
	}
}

// unreadable is a store of blobs that does not respond to a Get.
type unreadable struct{ blob.Driver }

// Get implements blob.Driver.
func (unreadable) Get(context.Context, string, int64) (blob.Blob, error) {
	return blob.Blob{}, fault.New(fault.Unavailable, "away")
}

// The data of an event that is not for the trigger is not read from the store of blobs: when that is away, the events
// behind it in its key do not wait.
func TestClaimAfterFilters(t *testing.T) {
	awstest.Need(t)
	d, err := files.Open(files.Config{Dir: t.TempDir()})
	must(t, err)
	b := open(t, sqs.Config{Name: name(), Blobs: blob.New(unreadable{d}, blob.Rules{})})
	must(t, b.Declare(t.Context(), "orders"))
	other, mine := brokertest.Event("other", "k"), brokertest.Event("mine", "k")
	must(t, other.SetData("text/plain", strings.Repeat("other", 100_000)))
	mine.SetSubject("mine")
	must(t, b.Publish(t.Context(), other, mine))
	handled := make(chan event.Event, 9)
	_, err = b.Subscribe(t.Context(), broker.Trigger{
		Name: "orders", Filters: []broker.Filter{{Exact: map[string]string{"subject": "mine"}}},
	}, func(_ context.Context, batch []event.Event) []broker.Result {
		out := make([]broker.Result, len(batch))
		for i, e := range batch {
			handled <- e
			out[i].Status = 200
		}
		return out
	})
	must(t, err)
	if e := next(t, handled); e.ID() != "mine" {
		t.Errorf("got %s, want mine", e.ID())
	}
}

// An event whose data is gone is a dead letter that says so, and the events behind it go on.
func TestClaimGone(t *testing.T) {
	awstest.Need(t)
	store := blobs(t)
	b := open(t, sqs.Config{Name: name(), Blobs: store})
	must(t, b.Declare(t.Context(), "orders"))
	lost := brokertest.Event("lost", "k")
	must(t, lost.SetData("text/plain", strings.Repeat("lost ", 100_000)))
	must(t, b.Publish(t.Context(), lost, brokertest.Event("behind", "k")))
	key := fmt.Sprintf("claims/%x", sha256.Sum256(lost.Data()))
	must(t, store.Delete(t.Context(), key))
	handled, dead := collect(t, b, "orders")
	e := next(t, dead)
	cause, _ := e.Extensions()[broker.ErrorData].(string)
	if e.ID() != "lost" || fmt.Sprint(e.Extensions()[broker.ErrorCode]) != "410" || !strings.Contains(cause, key) ||
		e.Extensions()["dataref"] != nil || e.Extensions()["partitionkey"] != "k" {
		t.Errorf("got %v", e)
	}
	if id := next(t, handled).ID(); id != "behind" {
		t.Errorf("got %s, want behind", id)
	}
}

// away is a store of blobs that fails some times.
type away struct {
	blob.Driver
	fails atomic.Int64
	asked chan time.Time // told of each Get; nil: of none
}

func (a *away) Get(ctx context.Context, key string, limit int64) (blob.Blob, error) {
	if a.asked != nil {
		a.asked <- time.Now()
	}
	if a.fails.Add(-1) >= 0 {
		return blob.Blob{}, fault.New(fault.Unavailable, "the store of blobs is away")
	}
	return a.Driver.Get(ctx, key, limit)
}

// While the store of blobs is away, an event waits, and those behind it too.
func TestClaimAway(t *testing.T) {
	awstest.Need(t)
	d, err := files.Open(files.Config{Dir: t.TempDir()})
	must(t, err)
	store := &away{Driver: d}
	store.fails.Store(1)
	b := open(t, sqs.Config{Name: name(), Blobs: blob.New(store, blob.Rules{}), Visibility: time.Hour})
	handled, dead := collect(t, b, "orders")
	large := brokertest.Event("large", "k")
	must(t, large.SetData("text/plain", strings.Repeat("large", 100_000)))
	must(t, b.Publish(t.Context(), large, brokertest.Event("behind", "k")))
	if first, second := next(t, handled), next(t, handled); first.String() != large.String() || second.ID() != "behind" {
		t.Errorf("got %s and %s", first.ID(), second.ID())
	}
	if len(dead) > 0 {
		t.Errorf("a dead letter: %v", <-dead)
	}
}

// While the store of blobs is away, events of other keys go on, and the one that waits does not use up its receives.
func TestClaimAwayHoldsUpNoOther(t *testing.T) {
	awstest.Need(t)
	d, err := files.Open(files.Config{Dir: t.TempDir()})
	must(t, err)
	store := &away{Driver: d, asked: make(chan time.Time, 1000)}
	store.fails.Store(1000)
	b := open(t, sqs.Config{Name: name(), Blobs: blob.New(store, blob.Rules{}), Visibility: time.Hour})
	must(t, b.Declare(t.Context(), "orders"))
	large := brokertest.Event("large", "k")
	must(t, large.SetData("text/plain", strings.Repeat("large", 100_000)))
	must(t, b.Publish(t.Context(), large, brokertest.Event("behind", "k"), brokertest.Event("other", "j")))
	handled, _ := collect(t, b, "orders")
	if id := next(t, handled).ID(); id != "other" {
		t.Errorf("got %s, want other", id)
	}
	var last time.Time
	for i := range 4 { // each pause is a second longer than the one before
		select {
		case asked := <-store.asked:
			if pause := asked.Sub(last); pause < time.Duration(i)*time.Second {
				t.Errorf("the store was asked again after %v, want %d s at least", pause, i)
			}
			last = asked
		case <-time.After(20 * time.Second):
			t.Fatalf("the store was asked %d times, and then no more", i)
		}
	}
	if len(handled) > 0 {
		t.Errorf("%d events were handled", len(handled))
	}
}

// refusing has the clients of this process use a server that answers every request alike.
func refusing(t *testing.T, status int, body string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "key",
		"AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
}

// Credentials that are wrong, missing or not enough, and a service that is away, are one sentence each.
func TestRefusals(t *testing.T) {
	code := func(s string) string { return "<ErrorResponse><Error><Code>" + s + "</Code></Error></ErrorResponse>" }
	for name, c := range map[string]struct {
		status int
		body   string
		kind   fault.Kind
		want   string
	}{
		"wrong key":    {403, code("InvalidClientTokenId"), fault.Unauthenticated, "SNS does not accept the credentials"},
		"wrong secret": {403, code("SignatureDoesNotMatch"), fault.Unauthenticated, "SNS does not accept the credentials"},
		"expired":      {403, code("ExpiredToken"), fault.Unauthenticated, "have expired"},
		"not allowed":  {403, code("AuthorizationError"), fault.Denied, "do not allow what is needed of SNS"},
		"other topic":  {400, code("InvalidParameter"), fault.Conflict, "the topic ebb.fifo exists with other settings"},
		"failing":      {400, code("InternalError"), fault.Unavailable, "SNS refuses a request: InternalError"},
	} {
		refusing(t, c.status, c.body)
		_, err := sqs.Open(t.Context(), sqs.Config{Logger: quiet})
		if !fault.Is(err, c.kind) || !strings.Contains(fault.Public(err), c.want) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	if _, err := sqs.Open(t.Context(), sqs.Config{}); !fault.Is(err, fault.Unavailable) ||
		fault.Public(err) != "SNS cannot be reached" {
		t.Errorf("away: got %v", err)
	}
	for _, unset := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		os.Unsetenv(unset) // Setenv above restores it
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
	t.Setenv("AWS_CONFIG_FILE", "/none")
	if _, err := sqs.Open(t.Context(), sqs.Config{}); !fault.Is(err, fault.Unauthenticated) ||
		!strings.Contains(fault.Public(err), "there are no credentials for SNS") {
		t.Errorf("no credentials: got %v", err)
	}
	t.Setenv("AWS_REGION", "")
	if _, err := sqs.Open(t.Context(), sqs.Config{}); !fault.Is(err, fault.Invalid) ||
		!strings.Contains(fault.Public(err), "has no region") {
		t.Errorf("no region: got %v", err)
	}
}

// A trigger whose name has no room in that of a queue, or that would be another's dead-letter queue, is refused.
func TestNames(t *testing.T) {
	awstest.Need(t)
	b := open(t, sqs.Config{Name: strings.Repeat("n", 40)})
	for _, trigger := range []string{"orders-dlq", strings.Repeat("t", 31)} {
		if err := b.Declare(t.Context(), trigger); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want fault.Invalid", trigger, err)
		}
	}
	must(t, b.Declare(t.Context(), strings.Repeat("t", 30)))
}
