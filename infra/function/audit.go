package function

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

// Every act of staff is recorded in the unit of work that does it: a document in _audit and event.ActRecorded, which
// the archive keeps. So there is no act without a record, and no record without an act. No operation changes or deletes
// either. The records have no common document, such as a hash of the one before: every act of staff would write it, and
// a program that changes a thousand stocks by its API key would wait for itself. Write access to the database of a
// function is enough to change its records there, and not those of the archive, which has them in its own.
//
// An act of staff is a request that changes something, is not refused and not safe, by a caller with a role beyond that
// of a customer, to an operation that needs such a role, or that is about what belongs to users; of what can only be
// about the caller, that is what is made, such as an API key, and not the end of the own session. A refusal that
// changes something, such as a wrong password that is counted, is recorded with its status. Other refusals have changed
// nothing, and neither has a dry run, or the revocation of what is revoked.

// auditRetention is how long a function keeps a record. The archive keeps it for longer.
const auditRetention = 400 * 24 * time.Hour

// recordedAct is a stored record.
type recordedAct struct {
	event.RecordedAct
	Expires int64 `json:"expires"` // Unix seconds
}

// acts is the collection of the records.
var acts = store.NewCollection[recordedAct](auditName, store.SingleUse, store.On("expires"), store.On("by", "expires"),
	store.Expiry{Field: "expires", Final: true})

// forStaff reports whether the operation may be an act of staff.
func (op Operation) forStaff() bool {
	if !op.unsafe() || op.Access.public {
		return false
	}
	needsRole := len(op.Access.roles) > 0 && !slices.Contains(op.Access.roles, auth.RoleCustomer)
	makes := op.Owner == manifest.OwnerOnly && op.Method == http.MethodPost
	return needsRole || makes || op.Owner == manifest.OwnerHidden || op.Owner == manifest.OwnerDenied
}

// isStaff reports whether the caller has a role beyond that of a customer.
func isStaff(p auth.Principal) bool {
	return slices.ContainsFunc(p.Roles, func(role string) bool { return role != auth.RoleCustomer })
}

// audits reports whether the function has an operation whose requests may be acts of staff.
func (f *Function) audits() bool {
	return slices.ContainsFunc(f.routes, func(r route) bool { return r.op.forStaff() })
}

// The most bytes of texts in a record.
const (
	maxTarget = 1000
	maxReason = 2000
)

// record stores and emits the record of an act of staff that was answered so.
func (tx *Tx) record(ctx context.Context, op Operation, rq *request, a response) error {
	if rq == nil || !op.forStaff() || !isStaff(tx.principal) || !tx.changes() {
		return nil
	}
	who := tx.principal
	act := event.RecordedAct{
		ActID: tx.NewID(), At: tx.now, Function: tx.f.name, Operation: op.Method + " " + op.Path,
		Target: cut(rq.http.URL.EscapedPath(), maxTarget), Made: cut(a.Header["Location"], maxTarget),
		By: who.Subject, Roles: who.Roles, Session: who.Session, KeyID: who.Key, From: networkOf(ClientAddr(ctx)),
		Status: a.Status, Reason: reasonOf(rq),
	}
	data, err := json.Marshal(recordedAct{act, tx.now.Add(auditRetention).Unix()})
	if err != nil {
		return fault.Wrap(err, fault.Internal, "encode the record of an act")
	}
	if err := tx.db.Create(ctx, acts.Key(act.ActID), data); err != nil {
		return err
	}
	tx.Emit(event.ActRecorded.New(who.Subject, act).Keyed("act/" + act.ActID))
	return nil
}

// changes reports whether the unit writes or emits anything.
func (tx *Tx) changes() bool {
	changes := len(tx.drafts)+len(tx.raw) > 0
	tx.db.Changed(func(store.Document) { changes = true })
	return changes
}

// cut returns the beginning of a text that is longer than the limit in bytes.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// networkOf returns the network of an address, which tells where a request came from and not from whom; "": none.
func networkOf(a netip.Addr) string {
	bits := 24
	if a.Is6() && !a.Is4In6() {
		bits = 48
	}
	p, err := a.Unmap().Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// reasonOf returns the reason that a request gives: in its body in JSON, or, as one without a body, in its query.
func reasonOf(rq *request) string {
	var given struct {
		Reason string `json:"reason"`
	}
	if len(rq.body) == 0 {
		given.Reason = rq.http.URL.Query().Get("reason")
	} else if json.Unmarshal(rq.body, &given) != nil {
		return ""
	}
	return cut(given.Reason, maxReason)
}

// serveAudit declares the operation that lists the records. No operation changes them.
func (f *Function) serveAudit() {
	Serve(f, Operation{
		Method: http.MethodGet, Path: "/api/audit/" + f.name, Tag: "audit", Access: Only(auth.RoleAdmin),
		Summary:     "List the acts of staff at " + f.name,
		Description: "The latest first, for 400 days; the archive keeps them as events. They cannot be changed or deleted.",
	}, f.listActs)
}

type actsInput struct {
	Paging
	By string `query:"by" maxLength:"200" doc:"Only those of this user."`
}

func (f *Function) listActs(ctx context.Context, tx *Tx, in *actsInput) (*Page[event.RecordedAct], error) {
	find := store.Find{Order: []store.Order{{Field: "expires", Desc: true}}, Limit: in.Limit, Cursor: in.Cursor}
	if in.By != "" {
		find.Where = []store.Filter{{Field: "by", Op: store.Equal, Value: in.By}}
	}
	page, err := acts.Query(ctx, tx, find)
	if err != nil {
		return nil, err
	}
	return PageOf(page, func(item store.Item[recordedAct]) event.RecordedAct { return item.Value.RecordedAct }), nil
}
