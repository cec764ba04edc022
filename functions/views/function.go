package views

import (
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

type views struct {
	part        string // of the sums of all customers; see dayRevenue
	orders      *store.Collection[order]
	revenue     *store.Collection[dayRevenue]
	users       *store.Collection[user]
	products    *store.Collection[product]
	stock       *store.Collection[stock]
	generations *store.Collection[generations]
	progress    *store.Collection[progress]
	removals    *store.Collection[removal]
}

// New declares the views function.
func New(env function.Env) (*function.Function, error) {
	f := function.New("views", env)
	// A read model may be behind the events.
	function.Deliver(f, broker.Tuning{Batch: 512, MinBatchInterval: 100 * time.Millisecond})
	v := &views{
		part: drawPart(f.Env().NewID()),
		orders: function.Collection[order](f, "orders",
			store.On("generation", "placed"), store.On("generation", "customer_id", "placed"),
			store.On("generation", "status", "placed"), store.On("generation", "customer_id", "status", "placed")),
		revenue:     function.Collection[dayRevenue](f, "revenue", store.On("generation", "customer_id", "day")),
		users:       function.Collection[user](f, "users"),
		products:    function.Collection[product](f, "products"),
		stock:       function.Collection[stock](f, "stock"),
		generations: function.Collection[generations](f, "generations"),
		progress:    function.Collection[progress](f, "progress"),
		removals:    function.Collection[removal](f, "removals"),
	}
	function.On(f, events.UserRegistered, tracked(v, v.userRegistered))
	function.On(f, events.UserChanged, tracked(v, v.userChanged))
	function.On(f, events.UserDeleted, tracked(v, v.userDeleted))
	function.On(f, events.ProductChanged, tracked(v, v.productChanged))
	function.On(f, events.StockChanged, tracked(v, v.stockChanged))
	function.On(f, events.OrderPlaced, tracked(v, v.orderPlaced))
	function.On(f, events.OrderConfirmed, tracked(v, v.orderConfirmed))
	function.On(f, events.OrderCancelled, tracked(v, v.orderCancelled))
	function.On(f, event.ArchiveReplayed, v.replayed)
	function.Emits(f, event.ArchiveReplay)

	admin := function.Only(auth.RoleAdmin)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/views/orders", Summary: "List orders, newest first",
		Person: "customer_id", Owner: manifest.OwnerDenied, Errors: []int{http.StatusForbidden},
		Description: "An administrator sees all orders, any other caller their own.",
	}, v.listOrders)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/views/revenue", Owner: manifest.OwnerOnly,
		Summary:     "Show the revenue of confirmed orders per day and currency",
		Description: "An administrator sees the revenue of all customers, any other caller their own spending.",
	}, v.listRevenue)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/views/products", Access: function.Public,
		Summary:     "List products with their price and available stock",
		Description: "Joined from the events of catalog and inventory. A page may be short and still have a next one.",
	}, v.listProducts)
	function.Serve(f, function.Operation{
		Method: http.MethodPost, Path: "/api/views/rebuild", Access: admin, Status: http.StatusAccepted,
		Summary:     "Rebuild the views from the archive",
		Description: "The present views are used until the rebuild is done. A rebuild that is running is abandoned.",
	}, v.rebuild)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/views/rebuild", Access: admin, Summary: "Show the progress of a rebuild",
	}, v.showRebuild)
	return f, nil
}

// replayable returns the event types that the views are built from.
func replayable() []string {
	return []string{
		events.UserRegistered.Name(), events.UserChanged.Name(), events.UserDeleted.Name(),
		events.ProductChanged.Name(), events.StockChanged.Name(),
		events.OrderPlaced.Name(), events.OrderConfirmed.Name(), events.OrderCancelled.Name(),
	}
}
