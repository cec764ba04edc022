package shop

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Spree places many orders of every kind, through kills and restarts, and remembers which were acknowledged. Its methods
// may be called concurrently.
type Spree struct {
	Client *Client

	customers []*account
	plenty    string
	scarce    string

	repeated atomic.Int64

	mu    sync.Mutex
	taken map[string]*account // by order id
}

// account is a customer who logs in again when the token has run out.
type account struct {
	mu sync.Mutex
	Customer
}

func (a *account) current() Customer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.Customer
}

func (a *account) login(ctx context.Context, c *Client) error {
	again, err := c.LoginAgain(ctx, a.current())
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Customer = again
	return nil
}

// The payments of a spree: good, declined, failing, slow and unheard-of cards.
var cards = []string{"tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_error_once", "tok_ok", "tok_slow", "tok_ok", "tok_unheard_of"}

// NewSpree makes the customers, and two products: of one there is plenty, of the other too little.
func NewSpree(ctx context.Context, url string) (*Spree, error) {
	return NewSpreeOf(ctx, url, "customer")
}

// Probes is how many orders a new Spree makes itself, to see that its products are known: one for each of the two.
const Probes = 2

// NewSpreeOf makes one whose customers' names begin so, beside others at the same shop.
func NewSpreeOf(ctx context.Context, url, customers string) (*Spree, error) {
	s := &Spree{Client: NewClient(url, 64), taken: map[string]*account{}}
	admin, err := s.Client.Login(ctx, AdminEmail, AdminPassword)
	if err != nil {
		return nil, err
	}
	if s.plenty, err = s.Client.AddProduct(ctx, admin, "plenty", 1999, 1_000_000); err != nil {
		return nil, err
	}
	if s.scarce, err = s.Client.AddProduct(ctx, admin, "scarce", 4999, 40); err != nil {
		return nil, err
	}
	for n := range 4 {
		one, err := s.Client.Register(ctx, fmt.Sprint(customers, n))
		if err != nil {
			return nil, err
		}
		s.customers = append(s.customers, &account{Customer: one})
	}
	return s, s.Client.ProductsKnown(ctx, s.customers[0].Customer, s.plenty, s.scarce)
}

// Place repeats order number n under its key until it is answered, as a client does that wants its order.
func (s *Spree) Place(ctx context.Context, n int) error {
	_, err := s.place(ctx, n)
	return err
}

// Follow places order number n and waits until it has ended.
func (s *Spree) Follow(ctx context.Context, n int) error {
	id, err := s.place(ctx, n)
	if err == nil {
		_, err = s.await(ctx, id)
	}
	return err
}

func (s *Spree) place(ctx context.Context, n int) (id string, err error) {
	by, line := s.customers[n%len(s.customers)], Line{ProductID: s.plenty, Quantity: 1 + n%3}
	if n%7 == 0 {
		line.ProductID = s.scarce
	}
	err = s.insist(ctx, by, func() error {
		o, err := s.Client.Place(ctx, by.current(), fmt.Sprint("spree-", n), cards[n%len(cards)], 0, line)
		if err == nil {
			s.mu.Lock()
			s.taken[o.ID] = by
			s.mu.Unlock()
			id = o.ID
		}
		return err
	})
	return id, err
}

// Repeated is how many calls had to be made again: they were cut, or answered with 409, 429 or 5xx.
func (s *Spree) Repeated() int { return int(s.repeated.Load()) }

// insist repeats a call until it is answered for good, after waits that grow from 10 to 250 milliseconds.
func (s *Spree) insist(ctx context.Context, by *account, call func() error) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		err := call()
		var refused *Status
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &refused) || refused.Code >= 500 || refused.Code == http.StatusConflict || refused.Code == http.StatusTooManyRequests:
			s.repeated.Add(1)
		case refused.Code == http.StatusUnauthorized:
			_ = by.login(ctx, s.Client) // when that fails, so will the next call
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// At is the same spree at another process, which has the same customers and products; these orders, and no others, were
// acknowledged there before.
func (s *Spree) At(url string, acknowledged []string) *Spree {
	other := &Spree{Client: NewClient(url, 64), customers: s.customers, plenty: s.plenty, scarce: s.scarce, taken: map[string]*account{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range acknowledged {
		other.taken[id] = s.taken[id]
	}
	return other
}

// Acknowledged are the ids of the orders that were answered.
func (s *Spree) Acknowledged() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.taken))
	for id := range s.taken {
		ids = append(ids, id)
	}
	return ids
}

// AwaitEnds waits until every acknowledged order has ended, and counts how.
func (s *Spree) AwaitEnds(ctx context.Context) (ended map[string]int, err error) {
	ended = map[string]int{}
	for _, id := range s.Acknowledged() {
		o, err := s.await(ctx, id)
		if err != nil {
			return ended, err
		}
		ended[o.Status]++
	}
	return ended, nil
}

func (s *Spree) await(ctx context.Context, id string) (o Order, err error) {
	s.mu.Lock()
	by := s.taken[id]
	s.mu.Unlock()
	err = s.insist(ctx, by, func() (err error) {
		o, err = s.Client.AwaitOrder(ctx, by.current(), id)
		return err
	})
	if err != nil {
		return o, fmt.Errorf("order %s: %w", id, err)
	}
	return o, nil
}

// Quiet waits until everything that follows the orders' ends, shipping and views, has been handled too. It says what does
// not hold when that takes more than a minute.
func (s *Spree) Quiet(ctx context.Context, p *Process) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		books, err := ReadBooks(ctx, p.Data)
		if err == nil {
			if faults := books.Audit(s.Acknowledged()); len(faults) > 0 {
				err = fmt.Errorf("%d invariants do not hold, the first: %s", len(faults), faults[0])
			}
		}
		if err == nil {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Settle waits until it is quiet, then stops the process and audits what it leaves behind.
func (s *Spree) Settle(ctx context.Context, p *Process) (books *Books, faults []string, err error) {
	quiet := s.Quiet(ctx, p) // what does not hold is found again
	if err := p.Stop(ctx); err != nil {
		return nil, nil, err
	}
	if books, err = ReadBooks(ctx, p.Data); err != nil {
		return nil, nil, err
	}
	if quiet == nil {
		books.Outbox = nil // they were empty; a tick that the stop interrupted is published by the next start
	}
	return books, books.Audit(s.Acknowledged()), nil
}
