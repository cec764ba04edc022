// Command bench measures the shop as one process and prints a table: figure, unit, how it was measured.
//
// The load generator runs on the same machine and its cost is part of every figure.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/ebb-dev/ebb/test/bench/load"
	"github.com/ebb-dev/ebb/test/shop"
)

type options struct {
	duration  time.Duration
	customers int
	products  int
	many      int
	archived  int
	letters   int
	only      string
	program   string
	out       string
	bare      string
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", time.Minute, "how long each load lasts")
	flag.IntVar(&o.customers, "customers", 128, "how many customers order at once")
	flag.IntVar(&o.products, "products", 20, "how many products they order")
	flag.IntVar(&o.many, "many", 100_000, "number of orders after which memory and cost are measured; 0: not measured")
	flag.IntVar(&o.archived, "archived", 1_000_000, "events that the console is measured with")
	flag.IntVar(&o.letters, "letters", 10_000, "dead letters that the console is measured with")
	flag.StringVar(&o.only, "only", "",
		"figures to measure, comma separated: start, orders, latency (with orders), brokers, reads, events, gateway, "+
			"telemetry, console, growth")
	flag.StringVar(&o.program, "program", "", "the path of a built ebb, to compare two; empty: build this tree")
	flag.StringVar(&o.out, "out", "bench/results", "folder the table is written to")
	flag.StringVar(&o.bare, "bare", "", "be a bare server of net/http at this address, to compare with, and do no more")
	flag.Parse()
	if o.bare != "" {
		fmt.Fprintln(os.Stderr, "bench:", serveBare(o.bare))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// table collects rows and also prints each at once, so that an interrupted bench still shows results.
type table struct{ rows [][4]string }

func (t *table) add(what, figure, reach, how string) {
	t.rows = append(t.rows, [4]string{what, figure, reach, how})
	fmt.Fprintf(os.Stderr, "%s: %s\n", what, figure)
}

func (t *table) print(w io.Writer) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tab, "what\tfigure\treach\thow measured\n")
	for _, r := range t.rows {
		fmt.Fprintln(tab, strings.Join(r[:], "\t"))
	}
	tab.Flush()
}

func (o options) wants(name string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), name)
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "ebb-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := o.program
	if binary == "" {
		if binary, err = shop.Build(dir); err != nil {
			return err
		}
	}
	b := &bench{options: o, dir: dir, binary: binary}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"start", b.start}, {"orders", b.orders}, {"brokers", b.brokers}, {"reads", b.reads}, {"events", b.events},
		{"gateway", b.gateway}, {"telemetry", b.telemetry}, {"console", b.console},
		{"growth", b.growth},
	} {
		if !o.wants(part.name) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return b.write()
}

type bench struct {
	options
	table
	dir, binary string
	rate        float64 // measured orders a second
}

func (b *bench) write() error {
	head := fmt.Sprintf("%s, %s/%s, %d processors, load generator on the same machine\n\n",
		time.Now().UTC().Format(time.RFC3339), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Print("\n", head)
	b.print(os.Stdout)
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(b.out, time.Now().UTC().Format("20060102T150405")+".txt"))
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprint(f, head)
	b.print(f)
	fmt.Println("\nwritten to", f.Name())
	return f.Close()
}

// system starts a fresh shop.
func (b *bench) system(ctx context.Context, name string, args ...string) (*shop.Process, time.Duration, error) {
	p := &shop.Process{Args: args}
	took, err := b.begin(ctx, name, p)
	return p, took, err
}

// begin starts a fresh shop with the arguments and the variables of p, and returns how long that took.
func (b *bench) begin(ctx context.Context, name string, p *shop.Process) (took time.Duration, err error) {
	p.Binary, p.Data = b.binary, filepath.Join(b.dir, name)
	if p.Addr, err = shop.FreeAddress(); err != nil {
		return 0, err
	}
	return p.Start(ctx)
}

func (b *bench) start(ctx context.Context) error {
	var took []time.Duration
	for n := range 5 {
		p, d, err := b.system(ctx, fmt.Sprint("start", n%2)) // the first two start with an empty directory
		if err != nil {
			return err
		}
		took = append(took, d)
		if n == 4 {
			time.Sleep(3 * time.Second)
			b.add("memory idle", fmt.Sprintf("%d MB", memory(p.Pid())>>20), "≤ 100 MB",
				"resident set, 3 s after start, without requests")
		}
		if err := p.Stop(ctx); err != nil {
			return err
		}
	}
	slices.Sort(took)
	b.add("start to first answer", fmt.Sprintf("%d ms", took[len(took)/2].Milliseconds()), "≤ 300 ms",
		"exec to GET /readyz 200, median of 5")
	return nil
}

// crowd holds customers and products.
type crowd struct {
	client    *shop.Client
	customers []shop.Customer
	products  []string
	next      atomic.Int64
}

func (b *bench) crowd(ctx context.Context, p *shop.Process, customers int) (*crowd, error) {
	c := &crowd{client: shop.NewClient(p.URL(), customers)}
	admin, err := c.client.Login(ctx, shop.AdminEmail, shop.AdminPassword)
	if err != nil {
		return nil, err
	}
	for n := range b.products {
		id, err := c.client.AddProduct(ctx, admin, fmt.Sprint("product ", n), 1000+n, 900_000_000)
		if err != nil {
			return nil, err
		}
		c.products = append(c.products, id)
	}
	for n := range min(customers, 16) { // passwords are slow to hash on purpose
		one, err := c.client.Register(ctx, fmt.Sprint("customer", n))
		if err != nil {
			return nil, err
		}
		c.customers = append(c.customers, one)
	}
	return c, c.client.ProductsKnown(ctx, c.customers[0], c.products...)
}

// awaitShipped waits until the stock of all orders is shipped, which happens after an order ends.
func (c *crowd) awaitShipped(ctx context.Context) error {
	for _, id := range c.products {
		for {
			var stock struct{ Reserved int }
			if err := c.client.Do(ctx, "GET", "/api/stock/"+id, "", nil, &stock); err != nil {
				return err
			}
			if stock.Reserved == 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	time.Sleep(time.Second) // views and the archive receive the same events meanwhile
	return nil
}

// place places one order and waits for its end.
func (c *crowd) place(ctx context.Context) (time.Duration, error) {
	n := int(c.next.Add(1))
	begin := time.Now()
	o, err := c.client.Place(ctx, c.customers[n%len(c.customers)], fmt.Sprint("bench-", n), "tok_ok", 60,
		shop.Line{ProductID: c.products[n%len(c.products)], Quantity: 1})
	if err == nil && o.Status != "confirmed" {
		err = fmt.Errorf("order %s is %s: %s", o.ID, o.Status, o.Reason)
	}
	return time.Since(begin), err
}

// closed places orders in a closed loop with the number of workers, until the time is over or most orders are placed.
func (c *crowd) closed(ctx context.Context, workers int, d time.Duration, most int64) (placed int64, took time.Duration,
	err error) {
	begin := time.Now()
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for time.Since(begin) < d && failed.Load() == nil && ctx.Err() == nil {
				if most > 0 && done.Load() >= most {
					return
				}
				if _, err := c.place(ctx); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return 0, 0, *e
	}
	return done.Load(), time.Since(begin), ctx.Err()
}

// grow places the number of orders, and renews the tokens meanwhile.
func (c *crowd) grow(ctx context.Context, workers int, orders int64) error {
	const portion = 100_000
	for ; orders > 0; orders -= portion {
		for i, one := range c.customers {
			renewed, err := c.client.LoginAgain(ctx, one)
			if err != nil {
				return err
			}
			c.customers[i] = renewed
		}
		if _, _, err := c.closed(ctx, workers, time.Hour, min(orders, portion)); err != nil {
			return err
		}
	}
	return nil
}

// open places orders at a fixed rate, in an open loop: it does not wait for earlier ones.
func (c *crowd) open(ctx context.Context, rate float64, d time.Duration) ([]time.Duration, error) {
	var mu sync.Mutex
	var latencies []time.Duration
	var failed error
	var wg sync.WaitGroup
	every := time.Duration(float64(time.Second) / rate)
	begin := time.Now()
	for n := 0; ; n++ {
		at := begin.Add(time.Duration(n) * every)
		if at.Sub(begin) > d || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Until(at))
		wg.Go(func() {
			_, err := c.place(ctx)
			latency := time.Since(at) // since the due time, so that a slow generator does not lower it
			mu.Lock()
			defer mu.Unlock()
			latencies = append(latencies, latency)
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	slices.Sort(latencies)
	return latencies, failed
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func (b *bench) orders(ctx context.Context) error {
	p, _, err := b.system(ctx, "orders")
	if err != nil {
		return err
	}
	c, err := b.crowd(ctx, p, b.customers)
	if err != nil {
		return err
	}
	if _, _, err := c.closed(ctx, b.customers, 3*time.Second, 0); err != nil {
		return err
	}
	before := cpu(p.Pid())
	n, took, err := c.closed(ctx, b.customers, b.duration, 0)
	if err != nil {
		return err
	}
	b.rate = float64(n) / took.Seconds()
	b.add("orders to confirmed", fmt.Sprintf("%.0f/s", b.rate), "1,000/s",
		fmt.Sprintf("%d customers in a closed loop for %s, each waiting for its order's end; SQLite and JetStream on disk",
			b.customers, b.duration))
	b.add("processor time per order", fmt.Sprintf("%.2f ms",
		float64((cpu(p.Pid())-before).Microseconds())/1000/float64(n)), "", "the process alone, same load")
	if b.wants("latency") {
		if err := b.latency(ctx, c); err != nil {
			return err
		}
	}
	if err := c.awaitShipped(ctx); err != nil {
		return err
	}
	if err := p.Stop(ctx); err != nil {
		return err
	}
	books, err := shop.ReadBooks(ctx, p.Data)
	if err != nil {
		return err
	}
	if violations := books.Audit(nil); len(violations) > 0 {
		return fmt.Errorf("after the load the stores are inconsistent:\n%s", strings.Join(violations, "\n"))
	}
	b.add("orders pending or wrong after it", "0", "0",
		fmt.Sprintf("%d orders audited in the stores of the stopped process", len(books.Orders)))
	return nil
}

func (b *bench) latency(ctx context.Context, c *crowd) error {
	for _, pace := range []struct {
		name string
		rate float64
	}{{"half that load", b.rate / 2}, {"500 a second", 500}} {
		l, err := c.open(ctx, pace.rate, b.duration/2)
		if err != nil {
			return err
		}
		b.add("order to confirmed at "+pace.name, fmt.Sprintf("p50 %s, p99 %s", ms(load.Quantile(l, 0.5)),
			ms(load.Quantile(l, 0.99))),
			"p50 ≤ 15 ms, p99 ≤ 100 ms",
			fmt.Sprintf("POST with Prefer: wait, %.0f a second in an open loop for %s, counted from when each was due",
				pace.rate, b.duration/2))
	}
	return nil
}

// idleMemory returns the resident set after functions are dropped and the broker and the runtime have released memory:
// once it falls by less than a megabyte in five seconds, or after two minutes.
func idleMemory(pid int) int64 {
	last := memory(pid)
	for n := range 24 {
		time.Sleep(5 * time.Second)
		now := memory(pid)
		if n >= 4 && now > last-1<<20 {
			return now
		}
		last = now
	}
	return last
}

// costFor is how long the load for the cost of an order lasts. A shared machine may be slow for seconds, so it is not
// shorter.
const costFor = 15 * time.Second

func (b *bench) growth(ctx context.Context) error {
	if b.many == 0 {
		return nil
	}
	p, _, err := b.system(ctx, "growth", "--idle", "3s")
	if err != nil {
		return err
	}
	c, err := b.crowd(ctx, p, b.customers)
	if err != nil {
		return err
	}
	stored := int64(0)
	for _, upTo := range []int64{1000, int64(b.many) / 10, int64(b.many) / 2, int64(b.many)} {
		if err := c.grow(ctx, b.customers, upTo-stored); err != nil {
			return err
		}
		before := cpu(p.Pid())
		n, took, err := c.closed(ctx, b.customers, costFor, 0)
		if err != nil {
			return err
		}
		stored = upTo + n
		cost := (cpu(p.Pid()) - before) / time.Duration(n)
		busy := memory(p.Pid())
		idle := idleMemory(p.Pid())
		b.add(fmt.Sprintf("with %d orders stored", upTo),
			fmt.Sprintf("%.2f ms processor time per order, %.0f/s, %d MB at the end of it, %d MB idle",
				float64(cost.Microseconds())/1000, float64(n)/took.Seconds(), busy>>20, idle>>20),
			"flat; ≤ 100 MB", costFor.String()+" of closed load; the resident set at the end of it, and when it no longer "+
				"falls")
	}
	return p.Stop(ctx)
}
