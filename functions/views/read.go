package views

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// Order is the API's form of an order.
type Order struct {
	ID           string       `json:"id"`
	CustomerID   string       `json:"customer_id"`
	CustomerName string       `json:"customer_name,omitempty" doc:"Missing: not known yet, or deleted."`
	Lines        []Line       `json:"lines"`
	Total        events.Money `json:"total"`
	Status       string       `json:"status" enum:"pending,confirmed,cancelled"`
	Reason       string       `json:"reason,omitempty"`
	PlacedAt     *time.Time   `json:"placed_at,omitempty"`
	EndedAt      *time.Time   `json:"ended_at,omitempty"`
}

// Line is a line of an order, with the product's present name.
type Line struct {
	ProductID   string       `json:"product_id"`
	ProductName string       `json:"product_name,omitempty"`
	Quantity    int          `json:"quantity"`
	UnitPrice   events.Money `json:"unit_price"`
}

type listOrdersInput struct {
	CustomerID string `query:"customer_id" maxLength:"128" doc:"For administrators: only orders of this customer."`
	Status     string `query:"status" enum:"pending,confirmed,cancelled" doc:"Only orders with the status."`
	function.Paging
}

// owner returns the customer whose documents the caller may see: the caller, or for an administrator the requested
// customer; empty for all.
func owner(caller auth.Principal, requested string) (string, error) {
	if caller.Is(auth.RoleAdmin) {
		return requested, nil
	}
	if requested != "" && requested != caller.Subject {
		return "", fault.New(fault.Denied, "you may only see what is your own")
	}
	return caller.Subject, nil
}

func (v *views) listOrders(ctx context.Context, tx *function.Tx, in *listOrdersInput) (*function.Page[Order], error) {
	customer, err := owner(tx.Principal(), in.CustomerID)
	if err != nil {
		return nil, err
	}
	g, err := v.generation(ctx, tx)
	if err != nil {
		return nil, err
	}
	find := store.Find{
		Where: []store.Filter{{Field: "generation", Op: store.Equal, Value: g.Live}},
		Order: []store.Order{{Field: "placed", Desc: true}},
		Limit: in.Limit, Cursor: in.Cursor,
	}
	if customer != "" {
		find.Where = append(find.Where, store.Filter{Field: "customer_id", Op: store.Equal, Value: customer})
	}
	if in.Status != "" {
		find.Where = append(find.Where, store.Filter{Field: "status", Op: store.Equal, Value: in.Status})
	}
	page, err := v.orders.Query(ctx, tx, find)
	if err != nil {
		return nil, err
	}
	out := &function.Page[Order]{}
	out.Body.Next = page.Next
	out.Body.Items, err = v.named(ctx, tx, page.Items)
	return out, err
}

// named returns the orders with the names of their customers and products.
func (v *views) named(ctx context.Context, tx *function.Tx, items []store.Item[order]) ([]Order, error) {
	userIDs, productIDs := map[string]bool{}, map[string]bool{}
	for _, item := range items {
		userIDs[item.Value.CustomerID] = true
		for _, line := range item.Value.Lines {
			productIDs[line.ProductID] = true
		}
	}
	users, err := v.users.GetMany(ctx, tx, slices.Collect(maps.Keys(userIDs))...)
	if err != nil {
		return nil, err
	}
	products, err := v.products.GetMany(ctx, tx, slices.Collect(maps.Keys(productIDs))...)
	if err != nil {
		return nil, err
	}
	orders := make([]Order, len(items))
	for i, item := range items {
		orders[i] = shown(item.Value, users, products)
	}
	return orders, nil
}

func shown(o order, users map[string]user, products map[string]product) Order {
	s := Order{ID: o.OrderID, CustomerID: o.CustomerID, CustomerName: users[o.CustomerID].Name, Total: o.Total,
		Status: o.Status, Reason: o.Reason, Lines: make([]Line, len(o.Lines))}
	if placed, err := time.Parse(time.RFC3339Nano, o.Placed); err == nil {
		s.PlacedAt = &placed
	}
	if !o.Ended.IsZero() {
		s.EndedAt = &o.Ended
	}
	for i, l := range o.Lines {
		s.Lines[i] = Line{ProductID: l.ProductID, ProductName: l.Name, Quantity: l.Quantity, UnitPrice: l.UnitPrice}
		if p, ok := products[l.ProductID]; ok {
			s.Lines[i].ProductName = p.Name
		}
	}
	return s
}

// Day is the sum of the orders confirmed on one day, in one currency.
type Day struct {
	Day      string `json:"day" format:"date" doc:"In UTC."`
	Currency string `json:"currency"`
	Amount   int64  `json:"amount" doc:"In minor units."`
	Orders   int    `json:"orders"`
}

// listRevenueInput has larger pages than function.Paging: a year of days is one page.
type listRevenueInput struct {
	From   string `query:"from" format:"date" doc:"The first day."`
	To     string `query:"to" format:"date" doc:"The last day."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"400" doc:"The most entries of a page."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"The next of the page before."`
}

func (v *views) listRevenue(ctx context.Context, tx *function.Tx, in *listRevenueInput) (*function.Page[Day], error) {
	g, err := v.generation(ctx, tx)
	if err != nil {
		return nil, err
	}
	customer := allCustomers
	if !tx.Principal().Is(auth.RoleAdmin) {
		customer = tx.Principal().Subject
	}
	find := store.Find{
		Where: []store.Filter{
			{Field: "generation", Op: store.Equal, Value: g.Live}, {Field: "customer_id", Op: store.Equal, Value: customer},
		},
		Order: []store.Order{{Field: "day"}},
		Limit: in.Limit, Cursor: in.Cursor,
	}
	if in.From != "" {
		find.Where = append(find.Where, store.Filter{Field: "day", Op: store.GreaterOrEqual, Value: in.From})
	}
	if in.To != "" {
		find.Where = append(find.Where, store.Filter{Field: "day", Op: store.LessOrEqual, Value: in.To})
	}
	return v.sums(ctx, tx, find)
}

// sums returns a page of days, each the sum of the documents of the day and currency. These follow each other, since
// the ids of parts begin with that of the sum.
func (v *views) sums(ctx context.Context, tx *function.Tx, find store.Find) (*function.Page[Day], error) {
	out := &function.Page[Day]{}
	out.Body.Items = []Day{}
	most := find.Limit
	find.Limit = min(2*most, store.MaxLimit)
	var last store.Item[dayRevenue]
	for {
		page, err := v.revenue.Query(ctx, tx, find)
		if err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			e, n := item.Value, len(out.Body.Items)
			if n == 0 || out.Body.Items[n-1].Day != e.Day || out.Body.Items[n-1].Currency != e.Currency {
				if n == most {
					at := store.Position{ID: last.ID, Values: []any{last.Value.Day}}
					out.Body.Next = store.EncodeCursor(at)
					return out, nil
				}
				out.Body.Items = append(out.Body.Items, Day{Day: e.Day, Currency: e.Currency})
				n++
			}
			out.Body.Items[n-1].Amount += e.Amount
			out.Body.Items[n-1].Orders += e.Orders
			last = item
		}
		if find.Cursor = page.Next; find.Cursor == "" {
			return out, nil
		}
	}
}

// Product is a product with its available stock.
type Product struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	Price     events.Money `json:"price"`
	Available int          `json:"available" doc:"The number that may be ordered."`
}

type listProductsInput struct{ function.Paging }

func (v *views) listProducts(
	ctx context.Context, tx *function.Tx, in *listProductsInput,
) (*function.Page[Product], error) {
	page, err := v.products.Query(ctx, tx, store.Find{Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(page.Items))
	for i, item := range page.Items {
		ids[i] = item.ID
	}
	stocks, err := v.stock.GetMany(ctx, tx, ids...)
	if err != nil {
		return nil, err
	}
	out := &function.Page[Product]{}
	out.Body.Items, out.Body.Next = make([]Product, 0, len(page.Items)), page.Next
	for _, item := range page.Items {
		if p := item.Value; !p.Deleted {
			out.Body.Items = append(
				out.Body.Items, Product{ID: item.ID, Name: p.Name, Price: p.Price, Available: stocks[item.ID].Available},
			)
		}
	}
	return out, nil
}
