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

// outbox remembers what this instance has published, so that a later commit takes
// the entries away for nothing. Losing it costs a second publish and no more.
type outbox struct {
	mu        sync.Mutex
	published []published
	left      notice             // entries may wait that nobody is publishing
	prune     atomic.Int64       // when to look for what is past its time, Unix nanoseconds
	refused   map[store.Key]bool // entries with an event that the broker will never take
}

// published is an entry whose events the broker has. It may go when the place has settled; see broker.Settler.
type published struct {
	store.Key
	place uint64
}

// entry is one unit's events, as they wait in the outbox.
type outboxEntry struct {
	At     time.Time         `json:"at"`
	Events []json.RawMessage `json:"events"`
}

// takeMost bounds how many entries one commit takes away.
const takeMost = 256

// take removes the keys of entries that may go.
func (o *outbox) take(settled uint64) []store.Key {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < min(len(o.published), takeMost) && o.published[n].place <= settled {
		n++
	}
	if n == 0 {
		return nil
	}
	keys := make([]store.Key, n)
	for i, p := range o.published[:n] {
		keys[i] = p.Key
	}
	o.published = append(o.published[:0], o.published[n:]...)
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
	return len(o.published) == 0
}

// done notes entries that were published up to the place.
func (o *outbox) done(place uint64, keys ...store.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range keys {
		o.published = append(o.published, published{k, place})
	}
}

// forget answers which of the entries this instance has published, and leaves their removal to the caller.
func (o *outbox) forget(docs []store.Document) map[store.Key]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := map[store.Key]bool{}
	for _, p := range o.published {
		known[p.Key] = true
	}
	asked := map[store.Key]bool{}
	for _, d := range docs {
		asked[d.Key] = true
	}
	o.published = slices.DeleteFunc(o.published, func(p published) bool { return asked[p.Key] })
	return known
}

// attributesSize is about what the attributes of an event take in JSON.
const attributesSize = 768

// put writes the events into the outbox of the transaction under one key. The entry is an
// outboxEntry, joined by hand: encoding/json would go over every event a second time.
func put(ctx context.Context, tx *store.Tx, id string, now time.Time, sealed []event) error {
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

// publish hands over what a unit committed.
func (f *Function) publish(ctx context.Context, key store.Key, sealed []event) error {
	if len(sealed) == 0 {
		return nil
	}
	ctx, end := f.env.Telemetry.Span(context.WithoutCancel(ctx), f.name+" publish")
	err := f.say(ctx, sealed...)
	end(err)
	if err != nil {
		f.outbox.left.give()
		return fault.Wrap(err, fault.Unavailable, "the change is kept, but its events could not be published yet; try again")
	}
	f.outbox.done(f.place(), key)
	return nil
}

// place is one that everything published so far has reached; 0 when the broker makes events durable at once.
func (f *Function) place() uint64 {
	if f.settler == nil {
		return 0
	}
	return f.settler.Place()
}

func (f *Function) settled() uint64 {
	if f.settler == nil {
		return 0
	}
	return f.settler.Settled()
}

// settle waits until what was published is safe from a power cut too.
func (f *Function) settle(ctx context.Context) error {
	if f.settler == nil {
		return nil
	}
	return f.settler.Settle(ctx)
}

// publishLeft publishes whatever waits in the outbox, oldest first, and takes it away.
func (f *Function) publishLeft(ctx context.Context) error {
	given := f.outbox.left.latest()
	err := f.publishAll(ctx)
	if err != nil {
		f.outbox.left.give()
		return err
	}
	f.outbox.left.heed(given)
	return nil
}

func (f *Function) publishAll(ctx context.Context) error {
	db, err := f.open()
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
	var all []event
	var keys []store.Key
	entries := map[store.Key][]event{}
	known := f.outbox.forget(docs)
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
	switch err := f.say(ctx, all...); {
	case err == nil:
	case fault.KindOf(err).Retryable():
		return err
	default:
		if keys, err = f.sayEach(ctx, keys, entries); err != nil {
			return err
		}
	}
	if err := f.settle(ctx); err != nil {
		return err
	}
	return remove(ctx, db, keys)
}

// say hands events to the broker, and counts them.
func (f *Function) say(ctx context.Context, sealed ...event) error {
	if len(sealed) == 0 {
		return nil
	}
	err := f.env.Publisher.Publish(ctx, sealed...)
	if err == nil {
		f.env.Telemetry.Published(f.name, len(sealed))
	}
	return err
}

// sayEach publishes event by event, since the broker has refused one of them for good, and returns the entries of which it
// took everything. The others stay where they are for somebody to look at, and this instance no longer tries them: nothing
// that comes after them waits.
func (f *Function) sayEach(ctx context.Context, keys []store.Key, entries map[store.Key][]event) (said []store.Key, err error) {
	for _, k := range keys {
		taken := true
		for _, e := range entries[k] {
			err := f.say(ctx, e)
			switch {
			case err == nil:
			case fault.KindOf(err).Retryable():
				return nil, err
			default:
				taken = false
				f.env.Logger.ErrorContext(ctx, "the broker refuses an event for good; it stays in the outbox", "function", f.name,
					"entry", k.ID, "event", e.ID(), "type", e.Type(), "error", err)
			}
		}
		if taken {
			said = append(said, k)
		} else {
			f.outbox.refuse(k)
		}
	}
	return said, nil
}

// remove takes entries away. Another instance may be about to do the same, and a database may call that a conflict.
func remove(ctx context.Context, db store.Driver, keys []store.Key) error {
	return store.Update(ctx, db, func(_ context.Context, tx *store.Tx) error {
		for _, k := range keys {
			tx.Discard(k)
		}
		return nil
	})
}

func decodeEntry(d store.Document) ([]event, error) {
	var entry outboxEntry
	if err := json.Unmarshal(d.Data, &entry); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "decode the outbox entry %s", d.ID)
	}
	waiting := make([]event, len(entry.Events))
	for i, data := range entry.Events {
		if err := json.Unmarshal(data, &waiting[i]); err != nil {
			return nil, fault.Wrap(err, fault.Internal, "decode an event of the outbox entry %s", d.ID)
		}
	}
	return waiting, nil
}
