package function

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

// An API key tells nothing by itself. So every function learns from event.APIKeyChanged whose keys there are, what each
// is for and which are revoked, and stores one document for each, under the hash of the key, until the key would have
// expired. A request reads the document of its key before anything else, to know its caller. Its unit of work requires
// that the document is still what was read, as it does with revoked tokens: nothing is committed for a key once the
// function has handled that it is revoked, and no response is given that was read afterwards.
//
// A user may have more keys than one commit of a database can change. Those that are left for later commits are named
// in one event.AccessRevoked, so that they are refused at once all the same, see revocation.go: the unit of work of a
// request with a key reads what is revoked of its subject too. A key is on that list until its own event arrives.
//
// A function takes part without a line of its own if it has a database and an operation that a key may call. The one
// that emits APIKeyChanged stores the keys in the unit of work that emits it. Every other function, such as one without
// a database, refuses keys.

// keepsKeys reports whether the function stores what it knows of API keys, and takes them.
func (f *Function) keepsKeys() bool {
	if !f.stateful() {
		return false
	}
	return f.issuesKeys() || slices.ContainsFunc(f.routes, func(r route) bool { return r.Scope != "" })
}

// issuesKeys reports whether the function emits event.APIKeyChanged.
func (f *Function) issuesKeys() bool {
	_, emits := f.emits[event.APIKeyChanged.Name()]
	return emits
}

// learnsKeys reports whether the function consumes event.APIKeyChanged.
func (f *Function) learnsKeys() bool { return f.keepsKeys() && !f.issuesKeys() }

func keyKey(hash string) store.Key { return store.Key{Collection: keysName, ID: hash} }

// learnKey returns the handler of event.APIKeyChanged, which calls next, the function's own handler, if it has one.
func learnKey(next handler) handler {
	return learn(event.APIKeyChanged, (*Tx).storeKey, next)
}

func (tx *Tx) storeKey(ctx context.Context, data event.ChangedAPIKey) error {
	var after apikey.Known
	err := changeLearnt(ctx, tx, keyKey(data.Hash), "an API key", func(known *apikey.Known) bool {
		changed := known.Learn(apikey.Known{
			ID: data.KeyID, Subject: data.Subject, Roles: data.Roles, Scopes: data.Scopes, Version: data.Version,
			Revoked: data.Revoked, Expires: data.ExpiresAt.Unix(),
		}, tx.now)
		after = *known
		return changed
	})
	if err != nil || !data.Revoked && data.Version == 1 { // it was just made
		return err
	}
	return changeLearnt(ctx, tx, revokedKey(data.Subject), "what is revoked", func(l *auth.Revocations) bool {
		return l.ForgetKey(data.KeyID, after.Revoked, after.Roles)
	})
}

// storeKeys stores the changes of API keys that the unit emits.
func (tx *Tx) storeKeys(ctx context.Context) error {
	if tx.db == nil || !tx.f.issuesKeys() {
		return nil
	}
	return learnOwn(ctx, tx, (*Tx).storeKey)
}

// identify returns who uses the API key with a hash. It adds what it has read of the key to the request.
func (f *Function) identify(ctx context.Context, rq *request, hash string) (auth.Principal, error) {
	if !f.keepsKeys() {
		return auth.Principal{}, fault.New(fault.Unauthenticated, "API keys are not accepted here")
	}
	db, err := f.driver()
	if err != nil {
		return auth.Principal{}, err
	}
	docs, err := db.Get(ctx, keyKey(hash), useKey(hash))
	if err != nil {
		return auth.Principal{}, err
	}
	rq.apiKey, rq.keyUsed = docs[0], decodeUse(docs[1]).Day
	return f.ownerOf(hash, docs[0], store.Document{}) // what is revoked is read with the rest of the request
}

// ownerOf returns who uses the API key with a hash, given its document and what is revoked of its subject's access.
func (f *Function) ownerOf(hash string, key, revoked store.Document) (auth.Principal, error) {
	known, err := decodeLearnt[apikey.Known](key, "an API key")
	if err != nil {
		return auth.Principal{}, err
	}
	who, err := known.Principal(hash, f.env.Now())
	if err != nil {
		return who, err
	}
	l, err := decodeLearnt[auth.Revocations](revoked, "what is revoked")
	if err != nil {
		return auth.Principal{}, err
	}
	return l.CheckKey(who, f.env.Now())
}

// allow returns nil if the caller may call the operation, and otherwise fault.Unauthenticated or fault.Denied.
func (op Operation) allow(p auth.Principal) error {
	if err := op.Access.allow(p); err != nil || p.KeyHash == "" && !p.Scoped || op.Access.public {
		return err
	}
	switch scope := op.keyScope(); {
	case scope == "":
		return fault.New(fault.Denied, "no API key and no token with scopes may call this")
	case !slices.Contains(p.Scopes, scope):
		return fault.New(fault.Denied, "this needs an API key or a token with the scope %s", scope)
	}
	return nil
}

// keyScope returns the scope that an API key needs to call the operation; "": no key may, unless it is public.
func (op Operation) keyScope() string {
	if op.Access.public || op.Scope == manifest.NoKey {
		return ""
	}
	return op.Scope
}

// keyUse is the last day on which a use of an API key was noted. It is stored beside the key, and not in its document,
// which the units of work of all requests with the key require to be unchanged.
type keyUse struct {
	Day     int64 `json:"day"`     // Unix seconds
	Expires int64 `json:"expires"` // with the key
}

func useKey(hash string) store.Key { return store.Key{Collection: keysName, ID: hash + ".used"} }

// decodeUse returns a stored use; what cannot be decoded is like none.
func decodeUse(d store.Document) (u keyUse) {
	if d.Version > 0 {
		_ = json.Unmarshal(d.Data, &u)
	}
	return u
}

// noteKeyUse emits that the API key of the request is used, once a day for each key. It is no part of the request's
// unit of work: when it fails, a later request does it.
func (f *Function) noteKeyUse(ctx context.Context) {
	who, rq := auth.From(ctx), requestOf(ctx)
	today := f.env.Now().UTC().Truncate(24 * time.Hour)
	if rq == nil || who.Key == "" || rq.apiKey.Version == 0 || rq.keyUsed >= today.Unix() {
		return
	}
	err := f.Update(ctx, func(ctx context.Context, tx *Tx) error {
		d, err := tx.db.Get(ctx, useKey(who.KeyHash))
		if err != nil || decodeUse(d).Day >= today.Unix() {
			return err
		}
		data, err := json.Marshal(keyUse{today.Unix(), who.ExpiresAt.Unix()})
		if err != nil {
			return err
		}
		tx.Emit(event.APIKeyUsed.New(who.Key, event.UsedAPIKey{KeyID: who.Key, Day: today}).Keyed(who.Key + "/used"))
		_, err = tx.db.Set(ctx, useKey(who.KeyHash), data)
		return err
	})
	if err != nil {
		f.env.Logger.DebugContext(ctx, "the use of an API key is noted later", "function", f.name, "error", err)
	}
}
