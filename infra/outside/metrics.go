package outside

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// metrics are the instruments for calls. The gauges are as of the last sweep of the clock.
type metrics struct {
	open, failing metric.Int64Gauge
	oldest        metric.Float64Gauge
	failures      metric.Int64Counter
}

func (c *Calls) meter() {
	m := c.f.Env().Telemetry.Meter() // the only errors of its methods are invalid names
	c.open, _ = m.Int64Gauge("ebb.calls.open", metric.WithUnit("{call}"),
		metric.WithDescription("Outside calls without a result, as of the last look."))
	c.failing, _ = m.Int64Gauge("ebb.calls.failing", metric.WithUnit("{call}"),
		metric.WithDescription("Those of them that have failed at least once."))
	c.oldest, _ = m.Float64Gauge("ebb.calls.oldest_age", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest outside call without a result, as of the last look."))
	c.failures, _ = m.Int64Counter("ebb.calls.failures", metric.WithUnit("{attempt}"),
		metric.WithDescription("Outside calls that have failed and will be made again."))
}

func (c *Calls) attributes(call string) []attribute.KeyValue {
	if c.byName[call] == nil {
		call = "_OTHER"
	}
	return []attribute.KeyValue{attribute.String("function", c.f.Name()), attribute.String("call", call)}
}

// observedLimit is how many calls are counted at most.
const observedLimit = 2000

// observe counts the calls without a result.
func (c *Calls) observe(ctx context.Context, tx *function.Tx) error {
	type count struct {
		open, failing int64
		oldest        time.Duration
	}
	counts := map[string]count{}
	for name := range c.byName {
		counts[strings.TrimSuffix(name, sealedCall)] = count{}
	}
	cursor, more := "", true
	for seen := 0; more && seen < observedLimit; {
		page, err := c.pending.Query(ctx, tx, store.Find{
			Order: []store.Order{{Field: "due"}}, Limit: store.MaxLimit, Cursor: cursor,
		})
		if err != nil {
			return err
		}
		for _, item := range page.Items {
			n := counts[item.Value.name()]
			n.open++
			if item.Value.Attempts > 0 {
				n.failing++
			}
			n.oldest = max(n.oldest, tx.Now().Sub(item.Value.At))
			counts[item.Value.name()] = n
		}
		seen += len(page.Items)
		cursor, more = page.Next, page.Next != ""
	}
	for name, n := range counts {
		of := metric.WithAttributes(c.attributes(name)...)
		c.open.Record(ctx, n.open, of)
		c.failing.Record(ctx, n.failing, of)
		c.oldest.Record(ctx, n.oldest.Seconds(), of)
	}
	return nil
}
