package sqs_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/files"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue/queuetest"
	"github.com/ebb-dev/ebb/infra/broker/sqs"
	"github.com/ebb-dev/ebb/infra/internal/awstest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestMain(m *testing.M) {
	code := m.Run()
	awstest.Stop()
	os.Exit(code)
}

var names atomic.Int64

// name returns the name of a broker that no other test has.
func name() string { return fmt.Sprint("test-", names.Add(1)) }

// blobs returns an empty store of blobs.
func blobs(t testing.TB) *blob.Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "blobs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) // not t.TempDir: a broker that was killed may be writing
	d, err := files.Open(files.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return blob.New(d, blob.Rules{MaxBytes: 2 << 20})
}

// open opens a broker on the emulator, and closes it after the test.
func open(t testing.TB, cfg sqs.Config) *sqs.Broker {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	if cfg.Visibility == 0 {
		cfg.Visibility = 2 * time.Second
	}
	cfg.Wait = 50 * time.Millisecond
	b, err := sqs.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		b.Close(ctx)
	})
	return b
}

// The driver passes the suite of the port on the emulator.
func TestBroker(t *testing.T) {
	t.Parallel()
	awstest.Need(t)
	var all sync.Map // broker → its configuration
	open := func(t testing.TB, cfg sqs.Config) broker.Broker {
		b := open(t, cfg)
		all.Store(broker.Broker(b), cfg)
		return b
	}
	again := func(t testing.TB, b broker.Broker) broker.Broker {
		cfg, _ := all.Load(b)
		return open(t, cfg.(sqs.Config))
	}
	brokertest.Run(t, brokertest.Harness{
		New:    func(t testing.TB) broker.Broker { return open(t, sqs.Config{Name: name(), Blobs: blobs(t)}) },
		Reopen: again, Backlog: 4_000,
		Kill: func(t testing.TB, b broker.Broker) broker.Broker {
			sqs.Kill(b.(*sqs.Broker))
			return again(t, b)
		},
	})
}

// The driver passes the suite of queues with acknowledgements.
func TestQueues(t *testing.T) {
	t.Parallel()
	awstest.Need(t)
	queuetest.Run(t, queuetest.Harness{
		New: func(t testing.TB, visibility time.Duration) eventqueue.Driver {
			return sqs.Driver(open(t, sqs.Config{Name: name(), Visibility: visibility}))
		},
		Visibility: time.Second,
	})
}
