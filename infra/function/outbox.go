package function

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// The outbox holds the events of committed units of work until the broker has them durably. One entry holds the events
// of one unit. Its states, and who moves it on:
//
//	written     The unit's commit has created the entry together with the change. No instance is publishing it.
//	publishing  An instance is handing its events to the broker. Only that instance knows.
//	published   The broker has its events. Only that instance knows.
//	durable     They survive a power cut at the broker (see broker.Flusher).
//	removed     The entry is deleted from the store.
//
// An ordinary entry is publishing from its commit on: the unit that wrote it publishes it, and a later commit of the
// same instance, or Stop, removes it once it is durable. That costs no read, and no write of its own.
//
// An entry stays written when its instance stopped after the commit, when publishing failed, or when the store did not
// tell whether it had committed. These publish it again, and remove it:
//
//   - The next unit of the same instance that emits events, or its next tick, for an entry that it knows to be left.
//   - A duplicate of the event that the unit handled, or a repeated Idempotency-Key. The inbox entry and the stored
//     response name the outbox entry. The duplicate looks at that entry and at no other.
//   - The start of an instance and the sweep of the clock, for all entries of the function.
//
// None of them can see whether another instance is publishing an entry at this moment. So each leaves alone what is
// too young: handoverTime for a duplicate, which asks the broker to come again, relayAge for a start or a sweep.
// Two instances that look for old entries at the same moment may both publish one. Entries that a unit of the same
// instance is publishing, or has published, are known and never published twice.
//
// A bad entry stops nothing: the instance that finds it marks it as quarantined in the store, with the reason. From
// then on no instance publishes it until an operator releases it; see outboxapi.go. Of the events of a refused entry
// those that the broker took are taken out of it. Each is logged as an error, and the metric ebb.outbox.quarantined
// counts them at each start and sweep.
//
// What is committed is answered as done to a client, also when its events are left: only units that emit wait for the
// outbox: they publish what is left before their own events to keep the order. An event is acknowledged to the broker
// only when its own events are published; otherwise it is answered 503 and comes again as a duplicate. When a function
// goes to zero with entries left, the clock's sweep starts it. An entry that is left for alarmAge is logged as an
// error once, and its age is the metric ebb.outbox.oldest_age.
//
// A crash in written or publishing leaves an entry that was perhaps published; in published or durable one that was. It
// is published again then, once, and inboxes drop the second copy. Nothing but the entry itself is needed: what an
// instance knows beside it only saves work.
type outbox struct {
	mu     sync.Mutex
	active map[string]entryState // entries that this instance works on just now, by id
	done   []publishedEntry      // published, not removed
	left   map[string]leftEntry  // written, and not active
	leaves int64                 // entries that were ever left
	rescan bool                  // there may be entries that are left and that no duplicate names

	relaying    sync.Mutex   // held by the one relay of the instance
	oldWay      atomic.Bool  // the whole outbox was relayed for a duplicate that names no entry
	alarm       atomic.Int32 // what was logged of entries that are left: quiet, warned, alarmed
	quarantined atomic.Int64 // entries, as far as this instance knows
}

const (
	quiet int32 = iota
	warned
	alarmed
)

// entryState is what an instance does with an entry.
type entryState int

const (
	publishing entryState = iota + 1
	removing              // it is durable, and a commit that removes it is under way
)

const (
	// handoverTime is how long a unit may take from its commit until its events are published before a duplicate in
	// another instance takes over. It is longer than most instances need to the next commit, which removes the entry:
	// until then no other instance can see that they are published.
	handoverTime = 2 * time.Second

	// askAgain is when a duplicate that is too early comes again.
	askAgain = time.Second

	// relayAge is how old an entry is at least that a start or a sweep publishes.
	relayAge = 10 * time.Second

	// alarmAge is how old the oldest entry that is left may be before an error is logged.
	alarmAge = time.Minute

	removeLimit = 256  // entries that one commit removes
	relayLimit  = 100  // entries that are relayed together
	leftLimit   = 1000 // entries that are known to be left; beyond that a relay looks for them
)

// publishedEntry is an entry whose events the broker has. It may be removed when the offset is durable.
type publishedEntry struct {
	id     string
	offset uint64
}

// leftEntry tells when this instance has found out that an entry is left, and after how many others.
type leftEntry struct {
	since time.Time
	n     int64
}

// outboxEntry is the events of one unit of work.
type outboxEntry struct {
	At     time.Time         `json:"at"`
	Events []json.RawMessage `json:"events"`
}

func outboxKey(id string) store.Key { return store.Key{Collection: outboxName, ID: id} }

// begin notes that a unit will publish the entry, and returns the ids of durable entries that its commit removes, at
// most limit.
func (o *outbox) begin(id string, durable uint64, limit int) (removes []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.active[id] = publishing
	return o.take(durable, limit)
}

// take moves durable entries from published to removing, at most limit.
func (o *outbox) take(durable uint64, limit int) []string {
	n := 0
	for n < min(len(o.done), limit) && o.done[n].offset <= durable {
		n++
	}
	if n == 0 {
		return nil
	}
	ids := make([]string, n)
	for i, p := range o.done[:n] {
		ids[i] = p.id
		o.active[p.id] = removing
	}
	o.done = append(o.done[:0], o.done[n:]...)
	return ids
}

// takeDurable is take for Stop.
func (o *outbox) takeDurable(durable uint64) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.take(durable, removeLimit)
}

// forget notes that the entries are removed, or were never written.
func (o *outbox) forget(ids ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		delete(o.active, id)
		delete(o.left, id)
	}
}

// published notes that the broker has the events of the entries up to the offset.
func (o *outbox) published(offset uint64, ids ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		delete(o.active, id)
		delete(o.left, id)
		o.done = append(o.done, publishedEntry{id, offset})
	}
}

// leave notes that the entries are written and that this instance does not publish them any more.
func (o *outbox) leave(now time.Time, ids ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		delete(o.active, id)
		if _, known := o.left[id]; known {
			continue
		}
		if len(o.left) >= leftLimit {
			o.rescan = true
			continue
		}
		o.leaves++
		o.left[id] = leftEntry{now, o.leaves}
	}
}

// claim returns those of the entries that this instance neither works on nor has published, and makes them publishing.
func (o *outbox) claim(ids []string) (mine []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		if o.active[id] == 0 && !o.isDone(id) {
			o.active[id] = publishing
			mine = append(mine, id)
		}
	}
	return mine
}

func (o *outbox) isDone(id string) bool {
	return slices.ContainsFunc(o.done, func(p publishedEntry) bool { return p.id == id })
}

// knows returns what this instance knows of an entry: that its events are published, that it is publishing them, or
// that the entry is left.
func (o *outbox) knows(id string) (done, busy, left bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, left = o.left[id]
	return o.active[id] == removing || o.isDone(id), o.active[id] == publishing, left
}

// leftIDs returns the ids of entries that are known to be left, at most limit, and whether there may be others. They
// have the order in which they were left, which is about that of their commits: an id may have been made long before.
func (o *outbox) leftIDs(limit int) (ids []string, rescan bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.left) == 0 {
		return nil, o.rescan
	}
	for id := range o.left {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(o.left[a].n, o.left[b].n) })
	return ids[:min(limit, len(ids))], o.rescan
}

func (o *outbox) hasPublished() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.done) > 0
}

// oldestLeft returns since when the first entry is known to be left; the zero time: none is.
func (o *outbox) oldestLeft() (oldest time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.left {
		if oldest.IsZero() || e.since.Before(oldest) {
			oldest = e.since
		}
	}
	return oldest
}

func (o *outbox) setRescan(to bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rescan = to
}

// attributesSize is about what the attributes of an event take in JSON.
const attributesSize = 768

// createEntry writes the events into the outbox of the transaction under one key. The entry is an outboxEntry that is
// written by hand: encoding/json would go over every event a second time.
func createEntry(ctx context.Context, tx *store.Tx, id string, now time.Time, sealed []ce.Event) error {
	size := 64
	for i := range sealed {
		size += attributesSize + len(sealed[i].DataEncoded)
	}
	data := append(make([]byte, 0, size), `{"at":"`...)
	data = now.AppendFormat(data, time.RFC3339Nano)
	data = append(data, `","events":[`...)
	for i := range sealed {
		if i > 0 {
			data = append(data, ',')
		}
		var err error
		if data, err = event.AppendJSON(data, &sealed[i]); err != nil {
			return fault.Wrap(err, fault.Internal, "encode %s for the outbox", sealed[i].Type())
		}
	}
	return tx.Create(ctx, outboxKey(id), append(data, "]}"...))
}

func decodeEntry(d store.Document) ([]ce.Event, error) {
	var entry outboxEntry
	if err := json.Unmarshal(d.Data, &entry); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "decode the outbox entry %s", d.ID)
	}
	waiting := make([]ce.Event, len(entry.Events))
	for i, data := range entry.Events {
		var err error
		if waiting[i], err = event.FromJSON(data); err != nil {
			return nil, fault.Wrap(err, fault.Internal, "decode an event of the outbox entry %s", d.ID)
		}
	}
	return waiting, nil
}

// entryTime returns when the entry was written; the zero time when it does not say.
func entryTime(d store.Document) time.Time {
	var entry struct {
		At time.Time `json:"at"`
	}
	_ = json.Unmarshal(d.Data, &entry) // a zero time is long past
	return entry.At
}

// younger reports whether the entry was written less than age ago. The clocks of two instances differ: an entry may
// seem to be written in the future, by as little.
func younger(d store.Document, now time.Time, age time.Duration) bool {
	return now.Sub(entryTime(d)).Abs() < age
}
