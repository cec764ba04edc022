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

// Spree places many orders of every kind, also while the shop is killed and restarted, and records which were
// acknowledged. Its methods may be called concurrently.
type Spree struct {
	Client *Client

	customers []*account
	plenty    string
	scarce    string

	repeated atomic.Int64

	mu    sync.Mutex
	taken map[string]*account // acknowledged orders, by id
}

// account is a customer that logs in again when the token has expired.
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

// The payment tokens of a spree: good, declined, failing, slow and unknown cards.
var cards = []string{"tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_error_once", "tok_ok", "tok_slow",
	"tok_ok", "tok_unheard_of"}

// NewSpree makes the customers and two products: one with plenty of stock, one with too little.
func NewSpree(ctx context.Context, url string) (*Spree, error) {
	return NewSpreeOf(ctx, url, "customer")
}

// Probes is the number of orders that NewSpree places to check that orders knows the products: one for each.
const Probes = 2

// NewSpreeOf is like NewSpree with another prefix of the customers' names, for a second spree at the same shop.
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

// Place sends order number n with its idempotency key until it is answered.
func (s *Spree) Place(ctx context.Context, n int) error {
	_, err := s.place(ctx, n)
	return err
}

// PlaceAll places the orders 0 to n-1 with so many workers. It calls before ahead of each, and stops at the first error
// of before. It returns that and the errors of orders.
func (s *Spree) PlaceAll(ctx context.Context, n, workers int, before func(n int) error) error {
	numbers := make(chan int)
	var group sync.WaitGroup
	failed := make(chan error, n)
	for range workers {
		group.Go(func() {
			for n := range numbers {
				if err := s.Place(ctx, n); err != nil {
					failed <- fmt.Errorf("order %d: %w", n, err)
				}
			}
		})
	}
	var stopped error
	for i := 0; i < n && stopped == nil; i++ {
		if stopped = before(i); stopped == nil {
			numbers <- i
		}
	}
	close(numbers)
	group.Wait()
	close(failed)
	errs := []error{stopped}
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
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

// Repeated returns how many calls were repeated because they broke or were answered with 409, 429 or 5xx.
func (s *Spree) Repeated() int { return int(s.repeated.Load()) }

// insist repeats a call until it succeeds or fails finally, with waits that grow from 10 to 250 milliseconds.
func (s *Spree) insist(ctx context.Context, by *account, call func() error) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		err := call()
		var refused *Status
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &refused) || refused.Code >= 500 || refused.Code == http.StatusConflict ||
			refused.Code == http.StatusTooManyRequests:
			s.repeated.Add(1)
		case refused.Code == http.StatusUnauthorized:
			_ = by.login(ctx, s.Client) // if it fails, the next call fails too
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

// At returns the spree for another process with the same customers and products, at which the given orders were
// acknowledged before.
func (s *Spree) At(url string, acknowledged []string) *Spree {
	other := &Spree{Client: NewClient(url, 64), customers: s.customers, plenty: s.plenty, scarce: s.scarce,
		taken: map[string]*account{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range acknowledged {
		other.taken[id] = s.taken[id]
	}
	return other
}

// Acknowledged returns the ids of the acknowledged orders.
func (s *Spree) Acknowledged() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.taken))
	for id := range s.taken {
		ids = append(ids, id)
	}
	return ids
}

// AwaitEnds waits until every acknowledged order has ended, and returns the number of orders for each final status.
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

// Quiet waits until everything after the orders' ends, such as shipping and views, is handled. After a minute it
// returns an error with the first violated invariant.
func (s *Spree) Quiet(ctx context.Context, p *Process) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		books, err := ReadBooks(ctx, p.Data)
		if err == nil {
			if violations := books.Audit(s.Acknowledged()); len(violations) > 0 {
				err = fmt.Errorf("%d invariants do not hold, the first: %s", len(violations), violations[0])
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

// StopAndAudit waits as Quiet does, stops the process and audits its stores.
func (s *Spree) StopAndAudit(ctx context.Context, p *Process) (books *Books, violations []string, err error) {
	quiet := s.Quiet(ctx, p) // the audit finds a violation again
	if err := p.Stop(ctx); err != nil {
		return nil, nil, err
	}
	if books, err = ReadBooks(ctx, p.Data); err != nil {
		return nil, nil, err
	}
	if quiet == nil {
		books.Outbox = nil // they were empty before; the next start publishes a tick that the stop interrupted
	}
	return books, books.Audit(s.Acknowledged()), nil
}
