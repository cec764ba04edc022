package users

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

var (
	createAPIKey = function.Operation{
		Method: http.MethodPost, Path: "/api/api-keys", Status: http.StatusCreated, Owner: manifest.OwnerOnly,
		Summary: "Create an API key for oneself", Scope: manifest.NoKey, StepUp: manifest.StepUpAlways,
		Description: "The answer has the key, which is stored as a hash and never shown again. It does what its scopes " +
			"name, with those of the user's roles that it is given. A recent proof is asked for, so that a stolen access " +
			"token does not become a key. A function takes the key some milliseconds later. With 50 keys that are good: 409.",
		Idempotency: function.Off, MaxBody: smallBody, // the body has a password, and the answer a secret
		Errors: []int{http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	listAPIKeys = function.Operation{
		Method: http.MethodGet, Path: "/api/api-keys", Owner: manifest.OwnerDenied,
		Summary: "List API keys", Scope: manifest.NoKey, Person: "user_id",
		Description: "Those of the caller, or for an admin all or those of one user, in the order of their creation. A key " +
			"stays on the list, when it is revoked too, until it would have expired.",
		Errors: []int{http.StatusForbidden},
	}
	revokeAPIKey = function.Operation{
		Method: http.MethodDelete, Path: "/api/api-keys/{id}", Status: http.StatusNoContent, Owner: manifest.OwnerHidden,
		Summary: "Revoke an API key", Scope: manifest.NoKey, StepUp: manifest.StepUpOthers,
		Description: "Each function refuses it once it has learnt of it, and commits nothing for it from then on. Somebody " +
			"else's is 404, unless an admin asks, who needs a recent proof. Revoking it again changes nothing.",
		Errors: []int{http.StatusForbidden},
	}
)

// APIKey is an API key in the API, without the key itself.
type APIKey struct {
	ID        string     `json:"id"`
	UserID    string     `json:"user_id"`
	Name      string     `json:"name"`
	Roles     []string   `json:"roles"`
	Scopes    []string   `json:"scopes"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	LastUsed  *time.Time `json:"last_used,omitempty" doc:"The day on which it was used last, in UTC."`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// apiKey is a stored API key. It is removed when it has expired.
type apiKey struct {
	UserID    string    `json:"user_id"`
	Name      string    `json:"name"`
	Hash      string    `json:"hash"`
	Roles     []string  `json:"roles,omitempty"`
	Scopes    []string  `json:"scopes,omitempty"`
	Version   int64     `json:"version"` // that functions learn; see event.ChangedAPIKey
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	LastUsed  time.Time `json:"last_used,omitzero"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// keyList lists the API keys of a user, by the user's id. The creation of a key writes the list, and what changes all
// keys of a user reads it in its unit of work, so that no key is created in between. It may name some that have
// expired.
type keyList struct {
	Keys []string `json:"keys"`
}

// apiKeys is what the function stores of API keys.
type apiKeys struct {
	all    *store.Collection[apiKey]
	lists  *store.Collection[keyList]
	system func() manifest.System
}

const (
	maxGoodKeys    = 50 // of a user
	maxRevokedKeys = 50 // of a user that are listed, if they were not all revoked just now
	maxForgotten   = 8  // revoked keys that the creation of a key forgets
	defaultDays    = 90
	maxDays        = 366
)

// serveAPIKeys declares the collections and the operations.
func (u *users) serveAPIKeys(f *function.Function) {
	u.apiKeys = apiKeys{
		all:    function.Collection[apiKey](f, "api_keys", store.On("user_id"), store.Expire("expires_at")),
		lists:  function.Collection[keyList](f, "api_key_lists"),
		system: f.Env().System,
	}
	function.Emits(f, event.APIKeyChanged, event.APIKeysNarrow)
	function.Serve(f, createAPIKey, u.createAPIKey)
	function.Serve(f, listAPIKeys, u.listAPIKeys)
	function.Serve(f, revokeAPIKey, u.revokeAPIKey)
	function.On(f, event.APIKeyUsed, u.usedAPIKey)
	function.On(f, event.APIKeysNarrow, u.narrowMore)
}

func (k apiKey) good(now time.Time) bool { return k.RevokedAt.IsZero() && now.Before(k.ExpiresAt) }

func (k apiKey) shown(id string) APIKey {
	s := APIKey{
		ID: id, UserID: k.UserID, Name: k.Name, Roles: listed(k.Roles), Scopes: listed(k.Scopes), CreatedAt: k.CreatedAt,
		ExpiresAt: k.ExpiresAt,
	}
	if !k.LastUsed.IsZero() {
		s.LastUsed = &k.LastUsed
	}
	if !k.RevokedAt.IsZero() {
		s.RevokedAt = &k.RevokedAt
	}
	return s
}

// listed returns a list that is an array in JSON, also when it is empty.
func listed(texts []string) []string { return append([]string{}, texts...) }

type createKeyInput struct {
	StepUp string `header:"Ebb-Step-Up" maxLength:"256" doc:"The step_up_token of POST /api/sessions/current/step-up; in place of the password, which is not enough with a second factor."`
	Body   struct {
		Name     string   `json:"name" minLength:"1" maxLength:"100" doc:"What it is for."`
		Scopes   []string `json:"scopes" minItems:"1" maxItems:"32" uniqueItems:"true" doc:"Such as orders:read, which operations name."`
		Roles    []string `json:"roles,omitempty" maxItems:"8" uniqueItems:"true" enum:"customer,viewer,operator,admin" doc:"Those of the user's roles that the key gives. Without any: customer."`
		Days     int      `json:"days,omitempty" minimum:"1" maximum:"366" doc:"For how long it is good. Without it 90."`
		Password string   `json:"current_password,omitempty" format:"password" writeOnly:"true"`
	}
	work work
}

type createdKeyOutput struct {
	CacheControl string `header:"Cache-Control"`
	Location     string `header:"Location"` // DELETE revokes it
	Body         struct {
		APIKey
		Key string `json:"key" doc:"The key. It is shown this once."`
	}
}

func (u *users) createAPIKey(ctx context.Context, tx *function.Tx, in *createKeyInput) (*createdKeyOutput, error) {
	by, err := u.actor(ctx, tx)
	if err != nil {
		return nil, err
	}
	if len(in.Body.Roles) == 0 {
		in.Body.Roles = []string{auth.RoleCustomer}
	}
	days := in.Body.Days
	if days == 0 {
		days = defaultDays
	}
	if err := invalid(checkName(in.Body.Name), checkRoles(in.Body.Roles, by.account.Roles, tx.Principal().Roles),
		u.checkScopes(in.Body.Scopes)); err != nil {
		return nil, err
	}
	proof := recent{stepUp: in.StepUp, password: in.Body.Password, work: &in.work}
	if err := u.demandRecent(ctx, tx, by, proof); err != nil {
		return nil, err
	}
	id, key := tx.NewID(), apikey.New()
	k := apiKey{
		UserID: by.id, Name: in.Body.Name, Hash: apikey.Hash(key), Roles: in.Body.Roles, Scopes: in.Body.Scopes,
		CreatedAt: tx.Now(), ExpiresAt: tx.Now().AddDate(0, 0, days).Truncate(time.Second),
	}
	if err := u.enlistKey(ctx, tx, by.id, id); err != nil {
		return nil, err
	}
	if err := u.saveKey(ctx, tx, id, k); err != nil {
		return nil, err
	}
	out := &createdKeyOutput{CacheControl: "no-store", Location: "/api/api-keys/" + id}
	out.Body.APIKey, out.Body.Key = k.shown(id), key
	return out, nil
}

// checkRoles reports a role that the user does not have, or that the token does not give.
func checkRoles(wanted, has, given []string) []fault.Detail {
	for _, role := range wanted {
		if !slices.Contains(has, role) || !slices.Contains(given, role) {
			return []fault.Detail{{Location: "body.roles", Message: "must be roles that you have: not " + role}}
		}
	}
	return nil
}

// checkScopes reports a scope that no operation of the system asks for, where the system is known.
func (u *users) checkScopes(scopes []string) []fault.Detail {
	known := map[string]bool{}
	for _, d := range u.apiKeys.system().Functions {
		for _, r := range d.Routes {
			known[r.Scope] = true
		}
	}
	delete(known, "")
	for _, scope := range scopes {
		if scope == "" || len(scope) > 100 || len(known) > 0 && !known[scope] {
			return []fault.Detail{{Location: "body.scopes", Message: "must be scopes that operations name"}}
		}
	}
	return nil
}

// keysOf returns the list of a user's keys without the expired ones, and all stored keys of the user. It reads the keys
// by a query, so that the commit requires that the list is unchanged and not each of the keys: a database may limit how
// many documents a commit requires.
func (u *users) keysOf(ctx context.Context, tx *function.Tx, user string) (keyList, map[string]apiKey, error) {
	list, _, err := u.apiKeys.lists.Find(ctx, tx, user)
	if err != nil {
		return list, nil, err
	}
	known := make(map[string]apiKey, len(list.Keys))
	for cursor, more := "", len(list.Keys) > 0; more; {
		page, err := u.apiKeys.all.Query(ctx, tx, store.Find{
			Where: []store.Filter{{Field: "user_id", Op: store.Equal, Value: user}}, Limit: pageOfKeys, Cursor: cursor,
		})
		if err != nil {
			return list, nil, err
		}
		for _, item := range page.Items {
			known[item.ID] = item.Value
		}
		cursor, more = page.Next, page.Next != ""
	}
	list.Keys = slices.DeleteFunc(slices.Clone(list.Keys), func(id string) bool {
		return !tx.Now().Before(known[id].ExpiresAt)
	})
	return list, known, nil
}

// pageOfKeys is how many keys one query reads; few users have more.
const pageOfKeys = 200

// with returns the list with a new key, and the ids of the keys that the caller removes: of very many revoked keys the
// oldest, a few at a time.
func (l keyList) with(id string, known map[string]apiKey, now time.Time) (next keyList, forgotten []string, err error) {
	revoked := slices.DeleteFunc(slices.Clone(l.Keys), func(id string) bool { return known[id].good(now) })
	if good := len(l.Keys) - len(revoked); good >= maxGoodKeys {
		return l, nil, fault.New(fault.Conflict, "%d API keys are good; revoke one first", good)
	}
	forgotten = revoked[:min(max(0, len(revoked)-maxRevokedKeys), maxForgotten)]
	next.Keys = slices.DeleteFunc(slices.Clone(l.Keys), func(id string) bool { return slices.Contains(forgotten, id) })
	next.Keys = append(next.Keys, id)
	return next, forgotten, nil
}

// enlistKey adds a new key to the list of its user.
func (u *users) enlistKey(ctx context.Context, tx *function.Tx, user, id string) error {
	list, known, err := u.keysOf(ctx, tx, user)
	if err != nil {
		return err
	}
	list, forgotten, err := list.with(id, known, tx.Now())
	if err != nil {
		return err
	}
	for _, old := range forgotten {
		if err := u.apiKeys.all.Delete(ctx, tx, old); err != nil {
			return err
		}
	}
	return u.apiKeys.lists.Put(ctx, tx, user, list)
}

// saveKey writes a changed key and emits the change.
func (u *users) saveKey(ctx context.Context, tx *function.Tx, id string, k apiKey) error {
	k.Version++
	u.tellKey(tx, id, k)
	return u.apiKeys.all.Put(ctx, tx, id, k)
}

func (u *users) tellKey(tx *function.Tx, id string, k apiKey) {
	tx.Emit(event.APIKeyChanged.New(id, event.ChangedAPIKey{
		KeyID: id, Hash: k.Hash, Subject: k.UserID, Roles: k.Roles, Scopes: k.Scopes, Version: k.Version,
		ExpiresAt: k.ExpiresAt, Revoked: !k.RevokedAt.IsZero(),
	}).Keyed(id + "/key"))
}

type listKeysInput struct {
	function.Paging
	UserID string `query:"user_id" maxLength:"128" doc:"Whose keys; for an admin any user's."`
}

func (u *users) listAPIKeys(ctx context.Context, tx *function.Tx, in *listKeysInput) (*function.Page[APIKey], error) {
	by, err := u.actor(ctx, tx)
	if err != nil {
		return nil, err
	}
	of := in.UserID
	if of == "" && !by.admin {
		of = by.id
	}
	if of != by.id && !by.admin {
		return nil, fault.New(fault.Denied, "you may only list your own API keys")
	}
	find := store.Find{Limit: in.Limit, Cursor: in.Cursor}
	if of != "" {
		find.Where = []store.Filter{{Field: "user_id", Op: store.Equal, Value: of}}
	}
	page, err := u.apiKeys.all.Query(ctx, tx, find)
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[apiKey]) APIKey { return item.Value.shown(item.ID) }), nil
}

type oneKey struct {
	ID     string `path:"id" maxLength:"128" doc:"The key's id."`
	StepUp string `header:"Ebb-Step-Up" maxLength:"256" doc:"A step-up token of the caller, for a key of another user."`
}

func (u *users) revokeAPIKey(ctx context.Context, tx *function.Tx, in *oneKey) (*struct{}, error) {
	by, err := u.actor(ctx, tx)
	if err != nil {
		return nil, err
	}
	k, ok, err := u.apiKeys.all.Find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	if !ok || k.UserID != by.id && !by.admin {
		return nil, fault.New(fault.NotFound, "there is no such API key")
	}
	if err := u.demandForAnother(ctx, tx, by, k.UserID, recent{stepUp: in.StepUp}); err != nil {
		return nil, err
	}
	if !k.good(tx.Now()) {
		return nil, nil
	}
	k.RevokedAt = tx.Now()
	return nil, u.saveKey(ctx, tx, in.ID, k)
}

// narrowing is what happens to API keys of a user.
type narrowing struct {
	lost   []string // the roles that they lose; none: they are revoked
	forget bool     // they are removed too
}

// changes reports whether the key is good and loses something.
func (n narrowing) changes(k apiKey, now time.Time) bool {
	gives := slices.ContainsFunc(k.Roles, func(role string) bool { return slices.Contains(n.lost, role) })
	return k.good(now) && (len(n.lost) == 0 || gives)
}

func (n narrowing) applied(k apiKey, now time.Time) apiKey {
	if len(n.lost) == 0 {
		k.RevokedAt = now
		return k
	}
	k.Roles = slices.DeleteFunc(slices.Clone(k.Roles), func(role string) bool { return slices.Contains(n.lost, role) })
	return k
}

// narrowAll applies a change to the keys of a user. All functions refuse them at once, or the roles that they lose; the
// keys themselves change now, as many as fit the unit of work, and the rest by commands of the function to itself.
func (u *users) narrowAll(ctx context.Context, tx *function.Tx, user string, n narrowing) error {
	_, known, err := u.keysOf(ctx, tx, user)
	if err != nil {
		return err
	}
	var good, others []string
	for _, id := range slices.Sorted(maps.Keys(known)) {
		switch {
		case n.changes(known[id], tx.Now()):
			good = append(good, id)
		case n.forget:
			others = append(others, id)
		}
	}
	all := slices.Concat(good, others)
	fits := tx.StoreTx().Portion(len(all)+1) - 1 // none, where the rest of the unit needs the room
	if err := u.narrowSome(ctx, tx, user, all, fits, n); err != nil {
		return err
	}
	left := len(all) - fits
	if later := good[max(0, len(good)-max(0, left-len(others))):]; len(later) > 0 {
		// It is about keys alone, also for an older version of a function, which knows tokens only.
		u.revoke(tx, event.RevokedAccess{
			Subject: user, Keys: later, Roles: n.lost, IssuedBefore: time.Unix(0, 0).UTC(),
			Until: tx.Now().AddDate(0, 0, maxDays+1),
		})
	}
	return nil
}

// narrowSome applies a change to the first keys of a user, as many as fit the unit of work, and emits a command for the
// others.
func (u *users) narrowSome(
	ctx context.Context, tx *function.Tx, user string, ids []string, fits int, n narrowing,
) error {
	if len(ids) > fits {
		tx.Emit(event.APIKeysNarrow.New(user, event.NarrowAPIKeys{
			UserID: user, Keys: ids[fits:], Roles: n.lost, Forget: n.forget,
		}).Keyed(user + "/keys"))
	}
	known, err := u.apiKeys.all.GetMany(ctx, tx, ids[:fits]...)
	if err != nil {
		return err
	}
	for _, id := range ids[:fits] {
		k, ok := known[id]
		if !ok || k.UserID != user {
			continue
		}
		if n.changes(k, tx.Now()) {
			if err := u.saveKey(ctx, tx, id, n.applied(k, tx.Now())); err != nil {
				return err
			}
		}
		if n.forget {
			if err := u.apiKeys.all.Delete(ctx, tx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// narrowMore goes on with a change of keys that did not fit one unit of work.
func (u *users) narrowMore(ctx context.Context, tx *function.Tx, cmd event.NarrowAPIKeys) error {
	if tx.Replayed() || len(cmd.Keys) == 0 {
		return nil
	}
	fits := tx.StoreTx().Portion(len(cmd.Keys))
	return u.narrowSome(ctx, tx, cmd.UserID, cmd.Keys, fits, narrowing{cmd.Roles, cmd.Forget})
}

// revokeKeys revokes all keys of a user.
func (u *users) revokeKeys(ctx context.Context, tx *function.Tx, user string) error {
	return u.narrowAll(ctx, tx, user, narrowing{})
}

// narrowKeys takes roles that a user has lost from the user's keys. A role that comes back does not come back to them.
func (u *users) narrowKeys(ctx context.Context, tx *function.Tx, user string, before, after []string) error {
	lost := lostRoles(before, after)
	if len(lost) == 0 {
		return nil
	}
	return u.narrowAll(ctx, tx, user, narrowing{lost: lost})
}

// eraseKeys revokes all keys of a user who is deleted, and forgets them, whose names may be personal.
func (u *users) eraseKeys(ctx context.Context, tx *function.Tx, user string) error {
	if err := u.narrowAll(ctx, tx, user, narrowing{forget: true}); err != nil {
		return err
	}
	return u.apiKeys.lists.Delete(ctx, tx, user)
}

// usedAPIKey notes the day on which a key was used last.
func (u *users) usedAPIKey(ctx context.Context, tx *function.Tx, e event.UsedAPIKey) error {
	k, ok, err := u.apiKeys.all.Find(ctx, tx, e.KeyID)
	if err != nil || !ok || !e.Day.After(k.LastUsed) {
		return err
	}
	k.LastUsed = e.Day
	return u.apiKeys.all.Put(ctx, tx, e.KeyID, k)
}
