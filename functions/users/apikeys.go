package users

import (
	"context"
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

// keyList lists the API keys of a user, by the user's id, so that a deletion finds them all: both that and the creation
// of a key read and write the list. It may name some that have expired.
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
	maxRevokedKeys = 50 // of a user that are listed
	defaultDays    = 90
)

// serveAPIKeys declares the collections and the operations.
func (u *users) serveAPIKeys(f *function.Function) {
	u.apiKeys = apiKeys{
		all:    function.Collection[apiKey](f, "api_keys", store.On("user_id"), store.Expire("expires_at")),
		lists:  function.Collection[keyList](f, "api_key_lists"),
		system: f.Env().System,
	}
	function.Emits(f, event.APIKeyChanged)
	function.Serve(f, createAPIKey, u.createAPIKey)
	function.Serve(f, listAPIKeys, u.listAPIKeys)
	function.Serve(f, revokeAPIKey, u.revokeAPIKey)
	function.On(f, event.APIKeyUsed, u.usedAPIKey)
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

// keysOf returns the list of a user's keys without those that have expired, and the keys.
func (u *users) keysOf(ctx context.Context, tx *function.Tx, user string) (keyList, map[string]apiKey, error) {
	list, _, err := u.apiKeys.lists.Find(ctx, tx, user)
	if err != nil {
		return list, nil, err
	}
	known, err := u.apiKeys.all.GetMany(ctx, tx, list.Keys...)
	list.Keys = slices.DeleteFunc(slices.Clone(list.Keys), func(id string) bool {
		return !tx.Now().Before(known[id].ExpiresAt)
	})
	return list, known, err
}

// with returns the list with a new key, and which keys it forgets: of very many those that were revoked first.
func (l keyList) with(id string, known map[string]apiKey, now time.Time) (next keyList, forgotten []string, err error) {
	revoked := slices.DeleteFunc(slices.Clone(l.Keys), func(id string) bool { return known[id].good(now) })
	if good := len(l.Keys) - len(revoked); good >= maxGoodKeys {
		return l, nil, fault.New(fault.Conflict, "%d API keys are good; revoke one first", good)
	}
	forgotten = revoked[:max(0, len(revoked)-maxRevokedKeys)]
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

// changeKeys changes the keys of a user that are good, and emits each change.
func (u *users) changeKeys(
	ctx context.Context, tx *function.Tx, user string, change func(k *apiKey) (changed bool),
) error {
	list, known, err := u.keysOf(ctx, tx, user)
	if err != nil {
		return err
	}
	for _, id := range list.Keys {
		k := known[id]
		if !k.good(tx.Now()) || !change(&k) {
			continue
		}
		if err := u.saveKey(ctx, tx, id, k); err != nil {
			return err
		}
	}
	return nil
}

// revokeKeys revokes all keys of a user.
func (u *users) revokeKeys(ctx context.Context, tx *function.Tx, user string) error {
	return u.changeKeys(ctx, tx, user, func(k *apiKey) bool { k.RevokedAt = tx.Now(); return true })
}

// narrowKeys takes roles that a user has lost from the user's keys.
func (u *users) narrowKeys(ctx context.Context, tx *function.Tx, user string, has []string) error {
	return u.changeKeys(ctx, tx, user, func(k *apiKey) bool {
		before := len(k.Roles)
		k.Roles = slices.DeleteFunc(slices.Clone(k.Roles), func(role string) bool { return !slices.Contains(has, role) })
		return len(k.Roles) < before
	})
}

// eraseKeys revokes all keys of a user who is deleted, and forgets them, whose names may be personal.
func (u *users) eraseKeys(ctx context.Context, tx *function.Tx, user string) error {
	list, ok, err := u.apiKeys.lists.Find(ctx, tx, user)
	if err != nil || !ok {
		return err
	}
	if err := u.revokeKeys(ctx, tx, user); err != nil {
		return err
	}
	for _, id := range list.Keys {
		if err := u.apiKeys.all.Delete(ctx, tx, id); err != nil {
			return err
		}
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
