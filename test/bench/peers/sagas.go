package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/ebb-dev/ebb/test/shop"
)

type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

// order is the saga without failures; its steps do nothing.
func order(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	for _, step := range []any{reserve, authorize, capture} {
		if err := workflow.ExecuteActivity(ctx, step).Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func reserve(context.Context) error   { return nil }
func authorize(context.Context) error { return nil }
func capture(context.Context) error   { return nil }

// temporalSaga returns a function that starts Temporal's dev server, by default with its history in memory.
func (b *bench) temporalSaga(callers int, more ...string) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) { return b.openTemporal(ctx, callers, more) }
}

func (b *bench) openTemporal(ctx context.Context, callers int, more []string) (*opened, error) {
	a, err := addresses(1)
	if err != nil {
		return nil, err
	}
	args := []string{"server", "start-dev", "--ip", "127.0.0.1", "--port", a[0][strings.LastIndexByte(a[0], ':')+1:],
		"--headless", "--log-level", "error"}
	p, err := start(ctx, []string{"HOME=" + b.dir}, a, find(b.temporal), append(args, more...)...)
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, a[0])
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%w: %s", err, p.output())
	}
	w := worker.New(c, "orders", worker.Options{MaxConcurrentWorkflowTaskPollers: 8, MaxConcurrentActivityTaskPollers: 8})
	w.RegisterWorkflow(order)
	for _, step := range []any{reserve, authorize, capture} {
		w.RegisterActivity(step)
	}
	if err := w.Start(); err != nil {
		c.Close()
		p.stop()
		return nil, err
	}
	return &opened{close: func() { w.Stop(); c.Close(); p.stop() }, run: loop(callers, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: "orders"}, order)
		if err != nil {
			return err
		}
		return run.Get(ctx, nil)
	})}, nil
}

// dial connects and waits until the namespace exists, which is later than the port is open.
func dial(ctx context.Context, addr string) (client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		c, err := client.DialContext(ctx, client.Options{HostPort: addr, Logger: silent{}})
		if err == nil {
			if _, err = c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{}); err == nil {
				return c, nil
			}
			c.Close()
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (b *bench) oursSaga(callers int) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		p, end, err := b.system(ctx, "orders")
		if err != nil {
			return nil, err
		}
		c, err := b.place(ctx, p, callers)
		if err != nil {
			end()
			return nil, err
		}
		return &opened{close: end, run: loop(callers, c)}, nil
	}
}

// place makes a customer and products, and returns a function that orders one and waits for the order's end.
func (b *bench) place(ctx context.Context, p *shop.Process, callers int) (func(context.Context) error, error) {
	client := shop.NewClient(p.URL(), callers)
	admin, err := client.Login(ctx, shop.AdminEmail, shop.AdminPassword)
	if err != nil {
		return nil, err
	}
	var products []string
	for n := range 20 {
		id, err := client.AddProduct(ctx, admin, fmt.Sprint("product ", n), 1000, 900_000_000)
		if err != nil {
			return nil, err
		}
		products = append(products, id)
	}
	who, err := client.Register(ctx, "customer")
	if err != nil {
		return nil, err
	}
	if err := client.ProductsKnown(ctx, who, products...); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		n := counter.Add(1)
		o, err := client.Place(ctx, who, fmt.Sprint("peers-", n), "tok_ok", 30,
			shop.Line{ProductID: products[n%int64(len(products))], Quantity: 1})
		if err == nil && o.Status != "confirmed" {
			err = fmt.Errorf("order %s is %s: %s", o.ID, o.Status, o.Reason)
		}
		return err
	}, nil
}

func (b *bench) sagas(context.Context) ([]comparison, error) {
	var all []comparison
	for _, callers := range []int{128, 1} {
		peer := contender{name: "Temporal dev server",
			note: "the worker in the bench's process; three activities that do nothing, no undo, no view, no mail"}
		if path := find(b.temporal); path == "" {
			peer.absent = "not installed: make peers-tools (a quarter of an hour), and $TEMPORAL or -temporal says where it is"
		} else {
			peer.version = "CLI " + built(path) + ", sdk " + module("go.temporal.io/sdk")
		}
		onDisk, inMemory := peer, peer
		onDisk.name += ", SQLite file"
		onDisk.open = b.temporalSaga(callers, "--db-filename", filepath.Join(b.folder("temporal"), "temporal.db"))
		inMemory.name += ", in memory"
		inMemory.open = b.temporalSaga(callers)
		ours := contender{name: "ebb dev: POST /api/orders", version: "this tree", note: "Prefer: wait, through the gateway",
			open: b.oursSaga(callers)}
		all = append(all, comparison{
			title: fmt.Sprintf("Saga of an order, from start to known end, %d in flight", callers),
			how: fmt.Sprintf("%d callers in a closed loop, each waiting for the end. Ours is the whole shop: its steps "+
				"reserve stock and move money in three functions' own stores, and views, archive and mail consume its events.",
				callers),
			contenders: append(append([]contender{ours}, b.durable(callers)...), onDisk, inMemory),
		})
	}
	return all, nil
}
