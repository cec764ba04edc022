package function_test

import (
	"context"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// lagging is a broker.Flusher that makes events durable only in Flush.
type lagging struct{ place, settled uint64 }

var _ broker.Flusher = (*lagging)(nil)

func (l *lagging) Publish(_ context.Context, es ...ce.Event) error {
	l.place += uint64(len(es))
	return nil
}

func (l *lagging) Offset() uint64        { return l.place }
func (l *lagging) DurableOffset() uint64 { return l.settled }

func (l *lagging) Flush(context.Context) error {
	l.settled = l.place
	return nil
}

// racing is a database where somebody else is so many times quicker to take entries out of the outbox.
type racing struct {
	store.Driver
	lost *int
}

// Commit implements store.Driver.
func (r racing) Commit(ctx context.Context, b store.Batch) error {
	if *r.lost > 0 && len(b.Mutations) > 0 && b.Mutations[0].Collection == "_outbox" && b.Mutations[0].Data == nil {
		*r.lost--
		return fault.New(fault.Conflict, "somebody was quicker")
	}
	return r.Driver.Commit(ctx, b)
}

// What was published stays in the outbox until the broker has settled it: an instance that comes after a crash
// publishes it again, and one that stops has it settled first. A race that is lost over what is taken away is run
// again.
func TestOutboxUntilSettled(t *testing.T) {
	lag, opener, lost, now := &lagging{}, memory.Opener(), 0, time.Now()
	raced := func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
		db, err := opener(ctx, name, schema)
		return racing{db, &lost}, err
	}
	start := func() *function.Function {
		t.Helper()
		f, err := counting(function.Env{Store: raced, Publisher: lag, Now: func() time.Time { return now }})
		if err == nil {
			err = f.Instance().Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f, n := start(), 0
	deliver := func() {
		t.Helper()
		n++
		e := ce.New()
		e.SetID(string(rune('a' + n)))
		e.SetSource("/functions/orders")
		d := ship("a")
		e.SetType(d.Info.Name)
		e.SetSubject(d.Subject)
		data, err := d.Encode()
		if err == nil {
			err = e.SetData(ce.ApplicationJSON, data)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Instance().Receive(t.Context(), []ce.Event{e}); !got[0].OK() {
			t.Fatalf("got %+v", got)
		}
	}
	waiting := func(what string, want int, published uint64) {
		t.Helper()
		db, err := opener(t.Context(), "inventory", f.Instance().Declaration().Schema)
		if err != nil {
			t.Fatal(err)
		}
		docs, _, err := db.Query(t.Context(), store.Query{Collection: "_outbox", Limit: 100})
		if err != nil || len(docs) != want || lag.place != published {
			t.Errorf("%s: got %d entries (%v) and %d published, want %d and %d", what, len(docs), err, lag.place, want,
				published)
		}
	}
	deliver()
	deliver()
	waiting("nothing has settled", 2, 2)
	lost, now = 3, now.Add(10*time.Second)
	f = start() // the one before has crashed
	waiting("after a crash", 0, 4)
	deliver()
	deliver()
	waiting("nothing more has settled", 2, 6)
	lag.settled = lag.place
	deliver()
	waiting("after all but the last have settled", 1, 7)
	lost = 3
	if err := f.Instance().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	waiting("after a stop", 0, 7)
	if lost > 0 {
		t.Errorf("%d races were not run", lost)
	}
}
