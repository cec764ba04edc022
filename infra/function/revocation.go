package function

import (
	"context"
	"crypto/sha256"
	"encoding/base64"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
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
	return learn(event.AccessRevoked, (*Tx).addRevocation, next)
}

func (tx *Tx) addRevocation(ctx context.Context, data event.RevokedAccess) error {
	return changeLearnt(ctx, tx, revokedKey(data.Subject), "what is revoked", func(known *auth.Revocations) bool {
		return known.Add(auth.Revocation{
			Keys: data.Keys, Sessions: data.Sessions, Roles: data.Roles, IssuedBefore: data.IssuedBefore, Until: data.Until,
		}, tx.now)
	})
}

// storeRevocations stores the revocations that the unit emits.
func (tx *Tx) storeRevocations(ctx context.Context) error {
	if !tx.f.revokes() || tx.db == nil {
		return nil
	}
	return learnOwn(ctx, tx, (*Tx).addRevocation)
}

// stillAllowed returns the principal with the roles that are left, given the document of its subject. It answers
// fault.Unauthenticated if the token is revoked, and fault.Denied if the operation needs a role that is lost.
func (op Operation) stillAllowed(p auth.Principal, d store.Document) (auth.Principal, error) {
	if d.Version == 0 {
		return p, nil
	}
	l, err := decodeLearnt[auth.Revocations](d, "what is revoked")
	if err != nil {
		return p, err
	}
	if p, err = l.Check(p); err != nil {
		return p, err
	}
	return p, op.Access.allow(p)
}
