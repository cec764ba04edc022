package archive_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// busyLog is a store whose queries of the log are counted. While busy, an event arrives with each of them.
type busyLog struct {
	store.Driver
	busy         atomic.Bool
	queries, had atomic.Int64 // and how many documents they returned
	arrive       func()
}

func (l *busyLog) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	docs, more, err := l.Driver.Query(ctx, q)
	if q.Collection == "log" {
		l.queries.Add(1)
		l.had.Add(int64(len(docs)))
		if l.busy.CompareAndSwap(true, false) {
			l.arrive()
			l.busy.Store(true)
		}
	}
	return docs, more, err
}

func (l *busyLog) reset() { l.queries.Store(0); l.had.Store(0) }

// onBusyLog returns an archive on such a store.
func onBusyLog(t *testing.T) (*functiontest.Harness, *busyLog) {
	log, open := &busyLog{}, memory.Opener()
	h := functiontest.New(t, archive.New, functiontest.Knows(product.Types()...), func(h *functiontest.Harness) {
		h.Store = func(ctx context.Context, function string, schema store.Schema) (store.Driver, error) {
			d, err := open(ctx, function, schema)
			log.Driver = d
			return log, err
		}
	})
	n := 0
	log.arrive = func() { n++; h.MustDeliver(reserved(fmt.Sprint("new-", n))) }
	return h, log
}

// An id that no event has is looked for once, also while others arrive: the answer needs no second look at what was
// read for it.
func TestUnknownIDIsLookedForOnce(t *testing.T) {
	h, log := onBusyLog(t)
	const events = 300
	never := h.Event(reserved("never")).ID() // it has the time before all others
	if id, err := uuid.Parse(never); err != nil || id.Version() != 7 {
		t.Fatalf("%s is no UUIDv7: %v", never, err)
	}
	numbered(h, events)
	for _, id := range []string{"no-such-id", never} {
		log.busy.Store(true)
		log.reset()
		h.Clock.Advance(time.Second)
		h.Call("GET", "/api/archive/events/"+id, functiontest.Admin(), nil).Expect(404)
		log.busy.Store(false)
		if n := log.had.Load(); n > events+50 {
			t.Errorf("%s: %d events were read in %d queries, of %d", id, n, log.queries.Load(), events)
		}
	}
}
