package function

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// outbox remembers what this instance has published, so that a later commit removes those entries at no extra cost.
// Losing it costs a second publish of them and no more.
//
// An entry is written by the unit of work that emitted its events, in the same commit. The unit then publishes it. When
// the broker has it durably (see broker.Flusher), the entry is removed by a later commit or by Stop. What a crash or an
// error leaves is published again by publishWaiting, which runs when the outbox is marked dirty.
type outbox struct {
	mu      sync.Mutex
	done    []publishedEntry
	dirty   dirtyFlag          // entries may wait that no unit of this instance is publishing
	prune   atomic.Int64       // when to look for expired entries of the kit's collections, Unix nanoseconds
	refused map[store.Key]bool // entries with an event that the broker will never take
}

// publishedEntry is an entry whose events the broker has. It may be removed when the offset is durable.
type publishedEntry struct {
	store.Key
	offset uint64
}

// outboxEntry is the events of one unit of work.
type outboxEntry struct {
	At     time.Time         `json:"at"`
	Events []json.RawMessage `json:"events"`
}

// removeLimit is how many entries one commit removes.
const removeLimit = 256

// take returns the keys of published entries that may be removed, and forgets them.
func (o *outbox) take(durable uint64) []store.Key {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < min(len(o.done), removeLimit) && o.done[n].offset <= durable {
		n++
	}
	if n == 0 {
		return nil
	}
	keys := make([]store.Key, n)
	for i, p := range o.done[:n] {
		keys[i] = p.Key
	}
	o.done = append(o.done[:0], o.done[n:]...)
	return keys
}

func (o *outbox) refuse(k store.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused == nil {
		o.refused = map[store.Key]bool{}
	}
	o.refused[k] = true
}

func (o *outbox) isRefused(k store.Key) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused[k]
}

func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.done) == 0
}

// published records entries that the broker has up to the offset.
func (o *outbox) published(offset uint64, keys ...store.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range keys {
		o.done = append(o.done, publishedEntry{k, offset})
	}
}

// takeKnown returns which of the entries this instance has published, and forgets them: the caller removes them.
func (o *outbox) takeKnown(docs []store.Document) map[store.Key]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := map[store.Key]bool{}
	for _, p := range o.done {
		known[p.Key] = true
	}
	asked := map[store.Key]bool{}
	for _, d := range docs {
		asked[d.Key] = true
	}
	o.done = slices.DeleteFunc(o.done, func(p publishedEntry) bool { return asked[p.Key] })
	return known
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
	data := bytes.NewBuffer(make([]byte, 0, size))
	data.WriteString(`{"at":"`)
	data.WriteString(now.Format(time.RFC3339Nano))
	data.WriteString(`","events":[`)
	for i := range sealed {
		if i > 0 {
			data.WriteByte(',')
		}
		if err := ce.WriteJson(&sealed[i], data); err != nil {
			return fault.Wrap(err, fault.Internal, "encode %s for the outbox", sealed[i].Type())
		}
	}
	data.WriteString("]}")
	return tx.Create(ctx, store.Key{Collection: outboxName, ID: id}, data.Bytes())
}

// publish publishes what a unit committed.
func (f *Function) publish(ctx context.Context, key store.Key, sealed []ce.Event) error {
	if len(sealed) == 0 {
		return nil
	}
	ctx, end := f.env.Telemetry.Span(context.WithoutCancel(ctx), f.name+" publish")
	err := f.publishEvents(ctx, sealed...)
	end(err)
	if err != nil {
		f.outbox.dirty.mark()
		return fault.Wrap(err, fault.Unavailable, "the change is kept, but its events could not be published yet; try again")
	}
	f.outbox.published(f.offset(), key)
	return nil
}

// offset returns one that everything published so far has reached; 0 when the broker makes events durable at once.
func (f *Function) offset() uint64 {
	if f.flusher == nil {
		return 0
	}
	return f.flusher.Offset()
}

// durableOffset returns the offset up to which events survive a power cut.
func (f *Function) durableOffset() uint64 {
	if f.flusher == nil {
		return 0
	}
	return f.flusher.DurableOffset()
}

// flush waits until what was published survives a power cut.
func (f *Function) flush(ctx context.Context) error {
	if f.flusher == nil {
		return nil
	}
	return f.flusher.Flush(ctx)
}

// publishWaiting publishes every entry of the outbox, oldest first, and removes it.
func (f *Function) publishWaiting(ctx context.Context) error {
	upTo := f.outbox.dirty.latest()
	err := f.publishAll(ctx)
	if err != nil {
		f.outbox.dirty.mark()
		return err
	}
	f.outbox.dirty.clear(upTo)
	return nil
}

func (f *Function) publishAll(ctx context.Context) error {
	db, err := f.driver()
	if err != nil {
		return err
	}
	q := store.Query{Collection: outboxName, Limit: 100}
	for {
		docs, more, err := db.Query(ctx, q)
		if err != nil {
			return err
		}
		if q.After == nil && len(docs) > 0 {
			f.reportAge(docs[0])
		}
		if err := f.republish(ctx, db, docs); err != nil || !more {
			return err
		}
		q.After = &store.Position{ID: docs[len(docs)-1].ID}
	}
}

func (f *Function) reportAge(d store.Document) {
	var entry outboxEntry
	if json.Unmarshal(d.Data, &entry) == nil {
		f.env.Telemetry.OutboxAge(f.name, f.env.Now().Sub(entry.At))
	}
}

func (f *Function) republish(ctx context.Context, db store.Driver, docs []store.Document) error {
	var all []ce.Event
	var keys []store.Key
	entries := map[store.Key][]ce.Event{}
	known := f.outbox.takeKnown(docs)
	for _, d := range docs {
		if f.outbox.isRefused(d.Key) {
			continue
		}
		keys = append(keys, d.Key)
		if known[d.Key] {
			continue
		}
		waiting, err := decodeEntry(d)
		if err != nil {
			return err
		}
		all, entries[d.Key] = append(all, waiting...), waiting
	}
	if len(keys) == 0 {
		return nil
	}
	switch err := f.publishEvents(ctx, all...); {
	case err == nil:
	case fault.KindOf(err).Retryable():
		return err
	default:
		if keys, err = f.publishEach(ctx, keys, entries); err != nil {
			return err
		}
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	return removeEntries(ctx, db, keys)
}

// publishEvents publishes events and counts them.
func (f *Function) publishEvents(ctx context.Context, sealed ...ce.Event) error {
	if len(sealed) == 0 {
		return nil
	}
	err := f.env.Publisher.Publish(ctx, sealed...)
	if err == nil {
		f.env.Telemetry.Published(f.name, len(sealed))
	}
	return err
}

// publishEach publishes event by event, since the broker has refused one of them for good, and returns the entries of
// which it took every event. The others stay in the outbox for an operator, and this instance does not try them again:
// nothing behind them waits.
func (f *Function) publishEach(
	ctx context.Context, keys []store.Key, entries map[store.Key][]ce.Event,
) (done []store.Key, err error) {
	for _, k := range keys {
		taken := true
		for _, e := range entries[k] {
			err := f.publishEvents(ctx, e)
			switch {
			case err == nil:
			case fault.KindOf(err).Retryable():
				return nil, err
			default:
				taken = false
				f.env.Logger.ErrorContext(ctx, "the broker refuses an event for good; it stays in the outbox",
					"function", f.name, "entry", k.ID, "event", e.ID(), "type", e.Type(), "error", err)
			}
		}
		if taken {
			done = append(done, k)
		} else {
			f.outbox.refuse(k)
		}
	}
	return done, nil
}

// removeEntries removes entries. Another instance may be doing the same, which a database may call a conflict.
func removeEntries(ctx context.Context, db store.Driver, keys []store.Key) error {
	return store.Update(ctx, db, func(_ context.Context, tx *store.Tx) error {
		for _, k := range keys {
			tx.Discard(k)
		}
		return nil
	})
}

func decodeEntry(d store.Document) ([]ce.Event, error) {
	var entry outboxEntry
	if err := json.Unmarshal(d.Data, &entry); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "decode the outbox entry %s", d.ID)
	}
	waiting := make([]ce.Event, len(entry.Events))
	for i, data := range entry.Events {
		if err := json.Unmarshal(data, &waiting[i]); err != nil {
			return nil, fault.Wrap(err, fault.Internal, "decode an event of the outbox entry %s", d.ID)
		}
	}
	return waiting, nil
}

// removePublished removes everything from the outbox that this instance has published.
func (f *Function) removePublished(ctx context.Context, db store.Driver) error {
	if f.outbox.empty() {
		return nil
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	for keys := f.outbox.take(f.durableOffset()); len(keys) > 0; keys = f.outbox.take(f.durableOffset()) {
		if err := removeEntries(ctx, db, keys); err != nil {
			return err
		}
	}
	return nil
}
