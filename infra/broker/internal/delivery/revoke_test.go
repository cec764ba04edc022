package delivery_test

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// source serves one trigger and hands its engine to the test.
type source struct {
	engine   chan *delivery.Engine[string]
	finished []string
}

func (s *source) Register(context.Context, string) error { return nil }

func (s *source) Serve(ctx context.Context, t *delivery.Trigger) error {
	e := delivery.NewEngine(t, 0, s)
	s.engine <- e
	<-ctx.Done()
	e.Halt()
	return nil
}

func (s *source) Finished(items []*delivery.Item[string]) {
	for _, it := range items {
		s.finished = append(s.finished, it.Ref)
	}
}

func (s *source) Tried([]delivery.Tried[string]) {}

func (s *source) Mark(*delivery.Item[string], delivery.Tries) error { return nil }

// An event that is revoked is not handed out any more, whatever state its key is in, and later events of the key go on.
func TestRevoke(t *testing.T) {
	const hour = time.Hour
	sink := func(context.Context, []event.Event) []broker.Result { return []broker.Result{{Status: 503}} }
	retried := broker.Trigger{Delivery: broker.Delivery{Retry: 1, BackoffDelay: hour}}
	dead := broker.Trigger{Delivery: broker.Delivery{DeadLetter: sink}}
	ids := strings.Fields
	for name, c := range map[string]struct {
		trigger broker.Trigger
		first   int // what the handler answers to event 1, after a second
		after   time.Duration
		revoke  []string
		want    []string // handed out
		done    []string // reported as finished
	}{
		"in a call":           {broker.Trigger{}, 200, 0, ids("1"), ids("1 2 3"), ids("2 3")},
		"behind a call":       {broker.Trigger{}, 200, 0, ids("2"), ids("1 3"), ids("1 3")},
		"all":                 {broker.Trigger{}, 200, 0, ids("1 2 3"), ids("1"), nil},
		"twice":               {broker.Trigger{}, 200, 0, ids("2 2"), ids("1 3"), ids("1 3")},
		"already finished":    {broker.Trigger{}, 200, 2 * hour, ids("1"), ids("1 2 3"), ids("1 2 3")},
		"waits for its retry": {retried, 500, time.Minute, ids("1"), ids("1 2 3"), ids("2 3")},
		"all, first waits":    {retried, 500, time.Minute, ids("1 2 3"), ids("1"), nil},
		"waits for the sink":  {dead, 400, time.Minute, ids("1"), ids("1 2 3"), ids("2 3")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &source{engine: make(chan *delivery.Engine[string], 1)}
				r := delivery.NewRegistry(s, delivery.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
				var handed []string
				c.trigger.Name = "x"
				_, err := r.Subscribe(t.Context(), c.trigger, func(_ context.Context, batch []event.Event) []broker.Result {
					handed = append(handed, batch[0].ID())
					time.Sleep(time.Second)
					if batch[0].ID() == "1" {
						return []broker.Result{{Status: c.first}}
					}
					return []broker.Result{{Status: 200}}
				})
				if err != nil {
					t.Fatal(err)
				}
				engine := <-s.engine
				items := map[string]*delivery.Item[string]{}
				var all []*delivery.Item[string]
				for _, id := range []string{"1", "2", "3"} {
					e := brokertest.Event(id, "k")
					items[id] = delivery.NewItem(&e, id)
					all = append(all, items[id])
				}
				engine.Add(all)
				synctest.Wait()
				time.Sleep(c.after)
				var revoked []*delivery.Item[string]
				for _, id := range c.revoke {
					revoked = append(revoked, items[id])
				}
				engine.Revoke(revoked)
				time.Sleep(10 * time.Second) // less than a retry
				synctest.Wait()
				if !slices.Equal(handed, c.want) || !slices.Equal(s.finished, c.done) {
					t.Errorf("handed out %v, finished %v, want %v and %v", handed, s.finished, c.want, c.done)
				}
				if n := engine.Unfinished(); n != 0 {
					t.Errorf("%d unfinished", n)
				}
				time.Sleep(3 * hour)
				synctest.Wait()
				if !slices.Equal(handed, c.want) {
					t.Errorf("handed out later: %v, want %v", handed, c.want)
				}
				if err := r.Close(t.Context(), func() error { return nil }); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// An event that waits for a worker, alone with its key, is revoked as well; so is one that was never added.
func TestRevokeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{engine: make(chan *delivery.Engine[string], 1)}
		r := delivery.NewRegistry(s, delivery.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		var handed []string
		h := func(_ context.Context, batch []event.Event) []broker.Result {
			handed = append(handed, batch[0].ID())
			time.Sleep(time.Second)
			return []broker.Result{{Status: 200}}
		}
		if _, err := r.Subscribe(t.Context(), broker.Trigger{Name: "x"}, h); err != nil {
			t.Fatal(err)
		}
		engine := <-s.engine
		item := func(id, key string) *delivery.Item[string] {
			e := brokertest.Event(id, key)
			return delivery.NewItem(&e, id)
		}
		keyed, free, stray := item("keyed", "k"), item("free", ""), item("stray", "s")
		engine.Add([]*delivery.Item[string]{item("busy", ""), keyed, free, item("last", "k2")})
		synctest.Wait()
		engine.Revoke([]*delivery.Item[string]{keyed, free, stray})
		engine.Add([]*delivery.Item[string]{item("again", "k")})
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []string{"busy", "again", "last"}; !slices.Equal(handed, want) || engine.Unfinished() != 0 {
			t.Errorf("handed out %v, %d unfinished, want %v", handed, engine.Unfinished(), want)
		}
		if err := r.Close(t.Context(), func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
}

// A key whose first event waits for the dead-letter sink, while all workers are busy, goes on with the next one when
// that is revoked.
func TestRevokeDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{engine: make(chan *delivery.Engine[string], 1)}
		r := delivery.NewRegistry(s, delivery.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		var handed []string
		h := func(_ context.Context, batch []event.Event) []broker.Result {
			handed = append(handed, batch[0].ID())
			switch batch[0].ID() {
			case "fails":
				return []broker.Result{{Status: 400}}
			case "long":
				time.Sleep(time.Hour)
			}
			return []broker.Result{{Status: 200}}
		}
		sink := func(context.Context, []event.Event) []broker.Result { return []broker.Result{{Status: 503}} }
		d := broker.Delivery{DeadLetter: sink, BackoffDelay: time.Second}
		if _, err := r.Subscribe(t.Context(), broker.Trigger{Name: "x", Delivery: d}, h); err != nil {
			t.Fatal(err)
		}
		engine := <-s.engine
		item := func(id, key string) *delivery.Item[string] {
			e := brokertest.Event(id, key)
			return delivery.NewItem(&e, id)
		}
		fails := item("fails", "k")
		engine.Add([]*delivery.Item[string]{fails, item("next", "k"), item("long", "")})
		time.Sleep(time.Minute)
		engine.Revoke([]*delivery.Item[string]{fails})
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if want := []string{"fails", "long", "next"}; !slices.Equal(handed, want) || engine.Unfinished() != 0 {
			t.Errorf("handed out %v, %d unfinished, want %v", handed, engine.Unfinished(), want)
		}
		if err := r.Close(t.Context(), func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
}
