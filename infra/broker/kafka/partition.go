package kafka

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// item is an unfinished event, linked with its neighbours in the order of the partition.
type item = delivery.Item[openEvent]

type openEvent struct {
	partition  *partition
	offset     int64
	tries      tries // as they are to be committed; guarded by session.mu
	prev, next *item
}

// partition is a partition while this process has it. It is guarded by session.mu.
type partition struct {
	assignment *assignment
	next       int64        // the offset to accept next
	end        int64        // of the partition, as it was last seen
	before     []openOffset // open by the commit, and not read again yet
	finished   int64        // what is before it and was not in before has finished, by the commit
	deaths     int          // see state
	upTo       int64
	suspects   int // how many events were taken for possible suspects

	abandoned bool // nothing is committed any more
	shorter   bool // the offsets are of other records from restart on, and nothing is known of those
	restart   int64

	moved bool  // the state is not what was last committed
	saved int64 // next, as it was last committed
	front *item
	back  *item
	open  int // how many events are linked from front to back
}

// maxSuspects limits the events that are taken for possible suspects, which are handled slowly.
const maxSuspects = 8192

// newPartition returns a partition whose first records were just fetched.
func newPartition(a *assignment, committed state, known bool, f kgo.FetchTopicPartition) *partition {
	first := f.Records[0].Offset
	p := &partition{assignment: a, next: first, end: f.HighWatermark, moved: true, saved: first}
	switch {
	case !known:
		return p
	case first < committed.low() || committed.low() > f.HighWatermark:
		// The topic was made anew, or a replica without its end took over: the commit is of other records.
		a.session.broker.cfg.Logger.Error("a partition is shorter than it was; it is read from its beginning",
			"trigger", a.session.trigger.Name(), "topic", f.Topic, "partition", f.Partition)
		return p
	}
	p.finished = min(committed.next, f.HighWatermark)
	p.before = committed.open
	p.deaths, p.upTo = committed.deaths, committed.upTo
	if p.upTo <= committed.low() {
		p.deaths, p.upTo = 0, 0
	}
	if committed.running {
		p.deaths, p.upTo = p.deaths+1, f.HighWatermark
	}
	return p
}

// accept returns the item to hand out for a record; nil: there is none.
func (p *partition) accept(r *kgo.Record) *item {
	if r.Offset < p.next {
		return nil
	}
	p.next = r.Offset + 1
	for len(p.before) > 0 && p.before[0].offset < r.Offset {
		p.before = p.before[1:] // gone from the topic
	}
	var known tries
	if r.Offset < p.finished {
		if len(p.before) == 0 || p.before[0].offset != r.Offset {
			return nil
		}
		known = p.before[0].tries
		p.before = p.before[1:]
	}
	if r.Value == nil { // a tombstone
		return nil
	}
	a := p.assignment
	b, t := a.session.broker, a.session.trigger
	d := b.decoded.of(r, b.limit)
	if d.err != nil {
		it := delivery.NewItem(&noEvent, openEvent{partition: p, offset: r.Offset})
		p.link(it)
		a.copying.Add(1)
		go a.copyInvalid(r, it, d.err)
		return nil
	}
	if !t.Match(d.event) {
		return nil
	}
	it := delivery.NewItem(d.event, openEvent{partition: p, offset: r.Offset})
	deaths := 0
	if r.Offset < p.upTo && p.suspects < maxSuspects {
		p.suspects++
		deaths = p.deaths
	}
	if known.Attempts > 0 && known.id == identity(d.event) {
		it.Ref.tries = known
	}
	it.SetHistory(it.Ref.tries.Tries, deaths)
	p.link(it)
	return it
}

// link appends an item to the open events.
func (p *partition) link(it *item) {
	it.Ref.prev = p.back
	if p.back == nil {
		p.front = it
	} else {
		p.back.Ref.next = it
	}
	p.back = it
	p.open++
}

// unlink takes an item out of the open events.
func (p *partition) unlink(it *item) {
	r := &it.Ref
	if r.prev == nil {
		p.front = r.next
	} else {
		r.prev.Ref.next = r.next
	}
	if r.next == nil {
		p.back = r.prev
	} else {
		r.next.Ref.prev = r.prev
	}
	r.prev, r.next = nil, nil
	p.open--
}

// state returns what is to be committed.
func (p *partition) state(running bool) state {
	if p.shorter {
		return state{next: p.restart}
	}
	s := state{next: max(p.next, p.finished), running: running, deaths: p.deaths, upTo: p.upTo}
	s.open = make([]openOffset, 0, p.open+len(p.before))
	for it := p.front; it != nil; it = it.Ref.next {
		s.open = append(s.open, openOffset{it.Ref.offset, it.Ref.tries})
	}
	s.open = append(s.open, p.before...)
	return s
}

// Finished implements delivery.Keeper: it takes events out of the open ones.
func (a *assignment) Finished(items []*item) {
	marked := false
	a.session.mu.Lock()
	if a.over {
		a.session.mu.Unlock()
		return
	}
	for _, it := range items {
		marked = marked || it.Ref.tries.Begun
		it.Ref.partition.unlink(it)
		it.Ref.partition.moved = true
	}
	a.session.mu.Unlock()
	a.changed(marked)
}

// Tried implements delivery.Keeper.
func (a *assignment) Tried(tried []delivery.Tried[openEvent]) {
	marked := false
	a.session.mu.Lock()
	for _, t := range tried {
		ref := &t.Item.Ref
		marked = marked || ref.tries.Begun
		ref.tries = tries{identity(t.Item.Event()), t.Tries}
		ref.partition.moved = true
	}
	a.session.mu.Unlock()
	a.changed(marked)
}

// changed has the state committed, at once if it replaces what Mark has committed.
func (a *assignment) changed(marked bool) {
	if !marked {
		delivery.Signal(a.session.dirty)
		return
	}
	if err := a.session.commit(true); err != nil {
		a.session.broker.cfg.Logger.Warn("attempts were not committed", "trigger", a.session.trigger.Name(), "error", err)
	}
}

// Mark implements delivery.Keeper.
func (a *assignment) Mark(it *item, t delivery.Tries) error {
	a.session.mu.Lock()
	it.Ref.tries = tries{identity(it.Event()), t}
	it.Ref.partition.moved = true
	a.session.mu.Unlock()
	return a.session.commit(true)
}
