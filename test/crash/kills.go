package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// startLimit is how long a start and the recovery after it may take.
const startLimit = 2 * time.Minute

// killed is the result of a run of kills.
type killed struct {
	orders, kills, recoveries int
	ended                     map[string]int
	slowest                   time.Duration
	took                      time.Duration
}

func (k *killed) String() string {
	return fmt.Sprintf("%d orders acknowledged and ended (%d confirmed, %d cancelled); %d kills, %d of them during "+
		"recovery; "+
		"the slowest start took %d ms; nothing lost, nothing charged twice; %s",
		k.orders, k.ended["confirmed"], k.ended["cancelled"], k.kills, k.recoveries, k.slowest.Milliseconds(),
		k.took.Round(time.Second))
}

// kills places orders without a pause, a part in each round, and kills the process at a random moment of each round.
func kills(ctx context.Context, o *options) (*killed, error) {
	begin := time.Now()
	p, err := o.process("data")
	if err != nil {
		return nil, err
	}
	k := &killed{}
	if err := k.start(ctx, p); err != nil {
		return nil, err
	}
	defer p.Kill()
	s, err := shop.NewSpree(ctx, p.URL())
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.Output())
	}
	orders := placing(ctx, s)
	shown := newProgress(o.rounds)
	for round := range o.rounds {
		orders.add((round+1)*o.orders/o.rounds - round*o.orders/o.rounds)
		pause(ctx, o.between(0, time.Second))
		p.Kill()
		k.kills++
		// A third of the rounds kill it again before it is ready, some of them several times.
		for o.random.IntN(3) == 0 {
			if err := p.Launch(); err != nil {
				return nil, err
			}
			pause(ctx, o.between(0, 400*time.Millisecond))
			p.Kill()
			k.kills++
			k.recoveries++
		}
		if err := k.start(ctx, p); err != nil {
			return nil, err
		}
		shown.at(round+1, "%d orders acknowledged, %d kills", len(s.Acknowledged()), k.kills)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if err := orders.wait(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.Output())
	}
	if k.ended, err = s.AwaitEnds(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.Output())
	}
	books, violations, err := s.StopAndAudit(ctx, p)
	if err != nil {
		return nil, err
	}
	k.orders, k.took = len(s.Acknowledged()), time.Since(begin)
	if k.orders != o.orders {
		return nil, fmt.Errorf("%d orders are acknowledged of %d", k.orders, o.orders)
	}
	return k, audited(append(violations, doubled(books, o.orders)...), books)
}

// doubled returns a violation if there are more orders than requests: a repeated request must not make a second order.
func doubled(books *shop.Books, asked int) []string {
	if n := len(books.Orders) - shop.Probes; n > asked {
		return []string{fmt.Sprintf("%d requests with different keys made %d orders", asked, n)}
	}
	return nil
}

func (k *killed) start(ctx context.Context, p *shop.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	took, err := p.Start(ctx)
	k.slowest = max(k.slowest, took)
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// orders places orders with several customers at once.
type orders struct {
	numbers chan int
	next    int
	workers sync.WaitGroup
	mu      sync.Mutex
	err     error // the first error
}

func placing(ctx context.Context, s *shop.Spree) *orders {
	o := &orders{numbers: make(chan int, 1<<20)}
	for range 32 {
		o.workers.Go(func() {
			for n := range o.numbers {
				if err := s.Place(ctx, n); err != nil {
					o.mu.Lock()
					if o.err == nil {
						o.err = fmt.Errorf("order %d: %w", n, err)
					}
					o.mu.Unlock()
				}
			}
		})
	}
	return o
}

// add places n more orders in the background.
func (o *orders) add(n int) {
	for range n {
		o.numbers <- o.next
		o.next++
	}
}

// wait waits until all added orders are placed, and returns the first error.
func (o *orders) wait() error {
	close(o.numbers)
	o.workers.Wait()
	return o.err
}
