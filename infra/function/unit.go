package function

import (
	"cmp"
	"context"
	"errors"
	"slices"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// unit is one unit of work over all its attempts.
type unit struct {
	f           *Function
	id          string // of its outbox entry
	sealed      []ce.Event
	removes     []string         // outbox entries that its commit removes, unless it is too large with them
	prunes      int              // attempts that also remove expired documents
	pruneMost   int              // how many of those at most
	tidied      int              // documents that the last attempt removes beside the unit's own work
	untidied    int              // how many of those an attempt had that was refused as too large
	wrote       []store.Document // for Await
	askedCommit bool             // the last attempt came as far as asking the store to commit
	announced   announcements
}

// tidyFew is how many documents a unit may always try to remove beside its own work: when the database refuses that, it
// is the unit's own work that is large, and other units must not remove less for it.
const tidyFew = 16

// announcements are the spans that will publish events, by the id of the event.
type announcements map[string]telemetry.Announced

// announcedKey is the key of the announcements of a unit of work.
type announcedKey struct{}

// maxAnnounced is how many events of a unit of work get a span of their own. Later ones belong to the handler's span.
const maxAnnounced = 256

// announce returns the traceparent of the span that will publish an event; "" where no span will.
func (f *Function) announce(ctx context.Context, id string) string {
	all, _ := ctx.Value(announcedKey{}).(announcements)
	if all == nil || len(all) >= maxAnnounced {
		return ""
	}
	span := f.env.Telemetry.Announce(ctx)
	traceparent := span.Traceparent()
	if traceparent != "" {
		all[id] = span
	}
	return traceparent
}

// publishSpans begins the announced spans of events. The function that it returns ends them.
func (f *Function) publishSpans(sealed []ce.Event, spans announcements) func(error) {
	ends := make([]func(error), 0, len(spans))
	for _, e := range sealed {
		if span, ok := spans[e.ID()]; ok {
			shown := f.shown(e)
			shown.Type = e.Type() // one that the function has declared, or the kit's
			ends = append(ends, f.env.Telemetry.PublishSpan(span, f.name, shown))
		}
	}
	return func(err error) {
		for _, end := range ends {
			end(err)
		}
	}
}

// work is what a unit does in its transaction. It returns the events to publish, and gets the id of the outbox entry
// that they will have.
type work func(ctx context.Context, db *store.Tx, entry string) ([]ce.Event, error)

// commit runs fn in a transaction and then publishes the events that it returned, which the commit puts into the
// outbox. After an error nothing has happened, unless the store could not tell. With unpublished the change is
// committed, and its events are left in the outbox.
func (f *Function) commit(ctx context.Context, fn work) (unpublished, err error) {
	return f.commitAs(ctx, f.env.NewID(), fn)
}

// commitAs does as commit, with the id of the outbox entry.
func (f *Function) commitAs(ctx context.Context, entry string, fn work) (unpublished, err error) {
	db, err := f.driver()
	if err != nil {
		return nil, err
	}
	u := unit{f: f, id: entry}
	most := f.tidies.of(removeLimit) // what the database takes beside the unit's own work
	removes := most
	if f.pruner.due(f.env.Now()) {
		u.prunes = 2 // another instance may have removed the same ones, and that is a conflict
		if most < removeLimit {
			removes = (most + 1) / 2
		}
	}
	u.removes = f.outbox.begin(u.id, f.durableOffset(), removes)
	u.pruneMost = min(most-len(u.removes), pruneLimit)
	if most == removeLimit { // nothing was refused yet
		u.pruneMost = pruneLimit
	}
	first := true
	committing, end := f.env.Telemetry.Span(ctx, f.name+" commit")
	err = store.Update(committing, db, func(ctx context.Context, tx *store.Tx) error {
		if !first {
			f.env.Telemetry.Conflict(f.name)
		}
		first = false
		return u.attempt(ctx, tx, fn)
	})
	end(err)
	if err != nil {
		f.outbox.published(0, u.removes...)
		if u.askedCommit && len(u.sealed) > 0 && !fault.Is(err, fault.Conflict) {
			f.outbox.leave(f.env.Now(), u.id) // the store may have committed all the same
		} else {
			f.outbox.forget(u.id)
		}
		return nil, err
	}
	if u.tidied > 0 {
		f.tidies.committed(u.tidied)
		f.outbox.forget(u.removes...)
	} else {
		f.outbox.published(0, u.removes...)
	}
	if u.untidied > tidyFew { // without them it was taken
		f.tidies.refused(u.untidied)
	}
	f.waiters.wake(u.wrote)
	unpublished = f.publishUnit(ctx, u.id, u.sealed, u.announced)
	f.migrate(ctx, db)
	return unpublished, nil
}

func (u *unit) attempt(ctx context.Context, tx *store.Tx, fn work) error {
	var err error
	u.askedCommit = false
	if u.f.env.Telemetry.Exports() {
		u.announced = announcements{}
		ctx = context.WithValue(ctx, announcedKey{}, u.announced)
	}
	if u.sealed, err = fn(ctx, tx, u.id); err != nil {
		return err
	}
	if len(u.sealed) > 0 {
		if err := createEntry(ctx, tx, u.id, u.f.env.Now().UTC(), u.sealed); err != nil {
			return err
		}
	}
	if u.tidies(tx) {
		u.tidy(ctx, tx)
	}
	u.wrote = u.wrote[:0]
	if u.f.waiters.any() {
		tx.Changed(u.f.waiters.pick(&u.wrote))
	}
	u.askedCommit = true
	return nil
}

// tidies reports whether the attempt removes what is not needed any more, beside the unit's own work. It does not after
// the database has refused the commit as too large: the unit's work must not be refused because of that.
func (u *unit) tidies(tx *store.Tx) bool {
	if len(u.removes) == 0 && u.prunes == 0 {
		u.tidied = 0
		return false
	}
	if tx.Portion(2) == 2 {
		return true
	}
	u.untidied, u.tidied = max(u.untidied, u.tidied), 0
	return false
}

func (u *unit) tidy(ctx context.Context, tx *store.Tx) {
	u.tidied = len(u.removes)
	if u.prunes > 0 {
		u.prunes--
		u.tidied += u.f.prune(ctx, tx, u.f.env.Now(), u.pruneMost)
	}
	for _, id := range u.removes {
		tx.Discard(outboxKey(id))
	}
}

// CommitThen lets a handler keep what it wrote and refuse all the same: the unit commits, and then err is the answer.
// It is also the answer to later requests with the same Idempotency-Key, which commit nothing more. A gateway is told,
// and invalidates the stored answers that the operation invalidates.
func CommitThen(err error) error { return committedError{err} }

type committedError struct{ error }

func (c committedError) Unwrap() error { return c.error }

// serve is the unit of work of an HTTP request.
func (f *Function) serve(
	ctx context.Context, op Operation, handle func(context.Context, *Tx) (response, error),
) (response, error) {
	a, err := f.decide(ctx, op, handle)
	if err != nil {
		f.logError(ctx, err)
		return a, err
	}
	f.noteKeyUse(ctx)
	return a, nil
}

func (f *Function) decide(
	ctx context.Context, op Operation, handle func(context.Context, *Tx) (response, error),
) (response, error) {
	now, id, ids, rq := f.env.Now().UTC(), f.env.NewID(), []string(nil), requestOf(ctx)
	message := messageOf(ctx, op, rq, id)
	ctx = telemetry.WithCorrelation(ctx, cmp.Or(telemetry.Correlation(ctx), id))
	begin := func(ctx context.Context, db *store.Tx, who auth.Principal) *Tx {
		tx := f.newTx(ctx, db, now, message)
		tx.principal, tx.ids = who, ids
		return tx
	}
	if !op.unsafe() {
		return f.readOnly(ctx, op, begin, handle)
	}
	leave, err := f.enter(ctx, op, rq)
	if err != nil {
		return response{}, err
	}
	defer leave()
	var a response
	var refused error
	var stored *storedResponse
	var left []followed
	// What is committed is answered as done, whether or not its events could be published: a client that was told to try
	// again would do it twice.
	_, err = f.commit(ctx, func(ctx context.Context, db *store.Tx, entry string) ([]ce.Event, error) {
		refused, stored, left = nil, nil, nil
		who, err := f.admitted(ctx, db, op, rq)
		if err != nil {
			return nil, err
		}
		if stored, err = f.loadResponse(ctx, db, op, rq); err != nil {
			return nil, err
		}
		if stored != nil {
			a = stored.Response
			return nil, nil
		}
		tx := begin(ctx, db, who)
		a, err = handle(withPrincipal(ctx, who), tx)
		ids = tx.ids
		var c committedError
		if errors.As(err, &c) {
			refused, err = c, nil
			a = refusal(rq, refused)
		}
		if err == nil {
			err = tx.record(ctx, op, rq, a)
		}
		if err != nil {
			ids = tx.ids
			return nil, err
		}
		sealed, err := tx.seal(ctx)
		ids = tx.ids
		if err != nil {
			return nil, err
		}
		if len(sealed) == 0 {
			entry = ""
		}
		left = f.toFollow(db, &naming{newID: f.env.NewID})
		return sealed, f.saveResponse(ctx, db, op, rq, storedResponse{
			At: now.Unix(), Response: a, Outbox: &entry, Follow: namesOf(left),
		})
	})
	if err != nil {
		return a, err
	}
	leave()
	f.followRequest(ctx, op, rq, stored, left)
	return a, refused
}

// followRequest does what a request that was committed has left to do. What fails now is done later.
func (f *Function) followRequest(
	ctx context.Context, op Operation, rq *request, stored *storedResponse, left []followed,
) {
	var message store.Key
	if rq != nil && rq.key != "" {
		message = responseKey(ctx, op, rq)
	}
	if stored != nil {
		_ = f.relayFor(ctx, stored.Outbox)
		_ = f.followAgain(ctx, message, stored.Follow)
	}
	_ = f.follow(context.WithoutCancel(ctx), message, left)
}

// admitted returns who sends a request that writes, as the function knows them now. It reads what is revoked and the
// response that is stored for the request's key in one call of the store.
func (f *Function) admitted(ctx context.Context, db *store.Tx, op Operation, rq *request) (auth.Principal, error) {
	who := auth.From(ctx)
	proof, judged := f.proof(op, who)
	if !judged {
		return who, nil
	}
	if who.KeyHash != "" && rq != nil {
		// The key was read just before, and of hardly any owner of keys something is revoked.
		db.Presume(rq.apiKey, store.Document{Key: revokedKey(who.Subject)})
	}
	keys := slices.Clone(proof)
	if rq != nil && rq.key != "" {
		keys = append(keys, responseKey(ctx, op, rq))
	}
	if err := db.Load(ctx, keys...); err != nil {
		return who, err
	}
	docs := make([]store.Document, len(proof))
	for i, k := range proof {
		var err error
		if docs[i], err = db.Get(ctx, k); err != nil {
			return who, err
		}
	}
	return f.stillAllowed(op, who, docs)
}

// proof returns the documents that tell whether the credentials of a caller are valid still: of an API key its own, and
// in any case what is revoked of the caller's access. It reports false when the operation asks for none.
func (f *Function) proof(op Operation, who auth.Principal) ([]store.Key, bool) {
	switch {
	case who.KeyHash != "":
		return []store.Key{keyKey(who.KeyHash), revokedKey(who.Subject)}, true
	case who.Anonymous() || !f.judges(op):
		return nil, false
	}
	return []store.Key{revokedKey(who.Subject)}, true
}

// stillAllowed returns the principal with the roles that are left, given the documents that proof names. It answers
// fault.Unauthenticated if the token or the API key is revoked, and fault.Denied if the operation needs a role that is
// lost.
func (f *Function) stillAllowed(op Operation, who auth.Principal, docs []store.Document) (auth.Principal, error) {
	if who.KeyHash == "" {
		return op.stillAllowed(who, docs[0])
	}
	who, err := f.ownerOf(who.KeyHash, docs[0], docs[1])
	if err != nil {
		return who, err
	}
	return who, op.allow(who)
}

// withPrincipal returns a context with the principal that has the roles that are left of the one in ctx.
func withPrincipal(ctx context.Context, who auth.Principal) context.Context {
	if len(who.Roles) == len(auth.From(ctx).Roles) {
		return ctx
	}
	return auth.With(ctx, who)
}

// readAttempts is how often a handler that only reads, and refuses, is run until its reads were true at one moment.
const readAttempts = 12

// readOnly runs a handler that only reads. What is revoked, or what is known of the API key, is read beside the last
// document that the handler reads, and judged afterwards: whatever the response tells was committed before the
// revocation was learnt, or it is not given.
func (f *Function) readOnly(
	ctx context.Context, op Operation, begin func(context.Context, *store.Tx, auth.Principal) *Tx,
	handle func(context.Context, *Tx) (response, error),
) (response, error) {
	who := auth.From(ctx)
	if !f.stateful() {
		return handle(ctx, begin(ctx, nil, who))
	}
	driver, err := f.driver()
	if err != nil {
		return response{}, err
	}
	for n := 1; ; n++ {
		db := store.Begin(driver)
		tx := begin(ctx, db, who)
		tx.readOnly = true
		proof, judged := f.proof(op, who)
		if !judged {
			a, failed := handle(ctx, tx)
			if failed = db.Confirm(ctx, failed); store.Raced(failed) && n < readAttempts {
				continue
			}
			return a, failed
		}
		db.Watch(proof...)
		a, failed := handle(withPrincipal(ctx, who), tx)
		if failed = db.Confirm(ctx, failed); store.Raced(failed) && n < readAttempts {
			continue
		}
		docs, err := db.Watched(ctx)
		if err != nil {
			return response{}, cmp.Or(failed, err)
		}
		left, err := f.stillAllowed(op, who, docs)
		if err != nil {
			return response{}, err
		}
		if len(left.Roles) == len(who.Roles) {
			return a, failed
		}
		who = left // the handler saw roles that are lost: again, without them
	}
}

// Update runs a unit of work of the function's own, outside of any message: its events go through the outbox like
// others. It returns nil when the change is committed; events that could not be published then are published later.
func (f *Function) Update(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	_, err := f.update(ctx, fn)
	return err
}

// update returns in left why the unit's events are not published, or what follows is not done, although it is
// committed.
func (f *Function) update(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) (left, err error) {
	now, message, ids := f.env.Now().UTC(), f.env.NewID(), []string(nil)
	var docs []followed
	left, err = f.commit(ctx, func(ctx context.Context, db *store.Tx, _ string) ([]ce.Event, error) {
		tx := f.newTx(ctx, db, now, message)
		tx.ids = ids
		err := fn(ctx, tx)
		ids = tx.ids
		if err != nil {
			return nil, err
		}
		docs = f.toFollow(db, &naming{newID: f.env.NewID})
		sealed, err := tx.seal(ctx)
		ids = tx.ids
		return sealed, err
	})
	if err != nil {
		return nil, err
	}
	return errors.Join(left, f.follow(ctx, store.Key{}, docs)), nil
}

// Read runs fn on one view of the function's data, without changing it.
func (f *Function) Read(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	db, err := f.driver()
	if err != nil {
		return err
	}
	tx := f.newTx(ctx, store.Begin(db), f.env.Now().UTC(), "")
	tx.readOnly = true
	return fn(ctx, tx)
}
