package function

import (
	"context"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// publishUnit publishes what a unit has committed. Entries that this instance knows to be left come first, so that
// events keep their order across a failure of the broker.
func (f *Function) publishUnit(ctx context.Context, id string, sealed []ce.Event, spans announcements) error {
	if len(sealed) == 0 {
		f.outbox.forget(id)
		return nil
	}
	ctx, end := context.WithoutCancel(ctx), f.publishSpans(sealed, spans)
	err := f.relayLeft(ctx)
	if err == nil {
		err = f.publishEvents(ctx, sealed...)
	}
	if refusedForGood(err) {
		if err = f.publishRefused(ctx, id, err); err == nil {
			end(nil)
			return nil
		}
	}
	end(err)
	if err != nil {
		f.outbox.leave(f.env.Now(), id)
		f.reportLeft(ctx, f.outbox.oldestLeft(), err)
		return fault.Wrap(err, fault.Unavailable, "the change is kept, but its events could not be published yet; try again")
	}
	f.outbox.published(f.offset(), id)
	return nil
}

// publishRefused deals with the entry of a unit that the broker has refused for good.
func (f *Function) publishRefused(ctx context.Context, id string, refusal error) error {
	db, err := f.driver()
	if err != nil {
		return err
	}
	docs, err := f.read(ctx, db, []string{id})
	if err != nil {
		return err
	}
	return f.settle(ctx, db, f.decodeClaimed(ctx, db, []string{id}, docs), refusal)
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

// relayLeft publishes a few of the entries that this instance knows to be left. It does nothing while another relay of
// the instance runs.
func (f *Function) relayLeft(ctx context.Context) error {
	ids, rescan := f.outbox.leftIDs(relayLimit)
	if len(ids) == 0 && !rescan || !f.outbox.relaying.TryLock() {
		return nil
	}
	defer f.outbox.relaying.Unlock()
	err := f.relaySome(ctx, ids, rescan)
	f.reportLeft(ctx, f.outbox.oldestLeft(), err)
	return err
}

func (f *Function) relaySome(ctx context.Context, ids []string, rescan bool) error {
	db, err := f.driver()
	if err != nil {
		return err
	}
	first := min(1, len(ids)) // while the broker is down, one entry is read to find out and no more
	if err := f.republish(ctx, db, ids[:first]); err != nil {
		return err
	}
	if rescan {
		_, err := f.scan(ctx, false)
		return err
	}
	return f.republish(ctx, db, ids[first:])
}

// relayAll publishes all entries that are older than relayAge or known to be left, oldest first; with young also those
// that other instances may be publishing. It does nothing while another relay of the instance runs.
func (f *Function) relayAll(ctx context.Context, young bool) error {
	if !f.outbox.relaying.TryLock() {
		return nil
	}
	defer f.outbox.relaying.Unlock()
	oldest, err := f.scan(ctx, young)
	if err == nil {
		oldest = f.outbox.oldestLeft()
	}
	f.reportLeft(ctx, oldest, err)
	return err
}

// scan looks through the outbox, and returns when the oldest entry was written that it found left.
func (f *Function) scan(ctx context.Context, young bool) (oldest time.Time, err error) {
	f.outbox.setRescan(true)
	db, err := f.driver()
	if err != nil {
		return oldest, err
	}
	now, quarantined := f.env.Now(), int64(0)
	q := store.Query{Collection: outboxName, Limit: relayLimit}
	for more := true; more; {
		var docs []store.Document
		if docs, more, err = db.Query(ctx, q); err != nil {
			return oldest, err
		}
		var ids []string
		for _, d := range docs {
			done, busy, left := f.outbox.knows(d.ID)
			if done || busy {
				continue
			}
			if isQuarantined(d) {
				quarantined++
				continue
			}
			if !young && !left && younger(d, now, relayAge) {
				continue
			}
			if oldest.IsZero() {
				oldest = entryTime(d)
				f.env.Telemetry.OutboxAge(f.name, now.Sub(oldest))
			}
			ids = append(ids, d.ID)
		}
		if err := f.republish(ctx, db, ids); err != nil {
			return oldest, err
		}
		if more {
			q.After = &store.Position{ID: docs[len(docs)-1].ID}
		}
	}
	f.outbox.setRescan(false)
	f.outbox.quarantined.Store(quarantined)
	f.reportQuarantined(quarantined)
	return oldest, nil
}

// reportLeft reports the age of the oldest entry that is left; the zero time: none is. It logs a warning for the first
// one, and an error once when it is older than alarmAge.
func (f *Function) reportLeft(ctx context.Context, oldest time.Time, cause error) {
	if oldest.IsZero() {
		if cause == nil {
			f.outbox.alarm.Store(quiet)
			f.env.Telemetry.OutboxAge(f.name, 0)
		}
		return
	}
	age := f.env.Now().Sub(oldest)
	f.env.Telemetry.OutboxAge(f.name, age)
	switch {
	case age >= alarmAge && f.outbox.alarm.Swap(alarmed) < alarmed:
		f.env.Logger.ErrorContext(ctx, "committed events have waited in the outbox for long and cannot be published",
			"function", f.name, "age", age.String(), "error", cause)
	case age < alarmAge && f.outbox.alarm.CompareAndSwap(quiet, warned):
		f.env.Logger.WarnContext(ctx, "committed events wait in the outbox and cannot be published yet",
			"function", f.name, "error", cause)
	}
}

// republish publishes entries and removes them, except those that this instance works on or has published. An entry
// that is gone by now was published by another instance.
func (f *Function) republish(ctx context.Context, db store.Driver, ids []string) error {
	ids = f.outbox.claim(ids)
	if len(ids) == 0 {
		return nil
	}
	docs, err := f.read(ctx, db, ids) // after the claim: what was read before it may be out of date
	if err != nil {
		f.outbox.leave(f.env.Now(), ids...)
		return err
	}
	return f.republishDocuments(ctx, db, ids, docs)
}

func (f *Function) read(ctx context.Context, db store.Driver, ids []string) ([]store.Document, error) {
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		keys[i] = outboxKey(id)
	}
	return db.Get(ctx, keys...)
}

// republishDocuments publishes and removes entries that were claimed. One that cannot be decoded, or with an event that
// the broker refuses for good, is quarantined, and the others do not wait for it.
func (f *Function) republishDocuments(
	ctx context.Context, db store.Driver, ids []string, docs []store.Document,
) error {
	entries := f.decodeClaimed(ctx, db, ids, docs)
	var all []ce.Event
	for _, e := range entries {
		all = append(all, e.waiting...)
	}
	return f.settle(ctx, db, entries, f.publishEvents(ctx, all...))
}

// claimedEntry is an entry that is being republished.
type claimedEntry struct {
	doc     store.Document
	waiting []ce.Event
}

// decodeClaimed decodes the entries that are neither gone nor quarantined.
func (f *Function) decodeClaimed(
	ctx context.Context, db store.Driver, ids []string, docs []store.Document,
) []claimedEntry {
	entries := make([]claimedEntry, 0, len(docs))
	for i, d := range docs {
		if d.Version == 0 || isQuarantined(d) {
			f.outbox.forget(ids[i])
			continue
		}
		waiting, err := decodeEntry(d)
		if err != nil {
			if err := f.quarantine(ctx, db, d, nil, err); err != nil {
				f.outbox.leave(f.env.Now(), d.ID)
			}
			continue
		}
		entries = append(entries, claimedEntry{d, waiting})
	}
	return entries
}

// settle removes entries after an attempt to publish them, or leaves them when it ended with err.
func (f *Function) settle(ctx context.Context, db store.Driver, entries []claimedEntry, err error) error {
	if refusedForGood(err) {
		entries, err = f.publishApart(ctx, db, entries)
	}
	present := make([]string, len(entries))
	for i, e := range entries {
		present[i] = e.doc.ID
	}
	if err != nil {
		f.outbox.leave(f.env.Now(), present...)
		return err
	}
	if len(present) == 0 {
		return nil
	}
	offset := f.offset()
	err = f.flush(ctx)
	if err == nil {
		err = removeEntries(ctx, db, present)
	}
	if err != nil { // a later commit removes them
		f.outbox.published(offset, present...)
		return nil
	}
	f.outbox.forget(present...)
	return nil
}

// publishApart publishes entries event by event and quarantines those with an event that the broker refuses for good.
// It returns the others; after an error those that are left.
func (f *Function) publishApart(
	ctx context.Context, db store.Driver, entries []claimedEntry,
) (done []claimedEntry, err error) {
	for i, e := range entries {
		refused, refusal, err := f.publishEach(ctx, e.waiting)
		if err == nil && refused != nil {
			err = f.quarantine(ctx, db, e.doc, refused, refusal)
		}
		if err != nil {
			return append(done, entries[i:]...), err
		}
		if refused == nil {
			done = append(done, e)
		}
	}
	return done, nil
}

// relayNamed makes sure that the events of an entry are published that a duplicate names. It returns fault.Unavailable
// while a unit may be publishing them.
func (f *Function) relayNamed(ctx context.Context, id string) error {
	done, busy, left := f.outbox.knows(id)
	if done {
		return nil
	}
	tooEarly := fault.New(fault.Unavailable, "the events of this message are being published; try again")
	if busy || len(f.outbox.claim([]string{id})) == 0 {
		return tooEarly
	}
	db, err := f.driver()
	if err != nil {
		f.outbox.forget(id)
		return err
	}
	docs, err := f.read(ctx, db, []string{id})
	switch {
	case err != nil && left:
		f.outbox.leave(f.env.Now(), id)
		return err
	case err != nil:
		f.outbox.forget(id)
		return err
	case !left && docs[0].Version > 0 && !isQuarantined(docs[0]) && younger(docs[0], f.env.Now(), handoverTime):
		f.outbox.forget(id)
		return tooEarly.After(askAgain)
	}
	if err := f.republishDocuments(ctx, db, []string{id}, docs); err != nil {
		return fault.Wrap(err, fault.Unavailable, "the events of this message could not be published yet; try again")
	}
	return nil
}

// relayFor makes sure that the events of a message are published that has come before. Its inbox entry or stored
// response has named the outbox entry: "" where the message emitted nothing, nil where an older version of the kit
// wrote it.
func (f *Function) relayFor(ctx context.Context, entry *string) error {
	switch {
	case entry == nil:
		return f.relayForOldDuplicate(ctx)
	case *entry == "":
		return nil
	}
	return f.relayNamed(ctx, *entry)
}

// relayForOldDuplicate is for a duplicate whose inbox entry or stored response names no outbox entry, because an older
// version of the kit wrote it: the whole outbox is published, once per instance.
func (f *Function) relayForOldDuplicate(ctx context.Context) error {
	if !f.outbox.oldWay.CompareAndSwap(false, true) {
		return f.relayAll(ctx, false)
	}
	err := f.relayAll(ctx, true)
	if err != nil {
		f.outbox.oldWay.Store(false)
	}
	return err
}

// removeEntries removes entries, as many at once as the database takes. Another instance may be doing the same, which a
// database may call a conflict.
func removeEntries(ctx context.Context, db store.Driver, ids []string) error {
	for len(ids) > 0 {
		n := 0
		err := store.Update(ctx, db, func(_ context.Context, tx *store.Tx) error {
			n = tx.Portion(len(ids))
			for _, id := range ids[:n] {
				tx.Discard(outboxKey(id))
			}
			return nil
		})
		if err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// removePublished removes everything from the outbox that this instance has published.
func (f *Function) removePublished(ctx context.Context, db store.Driver) error {
	if !f.outbox.hasPublished() {
		return nil
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	for ids := f.outbox.takeDurable(f.durableOffset()); len(ids) > 0; ids = f.outbox.takeDurable(f.durableOffset()) {
		if err := removeEntries(ctx, db, ids); err != nil {
			f.outbox.published(0, ids...)
			return err
		}
		f.outbox.forget(ids...)
	}
	return nil
}
