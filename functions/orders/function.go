package orders

import (
	"errors"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/journal"
	"github.com/ebb-dev/ebb/infra/store"
)

// Config holds the settings of orders.
type Config struct {
	StepDeadline time.Duration `envconfig:"EBB_ORDERS_STEP_DEADLINE" default:"30s" desc:"the deadline of each step"`
}

// Validate returns an error for a value that cannot work.
func (c Config) Validate() error {
	if c.StepDeadline <= 0 {
		return errors.New("invalid EBB_ORDERS_STEP_DEADLINE: must be positive")
	}
	return nil
}

// New declares the orders function.
func New(env function.Env) (*function.Function, error) {
	f := function.New("orders", env)
	c, err := function.Configure[Config](f)
	if err != nil {
		return nil, err
	}
	steps, err := placing(c.StepDeadline)
	if err != nil {
		return nil, err
	}
	s := &orders{
		f: f, saga: steps,
		journal:  journal.New(f, "orders", fold, journal.Revision(foldRevision), journal.Indexes(byCustomer)),
		products: function.Collection[product](f, "products"),
	}
	function.Serve(f, placeOrder, s.place, function.Then(s.waitFor))
	function.Serve(f, listOrders, s.list)
	function.Serve(f, getOrder, s.get)
	function.Serve(f, cancelOrder, s.cancel)
	function.On(f, events.InventoryReserved, s.reserved)
	function.On(f, events.InventoryRefused, s.refused)
	function.On(f, events.InventoryReleased, s.released)
	function.On(f, events.PaymentAuthorized, s.authorized)
	function.On(f, events.PaymentDeclined, s.declined)
	function.On(f, events.PaymentCaptured, s.captured)
	function.On(f, events.PaymentVoided, s.voided)
	function.On(f, events.PaymentRefunded, s.refunded)
	function.On(f, events.ProductChanged, s.productChanged)
	function.On(f, events.OrderDeadline, s.deadline)
	function.Prefetch(f, func(e ce.Event) []store.Key {
		if e.Type() == events.ProductChanged.Name() {
			return nil
		}
		return []store.Key{s.journal.Key(e.Subject())}
	})
	function.Emits(f, events.OrderPlaced, events.OrderConfirmed, events.OrderCancelled, events.OrderDeadline,
		events.InventoryReserve, events.InventoryRelease, events.InventoryShip,
		events.PaymentAuthorize, events.PaymentCapture, events.PaymentVoid, events.PaymentRefund)
	return f, nil
}
