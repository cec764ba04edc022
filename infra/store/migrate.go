package store

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

// Fields are the members of a stored document, each as JSON.
type Fields map[string]json.RawMessage

// Step changes a document of one revision into one of the next. It must be pure: it may run again, and by several
// instances at once. A member that the next revision does not have is deleted from the map.
type Step func(doc Fields) error

func (s Step) declare(spec *Spec) { spec.Steps = append(spec.Steps, s) }

// Migrate declares how documents that an older version of the function wrote become what today's type expects. A
// collection has as many revisions as steps: a document without a revision goes through all of them, in the order of
// their declaration. A step is never changed or removed once it was deployed; a later one corrects it.
//
//	people := function.Collection[person](f, "people", store.Migrate(splitName), store.Migrate(lowerEmail))
//
// A document is migrated when it is read, and stored so when it is next written. Besides, the units of work of the
// function migrate the others in small portions, and store how far they are: see package function. Until that has ended
// a query sees the members of documents as they are stored, so add the index of a new member one deployment before the
// query.
//
// A version of the function that does not know a document's revision, such as one without migrations, refuses it with
// fault.Unavailable, so that events wait, rather than to write an older form over it. Replace writes all the same.
// While both versions run, what the newer one writes is closed to the older one: for a rollout without such a pause,
// first deploy a version that reads both forms and declares Accept.
func Migrate(step Step) Option { return step }

// Accept declares that this version also reads documents of later revisions, up to this one, as they are stored: for
// the deployment before the one with Migrate. What it writes has its own revision, so the newer version migrates it
// again: a step must leave what it has migrated as it is.
func Accept(revision int) Option { return accept(revision) }

type accept int

func (a accept) declare(spec *Spec) { spec.accepts = int(a) }

// revisionMember is the member of a stored document that tells how many steps it has been through.
const revisionMember = "_revision"

// revision returns how many steps a document has been through.
func (s Spec) revision(data json.RawMessage) int {
	n, _ := field.Value(data, revisionMember).(float64)
	return int(n)
}

// Migrated returns the data of a document as the collection's type expects it, and whether that differs from what is
// stored. A document that a newer version of the function wrote is fault.Unavailable.
func (s Spec) Migrated(d Document) (data json.RawMessage, changed bool, err error) {
	if d.Data == nil || len(s.Steps) == 0 && !bytes.Contains(d.Data, []byte(`"`+revisionMember+`"`)) {
		return d.Data, false, nil
	}
	from := s.revision(d.Data)
	switch {
	case from == len(s.Steps), from > len(s.Steps) && from <= s.accepts:
		return d.Data, false, nil
	case from > len(s.Steps) || from < 0:
		return nil, false, fault.New(fault.Unavailable, "%s of %s was written by a newer version of the function: "+
			"its revision is %d, and this version knows %d", d.ID, s.Name, from, len(s.Steps))
	}
	doc := Fields{}
	if err := json.Unmarshal(d.Data, &doc); err != nil {
		return nil, false, fault.Wrap(err, fault.Internal, "decode %s of %s", d.ID, s.Name)
	}
	for n, step := range s.Steps[from:] {
		if err := step(doc); err != nil {
			return nil, false, fault.Wrap(err, fault.Internal, "migrate %s of %s to revision %d", d.ID, s.Name, from+n+1)
		}
	}
	delete(doc, revisionMember)
	if data, err = json.Marshal(doc); err != nil {
		return nil, false, fault.Wrap(err, fault.Internal, "encode %s of %s", d.ID, s.Name)
	}
	return s.Stamped(data), true, nil
}

// Stamped returns a document of today's form with the collection's revision.
func (s Spec) Stamped(data json.RawMessage) json.RawMessage {
	if len(s.Steps) == 0 || len(data) < 2 {
		return data
	}
	revision, _ := json.Marshal(len(s.Steps)) // a number always marshals
	out := bytes.NewBuffer(make([]byte, 0, len(data)+20))
	out.WriteString(`{"` + revisionMember + `":`)
	out.Write(revision)
	if data[1] != '}' {
		out.WriteByte(',')
	}
	out.Write(data[1:])
	return out.Bytes()
}

// Current returns the data of a document as the collection's type expects it, without the member that tells its
// revision. A document that a newer version of the function wrote is fault.Unavailable.
func (s Spec) Current(d Document) (json.RawMessage, error) {
	data, _, err := s.Migrated(d)
	if err != nil || !bytes.Contains(data, []byte(`"`+revisionMember+`"`)) {
		return data, err
	}
	doc := Fields{}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "decode %s of %s", d.ID, s.Name)
	}
	delete(doc, revisionMember)
	return json.Marshal(doc)
}

// Portion is what one Backfill has done.
type Portion struct {
	Last     string // the id of the last document that was looked at
	Seen     int    // documents that were looked at
	Migrated int    // of those
	More     bool   // others follow
	Failed   error  // why the first document could not be migrated that was left as it was; nil: all could
}

// Backfill migrates up to limit documents of the collection that follow a document id in the order of ids; "": from the
// first. A document that cannot be migrated is left as it is. Each document that it has looked at is also given to
// Spec.Rewrite, if that is set.
func (tx *Tx) Backfill(ctx context.Context, spec Spec, after string, limit int) (Portion, error) {
	q := Query{Collection: spec.Name, Limit: limit}
	if after != "" {
		q.After = &Position{ID: after}
	}
	docs, more, err := tx.Query(ctx, q)
	if err != nil {
		return Portion{}, err
	}
	p := Portion{Last: after, Seen: len(docs), More: more}
	for _, d := range docs {
		p.Last = d.ID
		data, changed, err := spec.Migrated(d)
		if err == nil && changed {
			if _, err := tx.Set(ctx, d.Key, data); err != nil {
				return Portion{}, err
			}
		}
		if err == nil && spec.Rewrite != nil {
			var rewritten bool
			rewritten, err = spec.Rewrite(ctx, tx, d.ID)
			if fault.Is(err, fault.Conflict) {
				return Portion{}, err
			}
			changed = changed || rewritten
		}
		if err != nil && p.Failed == nil {
			p.Failed = err
		}
		if err == nil && changed {
			p.Migrated++
		}
	}
	return p, nil
}
