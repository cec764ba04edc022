package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/kafka"
	"github.com/ebb-dev/ebb/infra/fault"
)

// journal notes what a handler has taken.
type journal struct {
	mu   sync.Mutex
	seen []ce.Event
}

func (j *journal) handle(_ context.Context, batch []ce.Event) []broker.Result {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]broker.Result, len(batch))
	for i := range batch {
		j.seen = append(j.seen, batch[i])
		out[i].Status = 200
	}
	return out
}

func (j *journal) events() []ce.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.seen)
}

func (j *journal) ids() (ids []string) {
	for _, e := range j.events() {
		ids = append(ids, e.ID())
	}
	return ids
}

// await waits until ok, and fails the test when that takes too long.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (j *journal) await(t testing.TB, want ...string) {
	t.Helper()
	await(t, fmt.Sprint(want), func() bool { return len(j.ids()) >= len(want) })
	if got := j.ids(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func subscribe(t testing.TB, b broker.Broker, trigger broker.Trigger, h broker.Handler) broker.Subscription {
	t.Helper()
	sub, err := b.Subscribe(t.Context(), trigger, h)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func publish(t testing.TB, b broker.Broker, events ...ce.Event) {
	t.Helper()
	if err := b.Publish(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

// stranger returns a client of another program.
func stranger(t testing.TB, c *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.ListenAddrs()...), kgo.ProducerLinger(0))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func produce(t testing.TB, client *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// poll returns the records that a client reads next; none when there are none for a while.
func poll(t testing.TB, client *kgo.Client) []*kgo.Record {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return client.PollFetches(ctx).Records()
}

func headers(pairs ...string) (out []kgo.RecordHeader) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return out
}

// An event on the topic is a record in the binary mode of the CloudEvents binding, with the partition key as its key.
// An event without data has an empty value: null would be a tombstone.
func TestBinding(t *testing.T) {
	c := fake(t)
	b := open(t, kafka.Config{Seeds: c.ListenAddrs(), Partitions: 1})
	e := brokertest.Event("1", "the key")
	e.SetSubject("s")
	e.SetTime(time.Date(2024, 2, 29, 1, 2, 3, 4, time.UTC))
	bare := ce.New()
	bare.SetID("2")
	bare.SetSource("urn:x")
	bare.SetType("t")
	publish(t, b, e, bare)
	reader := stranger(t, c, kgo.ConsumeTopics("ebb"))
	var records []*kgo.Record
	await(t, "both records", func() bool {
		records = append(records, poll(t, reader)...)
		return len(records) >= 2
	})
	var got []string
	for _, h := range records[0].Headers {
		got = append(got, h.Key+": "+string(h.Value))
	}
	slices.Sort(got)
	want := []string{
		"ce_id: 1", "ce_partitionkey: the key", "ce_source: /brokertest", "ce_specversion: 1.0", "ce_subject: s",
		"ce_time: 2024-02-29T01:02:03.000000004Z", "ce_type: dev.ebb.test.happened.v1", "content-type: application/json",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if r := records[0]; string(r.Key) != "the key" || string(r.Value) != `{"id":"1"}` {
		t.Errorf("got key %q, value %q", r.Key, r.Value)
	}
	if r := records[1]; r.Key != nil || r.Value == nil || len(r.Value) != 0 {
		t.Errorf("an event without key and data: got key %v, value %v", r.Key, r.Value)
	}
}

// Events of other producers come from the broker's topic and from others, in binary and in structured mode; the key
// of a record becomes the partition key. A tombstone is no event, nor is it one that is invalid.
func TestOutsideIn(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "theirs"))
	b := open(t, kafka.Config{Seeds: c.ListenAddrs(), Topics: []string{"theirs"}, Partitions: 1})
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x", Filters: []broker.Filter{{Prefix: map[string]string{"type": "their"}}}},
		j.handle)
	their := stranger(t, c)
	event := func(id string, more ...string) []kgo.RecordHeader {
		return headers(append([]string{"ce_specversion", "1.0", "ce_id", id, "ce_source", "//their", "ce_type", "their.x",
			"other", "header"}, more...)...)
	}
	produce(t, their, &kgo.Record{
		Topic: "theirs", Key: []byte("k"), Headers: event("1", "ce_size", "7"), Value: []byte("a"),
	})
	j.await(t, "1")
	produce(t, their, &kgo.Record{Topic: "theirs", Key: []byte("k"), Headers: event("no")})
	produce(t, their, &kgo.Record{
		Topic: "ebb", Headers: headers("content-type", "application/cloudevents+json; charset=UTF-8"),
		Value: []byte(`{"specversion":"1.0","id":"2","source":"//their","type":"their.y","partitionkey":"own",` +
			`"data":{"a":1}}`),
	})
	j.await(t, "1", "2")
	produce(t, their, &kgo.Record{Topic: "theirs", Key: []byte{0xff, 0}, Headers: event("3"), Value: []byte{}})
	j.await(t, "1", "2", "3")
	var got []string
	for _, e := range j.events() {
		got = append(got, fmt.Sprint(e.Type(), " ", e.Extensions(), " ", string(e.Data())))
	}
	want := []string{"their.x map[partitionkey:k size:7] a", `their.y map[partitionkey:own] {"a":1}`, "their.x map[] "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	ends, err := kadm.NewClient(their).ListEndOffsets(t.Context(), "ebb-invalid")
	if end, _ := ends.Lookup("ebb-invalid", 0); err != nil || end.Offset != 0 {
		t.Errorf("%d records are taken for invalid, %v", end.Offset, err)
	}
}

// A record that is no event, or is too large, first in its partition: it is copied once to the topic for such, for all
// triggers, and what comes after it is delivered.
func TestNoEvent(t *testing.T) {
	c := fake(t)
	b := open(t, kafka.Config{Seeds: c.ListenAddrs(), Partitions: 1, MaxEvent: 1000})
	var one, two journal
	subscribe(t, b, broker.Trigger{Name: "one"}, one.handle)
	subscribe(t, b, broker.Trigger{Name: "two"}, two.handle)
	valid := []string{"ce_specversion", "1.0", "ce_id", "x", "ce_source", "/s", "ce_type", "t"}
	invalid := []*kgo.Record{
		{Topic: "ebb", Key: []byte("k"), Value: []byte("no event")},
		{Topic: "ebb", Headers: headers(valid...), Value: bytes.Repeat([]byte("x"), 2000)},
		{Topic: "ebb", Headers: headers(valid[:6]...), Value: []byte("x")},
		{Topic: "ebb", Headers: headers(append(valid, "ce_Ext", "x")...), Value: []byte("x")},
		{Topic: "ebb", Headers: headers(append(valid, "ce_ext", "\xff")...), Value: []byte("x")},
		{Topic: "ebb", Headers: headers(append(valid, "ce_time", "yesterday")...), Value: []byte("x")},
		{Topic: "ebb", Headers: headers("ce_specversion", "2.0", "ce_id", "x"), Value: []byte("x")},
		{Topic: "ebb", Headers: headers("content-type", "application/cloudevents+avro"), Value: []byte("x")},
		{Topic: "ebb", Headers: headers("content-type", "application/cloudevents+json"), Value: []byte("{")},
	}
	their := stranger(t, c, kgo.ConsumeTopics("ebb-invalid"))
	produce(t, their, invalid...)
	publish(t, b, brokertest.Event("1", "k"))
	one.await(t, "1")
	two.await(t, "1")
	var copies []*kgo.Record
	await(t, "the copies", func() bool {
		copies = append(copies, poll(t, their)...)
		return len(copies) >= len(invalid)
	})
	for _, r := range copies {
		said := map[string]string{}
		for _, h := range r.Headers {
			said[h.Key] = string(h.Value)
		}
		if said["ebb-error"] == "" || said["ebb-topic"] != "ebb" || said["ebb-partition"] != "0" ||
			string(r.Key) != "ebb/0/"+said["ebb-offset"] || len(r.Value) == 0 {
			t.Errorf("got key %q, headers %v", r.Key, said)
		}
	}
	ends, err := kadm.NewClient(their).ListEndOffsets(t.Context(), "ebb-invalid")
	if end, _ := ends.Lookup("ebb-invalid", 0); err != nil || end.Offset != int64(len(invalid)) {
		t.Errorf("%d copies of %d records, %v", end.Offset, len(invalid), err)
	}
}

// An event that is larger than the broker takes is refused, and one that is larger than the topic takes as well.
func TestTooLarge(t *testing.T) {
	c := fake(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000"}))
	b := open(t, kafka.Config{Seeds: c.ListenAddrs(), MaxEvent: 50_000})
	for _, size := range []int{50_001, 30_000} {
		e := brokertest.Event("large", "k")
		e.SetData("text/plain", strings.Repeat("x", size))
		if err := b.Publish(t.Context(), e); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	publish(t, b, brokertest.Event("1", "k"))
}

// A commit of somebody else's tool, whose metadata is not Ebb's, is where the trigger goes on.
func TestForeignCommit(t *testing.T) {
	c := fake(t)
	var log bytes.Buffer
	b := open(t, kafka.Config{
		Seeds: c.ListenAddrs(), Partitions: 1, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	publish(t, b, brokertest.Event("0", ""), brokertest.Event("1", ""), brokertest.Event("2", ""))
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: "ebb", Partition: 0, At: 1, LeaderEpoch: -1, Metadata: "by hand"})
	if err := kadm.NewClient(stranger(t, c)).CommitAllOffsets(t.Context(), "ebb.x", offsets); err != nil {
		t.Fatal(err)
	}
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x"}, j.handle)
	j.await(t, "1", "2")
	b.Close(context.Background())
	if !strings.Contains(log.String(), "by hand") {
		t.Errorf("logged %s", &log)
	}
}
