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
	left      atomic.Bool  // entries may wait that nobody is publishing
	prune     atomic.Int64 // when to look for what is past its time, Unix nanoseconds
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
	err := f.env.Publisher.Publish(ctx, sealed...)
	end(err)
	if err != nil {
		f.outbox.left.Store(true)
		return fault.Wrap(err, fault.Unavailable, "the change is kept, but its events could not be published yet; try again")
	}
	f.env.Telemetry.Published(f.name, len(sealed))
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
	db, err := f.open()
	if err != nil {
		return err
	}
	f.outbox.left.Store(true)
	for first := true; ; first = false {
		docs, more, err := db.Query(ctx, store.Query{Collection: outboxName, Limit: 100})
		if err != nil {
			return err
		}
		if first && len(docs) > 0 {
			f.reportAge(docs[0])
		}
		if err := f.republish(ctx, db, docs); err != nil {
			return err
		}
		if !more {
			f.outbox.left.Store(false)
			return nil
		}
	}
}

func (f *Function) reportAge(d store.Document) {
	var entry outboxEntry
	if json.Unmarshal(d.Data, &entry) == nil {
		f.env.Telemetry.OutboxAge(f.name, f.env.Now().Sub(entry.At))
	}
}

func (f *Function) republish(ctx context.Context, db store.Driver, docs []store.Document) error {
	if len(docs) == 0 {
		return nil
	}
	var all []event
	keys := make([]store.Key, len(docs))
	known := f.outbox.forget(docs)
	for i, d := range docs {
		keys[i] = d.Key
		if known[d.Key] {
			continue
		}
		waiting, err := decodeEntry(d)
		if err != nil {
			return err
		}
		all = append(all, waiting...)
	}
	if len(all) > 0 {
		if err := f.env.Publisher.Publish(ctx, all...); err != nil {
			return err
		}
		f.env.Telemetry.Published(f.name, len(all))
	}
	if err := f.settle(ctx); err != nil {
		return err
	}
	return remove(ctx, db, keys)
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
