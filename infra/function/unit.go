package function

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// keptFor is how long an answer is kept for its Idempotency-Key.
const keptFor = 24 * time.Hour

// kept is an answer that was given for an Idempotency-Key.
type kept struct {
	At          int64  `json:"at"` // Unix seconds
	Fingerprint string `json:"fingerprint"`
	Answer      answer `json:"answer"`
}

// unit is one unit of work over all its attempts.
type unit struct {
	f      *Function
	id     string // names its outbox entry
	sealed []event
	gone   []store.Key      // outbox entries that its commit takes away
	wrote  []store.Document // for Await
	asked  bool             // the last attempt came as far as asking the store to commit
}

// newTx is the handler's view of one attempt.
func (f *Function) newTx(ctx context.Context, db *store.Tx, now time.Time, message string) *Tx {
	return &Tx{ctx: ctx, f: f, db: db, now: now, message: message}
}

// commit runs fn in a transaction and then publishes what it sealed. What fn returns as sealed goes into the outbox.
func (f *Function) commit(ctx context.Context, fn func(ctx context.Context, db *store.Tx) ([]event, error)) error {
	db, err := f.open()
	if err != nil {
		return err
	}
	if f.outbox.left.stands() {
		if err := f.publishLeft(ctx); err != nil {
			return fault.Wrap(err, fault.Unavailable, "events of an earlier change could not be published yet; try again")
		}
	}
	u := unit{f: f, id: f.env.NewID(), gone: f.outbox.take(f.settled())}
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
		f.outbox.done(0, u.gone...)
		if u.asked && len(u.sealed) > 0 && !fault.Is(err, fault.Conflict) {
			f.outbox.left.give() // the store may have committed all the same: the next unit looks
		}
		return err
	}
	f.waiters.wake(u.wrote)
	return f.publish(ctx, store.Key{Collection: outboxName, ID: u.id}, u.sealed)
}

func (u *unit) attempt(ctx context.Context, tx *store.Tx, fn func(context.Context, *store.Tx) ([]event, error)) error {
	var err error
	u.asked = false
	if u.sealed, err = fn(ctx, tx); err != nil {
		return err
	}
	if len(u.sealed) > 0 {
		if err := put(ctx, tx, u.id, u.f.env.Now().UTC(), u.sealed); err != nil {
			return err
		}
	}
	u.wrote = u.wrote[:0]
	if u.f.waiters.any() {
		tx.Changed(u.f.waiters.pick(&u.wrote))
	}
	for _, k := range u.gone {
		tx.Discard(k)
	}
	u.asked = true
	return nil
}

// CommitThen lets a handler keep what it wrote and refuse all the same: the unit
// commits, and then err is the answer.
func CommitThen(err error) error { return committed{err} }

type committed struct{ error }

func (c committed) Unwrap() error { return c.error }

// request is the unit of work of an HTTP request.
func (f *Function) request(ctx context.Context, op Operation, decide func(context.Context, *Tx) (answer, error)) (answer, error) {
	a, err := f.decideRequest(ctx, op, decide)
	if err != nil {
		f.logFault(ctx, err)
	}
	return a, err
}

func (f *Function) decideRequest(ctx context.Context, op Operation, decide func(context.Context, *Tx) (answer, error)) (answer, error) {
	now, message, ids := f.env.Now().UTC(), f.env.NewID(), []string(nil)
	begin := func(db *store.Tx) *Tx {
		tx := f.newTx(ctx, db, now, message)
		tx.who, tx.ids = auth.From(ctx), ids
		return tx
	}
	if !op.unsafe() {
		return f.readOnly(ctx, begin, decide)
	}
	rq := requestOf(ctx)
	var a answer
	var refused error
	err := f.commit(ctx, func(ctx context.Context, db *store.Tx) ([]event, error) {
		refused = nil
		known, err := f.recall(ctx, db, op, rq)
		if err != nil {
			return nil, err
		}
		if known != nil {
			a = *known
			return nil, nil
		}
		tx := begin(db)
		a, err = decide(ctx, tx)
		ids = tx.ids
		var c committed
		if errors.As(err, &c) {
			refused, err = c.error, nil
		}
		if err != nil {
			return nil, err
		}
		sealed, err := tx.seal(ctx)
		ids = tx.ids
		if err != nil || refused != nil {
			return sealed, err
		}
		return sealed, f.remember(ctx, db, op, rq, now, a)
	})
	if err == nil && f.outbox.left.stands() {
		err = f.publishLeft(ctx)
		if err != nil {
			err = fault.Wrap(err, fault.Unavailable, "the change is kept, but its events could not be published yet; try again")
		}
	}
	if err == nil {
		err = refused
	}
	return a, err
}

func (f *Function) readOnly(ctx context.Context, begin func(*store.Tx) *Tx, decide func(context.Context, *Tx) (answer, error)) (answer, error) {
	if !f.stateful() {
		return decide(ctx, begin(nil))
	}
	db, err := f.open()
	if err != nil {
		return answer{}, err
	}
	tx := begin(store.Begin(db))
	tx.read = true
	return decide(ctx, tx)
}

// recall finds the answer that was kept for the request's key.
func (f *Function) recall(ctx context.Context, db *store.Tx, op Operation, rq *request) (*answer, error) {
	if rq == nil || rq.key == "" {
		return nil, nil
	}
	d, err := db.Get(ctx, keptKey(ctx, op, rq))
	if err != nil || d.Version == 0 {
		return nil, err
	}
	var k kept
	if err := json.Unmarshal(d.Data, &k); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "decode a kept answer")
	}
	if k.Fingerprint != fingerprint(rq) {
		return nil, fault.New(fault.Invalid, "this Idempotency-Key was used for another request")
	}
	f.env.Telemetry.Duplicate(f.name)
	// Whoever gave the answer may have stopped before it published: have the outbox looked through.
	f.outbox.left.give()
	return &k.Answer, nil
}

func (f *Function) remember(ctx context.Context, db *store.Tx, op Operation, rq *request, now time.Time, a answer) error {
	if rq == nil || rq.key == "" {
		return nil
	}
	data, err := json.Marshal(kept{At: now.Unix(), Fingerprint: fingerprint(rq), Answer: a})
	if err != nil {
		return fault.Wrap(err, fault.Internal, "encode the answer to keep")
	}
	_, err = db.Set(ctx, keptKey(ctx, op, rq), data)
	return err
}

// keptKey keeps the keys of different callers and operations apart.
func keptKey(ctx context.Context, op Operation, rq *request) store.Key {
	sum := sha256.Sum256([]byte(auth.From(ctx).Subject + "\x00" + op.Method + " " + op.Path + "\x00" + rq.key))
	return store.Key{Collection: keysName, ID: hex.EncodeToString(sum[:])}
}

func fingerprint(rq *request) string {
	h := sha256.New()
	h.Write([]byte(rq.http.Method + " " + rq.http.URL.RequestURI() + "\x00"))
	h.Write(rq.body)
	return hex.EncodeToString(h.Sum(nil))
}

// Update runs a unit of work of the function's own, outside of any message: its events go through the outbox like others'.
func (f *Function) Update(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	now, message, ids := f.env.Now().UTC(), f.env.NewID(), []string(nil)
	return f.commit(ctx, func(ctx context.Context, db *store.Tx) ([]event, error) {
		tx := f.newTx(ctx, db, now, message)
		tx.ids = ids
		err := fn(ctx, tx)
		ids = tx.ids
		if err != nil {
			return nil, err
		}
		return tx.seal(ctx)
	})
}

// Read runs fn on one view of the function's data, without changing it.
func (f *Function) Read(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	db, err := f.open()
	if err != nil {
		return err
	}
	tx := f.newTx(ctx, store.Begin(db), f.env.Now().UTC(), "")
	tx.read = true
	return fn(ctx, tx)
}

// Tick runs the clock's handler in a unit of work, and reports whether it asked to be run again at once.
func (f *Function) Tick(ctx context.Context, now time.Time) (more bool, err error) {
	if f.tick == nil {
		return false, fault.New(fault.Invalid, "function %s hears no tick", f.name)
	}
	ctx = telemetry.WithFunction(ctx, f.name)
	err = f.Update(ctx, func(ctx context.Context, tx *Tx) error {
		err := f.tick(ctx, tx, now)
		more = tx.more
		return err
	})
	return more && err == nil, err
}
