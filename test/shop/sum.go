package shop

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ebb-dev/ebb/infra/manifest"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
)

// Books holds the content of the stores of a stopped shop.
type Books struct {
	Orders       map[string]OrderBook
	Payments     map[string]PaymentBook
	Stock        map[string]StockBook
	Reservations map[string]ReservationBook
	Views        map[string]ViewBook
	Outbox       map[string]int // entries by function
	DeadLetters  int
}

// The members of the functions' documents that the sums need.
type (
	OrderBook struct {
		State struct {
			Status string `json:"status"`
			Saga   struct {
				Reason string `json:"reason"`
			} `json:"saga"`
			Total struct {
				Amount int64 `json:"amount"`
			} `json:"total"`
			Lines []struct {
				ProductID string `json:"product_id"`
				Quantity  int    `json:"quantity"`
			} `json:"lines"`
		} `json:"state"`
	}
	PaymentBook struct {
		Status string `json:"status"`
		Amount struct {
			Amount int64 `json:"amount"`
		} `json:"amount"`
	}
	StockBook struct {
		Available, Reserved, Shipped, Initial int
	}
	ReservationBook struct {
		Status string `json:"status"`
		Lines  []Line `json:"lines"`
	}
	ViewBook struct {
		Status string `json:"status"`
	}
)

// ReadBooks reads the stores in the data directory of a stopped process.
func ReadBooks(ctx context.Context, data string) (*Books, error) {
	return ReadBooksOf(ctx, sqlite.Opener(filepath.Join(data, "store")))
}

// ReadBooksOf reads the stores of all functions through the opener.
func ReadBooksOf(ctx context.Context, open store.Opener) (*Books, error) {
	declared, err := functions.System().Declare()
	if err != nil {
		return nil, err
	}
	b := &Books{Outbox: map[string]int{}}
	for _, d := range declared.Functions {
		if len(d.Schema) == 0 {
			continue
		}
		if err := b.read(ctx, open, d); err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	return b, nil
}

func (b *Books) read(ctx context.Context, open store.Opener, d *manifest.Declaration) error {
	db, err := open(ctx, d.Name, d.Schema)
	if err != nil {
		return err
	}
	defer db.Close()
	left, err := documents[struct{}](ctx, db, "_outbox")
	if err != nil {
		return err
	}
	b.Outbox[d.Name] = len(left)
	switch d.Name {
	case "orders":
		b.Orders, err = documents[OrderBook](ctx, db, "orders")
	case "payments":
		b.Payments, err = documents[PaymentBook](ctx, db, "payments")
	case "inventory":
		if b.Stock, err = documents[StockBook](ctx, db, "stock"); err == nil {
			b.Reservations, err = documents[ReservationBook](ctx, db, "reservations")
		}
	case "views":
		b.Views, err = documents[ViewBook](ctx, db, "orders")
	case "archive":
		var dead map[string]struct{}
		dead, err = documents[struct{}](ctx, db, "dead_letters")
		b.DeadLetters = len(dead)
	}
	return err
}

func documents[T any](ctx context.Context, db store.Driver, collection string) (map[string]T, error) {
	found := map[string]T{}
	q := store.Query{Collection: collection, Limit: store.MaxLimit}
	for {
		docs, more, err := db.Query(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			var v T
			if err := json.Unmarshal(d.Data, &v); err != nil {
				return nil, fmt.Errorf("%s %s: %w", collection, d.ID, err)
			}
			found[d.ID] = v
		}
		if !more {
			return found, nil
		}
		q.After = &store.Position{ID: docs[len(docs)-1].ID}
	}
}

// Audit returns every violated invariant. Each acknowledged order must exist.
func (b *Books) Audit(acknowledged []string) []string {
	a := audit{b: b}
	for _, id := range acknowledged {
		if _, ok := b.Orders[id]; !ok {
			a.violation("order %s was acknowledged and is lost", id)
		}
	}
	shipped := map[string]int{}
	for id, o := range b.Orders {
		a.order(id, o)
		if o.State.Status == "confirmed" {
			for _, l := range o.State.Lines {
				shipped[l.ProductID] += l.Quantity
			}
		}
	}
	for id, s := range b.Stock {
		if s.Initial != s.Available+s.Reserved+s.Shipped || s.Available < 0 {
			a.violation("product %s: initial %d, available %d, reserved %d, shipped %d", id, s.Initial, s.Available, s.Reserved,
				s.Shipped)
		}
		if s.Reserved != 0 {
			a.violation("product %s: %d are still reserved", id, s.Reserved)
		}
		if s.Shipped != shipped[id] {
			a.violation("product %s: %d left, confirmed orders hold %d", id, s.Shipped, shipped[id])
		}
	}
	for id := range b.Payments {
		if _, ok := b.Orders[id]; !ok {
			a.violation("payment %s has no order", id)
		}
	}
	for name, n := range b.Outbox {
		if n > 0 {
			a.violation("%s: %d entries are left in the outbox", name, n)
		}
	}
	return a.violations
}

type audit struct {
	b          *Books
	violations []string
}

func (a *audit) violation(format string, args ...any) {
	if len(a.violations) < 50 {
		a.violations = append(a.violations, fmt.Sprintf(format, args...))
	}
}

func (a *audit) order(id string, o OrderBook) {
	p, r := a.b.Payments[id], a.b.Reservations[id]
	switch o.State.Status {
	case "confirmed":
		if p.Status != "captured" || p.Amount.Amount != o.State.Total.Amount {
			a.violation("order %s is confirmed, its payment %s %d of %d", id, p.Status, p.Amount.Amount, o.State.Total.Amount)
		}
		if r.Status != "shipped" {
			a.violation("order %s is confirmed, its stock %s", id, r.Status)
		}
	case "cancelled":
		switch p.Status {
		case "", "declined", "voided", "refunded":
		default:
			a.violation("order %s is cancelled, its payment %s", id, p.Status)
		}
		switch r.Status {
		case "", "refused", "released":
		default:
			a.violation("order %s is cancelled, its stock %s", id, r.Status)
		}
		if o.State.Saga.Reason == "" {
			a.violation("order %s is cancelled without a reason", id)
		}
	default:
		a.violation("order %s is %s", id, o.State.Status)
	}
	if v, ok := a.viewed(id); !ok || v.Status != o.State.Status {
		a.violation("order %s is %s, the view says %q", id, o.State.Status, v.Status)
	}
}

// viewed returns the order in the live generation of the view.
func (a *audit) viewed(id string) (ViewBook, bool) {
	if v, ok := a.b.Views[id]; ok {
		return v, true
	}
	for key, v := range a.b.Views {
		if strings.HasSuffix(key, "/"+id) {
			return v, true
		}
	}
	return ViewBook{}, false
}
