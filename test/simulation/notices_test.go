package simulation_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/cache"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/test/simulation"
)

// unsuspending is a store that stores again as soon as it has removed what was suspended.
type unsuspending struct{ cache.Store }

func (s unsuspending) Suspend(ctx context.Context, _ time.Duration, tags ...string) error {
	return s.Invalidate(ctx, tags...)
}

// ignoringChanges is a store that keeps what is invalidated.
type ignoringChanges struct{ cache.Store }

func (ignoringChanges) Invalidate(context.Context, ...string) error             { return nil }
func (ignoringChanges) Suspend(context.Context, time.Duration, ...string) error { return nil }

// lateLease is a store that stores what was read before an invalidation.
type lateLease struct{ cache.Store }

func (s lateLease) Set(
	ctx context.Context, key string, value []byte, ttl time.Duration, _ cache.Lease, tags ...string,
) error {
	_, lease, err := s.Get(ctx, key, tags...)
	if err != nil {
		return err
	}
	return s.Store.Set(ctx, key, value, ttl, lease, tags...)
}

// unmarked is a function that does not say which of its refusals have changed data.
func unmarked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&unmarkedWriter{w}, r) })
}

type unmarkedWriter struct{ http.ResponseWriter }

func (w *unmarkedWriter) WriteHeader(status int) {
	w.Header().Del("Ebb-Committed")
	w.ResponseWriter.WriteHeader(status)
}

// A gateway gives no stored answer of before a change, under all kinds of faults. Each promise that this rests on is
// needed.
func TestNotices(t *testing.T) {
	const within = 200
	r := simulate.Runner{System: simulation.Notices(simulation.BrokenNotices{}), First: 1, Seeds: within / 2}
	r.Around = bubbled(t)
	p, failed := r.Run(t.Context())
	t.Log(p)
	for _, f := range failed {
		bubbled(t)(func() { t.Errorf("%s", simulate.Shrink(r.System, f.Seed)) })
	}
	if p.Counts["hits"] < 10*r.Seeds || p.Counts["given up"] < r.Seeds {
		t.Errorf("the simulation proves little: %v", p.Counts)
	}
	for name, broken := range map[string]simulation.BrokenNotices{
		"does not suspend":               {Store: func(s cache.Store) cache.Store { return unsuspending{s} }},
		"does not invalidate":            {Store: func(s cache.Store) cache.Store { return ignoringChanges{s} }},
		"stores what was read before":    {Store: func(s cache.Store) cache.Store { return lateLease{s} }},
		"does not know what refusals do": {Serve: unmarked},
		"does not hear events":           {Deaf: true},
	} {
		t.Run(name, func(t *testing.T) {
			stale := func(r *simulate.Report) bool {
				return r.Violations[0].Class == "an answer of before a change was given: %s"
			}
			r := simulate.Runner{System: simulation.Notices(broken), Seeds: within}
			if search(t, r, stale) == nil {
				t.Errorf("%d seeds find no stale answer of a gateway that %s", within, name)
			}
		})
	}
}
