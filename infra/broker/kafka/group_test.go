package kafka_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/kafka"
	"github.com/ebb-dev/ebb/infra/fault"
)

// commits returns the committed offsets of a group by partition.
func commits(t testing.TB, c *kfake.Cluster, group string) map[int32]kadm.Offset {
	t.Helper()
	found, err := kadm.NewClient(stranger(t, c)).FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int32]kadm.Offset{}
	found.Each(func(o kadm.OffsetResponse) { out[o.Partition] = o.Offset })
	return out
}

// A retry holds up no other key of its partition. The committed offset is the first event that has not finished, and
// after a redeploy only that one comes again.
func TestCommitIsTheFirstUnfinished(t *testing.T) {
	c := fake(t)
	cfg := kafka.Config{Seeds: c.ListenAddrs(), Partitions: 1}
	b := open(t, cfg)
	var j journal
	d := broker.Delivery{Retry: 1, BackoffDelay: time.Hour}
	subscribe(t, b, broker.Trigger{Name: "x", Delivery: d}, func(ctx context.Context, batch []ce.Event) []broker.Result {
		if batch[0].ID() == "stuck" {
			return []broker.Result{{Status: 500}}
		}
		return j.handle(ctx, batch)
	})
	publish(t, b, brokertest.Event("0", "a"), brokertest.Event("stuck", "k"), brokertest.Event("1", "a"),
		brokertest.Event("behind", "k"), brokertest.Event("2", "b"))
	await(t, "the others", func() bool { return len(j.ids()) == 3 })
	await(t, "the commit", func() bool { return commits(t, c, "ebb.x")[0].At == 1 })
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if at := commits(t, c, "ebb.x")[0].At; at != 1 {
		t.Errorf("committed %d, want 1", at)
	}
	publish(t, open(t, cfg), brokertest.Event("3", "b")) // while nobody serves the trigger
	var after journal
	subscribe(t, open(t, cfg), broker.Trigger{Name: "x"}, after.handle)
	await(t, "what is left", func() bool { return len(after.ids()) == 3 })
	got := after.ids()
	slices.Sort(got)
	if !slices.Equal(got, []string{"3", "behind", "stuck"}) {
		t.Errorf("got %v", got)
	}
	await(t, "the last commit", func() bool { return commits(t, c, "ebb.x")[0].At == 6 })
}

// A dead letter is with its sink before the offset moves: when the process dies in between, it comes again.
func TestDeadLetterBeforeOffset(t *testing.T) {
	c := fake(t)
	cfg := kafka.Config{Seeds: c.ListenAddrs(), Partitions: 1}
	b := open(t, cfg)
	asked, end := make(chan struct{}), make(chan struct{})
	fails := func(context.Context, []ce.Event) []broker.Result { return []broker.Result{{Status: 400}} }
	subscribe(t, b, broker.Trigger{Name: "x", Delivery: broker.Delivery{
		DeadLetter: func(context.Context, []ce.Event) []broker.Result {
			close(asked)
			<-end
			return []broker.Result{{Status: 200}}
		},
	}}, fails)
	publish(t, b, brokertest.Event("bad", "k"), brokertest.Event("other", "l"))
	<-asked
	if at := commits(t, c, "ebb.x")[0].At; at != 0 {
		t.Errorf("committed %d before the dead letter was taken", at)
	}
	kafka.Kill(b)
	close(end)
	var dead journal
	subscribe(t, open(t, cfg), broker.Trigger{Name: "x", Delivery: broker.Delivery{DeadLetter: dead.handle}}, fails)
	await(t, "both dead letters", func() bool { return slices.Contains(dead.ids(), "bad") && len(dead.ids()) > 1 })
	await(t, "the commit", func() bool { return commits(t, c, "ebb.x")[0].At == 2 })
}

// Processes come and go under load: each event is handled, those of a key in order, and none twice, since a process
// that gives up its partitions commits what it has handled.
func TestRebalance(t *testing.T) {
	c := fake(t)
	cfg := kafka.Config{Seeds: c.ListenAddrs(), Partitions: 6}
	publisher := open(t, cfg)
	if err := publisher.Declare(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	var all journal
	serve := func() *kafka.Broker {
		b := open(t, cfg)
		subscribe(t, b, broker.Trigger{Name: "x", Batch: 10, Concurrency: 4}, all.handle)
		return b
	}
	first := serve()
	const keys, each = 12, 200
	var published atomic.Int64
	var wg sync.WaitGroup
	for k := range keys {
		wg.Go(func() {
			for n := range each {
				e := brokertest.Event(fmt.Sprintf("%02d-%03d", k, n), fmt.Sprint(k))
				if err := publisher.Publish(t.Context(), e); err != nil {
					t.Error(err)
				}
				published.Add(1)
				for published.Load()-int64(len(all.ids())) > 400 { // the processes shall change while events come
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	handled := func(n int) { await(t, fmt.Sprint(n, " events"), func() bool { return len(all.ids()) >= n }) }
	handled(200)
	second := serve()
	handled(800)
	third := serve()
	handled(1200)
	first.Close(context.Background())
	handled(1600)
	second.Close(context.Background())
	wg.Wait()
	handled(keys * each)
	third.Close(context.Background())
	last := map[string]string{}
	for _, id := range all.ids() {
		key, _, _ := strings.Cut(id, "-")
		if id <= last[key] {
			t.Errorf("%s came after %s", id, last[key])
		}
		last[key] = id
	}
	if n := len(all.ids()); n != keys*each {
		t.Errorf("%d deliveries of %d events", n, keys*each)
	}
}

// What is published to partitions that were added while nobody served the trigger is delivered, from their beginning;
// so is what comes to one that is added while it is served.
func TestPartitionAdded(t *testing.T) {
	c := fake(t)
	cfg := kafka.Config{Seeds: c.ListenAddrs(), Partitions: 1}.WithMetadataAge(20 * time.Millisecond)
	b := open(t, cfg)
	admin := kadm.NewClient(stranger(t, c))
	published := 0
	grow := func(partitions int) {
		t.Helper()
		added, err := admin.UpdatePartitions(t.Context(), partitions, "ebb")
		if err != nil || added.Error() != nil {
			t.Fatal(err, added.Error())
		}
		await(t, "events in all partitions", func() bool {
			publish(t, b, brokertest.Event(fmt.Sprint(published), fmt.Sprint("key", published)))
			published++
			ends, err := admin.ListEndOffsets(t.Context(), "ebb")
			used := 0
			ends.Each(func(o kadm.ListedOffset) { used += int(min(o.Offset, 1)) })
			return err == nil && used == partitions
		})
	}
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x"}, j.handle).Close()
	grow(3)
	subscribe(t, b, broker.Trigger{Name: "x"}, j.handle)
	await(t, "the events from before", func() bool { return len(j.ids()) == published })
	grow(5)
	await(t, "all events", func() bool { return len(j.ids()) >= published })
	ids := j.ids()
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != published {
		t.Errorf("%d events of %d came", n, published)
	}
}

// A cluster that goes away and comes back with its data: what was acknowledged is delivered, in order.
func TestClusterRestarted(t *testing.T) {
	dir := t.TempDir()
	start := func(opts ...kfake.Opt) *kfake.Cluster {
		c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.DataDir(dir), kfake.SyncWrites())...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := start()
	var port int
	if _, err := fmt.Sscanf(c.ListenAddrs()[0], "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	b := open(t, kafka.Config{Seeds: c.ListenAddrs(), Partitions: 3})
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x", Batch: 10}, j.handle)
	const keys, each = 6, 100
	var acked atomic.Int64
	var wg sync.WaitGroup
	for k := range keys {
		wg.Go(func() {
			for n := range each {
				for b.Publish(t.Context(), brokertest.Event(fmt.Sprintf("%d-%03d", k, n), fmt.Sprint(k))) != nil {
					time.Sleep(time.Millisecond)
				}
				acked.Add(1)
			}
		})
	}
	for _, at := range []int64{100, 350} {
		await(t, "some events", func() bool { return acked.Load() >= at })
		c.Close()
		c = start(kfake.Ports(port))
	}
	wg.Wait()
	distinct := func() int {
		ids := j.ids()
		slices.Sort(ids)
		return len(slices.Compact(ids))
	}
	await(t, "all events", func() bool { return distinct() == keys*each })
	first, last := map[string]bool{}, map[string]string{}
	for _, id := range j.ids() {
		if key := id[:1]; !first[id] { // one that comes again may do so after later ones
			if id < last[key] {
				t.Errorf("%s came after %s", id, last[key])
			}
			first[id], last[key] = true, id
		}
	}
	b.Close(context.Background())
	c.Close()
}

// Configurations that cannot work are refused with a clear sentence.
func TestRefused(t *testing.T) {
	c := fake(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "user", "right"))
	seeds := c.ListenAddrs()
	// The fake only closes the connection of a user with another password. Kafka answers:
	refusing := fake(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "user", "right"))
	refusing.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
		refusing.KeepControl()
		answer := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		answer.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return answer, nil, true
	})
	free := fake(t)
	for _, r := range []struct {
		cfg  kafka.Config
		kind fault.Kind
		want string
	}{
		{kafka.Config{}, fault.Invalid, "there is no seed"},
		{kafka.Config{Seeds: seeds, Name: "a b"}, fault.Invalid, `invalid topic "a b"`},
		{kafka.Config{Seeds: seeds, User: "u", Password: "secret", SASL: "plain"}, fault.Invalid, "it needs TLS"},
		{kafka.Config{Seeds: refusing.ListenAddrs(), User: "user", Password: "secret", SASL: "scram-sha-256"},
			fault.Unauthenticated, "does not accept the user or its password"},
		{kafka.Config{Seeds: []string{"127.0.0.1:1"}}, fault.Unavailable, "no Kafka broker can be reached"},
		{kafka.Config{Seeds: free.ListenAddrs(), Topics: []string{"theirs"}}, fault.Invalid,
			`the topic "theirs" is not there`},
	} {
		r.cfg.Logger = quiet
		_, err := kafka.Open(t.Context(), r.cfg)
		text := fmt.Sprint(err)
		if !fault.Is(err, r.kind) || !strings.Contains(text, r.want) || strings.Contains(text, "secret") {
			t.Errorf("%+v: got %v, want %s", r.cfg, err, r.want)
		}
	}
	open(t, kafka.Config{Seeds: seeds, User: "user", Password: "right", SASL: "scram-sha-256"})
}
