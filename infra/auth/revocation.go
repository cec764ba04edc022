package auth

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Revocation names tokens and API keys of one subject that are refused although they have not expired, or that no
// longer give a role.
type Revocation struct {
	Keys         []string  // the API keys with these ids are refused; with Roles: they do not give these
	Sessions     []string  // a token of one of these (sid) is refused, whenever it was issued
	Roles        []string  // a token that was issued before IssuedBefore does not give these
	IssuedBefore time.Time // without Keys, Sessions and Roles, a token that was issued before this (iat) is refused
	Until        time.Time // nothing that is named here is valid after this, so that the revocation can be forgotten
}

// maxRevokedSessions is how many sessions of one subject are listed. Beyond that all tokens are refused that were
// issued before the oldest of them ended, so that signing in and out again and again makes no large document, and the
// token that was issued last is valid.
const maxRevokedSessions = 64

// maxRevokedKeys is how many API keys of one subject are listed. Beyond that all API keys of the subject are refused
// until the revocation of those that are not listed can be forgotten. A key is listed only until its own document says
// the same, see ForgetKey, so that it does not come to that.
const maxRevokedKeys = 500

// Revocations is the stored form of the revoked access of one subject. It is the union of what Add was given: the
// order and the number of times do not matter, except that more sessions than are listed have all tokens of before
// refused, and more API keys all API keys.
type Revocations struct {
	All      *cut              `json:"all,omitempty"`
	Sessions map[string]cut    `json:"sessions,omitempty"`
	Roles    map[string]cut    `json:"roles,omitempty"`
	Keys     map[string]keyCut `json:"keys,omitempty"`     // by the id of the API key
	AllKeys  int64             `json:"all_keys,omitempty"` // until then every API key is refused, Unix seconds
	Expires  int64             `json:"expires"`            // Unix seconds; after this nothing of it matters
}

// cut refuses what was issued before a time, in Unix seconds like iat.
type cut struct {
	Before int64 `json:"before"`
	Until  int64 `json:"until"` // when the cut can be forgotten
}

func (c cut) union(o cut) cut { return cut{max(c.Before, o.Before), max(c.Until, o.Until)} }

// keyCut refuses an API key, or takes roles from it.
type keyCut struct {
	Roles []string `json:"roles,omitempty"` // sorted; none: the key is refused
	Until int64    `json:"until"`           // when the cut can be forgotten, Unix seconds
}

func (c keyCut) union(o keyCut) keyCut {
	roles := []string(nil)
	if len(c.Roles) > 0 && len(o.Roles) > 0 {
		roles = slices.Compact(slices.Sorted(slices.Values(slices.Concat(c.Roles, o.Roles))))
	}
	return keyCut{roles, max(c.Until, o.Until)}
}

func (c keyCut) equal(o keyCut) bool { return c.Until == o.Until && slices.Equal(c.Roles, o.Roles) }

// Add adds a revocation and removes what can be forgotten at the time now. It reports whether the document changed: a
// revocation that can be forgotten already, or that is known, changes nothing.
func (l *Revocations) Add(r Revocation, now time.Time) (changed bool) {
	c := cut{Before: ceil(r.IssuedBefore), Until: ceil(r.Until)}
	if c.Until <= now.Unix() {
		return false
	}
	switch {
	case len(r.Keys) > 0:
		changed = l.cutKeys(r.Keys, keyCut{slices.Compact(slices.Sorted(slices.Values(r.Roles))), c.Until})
	case len(r.Sessions)+len(r.Roles) == 0:
		changed = l.cutAll(c)
	}
	for _, s := range r.Sessions {
		changed = widen(&l.Sessions, s, c) || changed
	}
	if len(r.Keys) == 0 {
		for _, role := range r.Roles {
			changed = widen(&l.Roles, role, c) || changed
		}
	}
	if changed {
		l.forget(now.Unix())
	}
	return changed
}

// ceil returns a time in Unix seconds, rounded up.
func ceil(t time.Time) int64 { return t.Add(time.Second - 1).Unix() }

func (l *Revocations) cutAll(c cut) (changed bool) {
	if l.All == nil {
		l.All = &cut{}
	}
	before := *l.All
	*l.All = before.union(c)
	return *l.All != before
}

func (l *Revocations) cutKeys(ids []string, c keyCut) (changed bool) {
	if l.Keys == nil {
		l.Keys = map[string]keyCut{}
	}
	for _, id := range ids {
		before, known := l.Keys[id]
		after := c
		if known {
			after = before.union(c)
		}
		l.Keys[id] = after
		changed = changed || !known || !after.equal(before)
	}
	return changed
}

// ForgetKey removes what is listed of an API key if the key's own document says it too: that the key is revoked, or
// gives only these roles. It reports whether the document changed.
func (l *Revocations) ForgetKey(id string, revoked bool, roles []string) (changed bool) {
	c, listed := l.Keys[id]
	gives := slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(c.Roles, role) })
	if !listed || !revoked && (len(c.Roles) == 0 || gives) {
		return false
	}
	delete(l.Keys, id)
	l.setExpires()
	return true
}

func widen(m *map[string]cut, name string, c cut) (changed bool) {
	if *m == nil {
		*m = map[string]cut{}
	}
	before := (*m)[name]
	(*m)[name] = before.union(c)
	return (*m)[name] != before
}

// forget removes the cuts that are past their time, makes the oldest of too many sessions one cut, and too many API
// keys a cut of all, and sets Expires.
func (l *Revocations) forget(now int64) {
	if l.All != nil && l.All.Until <= now {
		l.All = nil
	}
	for _, m := range []map[string]cut{l.Sessions, l.Roles} {
		for name, c := range m {
			if c.Until <= now {
				delete(m, name)
			}
		}
	}
	if extra := len(l.Sessions) - maxRevokedSessions; extra > 0 {
		oldest := slices.SortedFunc(maps.Keys(l.Sessions), func(a, b string) int {
			return cmp.Or(cmp.Compare(l.Sessions[a].Before, l.Sessions[b].Before), cmp.Compare(a, b))
		})
		for _, name := range oldest[:extra] {
			l.cutAll(l.Sessions[name])
			delete(l.Sessions, name)
		}
	}
	l.forgetKeys(now)
	l.setExpires()
}

func (l *Revocations) forgetKeys(now int64) {
	maps.DeleteFunc(l.Keys, func(_ string, c keyCut) bool { return c.Until <= now })
	if l.AllKeys <= now {
		l.AllKeys = 0
	}
	if extra := len(l.Keys) - maxRevokedKeys; extra > 0 {
		oldest := slices.SortedFunc(maps.Keys(l.Keys), func(a, b string) int {
			return cmp.Or(cmp.Compare(l.Keys[a].Until, l.Keys[b].Until), cmp.Compare(a, b))
		})
		for _, id := range oldest[:extra] {
			l.AllKeys = max(l.AllKeys, l.Keys[id].Until)
			delete(l.Keys, id)
		}
	}
}

func (l *Revocations) setExpires() {
	l.Expires = l.AllKeys
	if l.All != nil {
		l.Expires = max(l.Expires, l.All.Until)
	}
	for _, m := range []map[string]cut{l.Sessions, l.Roles} {
		for _, c := range m {
			l.Expires = max(l.Expires, c.Until)
		}
	}
	for _, c := range l.Keys {
		l.Expires = max(l.Expires, c.Until)
	}
}

// Check returns the principal without the roles that its token no longer gives, or fault.Unauthenticated when the token
// is revoked. A token that does not say when it was issued counts as older than any revocation.
func (l *Revocations) Check(p Principal) (Principal, error) {
	issued := p.IssuedAt.Unix()
	_, ended := l.Sessions[p.Session]
	switch {
	case ended && p.Session != "":
		return Principal{}, fault.New(fault.Unauthenticated, "the session of the token has ended; sign in again")
	case l.All != nil && issued < l.All.Before:
		return Principal{}, fault.New(fault.Unauthenticated, "the token has been revoked; sign in again")
	}
	lost := func(role string) bool { c, ok := l.Roles[role]; return ok && issued < c.Before }
	if slices.ContainsFunc(p.Roles, lost) {
		p.Roles = slices.DeleteFunc(slices.Clone(p.Roles), lost)
	}
	return p, nil
}

// CheckKey returns the principal of an API key without the roles that the key no longer gives, or fault.Unauthenticated
// when the key is refused at the time now. What is revoked of tokens says nothing about keys.
func (l *Revocations) CheckKey(p Principal, now time.Time) (Principal, error) {
	c, listed := l.Keys[p.Key]
	switch {
	case listed && len(c.Roles) == 0, now.Unix() < l.AllKeys:
		return Principal{}, fault.New(fault.Unauthenticated, "the API key is not known, or is revoked")
	case !listed:
		return p, nil
	}
	lost := func(role string) bool { return slices.Contains(c.Roles, role) }
	if slices.ContainsFunc(p.Roles, lost) {
		p.Roles = slices.DeleteFunc(slices.Clone(p.Roles), lost)
	}
	return p, nil
}
