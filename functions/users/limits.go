package users

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/httprequest"
)

// attempts counts what was tried under one key: a wrong password, a registration. Expired ones count for nothing.
type attempts struct {
	Count   int       `json:"count"`
	Until   time.Time `json:"until,omitzero"` // nothing more is tried before this
	Expires int64     `json:"expires"`        // Unix seconds
}

// limit is how often something may be tried: a number of times at once, and then after a wait that doubles each time.
type limit struct {
	name   string
	free   int
	first  time.Duration // the first wait
	most   time.Duration // the longest
	window time.Duration // after so long without an attempt, all is forgotten
}

// The limits of guessing. A known device has a count of its own, so that guessing elsewhere does not lock its user out.
// All others share what an account allows, and more so what it allows from one address.
var (
	byDevice  = limit{"device", 10, time.Second, 15 * time.Minute, time.Hour}
	byPair    = limit{"pair", 5, time.Second, 15 * time.Minute, time.Hour}
	byAccount = limit{"account", 20, time.Second, 5 * time.Minute, time.Hour}
	byNetwork = limit{"network", 50, time.Second, 5 * time.Minute, time.Hour}
	byOwner   = limit{"owner", 5, time.Second, 15 * time.Minute, time.Hour} // of a session, who shows the current password
)

// The limits of what a stranger can learn from, or do to others by.
var (
	registrations = limit{"registrations", 20, time.Second, 10 * time.Minute, time.Hour}
	moves         = limit{"moves", 5, time.Minute, time.Hour, 24 * time.Hour}
	mails         = limit{"mails", 0, 24 * time.Hour, 24 * time.Hour, 24 * time.Hour}
)

// after returns how long the next attempt has to wait after a number of attempts.
func (l limit) after(count int) time.Duration {
	if count <= l.free {
		return 0
	}
	wait := l.first
	for n := l.free + 1; n < count && wait < l.most; n++ {
		wait *= 2
	}
	return min(wait, l.most)
}

// try is one thing that is limited.
type try struct {
	limit
	id string
}

// of makes the try under a key: an id or an address, which is stored as a hash only.
func (l limit) of(key string) try {
	sum := sha256.Sum256([]byte(l.name + "\x00" + key))
	return try{l, base64.RawURLEncoding.EncodeToString(sum[:18])}
}

// allowed answers fault.Exhausted if any of the tries has to wait.
func (u *users) allowed(ctx context.Context, tx *function.Tx, tries ...try) error {
	wait, err := u.wait(ctx, tx, tries...)
	if err != nil || wait <= 0 {
		return err
	}
	return fault.New(fault.Exhausted, "too many attempts; wait before the next one").After(wait)
}

func (u *users) wait(ctx context.Context, tx *function.Tx, tries ...try) (wait time.Duration, err error) {
	ids := make([]string, len(tries))
	for i, t := range tries {
		ids[i] = t.id
	}
	known, err := u.attempts.GetMany(ctx, tx, ids...)
	for _, a := range known {
		wait = max(wait, a.Until.Sub(tx.Now()))
	}
	return wait, err
}

// count notes that something was tried.
func (u *users) count(ctx context.Context, tx *function.Tx, tries ...try) error {
	now := tx.Now()
	for _, t := range tries {
		a, ok, err := u.attempts.Find(ctx, tx, t.id)
		if err != nil {
			return err
		}
		if !ok || now.Unix() >= a.Expires {
			a = attempts{}
		}
		a.Count++
		a.Until = time.Time{}
		if wait := t.after(a.Count); wait > 0 {
			a.Until = now.Add(wait)
		}
		a.Expires = now.Add(t.window).Unix() + 1
		if err := u.attempts.Put(ctx, tx, t.id, a); err != nil {
			return err
		}
	}
	return nil
}

// mayTry counts what is tried and reports true, or reports false if it has to wait, and counts nothing.
func (u *users) mayTry(ctx context.Context, tx *function.Tx, t try) (bool, error) {
	wait, err := u.wait(ctx, tx, t)
	if err != nil || wait > 0 {
		return false, err
	}
	return true, u.count(ctx, tx, t)
}

// fromNetwork returns the try under the network that the request comes from. There is none where the network is
// private: that may be a proxy that all clients share, and a limit would shut them out together.
func fromNetwork(ctx context.Context, l limit) []try {
	a := function.ClientAddr(ctx)
	if !httprequest.PublicAddr(a) {
		return nil
	}
	return []try{l.of(network(a))}
}

// guesses returns the tries of a sign-in: under its device if the account knows that, and otherwise under the account
// and the network it comes from. An address that no user has gets the same.
func guesses(ctx context.Context, email, device string) []try {
	if device != "" {
		return []try{byDevice.of(device)}
	}
	return slices.Concat(
		[]try{byPair.of(email + "\x00" + network(function.ClientAddr(ctx))), byAccount.of(email)},
		fromNetwork(ctx, byNetwork))
}
