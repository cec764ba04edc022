package function

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

// A token is valid until it expires, and its account may be gone or have lost a role before. So every function learns
// from event.AccessRevoked which tokens are refused, and stores one document for each subject that has any, until those
// tokens have expired. A request reads the document of its subject in its unit of work: a unit that writes commits only
// if the document is still what was read, and the response to one that reads is given only if the token was not revoked
// when the last document was read. Nothing is kept in memory.
//
// A function takes part without a line of its own if it has a database and an operation that is not public. The one
// that emits AccessRevoked has the accounts, and its own operations decide by them. It stores what it revokes in the
// unit of work that emits it, for the operations that need a role, some of which the kit has added. A function without
// a database checks the token's expiry only.

// checksRevocations reports whether the function consumes event.AccessRevoked and checks requests against it.
func (f *Function) checksRevocations() bool {
	if f.revokes() || !f.stateful() {
		return false
	}
	for i := range f.routes {
		if f.routes[i].Access != manifest.AccessPublic {
			return true
		}
	}
	return false
}

// revokes reports whether the function emits event.AccessRevoked.
func (f *Function) revokes() bool {
	_, emits := f.emits[event.AccessRevoked.Name()]
	return emits
}

// judges reports whether requests for the operation are checked against the revocations that the function has stored.
func (f *Function) judges(op Operation) bool {
	return f.checksRevocations() || f.revokes() && f.stateful() && len(op.Access.roles) > 0
}

// revokedKey returns the key of what is revoked of a subject. A subject can be any text, and an id cannot.
func revokedKey(subject string) store.Key {
	sum := sha256.Sum256([]byte(subject))
	return store.Key{Collection: revokedName, ID: base64.RawURLEncoding.EncodeToString(sum[:])}
}

// learnRevocation returns the handler of event.AccessRevoked, which calls next, the function's own handler, if it has
// one.
func learnRevocation(next handler) handler {
	return func(ctx context.Context, tx *Tx, e ce.Event) error {
		data, err := event.AccessRevoked.Decode(e)
		if err == nil {
			err = tx.addRevocation(ctx, data)
		} else {
			err = fault.Wrap(err, fault.Invalid, "%s", err.Error())
		}
		if next == nil || err != nil && !fault.Is(err, fault.Invalid) {
			return err
		}
		return next(ctx, tx, e) // one that takes any event judges the data by itself
	}
}

func (tx *Tx) addRevocation(ctx context.Context, data event.RevokedAccess) error {
	key := revokedKey(data.Subject)
	d, err := tx.db.Get(ctx, key)
	if err != nil {
		return err
	}
	known, err := decodeRevocations(d)
	if err != nil {
		return err
	}
	r := auth.Revocation{
		Sessions: data.Sessions, Roles: data.Roles, IssuedBefore: data.IssuedBefore, Until: data.Until,
	}
	if !known.Add(r, tx.now) {
		return nil
	}
	changed, err := json.Marshal(known)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "encode what is revoked")
	}
	_, err = tx.db.Set(ctx, key, changed)
	return err
}

// storeRevocations stores the revocations that the unit emits.
func (tx *Tx) storeRevocations() error {
	if !tx.f.revokes() || tx.db == nil {
		return nil
	}
	for _, d := range tx.drafts {
		data, ok := d.Data.(event.RevokedAccess)
		if !ok {
			continue
		}
		if err := tx.addRevocation(tx.ctx, data); err != nil {
			return err
		}
	}
	return nil
}

func decodeRevocations(d store.Document) (l auth.Revocations, err error) {
	if d.Version == 0 {
		return l, nil
	}
	if err := json.Unmarshal(d.Data, &l); err != nil {
		return l, fault.Wrap(err, fault.Internal, "decode what is revoked")
	}
	return l, nil
}

// stillAllowed returns the principal with the roles that are left, given the document of its subject. It answers
// fault.Unauthenticated if the token is revoked, and fault.Denied if the operation needs a role that is lost.
func (op Operation) stillAllowed(p auth.Principal, d store.Document) (auth.Principal, error) {
	if d.Version == 0 {
		return p, nil
	}
	l, err := decodeRevocations(d)
	if err != nil {
		return p, err
	}
	if p, err = l.Check(p); err != nil {
		return p, err
	}
	return p, op.Access.allow(p)
}
