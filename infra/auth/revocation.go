package auth

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Revocation names tokens of one subject that are refused although they have not expired, or that no longer give a
// role.
type Revocation struct {
	Sessions     []string  // a token of one of these (sid) is refused, whenever it was issued
	Roles        []string  // a token that was issued before IssuedBefore does not give these
	IssuedBefore time.Time // without Sessions and Roles, a token that was issued before this (iat) is refused
	Until        time.Time // no token that is named here is valid after this, so that the revocation can be forgotten
}

// maxRevokedSessions is how many sessions of one subject are listed. Beyond that all tokens are refused that were
// issued before the oldest of them ended, so that signing in and out again and again makes no large document, and the
// token that was issued last is valid.
const maxRevokedSessions = 64

// Revocations is the stored form of the revoked access of one subject. It is the union of what Add was given: the
// order and the number of times do not matter, except that more sessions than are listed have all tokens of before
// refused.
type Revocations struct {
	All      *cut           `json:"all,omitempty"`
	Sessions map[string]cut `json:"sessions,omitempty"`
	Roles    map[string]cut `json:"roles,omitempty"`
	Expires  int64          `json:"expires"` // Unix seconds; after this nothing of it matters
}

// cut refuses what was issued before a time, in Unix seconds like iat.
type cut struct {
	Before int64 `json:"before"`
	Until  int64 `json:"until"` // when the cut can be forgotten
}

func (c cut) union(o cut) cut { return cut{max(c.Before, o.Before), max(c.Until, o.Until)} }

// Add adds a revocation and removes what can be forgotten at the time now. It reports whether the document changed: a
// revocation that can be forgotten already, or that is known, changes nothing.
func (l *Revocations) Add(r Revocation, now time.Time) (changed bool) {
	c := cut{Before: ceil(r.IssuedBefore), Until: ceil(r.Until)}
	if c.Until <= now.Unix() {
		return false
	}
	if len(r.Sessions)+len(r.Roles) == 0 {
		changed = l.cutAll(c)
	}
	for _, s := range r.Sessions {
		changed = widen(&l.Sessions, s, c) || changed
	}
	for _, role := range r.Roles {
		changed = widen(&l.Roles, role, c) || changed
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

func widen(m *map[string]cut, name string, c cut) (changed bool) {
	if *m == nil {
		*m = map[string]cut{}
	}
	before := (*m)[name]
	(*m)[name] = before.union(c)
	return (*m)[name] != before
}

// forget removes the cuts that are past their time, makes the oldest of too many sessions one cut, and sets Expires.
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
	l.Expires = 0
	if l.All != nil {
		l.Expires = l.All.Until
	}
	for _, m := range []map[string]cut{l.Sessions, l.Roles} {
		for _, c := range m {
			l.Expires = max(l.Expires, c.Until)
		}
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
