package kafka

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

const (
	// pollMost is how many records one poll takes.
	pollMost = 256

	// pollEvery is the least time between two polls under load: every trigger reads the whole topic, and a fetch costs the
	// same for one record as for many. The first records after a pause never wait.
	pollEvery = 5 * time.Millisecond

	// fetchWait is how long a fetch waits for records. A partition that comes to be read meanwhile waits for it.
	fetchWait = time.Second

	// commitEvery is the least time between two commits. After a slow one it is longer, so that committing never takes
	// more than a tenth of the time.
	commitEvery = 200 * time.Millisecond

	// commitIdle is how far a trigger reads on over events that are not for it before that is worth a commit.
	commitIdle = 512

	// revokeWait limits how long a process that loses partitions waits for its handlers. Kafka gives it the rebalance
	// timeout before it takes them.
	revokeWait       = 45 * time.Second
	rebalanceTimeout = time.Minute
)

// session is a trigger while this process is a member of its consumer group.
type session struct {
	broker  *Broker
	trigger *delivery.Trigger
	client  *kgo.Client
	dirty   chan struct{}      // there is something to commit
	fail    context.CancelFunc // ends the session

	ending     sync.Mutex // one end of an assignment at a time
	committing sync.Mutex // one commit at a time, so that an older state never overwrites a newer one

	// mu is never taken while a lock of an engine is held.
	mu      sync.Mutex
	commits map[partitionID]state // as they were when the partitions were assigned
	current *assignment           // nil: nothing was read since then
}

// partitionID names a partition of a topic.
type partitionID struct {
	topic     string
	partition int32
}

// assignment is what a session does from one rebalance to the next: the partitions that it reads, and the engine that
// hands out their events.
type assignment struct {
	session    *session
	engine     *delivery.Engine[openEvent]
	lifetime   *lifetime.Lifetime
	partitions map[partitionID]*partition
	over       bool         // guarded by session.mu
	copying    atomic.Int64 // records that are no events and not copied yet
	copied     chan struct{}
}

// Serve implements delivery.Source: it is a member of the trigger's group until ctx ends.
func (s *source) Serve(ctx context.Context, t *delivery.Trigger) error {
	b := (*Broker)(s)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session := &session{broker: b, trigger: t, dirty: make(chan struct{}, 1), fail: cancel}
	client, err := kgo.NewClient(append(b.options(),
		kgo.ConsumerGroup(b.group(t.Name())),
		kgo.ConsumeTopics(b.topics()...),
		kgo.Balancers(kgo.StickyBalancer()),
		kgo.SessionTimeout(b.cfg.Lease),
		kgo.HeartbeatInterval(b.cfg.Lease/5),
		kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.BlockRebalanceOnPoll(),
		kgo.DisableAutoCommit(),
		// A partition without a commit was added after the trigger was made known.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchMaxBytes(8<<20),
		kgo.FetchMaxPartitionBytes(1<<20),
		kgo.OnOffsetsFetched(session.offsetsFetched),
		kgo.OnPartitionsRevoked(func(context.Context, *kgo.Client, map[string][]int32) { session.end(revokeWait) }),
		kgo.OnPartitionsLost(func(context.Context, *kgo.Client, map[string][]int32) { session.end(0) }),
	)...)
	if err != nil {
		return err
	}
	session.client = client
	defer client.CloseAllowingRebalance()
	b.mu.Lock()
	b.sessions[t.Name()] = session
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.sessions, t.Name())
		b.mu.Unlock()
	}()
	return session.run(ctx)
}

// run reads until ctx ends, waits for the handlers that run, and commits.
func (s *session) run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var loop sync.WaitGroup
	loop.Go(func() { s.commitLoop(background) })
	var err error
	var last time.Time // when the poll before returned
	for ctx.Err() == nil && err == nil {
		fetches := s.client.PollRecords(ctx, pollMost)
		polled := time.Now()
		anew := false
		fetches.EachError(func(topic string, partition int32, err error) {
			if errors.Is(err, kerr.UnknownTopicID) {
				anew = true
				s.abandon(topic)
			}
			if ctx.Err() == nil && !errors.Is(err, context.Canceled) && !kerr.IsRetriable(err) {
				s.broker.cfg.Logger.Warn("a partition cannot be read", "trigger", s.trigger.Name(), "topic", topic,
					"partition", partition, "error", err)
			}
		})
		if fetches.IsClientClosed() {
			err = delivery.ErrClosed
			break
		}
		var a *assignment
		a, err = s.take(ctx, fetches)
		s.client.AllowRebalance()
		if anew && err == nil { // this client does not read such a topic again; that of the next session does
			err = errMadeAnew
		}
		if a != nil && err == nil {
			lasting, release := a.lifetime.Bind(ctx)
			a.engine.WaitRoom(lasting)
			release()
			a.waitCopies()
		}
		if wait := pollEvery - time.Since(last); wait > 0 {
			delivery.Pause(ctx, wait)
		}
		last = polled
	}
	s.end(-1)
	stop()
	loop.Wait()
	return err
}

// offsetsFetched notes what the commits say of the partitions that were just assigned.
func (s *session) offsetsFetched(_ context.Context, _ *kgo.Client, response *kmsg.OffsetFetchResponse) error {
	commits := map[partitionID]state{}
	note := func(topic string, partition int32, offset int64, metadata *string) {
		if offset < 0 {
			return
		}
		text := ""
		if metadata != nil {
			text = *metadata
		}
		found, err := decodeState(offset, text)
		if err != nil {
			s.broker.cfg.Logger.Error("what a commit says of unfinished events cannot be read; those after the first come again",
				"trigger", s.trigger.Name(), "topic", topic, "partition", partition, "error", err)
		}
		commits[partitionID{topic, partition}] = found
	}
	for _, t := range response.Topics {
		for _, p := range t.Partitions {
			note(t.Topic, p.Partition, p.Offset, p.Metadata)
		}
	}
	for _, g := range response.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				note(t.Topic, p.Partition, p.Offset, p.Metadata)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits = commits
	return nil
}

// take hands what was fetched to the engine. Rebalances are blocked meanwhile. It returns the assignment; nil: there is
// none.
func (s *session) take(ctx context.Context, fetches kgo.Fetches) (*assignment, error) {
	a, fresh := s.open(ctx, fetches)
	if a == nil {
		return nil, nil
	}
	if fresh {
		// Before anything is handed out it is written that it may be: a death after that counts.
		if err := s.commit(true); err != nil {
			return a, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var matched []*item
	var failed error
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		p := a.partitions[partitionID{f.Topic, f.Partition}]
		if p == nil {
			return
		}
		if len(f.Records) > 0 && f.Records[0].Offset < p.next {
			// A replica without its end took over, or the topic was made anew.
			s.broker.cfg.Logger.Error("a partition is shorter than it was; it is read again from there", "trigger",
				s.trigger.Name(), "topic", f.Topic, "partition", f.Partition, "offset", f.Records[0].Offset)
			p.shorter, p.moved, p.restart = true, true, f.Records[0].Offset
			failed = errMadeAnew
			return
		}
		p.end = max(p.end, f.HighWatermark)
		for _, r := range f.Records {
			if it := p.accept(r); it != nil {
				matched = append(matched, it)
			}
		}
		if p.next > p.saved+commitIdle && !p.moved {
			p.moved = true
			delivery.Signal(s.dirty)
		}
	})
	if len(matched) > 0 {
		a.engine.Hold(matched) // a handler that is quicker waits in Finished for the lock
	}
	return a, failed
}

// abandon leaves the commits of a topic that was made anew: the cluster refuses those of the topic before.
func (s *session) abandon(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return
	}
	for id, p := range s.current.partitions {
		p.abandoned = p.abandoned || id.topic == topic
	}
}

// errMadeAnew ends a session whose offsets are no longer those of the topic.
var errMadeAnew = errors.New("a topic was made anew, or has lost its end")

// open returns the assignment with the partitions of what was fetched, and whether some of them are new in it.
func (s *session) open(ctx context.Context, fetches kgo.Fetches) (a *assignment, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		id := partitionID{f.Topic, f.Partition}
		if len(f.Records) == 0 || s.current != nil && s.current.partitions[id] != nil {
			return
		}
		if s.current == nil {
			s.current = &assignment{
				session: s, partitions: map[partitionID]*partition{}, copied: make(chan struct{}, 1),
				lifetime: lifetime.New(),
			}
			context.AfterFunc(ctx, s.current.lifetime.End) // Serve ends ctx when it returns
			s.current.engine = delivery.NewEngine(s.trigger, 0, s.current)
		}
		committed, known := s.commits[id]
		s.current.partitions[id] = newPartition(s.current, committed, known, f)
		fresh = true
	})
	return s.current, fresh
}

// end ends the assignment: it stops handing out, waits for the handlers that run, and commits; with a negative wait as
// long as they take. What they answer after the wait is ignored, and their events come again.
func (s *session) end(wait time.Duration) {
	s.ending.Lock()
	defer s.ending.Unlock()
	s.mu.Lock()
	a := s.current
	s.mu.Unlock()
	if a == nil {
		return
	}
	a.lifetime.End()
	halted := make(chan struct{})
	go func() { a.engine.Halt(); close(halted) }()
	var late <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		late = timer.C
	}
	running := false
	select {
	case <-halted:
	case <-late:
		running = true
	}
	s.mu.Lock()
	for _, p := range a.partitions {
		p.moved = true
	}
	s.mu.Unlock()
	if wait != 0 { // partitions that were lost belong to others
		if err := s.commit(running); err != nil {
			s.broker.cfg.Logger.Warn("what has finished was not committed; events may come again",
				"trigger", s.trigger.Name(), "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a.over, s.current, s.commits = true, nil, nil
}

// commitLoop commits what has changed, until ctx ends.
func (s *session) commitLoop(ctx context.Context) {
	for {
		select {
		case <-s.dirty:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		if err := s.commit(true); err != nil && ctx.Err() == nil {
			s.broker.cfg.Logger.Warn("what has finished was not committed; it is tried again", "trigger", s.trigger.Name(),
				"error", err)
			delivery.Pause(ctx, time.Second)
		}
		delivery.Pause(ctx, max(commitEvery, 9*time.Since(began)))
	}
}

// commit commits the state of the partitions that have changed, and that the assignment runs or has ended.
func (s *session) commit(running bool) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	s.mu.Lock()
	offsets, metadata := map[string]map[int32]kgo.EpochOffset{}, map[partitionID]string{}
	var taken []*partition
	if s.current != nil {
		for id, p := range s.current.partitions {
			if !p.moved || p.abandoned {
				continue
			}
			p.moved, p.saved = false, p.next
			taken = append(taken, p)
			st := p.state(running)
			if offsets[id.topic] == nil {
				offsets[id.topic] = map[int32]kgo.EpochOffset{}
			}
			offsets[id.topic][id.partition] = kgo.EpochOffset{Epoch: noEpoch, Offset: st.low()}
			metadata[id] = st.encode()
		}
	}
	s.mu.Unlock()
	if len(taken) == 0 {
		return nil
	}
	err := s.commitOffsets(offsets, metadata)
	if err != nil {
		s.mu.Lock()
		for _, p := range taken {
			p.moved = true
		}
		s.mu.Unlock()
		delivery.Signal(s.dirty)
	}
	return err
}

func (s *session) commitOffsets(
	offsets map[string]map[int32]kgo.EpochOffset, metadata map[partitionID]string,
) (failed error) {
	ctx, release := s.broker.lifetime.BindTimeout(context.Background(), requestTimeout)
	defer release()
	ctx = kgo.PreCommitFnContext(ctx, func(request *kmsg.OffsetCommitRequest) error {
		for i := range request.Topics {
			t := &request.Topics[i]
			for j := range t.Partitions {
				text := metadata[partitionID{t.Topic, t.Partitions[j].Partition}]
				t.Partitions[j].Metadata = &text
			}
		}
		return nil
	})
	s.client.CommitOffsetsSync(ctx, offsets,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			if failed = err; err != nil {
				return
			}
			for _, t := range response.Topics {
				for _, p := range t.Partitions {
					failed = errors.Join(failed, kerr.ErrorForCode(p.ErrorCode))
				}
			}
		})
	return failed
}

// stats sets what is counted of the partitions that this process has.
func (s *session) stats(out *broker.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return
	}
	out.Open, out.Paused = s.current.engine.Unfinished(), s.current.engine.PausedSince()
	for _, p := range s.current.partitions {
		out.Lag += uint64(max(0, p.end-p.next))
	}
}

// mostCopying is how many records that are no events may wait for their copies before a trigger reads on. Each holds
// what it was fetched with in memory.
const mostCopying = 64

// waitCopies waits until few enough records wait for their copies, or the assignment ends.
func (a *assignment) waitCopies() {
	for a.copying.Load() > mostCopying {
		select {
		case <-a.copied:
		case <-a.lifetime.Done():
			return
		}
	}
}

// copyInvalid copies a record that is no event, until it is copied or the assignment ends.
func (a *assignment) copyInvalid(r *kgo.Record, it *item, reason error) {
	defer func() {
		a.copying.Add(-1)
		delivery.Signal(a.copied)
	}()
	ctx, release := a.lifetime.Bind(context.Background())
	defer release()
	for ctx.Err() == nil {
		err := a.session.broker.copyInvalid(ctx, r, reason)
		if err == nil {
			a.Finished([]*item{it})
			return
		}
		if ctx.Err() == nil {
			a.session.broker.cfg.Logger.Warn("a record that is no event cannot be copied; it is tried again", "topic", r.Topic,
				"partition", r.Partition, "offset", r.Offset, "error", err)
		}
		delivery.Pause(ctx, time.Second)
	}
}

// noEvent stands for a record that is no event while it is copied.
var noEvent = ce.New()
