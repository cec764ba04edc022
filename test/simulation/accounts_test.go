package simulation_test

import (
	"context"
	"slices"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

// keepingPasskeys commits the removal of a passkey without the removal.
func keepingPasskeys(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	gone := func(m store.Mutation) bool { return m.Collection == "passkeys" && m.Data == nil }
	if slices.ContainsFunc(b.Mutations, gone) {
		b = without(b, func(m store.Mutation) bool { return m.Collection == "passkeys" || m.Collection == "credentials" })
	}
	return db.Commit(ctx, b)
}

// inspite commits a unit although the credentials that it has read have changed since.
func inspite(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	b.Preconditions = slices.DeleteFunc(slices.Clone(b.Preconditions), func(p store.Precondition) bool {
		return p.Collection == "credentials"
	})
	return db.Commit(ctx, b)
}

var brokenAccounts = []struct {
	name   string
	broken simulation.Broken
}{
	{"takes a challenge twice", forgetting("challenges", func(m store.Mutation) bool { return m.Data == nil })},
	{"does not notice that credentials have changed meanwhile", committing(inspite)},
	{"keeps sessions that end", forgetting("sessions", func(m store.Mutation) bool { return m.Data == nil })},
	{"keeps passkeys that are removed", committing(keepingPasskeys)},
	{"does not learn of sessions that end", forgetting("_revoked", func(m store.Mutation) bool { return m.Data != nil })},
	{"does not learn of keys that are revoked", forgetting("_keys", func(m store.Mutation) bool { return m.Version > 1 })},
}

// What has ended of an account is refused, at once where it was ended and everywhere when all have heard of it, and a
// signature of a passkey opens one session, under all kinds of faults.
func TestAccounts(t *testing.T) {
	const within = 200
	holds(t, simulate.Runner{System: simulation.Accounts(simulation.Broken{}), First: 1, Seeds: 40})
	for _, b := range brokenAccounts {
		t.Run(b.name, func(t *testing.T) {
			if search(t, simulate.Runner{System: simulation.Accounts(b.broken), Seeds: within}, nil) == nil {
				t.Errorf("%d seeds find no violation in accounts that %s", within, b.name)
			}
		})
	}
}
