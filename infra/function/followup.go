package function

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/cause"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
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
//
// Follow-ups of one unit run at the same time, and what they have to commit shares a unit: those that are ready
// together have the outbox entry of the group, "ID"; a later one has its own, "ID.1". A duplicate looks for both.
type followUp struct {
	collection string
	run        func(ctx context.Context, d store.Document, again bool) (cause.Rest[*Tx], error)
	sweep      func(ctx context.Context, tx *Tx) error
}

// groupWait is how long a follow-up that is ready waits for the others of its group.
const groupWait = 20 * time.Millisecond

// Follow makes run follow each unit of work that writes documents of a collection, and each message that comes again
// while such a document is left of it. run is called with the document, outside of any unit, before the message is
// answered, and beside those of other documents; again is false for the unit that has just written it. It returns what
// is to be committed. An event for which run or that commit fails is answered with the error and comes again; other
// messages are answered as decided. sweep runs in the unit of the clock's sweep. A function has one follow-up. Authors
// use infra/outside in place of it.
func Follow(
	f *Function, collection string,
	run func(ctx context.Context, d store.Document, again bool) (cause.Rest[*Tx], error),
	sweep func(ctx context.Context, tx *Tx) error,
) {
	f.followUp = &followUp{collection, run, sweep}
}

// followed is a document that a unit has written to be followed up, and the id of the outbox entry that its follow-up
// has when it commits alone.
type followed struct {
	doc   store.Document
	entry string
	at    time.Time // when it was written
}

// naming makes the ids of the outbox entries of a group.
type naming struct {
	newID func() string
	group string
	n     int
}

func (n *naming) next() string {
	if n.n++; n.n == 1 {
		n.group = n.newID()
	}
	return n.group + "." + strconv.Itoa(n.n)
}

// groupOf returns the id of the group's outbox entry; "": an older version of the kit named the entry, without a group.
func groupOf(entry string) string {
	dot := strings.LastIndexByte(entry, '.')
	if _, err := strconv.Atoi(entry[dot+1:]); err != nil || dot < 0 {
		return ""
	}
	return entry[:dot]
}

// follows holds the ids of outbox entries by the ids of documents, as inbox entries and stored responses name them. A
// document that was followed up more than once has several, with spaces between.
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
func (f *Function) toFollow(db *store.Tx, names *naming) (docs []followed) {
	if f.followUp == nil {
		return nil
	}
	db.Changed(func(d store.Document) {
		if d.Collection == f.followUp.collection && d.Version > 0 {
			docs = append(docs, followed{d, names.next(), f.env.Now()})
		}
	})
	return docs
}

// following is a document that is being followed up.
type following struct {
	followed
	scope   telemetry.Scope // of the message
	message store.Key       // of the inbox entry or the stored response; zero: there is none
	again   bool

	rest     cause.Rest[*Tx]
	ids      []string
	refusal  error // of its commit, in the last attempt
	emitted  bool
	further  []followed // what its commit has left to do
	err      error      // how it ended
	finished bool       // nothing is left to commit
}

// follow follows up documents that a unit has just written.
func (f *Function) follow(ctx context.Context, message store.Key, docs []followed) error {
	return f.followAll(ctx, followingOf(telemetry.ScopeOf(ctx), message, docs))
}

func followingOf(scope telemetry.Scope, message store.Key, docs []followed) []*following {
	all := make([]*following, len(docs))
	for i, d := range docs {
		all[i] = &following{followed: d, scope: scope, message: message}
	}
	return all
}

// left makes sure that the events are published of what has followed a message that has come before, and returns the
// documents that are left of it. When the message names other entries by now, another instance has followed it up since
// it was read: it comes again, because their events are perhaps not published.
func (f *Function) left(ctx context.Context, message store.Key, names follows) ([]*following, error) {
	if len(names) == 0 || f.followUp == nil {
		return nil, nil
	}
	db, err := f.driver()
	if err != nil {
		return nil, err
	}
	ids := slices.Sorted(maps.Keys(names))
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		keys[i] = store.Key{Collection: f.followUp.collection, ID: id}
	}
	docs, err := db.Get(ctx, append(keys, message)...)
	if err != nil {
		return nil, err
	}
	if entry := docs[len(keys)]; entry.Version > 0 {
		var now struct {
			Follow follows `json:"follow"`
		}
		if err := json.Unmarshal(entry.Data, &now); err != nil {
			return nil, fault.Wrap(err, fault.Internal, "decode what the message %s has left to do", message.ID)
		}
		if !maps.Equal(now.Follow, names) {
			return nil, fault.New(fault.Unavailable, "this message has been followed up in the meantime; try again")
		}
	}
	for _, id := range ids { // after the documents were read: what has removed one has added its entry
		if err := f.relayFollows(ctx, names[id]); err != nil {
			return nil, err
		}
	}
	var all []*following
	for _, d := range docs[:len(keys)] {
		if d.Version > 0 {
			renamed := naming{newID: f.env.NewID} // the entry of the name that the message has may not be removed yet
			all = append(all, &following{
				followed: followed{doc: d, entry: renamed.next()}, scope: telemetry.ScopeOf(ctx), message: message,
				again: true,
			})
		}
	}
	return all, nil
}

// relayFollows has the events published of the outbox entries that a message names for a document, and of their groups.
func (f *Function) relayFollows(ctx context.Context, entries string) error {
	for _, entry := range strings.Fields(entries) {
		if group := groupOf(entry); group != "" {
			if err := f.relayNamed(ctx, group); err != nil {
				return err
			}
		}
		if err := f.relayNamed(ctx, entry); err != nil {
			return err
		}
	}
	return nil
}

// followAgain follows up what is left of a message that has come before.
func (f *Function) followAgain(ctx context.Context, message store.Key, names follows) error {
	all, err := f.left(ctx, message, names)
	if err != nil {
		return err
	}
	return f.followAll(ctx, all)
}

// followAll follows up documents at the same time and returns the first error. Each has its own in err. What a commit
// has left to do is followed up at once: it does not wait for the slowest document.
func (f *Function) followAll(ctx context.Context, all []*following) error {
	if len(all) == 0 {
		return nil
	}
	done := make(chan *following, len(all))
	for _, d := range all {
		f.env.Go(func() {
			f.run(d.scope.In(ctx), d)
			done <- d
		})
	}
	ready := gather(done, len(all), groupWait)
	f.commitGroup(ctx, ready)
	further := []<-chan struct{}{f.followFurther(ctx, ready...)}
	for range len(all) - len(ready) {
		d := <-done
		if !d.finished {
			f.commitRest(d.scope.In(ctx), d.entry, d)
		}
		further = append(further, f.followFurther(ctx, d))
	}
	for _, ended := range further {
		<-ended
	}
	for _, d := range all {
		if d.err != nil {
			return d.err
		}
	}
	return nil
}

// followFurther ends follow-ups that have committed, and begins to follow up what their commits have left to do. The
// channel is closed at the end of that; then the error of each is in err of what has left it.
func (f *Function) followFurther(ctx context.Context, of ...*following) <-chan struct{} {
	ended := make(chan struct{})
	var all []*following
	left := map[*following]*following{} // what has left each
	for _, d := range of {
		if d.rest.End != nil {
			d.rest.End()
		}
		if d.err != nil {
			continue
		}
		for _, next := range followingOf(d.scope, d.message, d.further) {
			all, left[next] = append(all, next), d
		}
	}
	if len(all) == 0 {
		close(ended)
		return ended
	}
	f.env.Go(func() {
		defer close(ended)
		_ = f.followAll(ctx, all)
		for _, next := range all {
			if d := left[next]; d.err == nil {
				d.err = next.err
			}
		}
	})
	return ended
}

// gather waits for the first follow-up, and then as long as patience for the others of n.
func gather(done <-chan *following, n int, patience time.Duration) []*following {
	ready := append(make([]*following, 0, n), <-done)
	wait := time.NewTimer(patience)
	defer wait.Stop()
	for len(ready) < n {
		select {
		case d := <-done: // also after the wait is over
			ready = append(ready, d)
			continue
		default:
		}
		select {
		case d := <-done:
			ready = append(ready, d)
		case <-wait.C:
			return ready
		}
	}
	return ready
}

// run does the outside part of a follow-up.
func (f *Function) run(ctx context.Context, d *following) {
	defer func() {
		if p := recover(); p != nil {
			d.err = f.panicked(ctx, p)
		}
		d.finished = d.err != nil || d.rest.Commit == nil
	}()
	if d.again || f.env.Now().Sub(d.at) > stale {
		if d.err = f.refresh(ctx, d); d.err != nil {
			return
		}
	}
	d.rest, d.err = f.followUp.run(ctx, d.doc, d.again)
}

// stale is the age from which on a document is read again before it is followed up: its message may have come again to
// another instance, which has followed it up.
const stale = time.Second / 2

// refresh reads the document of a message that comes again once more, because another instance may have followed it up
// between the first reading and now. When it is gone, the message comes again: what followed is perhaps not published.
func (f *Function) refresh(ctx context.Context, d *following) error {
	db, err := f.driver()
	if err != nil {
		return err
	}
	docs, err := db.Get(ctx, d.doc.Key)
	if err != nil {
		return err
	}
	if docs[0].Version == 0 {
		return fault.New(fault.Unavailable, "%s has been finished in the meantime; try again", d.doc.ID)
	}
	d.doc = docs[0]
	return nil
}

// commitGroup commits what several follow-ups have to commit, in one unit if it can be done. A duplicate knows only its
// own entry and that of its group: so no other follow-up may join.
func (f *Function) commitGroup(ctx context.Context, all []*following) {
	all = slices.DeleteFunc(slices.Clone(all), func(d *following) bool { return d.finished })
	grouped := map[string][]*following{}
	for _, d := range all {
		group := groupOf(d.entry)
		if d.again || group == "" {
			f.commitRest(d.scope.In(ctx), d.entry, d)
			continue
		}
		grouped[group] = append(grouped[group], d)
	}
	for _, group := range slices.Sorted(maps.Keys(grouped)) {
		f.commitRest(ctx, group, grouped[group]...)
	}
}

// commitRest commits what follow-ups have to commit, in one unit with the outbox entry. When that fails each has a unit
// of its own.
func (f *Function) commitRest(ctx context.Context, entry string, all ...*following) {
	unpublished, err := f.commitAs(ctx, entry, func(ctx context.Context, db *store.Tx, _ string) ([]ce.Event, error) {
		var sealed []ce.Event
		for _, d := range all {
			var events []ce.Event
			if events, d.refusal = f.attemptRest(ctx, d, db); d.refusal != nil && len(all) == 1 {
				return nil, d.refusal
			}
			d.emitted = len(events) > 0
			sealed = append(sealed, events...)
		}
		last := lastOf(db)
		for _, d := range all {
			d.further = last.take(d.further)
		}
		return sealed, nil
	})
	for _, d := range all {
		switch {
		case err != nil && len(all) > 1:
			f.commitRest(d.scope.In(ctx), d.entry, d)
			continue
		case err != nil:
			d.further, d.err = nil, d.rest.Failed(d.scope.In(ctx), err)
		case d.refusal != nil:
			d.further, d.err = nil, d.rest.Failed(d.scope.In(ctx), d.refusal)
		case d.emitted && unpublished != nil:
			d.err = unpublished
		}
		d.finished = true
	}
}

// lastVersions holds the versions of the documents that a transaction has written, as its commit leaves them.
type lastVersions map[store.Key]int64

func lastOf(db *store.Tx) lastVersions {
	versions := lastVersions{}
	db.Changed(func(d store.Document) { versions[d.Key] = d.Version })
	return versions
}

// take returns those of the documents that are left as they are by the commit. Each is taken once, by the first: others
// of the unit have only read it.
func (v lastVersions) take(docs []followed) []followed {
	return slices.DeleteFunc(docs, func(d followed) bool {
		if v[d.doc.Key] != d.doc.Version {
			return true
		}
		delete(v, d.doc.Key)
		return false
	})
}

// attemptRest is one attempt to commit what a follow-up has to commit, in a transaction inside of db.
func (f *Function) attemptRest(
	ctx context.Context, d *following, db *store.Tx,
) (emitted []ce.Event, err error) {
	c, ctx := d.rest.Cause, d.scope.In(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = f.panicked(ctx, p)
		}
	}()
	if c.Correlation != "" {
		ctx = telemetry.WithCorrelation(ctx, c.Correlation)
	}
	nested := db.Nest()
	tx := f.newTx(ctx, nested, f.env.Now().UTC(), c.Message)
	tx.ids, tx.cause, d.further = d.ids, c.Event, nil
	err = d.rest.Commit(ctx, tx)
	if err == nil {
		d.further = f.toFollow(nested, &naming{newID: f.env.NewID})
		err = addFollows(ctx, nested, d)
	}
	if err == nil {
		emitted, err = tx.seal(ctx)
	}
	d.ids = tx.ids
	if err != nil {
		nested.MergeReads()
		return nil, err
	}
	nested.Merge()
	return emitted, nil
}

// addFollows names the documents that the commit of a follow-up has left in the inbox entry or the stored response of
// its message, unless that has expired, and its own entry if that is another one than the message names.
func addFollows(ctx context.Context, db *store.Tx, of *following) error {
	if !of.again && len(of.further) == 0 || of.message.ID == "" {
		return nil
	}
	d, err := db.Get(ctx, of.message)
	if err != nil || d.Version == 0 {
		return err
	}
	var members map[string]json.RawMessage
	names := follows{}
	if err = json.Unmarshal(d.Data, &members); err == nil && members["follow"] != nil {
		err = json.Unmarshal(members["follow"], &names)
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "decode what the message %s has left to do", of.message.ID)
	}
	if of.again { // what is published under the names of before is published
		names[of.doc.ID] = of.entry
	}
	for _, d := range of.further { // also the same document once more
		names[d.doc.ID] = strings.TrimSpace(names[d.doc.ID] + " " + d.entry)
	}
	if members["follow"], err = json.Marshal(names); err != nil {
		return fault.Wrap(err, fault.Internal, "encode what the message %s has left to do", of.message.ID)
	}
	data, err := json.Marshal(members)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "encode the entry of the message %s", of.message.ID)
	}
	_, err = db.Set(ctx, of.message, data)
	return err
}

// followUp follows up what the events of a batch have left to do. An event that fails comes again, as a duplicate.
func (b *batch) followUp(ctx context.Context) {
	if b.f.followUp == nil {
		return
	}
	var all []*following
	of := map[*following]int{}
	add := func(i int, docs ...*following) {
		all = append(all, docs...)
		for _, d := range docs {
			of[d] = i
		}
	}
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	traced := func(i int) context.Context {
		ctx, end := b.f.traced(ctx, b.events[i])
		ends = append(ends, func() { end(b.errs[i]) })
		return ctx
	}
	for i, docs := range b.follow {
		if len(docs) > 0 && !b.results[i].Skipped {
			ctx := traced(i)
			for _, d := range docs {
				add(i, &following{followed: d, scope: telemetry.ScopeOf(ctx), message: b.inboxKey(i)})
			}
		}
	}
	for _, r := range b.repeats {
		if len(r.follow) > 0 && b.results[r.event].OK() {
			docs, err := b.f.left(traced(r.event), b.inboxKey(r.event), r.follow)
			if err != nil {
				b.failOne(r.event, err)
			}
			add(r.event, docs...)
		}
	}
	_ = b.f.followAll(ctx, all)
	for _, d := range all {
		if i := of[d]; d.err != nil && b.results[i].OK() {
			b.failOne(i, d.err)
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
