package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ebb-dev/ebb/test/bench/load"
	"github.com/ebb-dev/ebb/test/shop"
)

const readers = 64

func (b *bench) reads(ctx context.Context) error {
	p, _, err := b.system(ctx, "reads")
	if err != nil {
		return err
	}
	client := shop.NewClient(p.URL(), 4)
	customer, err := client.Register(ctx, "reader")
	if err != nil {
		return err
	}
	request := load.Same(fmt.Sprintf("GET /api/users/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n",
		customer.ID, p.Addr, customer.Token))
	if _, err := load.Hammer(ctx, p.Addr, readers, 2*time.Second, request); err != nil {
		return err
	}
	d := b.duration / 2
	before := cpu(p.Pid())
	latencies, err := load.Hammer(ctx, p.Addr, readers, d, request)
	if err != nil {
		return err
	}
	b.add("GET /api/users/{id}", fmt.Sprintf("%.0f/s, p50 %s, p99 %s", float64(len(latencies))/d.Seconds(),
		ms(load.Quantile(latencies, 0.5)), ms(load.Quantile(latencies, 0.99))),
		"20,000/s, p99 ≤ 10 ms", fmt.Sprintf("%d connections for %s, through gateway and token check", readers, d))
	b.add("processor time per GET", fmt.Sprintf("%.1f µs",
		float64((cpu(p.Pid())-before).Microseconds())/float64(len(latencies))), "", "the process alone, same load")
	return p.Stop(ctx)
}
