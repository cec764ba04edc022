package function

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/store"
)

// Staff look at the documents of a collection that is declared with store.Admin, and administrators change and remove
// them, below /api/documents/FUNCTION/COLLECTION. A change is made to the version that was shown, or refused. It emits
// nothing: it is for repairs, as what an operation of the function could do is better done by that. A document has the
// form that the function reads, without its revision: one that an older version has stored is shown migrated.

// storedDocument is a document as it is stored.
type storedDocument struct {
	ID      string          `json:"id"`
	Version int64           `json:"version"`
	Data    json.RawMessage `json:"data" doc:"As the function reads it. Members with personal data are shown to administrators."`
}

// maxListed is how many bytes the documents of one page have at most, unless it has a single one. A query reads
// listedAtOnce of them.
const (
	maxListed    = 4 << 20
	listedAtOnce = 20
)

// mask is what stands in place of a member that the caller may not see.
const mask = `"…"`

type documentsInput struct {
	Paging
	Field string `query:"field" maxLength:"100" doc:"Only documents in which this member, as it is stored, has the value. It has to have an index, and be one that the caller may see."`
	Value string `query:"value" maxLength:"500" doc:"In JSON, or a text."`
}

type documentInput struct {
	ID string `path:"id" minLength:"1" maxLength:"400" doc:"The document's id."`
}

type documentOutput struct {
	ETag string `header:"ETag" doc:"The version of the document; If-Match takes it."`
	Body storedDocument
}

type changeDocumentInput struct {
	ID      string `path:"id" minLength:"1" maxLength:"400" doc:"The document's id."`
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is changed."`
	Body    struct {
		Data   json.RawMessage `json:"data" doc:"The whole document."`
		Reason string          `json:"reason" minLength:"1" maxLength:"500" doc:"For the record."`
	}
}

type removeDocumentInput struct {
	ID      string `path:"id" minLength:"1" maxLength:"400" doc:"The document's id."`
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is removed."`
	Reason  string `query:"reason" maxLength:"500" doc:"For the record."`
}

// documents is the operations on one collection.
type documents struct {
	f    *Function
	spec store.Spec
}

// serveDocuments declares the operations for staff on the documents of a collection.
func (f *Function) serveDocuments(spec store.Spec) {
	d := documents{f, spec}
	of := " in " + spec.Name + " of " + f.name
	op := func(method, below, summary, description string) Operation {
		o := Operation{
			Method: method, Path: "/api/documents/" + f.name + "/" + spec.Name + below, Tag: "documents", Summary: summary + of,
			Description: description, Access: Only(auth.Viewers()...),
		}
		if method != http.MethodGet {
			o.Access, o.Idempotency = Only(auth.RoleAdmin), Off // If-Match says it
			o.Errors = []int{http.StatusPreconditionFailed, http.StatusPreconditionRequired}
		}
		return o
	}
	Serve(f, op(http.MethodGet, "", "List documents", "In the order of their ids."), d.list)
	Serve(f, op(http.MethodGet, "/{id}", "Show a document", ""), d.show)
	if spec.Admin.ReadOnly {
		return
	}
	Serve(f, op(http.MethodPut, "/{id}", "Change a document",
		"No event tells others of it. If-Match holds the ETag of the version that was shown."), d.change)
	remove := op(http.MethodDelete, "/{id}", "Remove a document", "If-Match holds the ETag of the version that was shown.")
	remove.Status = http.StatusNoContent
	Serve(f, remove, d.remove)
}

func (d documents) list(ctx context.Context, tx *Tx, in *documentsInput) (*Page[storedDocument], error) {
	q := store.Query{Collection: d.spec.Name}
	if in.Cursor != "" {
		q.After = &store.Position{ID: in.Cursor}
	}
	if in.Field != "" {
		indexed := func(i store.Index) bool { return i.Fields[0] == in.Field }
		if !slices.ContainsFunc(d.spec.Indexes, indexed) {
			return nil, fault.New(fault.Invalid, "no index is on %q", in.Field)
		}
		if member, _, _ := strings.Cut(in.Field, "."); d.masks(tx, member) { // what is found would tell its value
			return nil, fault.New(fault.Invalid, "only administrators see %q", in.Field)
		}
		var value any
		if json.Unmarshal([]byte(in.Value), &value) != nil {
			value = in.Value
		}
		switch value.(type) {
		case string, float64, bool:
		default:
			return nil, fault.New(fault.Invalid, "the value must be a text, a number, true or false")
		}
		q.Where = []store.Filter{{Field: in.Field, Op: store.Equal, Value: value}}
	}
	out := &Page[storedDocument]{}
	out.Body.Items = []storedDocument{}
	for bytes := 0; ; {
		q.Limit = min(listedAtOnce, in.Limit-len(out.Body.Items))
		docs, more, err := tx.db.Query(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, doc := range docs {
			if bytes += len(doc.Data); bytes > maxListed && len(out.Body.Items) > 0 {
				out.Body.Next = q.After.ID
				return out, nil
			}
			out.Body.Items = append(out.Body.Items, d.shown(tx, doc))
			q.After = &store.Position{ID: doc.ID}
		}
		switch {
		case !more:
			return out, nil
		case len(out.Body.Items) == in.Limit:
			out.Body.Next = q.After.ID
			return out, nil
		}
	}
}

// masks reports whether the caller may not see a member. Names of a member may differ in case.
func (d documents) masks(tx *Tx, member string) bool {
	return !tx.principal.Is(auth.RoleAdmin) &&
		slices.ContainsFunc(d.spec.Admin.Masked, func(m string) bool { return strings.EqualFold(m, member) })
}

// shown returns a document as the caller may see it. One that a newer version of the function has written is shown as
// it is stored.
func (d documents) shown(tx *Tx, doc store.Document) storedDocument {
	s := storedDocument{ID: doc.ID, Version: doc.Version, Data: doc.Data}
	if current, err := d.spec.Current(doc); err == nil {
		s.Data = current
	}
	if tx.principal.Is(auth.RoleAdmin) || len(d.spec.Admin.Masked) == 0 {
		return s
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(s.Data, &members) != nil {
		s.Data = json.RawMessage(mask)
		return s
	}
	for name := range members {
		if d.masks(tx, name) {
			members[name] = json.RawMessage(mask)
		}
	}
	s.Data, _ = json.Marshal(members) // it was JSON before
	return s
}

// find returns a document. With ifMatch, its version must be one of those.
func (d documents) find(ctx context.Context, tx *Tx, id string, ifMatch *string) (store.Document, error) {
	if ifMatch != nil && *ifMatch == "" {
		return store.Document{}, fault.New(fault.Invalid, "a change needs an If-Match header with the document's ETag").
			WithStatus(http.StatusPreconditionRequired)
	}
	doc, err := tx.db.Get(ctx, store.Key{Collection: d.spec.Name, ID: id})
	switch {
	case err != nil:
		return doc, err
	case doc.Version == 0:
		return doc, fault.New(fault.NotFound, "there is no such document in %s", d.spec.Name)
	case ifMatch != nil && !httprequest.Match(*ifMatch, versionTag(doc.Version)):
		return doc, fault.New(fault.Invalid, "the document has changed since; its ETag is %s now", versionTag(doc.Version)).
			WithStatus(http.StatusPreconditionFailed)
	}
	return doc, nil
}

func versionTag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

func (d documents) show(ctx context.Context, tx *Tx, in *documentInput) (*documentOutput, error) {
	doc, err := d.find(ctx, tx, in.ID, nil)
	if err != nil {
		return nil, err
	}
	return &documentOutput{versionTag(doc.Version), d.shown(tx, doc)}, nil
}

func (d documents) change(ctx context.Context, tx *Tx, in *changeDocumentInput) (*documentOutput, error) {
	doc, err := d.find(ctx, tx, in.ID, &in.IfMatch)
	if err != nil {
		return nil, err
	}
	before, err := d.spec.Current(doc)
	if err == nil {
		err = d.check(before, in.Body.Data)
	}
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	_ = json.Compact(&compact, in.Body.Data) // check has read it
	doc.Data = d.spec.Stamped(compact.Bytes())
	if doc.Version, err = tx.db.Set(ctx, doc.Key, doc.Data); err != nil {
		return nil, err
	}
	d.logChange(ctx, tx, "an administrator has changed a document", in.ID, in.Body.Reason)
	return &documentOutput{versionTag(doc.Version), d.shown(tx, doc)}, nil
}

// check returns an error for a document that the function cannot read. Members that stay are not checked: another
// version of the function may have stored them.
func (d documents) check(before, after json.RawMessage) error {
	var old, members map[string]json.RawMessage
	if err := json.Unmarshal(after, &members); err != nil || members == nil {
		return fault.New(fault.Invalid, "the document must be an object")
	}
	_ = json.Unmarshal(before, &old)
	for name, value := range members {
		if same := old[name]; same != nil && bytes.Equal(same, value) {
			delete(members, name)
		}
	}
	changed, err := json.Marshal(members)
	if err != nil || d.spec.Type == nil {
		return err
	}
	for name := range members {
		if known := d.spec.MemberLike(name); known != "" && known != name {
			return fault.New(fault.Invalid, "unknown member %q in the document; did you mean %q?", name, known)
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(changed))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(reflect.New(d.spec.Type).Interface()); err != nil {
		return fault.Wrap(err, fault.Invalid, "the document does not have the form of %s: %v", d.spec.Name, err)
	}
	return nil
}

func (d documents) remove(ctx context.Context, tx *Tx, in *removeDocumentInput) (*struct{}, error) {
	doc, err := d.find(ctx, tx, in.ID, &in.IfMatch)
	if err != nil {
		return nil, err
	}
	d.logChange(ctx, tx, "an administrator has removed a document", in.ID, in.Reason)
	return nil, tx.db.Delete(ctx, doc.Key)
}

// logChange logs who has changed what. The audit trail has the act too; see Tx.record.
func (d documents) logChange(ctx context.Context, tx *Tx, what, id, reason string) {
	d.f.env.Logger.InfoContext(ctx, what, "function", d.f.name, "collection", d.spec.Name, "id", id,
		"by", tx.principal.Subject, "reason", reason)
}
