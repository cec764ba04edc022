// Package archive measures how many events a second the archive stores with several instances on one database.
//
//	go test ./test/bench/archive -bench . -benchtime 3s
package archive

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
)

// counting is a store that counts the commits that lose a race, and the documents that the others write.
type counting struct {
	store.Driver
	conflicts, rows *atomic.Int64
}

func (c counting) Commit(ctx context.Context, b store.Batch) error {
	err := c.Driver.Commit(ctx, b)
	if fault.Is(err, fault.Conflict) {
		c.conflicts.Add(1)
	}
	if err == nil {
		c.rows.Add(int64(len(b.Mutations)))
	}
	return err
}

type nowhere struct{}

func (nowhere) Publish(context.Context, ...ce.Event) error { return nil }

const (
	batchSize = 128 // as many as a host puts into a unit of work
	units     = 2   // at once in each pod
)

// batchOf returns events of about a kilobyte, twelve of each order.
func batchOf(pod, n int) []ce.Event {
	batch := make([]ce.Event, batchSize)
	order := ""
	for i := range batch {
		if i%12 == 0 {
			order = uuid.Must(uuid.NewV7()).String()
		}
		e := ce.New()
		e.SetID(uuid.Must(uuid.NewV7()).String())
		e.SetSource("/functions/orders")
		e.SetType(fmt.Sprintf("dev.ebb.orders.step-%d.v1", i%12))
		e.SetSubject(order)
		e.SetTime(time.Now())
		e.SetExtension(event.PartitionKey, order)
		e.SetExtension(event.CorrelationID, order)
		_ = e.SetData(ce.ApplicationJSON,
			map[string]any{"order_id": order, "pod": pod, "n": n, "text": strings.Repeat("x", 400)})
		batch[i] = e
	}
	return batch
}

func benchmark(b *testing.B, pods int, open store.Opener) {
	var conflicts, rows, failed atomic.Int64
	instances := make([]host.Instance, pods)
	for i := range instances {
		f, err := archive.New(function.Env{
			Publisher: nowhere{}, Logger: slog.New(slog.DiscardHandler),
			System: func() manifest.System { return manifest.System{} },
			Store: func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
				d, err := open(ctx, name, schema)
				return counting{d, &conflicts, &rows}, err
			},
		})
		if err != nil {
			b.Fatal(err)
		}
		instances[i] = f.Instance()
		if err := instances[i].Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = instances[i].Stop(context.Background()) }()
	}
	var next atomic.Int64
	var work sync.WaitGroup
	b.ResetTimer()
	for pod, f := range instances {
		for range units {
			work.Go(func() {
				for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
					for _, r := range f.Receive(b.Context(), batchOf(pod, int(n))) {
						if !r.OK() {
							failed.Add(1)
						}
					}
				}
			})
		}
	}
	work.Wait()
	b.StopTimer()
	events := float64(b.N * batchSize)
	b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(conflicts.Load())/events, "conflicts/event")
	b.ReportMetric(float64(rows.Load())/events, "rows/event")
	if failed.Load() > 0 {
		b.Errorf("%d events were not stored", failed.Load())
	}
}

// BenchmarkPods stores batches in 1 and in 4 instances.
func BenchmarkPods(b *testing.B) {
	for _, pods := range []int{1, 4} {
		b.Run(fmt.Sprintf("postgres-%d", pods), func(b *testing.B) {
			open, err := postgres.Opener(pgtest.Role(b))
			if err != nil {
				b.Fatal(err)
			}
			benchmark(b, pods, open)
		})
	}
	b.Run("sqlite-1", func(b *testing.B) { benchmark(b, 1, sqlite.Opener(filepath.Join(b.TempDir(), "store"))) })
}
