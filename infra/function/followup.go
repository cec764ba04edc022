package function

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// A follow-up is what is left to do after a unit of work has committed, outside of any transaction, and before its
// message is answered: infra/outside calls other services so. What is to be done is a document of a collection, which
// the unit writes and the follow-up's own unit removes. A crash between the two leaves the document:
//
//   - The event comes again, or the Idempotency-Key does. The inbox entry and the stored response name the documents,
//     and those that are still there are followed up.
//   - The clock sweeps; see Follow.
//
// The follow-up's own unit may emit events. They are the message's too, and an event is acknowledged only when they are
// published. So the outbox entry of that unit has an id that the message's entry names beforehand.
type followUp struct {
	collection string
	run        func(ctx context.Context, d store.Document, again bool) error
	sweep      func(ctx context.Context, tx *Tx) error
}

// Follow makes run follow each unit of work that writes documents of a collection, and each message that comes again
// while such a document is left of it. run is called with the document, outside of any unit, before the message is
// answered; again is false for the unit that has just written it. An event for which run fails is answered with its
// error and comes again; other messages are answered as decided. sweep runs in the unit of the clock's sweep. A
// function has one follow-up. Authors use infra/outside in place of it.
func Follow(
	f *Function, collection string, run func(ctx context.Context, d store.Document, again bool) error,
	sweep func(ctx context.Context, tx *Tx) error,
) {
	f.followUp = &followUp{collection, run, sweep}
}

// followed is a document that a unit has written to be followed up, and the id of the outbox entry of the unit that
// will follow.
type followed struct {
	doc   store.Document
	entry string
}

// follows holds the ids of outbox entries by the ids of documents, as inbox entries and stored responses name them.
type follows map[string]string

func namesOf(docs []followed) follows {
	if len(docs) == 0 {
		return nil
	}
	names := make(follows, len(docs))
	for _, d := range docs {
		names[d.doc.ID] = d.entry
	}
	return names
}

// toFollow returns the documents that a transaction has written and that are to be followed up.
func (f *Function) toFollow(db *store.Tx) (docs []followed) {
	if f.followUp == nil {
		return nil
	}
	db.Changed(func(d store.Document) {
		if d.Collection == f.followUp.collection && d.Version > 0 {
			docs = append(docs, followed{d, f.env.NewID()})
		}
	})
	return docs
}

// origin is the inbox entry or the stored response of the message that is followed up.
type origin struct {
	key   store.Key // zero: the message has none
	entry string    // of the outbox, for the follow-up's own unit
}

type originKey struct{}

func originOf(ctx context.Context) (o origin, ok bool) {
	o, ok = ctx.Value(originKey{}).(origin)
	return o, ok
}

// follow follows up the documents that a unit has just written.
func (f *Function) follow(ctx context.Context, message store.Key, docs []followed) error {
	for _, d := range docs {
		if err := f.followOne(ctx, origin{message, d.entry}, d.doc, false); err != nil {
			return err
		}
	}
	return nil
}

// followAgain follows up what is left of a message that has come before.
func (f *Function) followAgain(ctx context.Context, message store.Key, names follows) error {
	if len(names) == 0 || f.followUp == nil {
		return nil
	}
	db, err := f.driver()
	if err != nil {
		return err
	}
	ids := slices.Sorted(maps.Keys(names))
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		keys[i] = store.Key{Collection: f.followUp.collection, ID: id}
	}
	docs, err := db.Get(ctx, keys...)
	if err != nil {
		return err
	}
	for i, d := range docs {
		if d.Version == 0 {
			err = f.relayNamed(ctx, names[ids[i]])
		} else {
			err = f.followOne(ctx, origin{message, names[ids[i]]}, d, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *Function) followOne(ctx context.Context, o origin, d store.Document, again bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = f.panicked(ctx, p)
		}
	}()
	return f.followUp.run(context.WithValue(ctx, originKey{}, o), d, again)
}

// addFollows names further documents in the inbox entry or the stored response of a message, unless that has expired.
func addFollows(ctx context.Context, db *store.Tx, message store.Key, docs []followed) error {
	if len(docs) == 0 || message.ID == "" {
		return nil
	}
	d, err := db.Get(ctx, message)
	if err != nil || d.Version == 0 {
		return err
	}
	var members map[string]json.RawMessage
	names := follows{}
	if err = json.Unmarshal(d.Data, &members); err == nil && members["follow"] != nil {
		err = json.Unmarshal(members["follow"], &names)
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "decode what the message %s has left to do", message.ID)
	}
	maps.Copy(names, namesOf(docs))
	if members["follow"], err = json.Marshal(names); err != nil {
		return fault.Wrap(err, fault.Internal, "encode what the message %s has left to do", message.ID)
	}
	data, err := json.Marshal(members)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "encode the entry of the message %s", message.ID)
	}
	_, err = db.Set(ctx, message, data)
	return err
}

// followUp follows up what the events of a batch have left to do. An event that fails comes again, as a duplicate.
func (b *batch) followUp(ctx context.Context) {
	if b.f.followUp == nil {
		return
	}
	try := func(i int, fn func(ctx context.Context) error) {
		traced, end := b.f.withTrace(ctx, b.events[i])
		err := fn(traced)
		if end(err); err != nil {
			b.failOne(i, err)
		}
	}
	for i, docs := range b.follow {
		if len(docs) > 0 && !b.results[i].Skipped {
			try(i, func(ctx context.Context) error { return b.f.follow(ctx, b.inboxKey(i), docs) })
		}
	}
	for _, r := range b.repeats {
		if len(r.follow) > 0 && b.results[r.event].OK() {
			try(r.event, func(ctx context.Context) error { return b.f.followAgain(ctx, b.inboxKey(r.event), r.follow) })
		}
	}
}

// newFollowed returns the documents that an event has written, without those that it has only read after an earlier
// event of the batch had written them.
func (b *batch) newFollowed(docs []followed) []followed {
	return slices.DeleteFunc(docs, func(d followed) bool {
		return slices.ContainsFunc(b.follow, func(earlier []followed) bool {
			return slices.ContainsFunc(earlier, func(e followed) bool {
				return e.doc.ID == d.doc.ID && e.doc.Version == d.doc.Version
			})
		})
	})
}

func (b *batch) inboxKey(i int) store.Key {
	return store.Key{Collection: inboxName, ID: inboxID(b.events[i])}
}
