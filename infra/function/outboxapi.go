package function

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// An operator looks at the quarantined entries of an outbox, has one published again, or drops it. A function that
// emits events serves that below /api/outbox/FUNCTION, for the command "ebb outbox".

// quarantinedEntry is an entry of the outbox that is quarantined.
type quarantinedEntry struct {
	ID       string        `json:"id"`
	At       time.Time     `json:"at" doc:"When its events were emitted."`
	Since    time.Time     `json:"since" doc:"When it was quarantined."`
	Reason   string        `json:"reason"`
	Events   []waitingInfo `json:"events" doc:"Those that were not published."`
	Unread   bool          `json:"unread,omitempty" doc:"Its events cannot be decoded."`
	Contents any           `json:"contents,omitempty" doc:"The stored entry; only when a single entry is shown."`
}

// waitingInfo names an event of an entry.
type waitingInfo struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Subject string `json:"subject,omitempty"`
}

func quarantinedOf(d store.Document) (q quarantinedEntry, ok bool) {
	var entry struct {
		At          time.Time       `json:"at"`
		Quarantined *quarantineMark `json:"quarantined"`
	}
	if err := json.Unmarshal(d.Data, &entry); err != nil || entry.Quarantined == nil {
		return q, false
	}
	q = quarantinedEntry{
		ID: d.ID, At: entry.At, Since: entry.Quarantined.At, Reason: entry.Quarantined.Reason, Events: []waitingInfo{},
	}
	waiting, err := decodeEntry(d)
	q.Unread = err != nil
	for _, e := range waiting {
		q.Events = append(q.Events, waitingInfo{e.ID(), e.Type(), e.Subject()})
	}
	return q, true
}

type entryInput struct {
	ID string `path:"id" minLength:"1" maxLength:"200" doc:"The entry's id."`
}

type dropInput struct {
	ID   string `path:"id" minLength:"1" maxLength:"200" doc:"The entry's id."`
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"For the record."`
	}
}

type entryOutput struct{ Body quarantinedEntry }

// serveOutbox declares the operations for operators.
func (f *Function) serveOutbox() {
	op := func(method, below, summary, description string) Operation {
		o := Operation{
			Method: method, Path: "/api/outbox/" + f.name + below, Tag: "outbox", Summary: summary, Description: description,
			Access: Only(auth.Operators()...),
		}
		if method == http.MethodPost {
			o.Status, o.Errors = http.StatusNoContent, []int{http.StatusConflict}
		}
		return o
	}
	of := " of the outbox of " + f.name
	list := op(http.MethodGet, "", "List the quarantined entries"+of,
		"Those with an event that the broker refuses for good, or that cannot be read, the oldest first. A page may be "+
			"empty and have a next one.")
	list.Access = Only(auth.Viewers()...) // a single entry is shown with its contents
	Serve(f, list, f.listQuarantined)
	Serve(f, op(http.MethodGet, "/{id}", "Show a quarantined entry"+of, ""), f.showQuarantined)
	Serve(f, op(http.MethodPost, "/{id}/retry", "Publish a quarantined entry"+of, "409: it is refused again."),
		f.releaseQuarantined, Then(f.publishReleased))
	Serve(f, op(http.MethodPost, "/{id}/drop", "Drop a quarantined entry"+of, "Its events are never published."),
		f.dropQuarantined, Then(func(_ context.Context, _ *dropInput, out *struct{}) (*struct{}, error) {
			f.reportQuarantined(f.outbox.quarantined.Add(-1))
			return out, nil
		}))
}

func (f *Function) listQuarantined(ctx context.Context, tx *Tx, in *Paging) (*Page[quarantinedEntry], error) {
	q := store.Query{Collection: outboxName, Limit: in.Limit}
	if in.Cursor != "" {
		q.After = &store.Position{ID: in.Cursor}
	}
	docs, more, err := tx.db.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &Page[quarantinedEntry]{}
	out.Body.Items = []quarantinedEntry{}
	for _, d := range docs {
		if entry, ok := quarantinedOf(d); ok {
			out.Body.Items = append(out.Body.Items, entry)
		}
	}
	if more {
		out.Body.Next = docs[len(docs)-1].ID
	}
	return out, nil
}

func (f *Function) quarantined(ctx context.Context, tx *Tx, id string) (store.Document, quarantinedEntry, error) {
	d, err := tx.db.Get(ctx, outboxKey(id))
	if err != nil {
		return d, quarantinedEntry{}, err
	}
	if entry, ok := quarantinedOf(d); ok && d.Version > 0 {
		return d, entry, nil
	}
	return d, quarantinedEntry{}, fault.New(fault.NotFound, "there is no quarantined entry %s", id)
}

func (f *Function) showQuarantined(ctx context.Context, tx *Tx, in *entryInput) (*entryOutput, error) {
	d, entry, err := f.quarantined(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	entry.Contents = json.RawMessage(d.Data)
	return &entryOutput{entry}, nil
}

// releaseQuarantined takes the mark off an entry. It is published when that has committed.
func (f *Function) releaseQuarantined(ctx context.Context, tx *Tx, in *entryInput) (*struct{}, error) {
	d, _, err := f.quarantined(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(d.Data, &members); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "decode the outbox entry %s", in.ID)
	}
	delete(members, "quarantined")
	data, err := json.Marshal(members)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode the outbox entry %s", in.ID)
	}
	f.operated(ctx, tx, "an operator has an outbox entry published again", in.ID, "")
	_, err = tx.db.Set(ctx, d.Key, data)
	return nil, err
}

// publishReleased publishes an entry that was released. It returns fault.Conflict when that is quarantined again at
// once.
func (f *Function) publishReleased(ctx context.Context, in *entryInput, _ *struct{}) (*struct{}, error) {
	f.reportQuarantined(f.outbox.quarantined.Add(-1))
	_ = f.relayNamed(ctx, in.ID) // while the broker is away it is an entry as any other, and published later
	return nil, f.Read(ctx, func(ctx context.Context, tx *Tx) error {
		_, entry, err := f.quarantined(ctx, tx, in.ID)
		switch {
		case fault.Is(err, fault.NotFound):
			return nil
		case err != nil:
			return err
		}
		return fault.New(fault.Conflict, "the entry is quarantined again: %s", entry.Reason)
	})
}

func (f *Function) dropQuarantined(ctx context.Context, tx *Tx, in *dropInput) (*struct{}, error) {
	d, entry, err := f.quarantined(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	for _, e := range entry.Events {
		f.env.Logger.WarnContext(ctx, "an event of a quarantined outbox entry is dropped", "function", f.name,
			"entry", in.ID, "event", e.ID, "type", e.Type)
	}
	f.operated(ctx, tx, "an operator drops an outbox entry", in.ID, in.Body.Reason)
	return nil, tx.db.Delete(ctx, d.Key)
}

func (f *Function) operated(ctx context.Context, tx *Tx, what, id, reason string) {
	f.env.Logger.InfoContext(ctx, what, "function", f.name, "entry", id, "by", tx.principal.Subject, "reason", reason)
}
