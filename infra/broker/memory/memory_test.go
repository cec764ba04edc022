package memory_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

// mortal is a log as one process uses it, which may die.
type mortal struct {
	*memory.Log
	dead   atomic.Bool
	forget bool // attempts are not saved
}

var errDead = errors.New("the process is dead")

func (m *mortal) err() error {
	if m.dead.Load() {
		return errDead
	}
	return nil
}

func (m *mortal) Append(ctx context.Context, events []ce.Event) (uint64, error) {
	if err := m.err(); err != nil {
		return 0, err
	}
	return m.Log.Append(ctx, events)
}

func (m *mortal) SaveCursors(ctx context.Context, cursors map[string][]byte) error {
	if err := m.err(); err != nil {
		return err
	}
	return m.Log.SaveCursors(ctx, cursors)
}

func (m *mortal) SaveAttempts(ctx context.Context, trigger string, attempts []byte) error {
	if err := m.err(); err != nil {
		return err
	}
	if m.forget {
		return nil
	}
	return m.Log.SaveAttempts(ctx, trigger, attempts)
}

// openMortal opens a broker over the log. After kill nothing that it does has an effect.
func openMortal(log *memory.Log, forget bool) (b broker.Broker, kill func()) {
	m := &mortal{Log: log, forget: forget}
	core, err := eventlog.New(m, eventlog.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		panic(err) // a log in memory does not fail
	}
	return core, func() {
		m.dead.Store(true)
		now, cancel := context.WithCancel(context.Background())
		cancel()
		core.Close(now)
	}
}

func TestBroker(t *testing.T) {
	type state struct {
		log  *memory.Log
		kill func()
	}
	var all sync.Map // broker → state
	open := func(log *memory.Log) broker.Broker {
		b, kill := openMortal(log, false)
		all.Store(b, state{log, kill})
		return b
	}
	of := func(b broker.Broker) state {
		s, _ := all.Load(b)
		return s.(state)
	}
	brokertest.Run(t, brokertest.Harness{
		New:    func(testing.TB) broker.Broker { return open(memory.NewLog()) },
		Reopen: func(_ testing.TB, b broker.Broker) broker.Broker { return open(of(b).log) },
		Kill: func(_ testing.TB, b broker.Broker) broker.Broker {
			of(b).kill()
			return open(of(b).log)
		},
	})
}

func BenchmarkBroker(b *testing.B) {
	brokertest.Bench(b, func(b testing.TB) broker.Broker {
		br := memory.New()
		b.Cleanup(func() { br.Close(b.Context()) })
		return br
	})
}
