package test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

var (
	orderCount = flag.Int("orders", 1000, "orders that are placed while the process is killed")
	killCount  = flag.Int("kills", 2, "how often the process is killed while they are placed")
)

// spree places many orders of every kind, through kills and restarts.
type spree struct {
	t         *testing.T
	client    *shop.Client
	customers []shop.Customer
	plenty    string
	scarce    string

	mu    sync.Mutex
	taken map[string]int // order id -> customer
}

var cards = []string{"tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_error_once", "tok_ok", "tok_slow", "tok_ok", "tok_unheard_of"}

// place repeats a request under its key until it is answered, as a client does that wants its order.
func (s *spree) place(ctx context.Context, n int) error {
	product := s.plenty
	if n%7 == 0 {
		product = s.scarce
	}
	by := n % len(s.customers)
	for {
		o, err := s.client.Place(ctx, s.customers[by], fmt.Sprint("spree-", n), cards[n%len(cards)], 0, shop.Line{ProductID: product, Quantity: 1 + n%3})
		if err == nil {
			s.mu.Lock()
			s.taken[o.ID] = by
			s.mu.Unlock()
			return nil
		}
		var refused *shop.Status
		if errors.As(err, &refused) && refused.Code < 500 && refused.Code != http.StatusConflict && refused.Code != http.StatusTooManyRequests {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *spree) prepare(ctx context.Context, url string) {
	s.client = shop.NewClient(url, 64)
	admin, err := s.client.Login(ctx, shop.AdminEmail, shop.AdminPassword)
	s.must(err)
	s.plenty, err = s.client.AddProduct(ctx, admin, "plenty", 1999, 1_000_000)
	s.must(err)
	s.scarce, err = s.client.AddProduct(ctx, admin, "scarce", 4999, 40)
	s.must(err)
	for n := range 4 {
		c, err := s.client.Register(ctx, fmt.Sprint("customer", n))
		s.must(err)
		s.customers = append(s.customers, c)
	}
	s.must(s.client.ProductsKnown(ctx, s.customers[0], s.plenty, s.scarce))
}

func (s *spree) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// A thousand orders with good, declined, failing and slow cards and too little stock, with functions dropped after
// 100 ms and the process killed in the middle: every acknowledged order ends, and summed over the stores every invariant holds.
func TestOrdersSurviveKills(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	binary, err := shop.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	addr, err := shop.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p := &shop.Process{Binary: binary, Addr: addr, Data: filepath.Join(t.TempDir(), "data"), Args: []string{"--idle", "100ms"}, Env: []string{"EBB_PAYMENTS_SLOW=200ms"}}
	s := &spree{t: t, taken: map[string]int{}}
	if _, err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s.prepare(ctx, p.URL())

	numbers := make(chan int)
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for n := range numbers {
				if err := s.place(ctx, n); err != nil {
					t.Errorf("order %d: %v", n, err)
				}
			}
		})
	}
	for n := range *orderCount {
		if *killCount > 0 && n > 0 && n%(*orderCount/(*killCount+1)) == 0 {
			p.Kill()
			if _, err := p.Start(ctx); err != nil {
				t.Fatal(err)
			}
		}
		numbers <- n
	}
	close(numbers)
	workers.Wait()

	var acknowledged []string
	ended := map[string]int{}
	for id, by := range s.taken {
		o, err := s.client.AwaitOrder(ctx, s.customers[by], id)
		if err != nil {
			t.Errorf("%v\n%s", err, p.Output())
			break
		}
		ended[o.Status]++
		acknowledged = append(acknowledged, id)
	}
	time.Sleep(2 * time.Second) // let what follows an order's end, shipping and views, be handled
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
	books, err := shop.ReadBooks(ctx, p.Data)
	if err != nil {
		t.Fatal(err)
	}
	if faults := books.Audit(acknowledged); len(faults) > 0 {
		t.Errorf("%d faults:\n%s", len(faults), strings.Join(faults, "\n"))
	}
	if len(acknowledged) != *orderCount || ended["confirmed"] == 0 || ended["cancelled"] == 0 {
		t.Errorf("got %d acknowledged of %d, ended %v", len(acknowledged), *orderCount, ended)
	}
	if books.DeadLetters > 0 {
		t.Errorf("got %d dead letters, want none", books.DeadLetters)
	}
	t.Logf("%d orders, %d kills, ended %v", len(acknowledged), *killCount, ended)
}
