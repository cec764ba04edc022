package function

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// A collection that declares store.Migrate is migrated document by document when it is read, and in the background by
// the units of work of the function: after its own commit, a unit migrates one small portion in a transaction of its
// own, at most once in backfillInterval for each instance. How far it is stands in a document that every portion
// writes, so that several instances share the work, and an instance that stops loses nothing.
//
// While two versions run beside each other, the older one may write its form behind the portion. So a pass that has
// found something to migrate is followed by another an hour later, until one finds nothing.
//
// In the same way the personal fields of documents are encrypted that were stored before a field was personal. An older
// version still writes them in the clear, and a pass before that does not see it: so there are at least two, an hour
// apart.
const (
	backfillInterval = time.Second
	backfillLimit    = 50 // documents of a portion
	backfillAgain    = time.Hour
)

const migrationsName = "_migrations"

// migration is how far the documents of a collection are. Its document has the name of the collection.
type migration struct {
	Revision int       `json:"revision"` // to which they are being migrated
	After    string    `json:"after"`    // the last document that the pass has looked at
	Seen     int       `json:"seen"`     // documents of the pass
	Migrated int       `json:"migrated"` // of the pass
	Failed   string    `json:"failed,omitempty"`
	Total    int       `json:"total"` // documents that all passes have migrated
	Next     time.Time `json:"next"`  // no portion is due before
	Finished bool      `json:"finished"`

	Sealed string `json:"sealed,omitempty"` // the personal fields that are being encrypted; see sealing
	Passes int    `json:"passes,omitempty"` // that have ended
}

// sealing is how the personal fields of a collection are encrypted.
type sealing struct {
	fields  string
	rewrite func(ctx context.Context, tx *store.Tx, id string) (changed bool, err error)
}

var migrations = store.NewCollection[migration](migrationsName)

// backfill says when an instance has to migrate a portion.
type backfill struct {
	next     atomic.Int64 // Unix nanoseconds
	finished atomic.Bool  // every collection is; a new version of the function begins anew
}

// migrating returns the collections that have migrations or fields to encrypt.
func (f *Function) migrating() (all []store.Spec) {
	for _, spec := range f.schema {
		if spec.Rewrite = f.sealing[spec.Name].rewrite; len(spec.Steps) > 0 || spec.Rewrite != nil {
			all = append(all, spec)
		}
	}
	return all
}

// migrate migrates a portion, if one is due. A failure is logged, and tried again later.
func (f *Function) migrate(ctx context.Context, db store.Driver) {
	if f.backfill.finished.Load() {
		return
	}
	now, next := f.env.Now(), f.backfill.next.Load()
	if now.UnixNano() < next || !f.backfill.next.CompareAndSwap(next, now.Add(backfillInterval).UnixNano()) {
		return
	}
	specs := f.migrating()
	finished := true
	for _, spec := range specs {
		done, err := f.migrateSome(ctx, db, spec, now.UTC(), nil)
		if fault.Is(err, fault.TooLarge) { // the first document alone
			done, err = f.migrateSome(ctx, db, spec, now.UTC(), err)
		}
		if err != nil && !fault.Is(err, fault.Conflict) { // with another instance, which has done the portion
			f.env.Logger.WarnContext(ctx, "documents could not be migrated and are tried again later",
				"function", f.name, "collection", spec.Name, "error", err)
		}
		finished = finished && done && err == nil
	}
	f.backfill.finished.Store(finished)
}

// migrateSome migrates a portion. With skip it passes over the next document, which cannot be migrated for that reason.
func (f *Function) migrateSome(
	ctx context.Context, db store.Driver, spec store.Spec, now time.Time, skip error,
) (finished bool, err error) {
	var m migration
	ended := false
	err = store.Update(ctx, db, func(ctx context.Context, tx *store.Tx) error {
		var err error
		if m, _, err = migrations.Find(ctx, tx, spec.Name); err != nil {
			return err
		}
		if m.Revision > len(spec.Steps) { // a newer version runs beside this one
			m.Finished = true
			return nil
		}
		if fields := f.sealing[spec.Name].fields; m.Revision < len(spec.Steps) || m.Sealed != fields {
			m = migration{Revision: len(spec.Steps), Total: m.Total, Sealed: fields}
		}
		if ended = false; m.Finished || now.Before(m.Next) {
			return nil
		}
		var p store.Portion
		if skip == nil {
			p, err = tx.Backfill(ctx, spec, m.After, tx.Portion(backfillLimit))
		} else {
			p, err = passOver(ctx, tx, spec, m.After, skip)
		}
		if err != nil {
			return err
		}
		m.After, m.Seen, m.Migrated, m.Total = p.Last, m.Seen+p.Seen, m.Migrated+p.Migrated, m.Total+p.Migrated
		if p.Failed != nil {
			m.Failed = p.Failed.Error()
		}
		if ended = !p.More; ended {
			m.Passes++
			m.Finished = m.Migrated == 0 && m.Failed == "" && (spec.Rewrite == nil || m.Passes > 1)
			m.Next = now.Add(backfillAgain)
			m.After = ""
		}
		stored := m
		if ended && !m.Finished {
			stored.Seen, stored.Migrated, stored.Failed = 0, 0, ""
		}
		return migrations.Put(ctx, tx, spec.Name, stored)
	})
	if err == nil && ended {
		f.reportMigrated(ctx, spec, m)
	}
	return m.Finished, err
}

// passOver skips the document after an id: it stays unmigrated.
func passOver(ctx context.Context, tx *store.Tx, spec store.Spec, after string, why error) (store.Portion, error) {
	q := store.Query{Collection: spec.Name, Limit: 1}
	if after != "" {
		q.After = &store.Position{ID: after}
	}
	docs, more, err := tx.Query(ctx, q)
	p := store.Portion{Last: after, Seen: len(docs), More: more, Failed: why}
	for _, d := range docs {
		p.Last = d.ID
	}
	return p, err
}

func (f *Function) reportMigrated(ctx context.Context, spec store.Spec, m migration) {
	log := f.env.Logger.InfoContext
	if m.Failed != "" {
		log = f.env.Logger.ErrorContext
	}
	log(ctx, "a pass over a collection has migrated its documents", "function", f.name, "collection", spec.Name,
		"revision", m.Revision, "seen", m.Seen, "migrated", m.Migrated, "finished", m.Finished, "failed", m.Failed)
}
