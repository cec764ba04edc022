package orders

import (
	_ "embed"
	"errors"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/rpc"
	"github.com/ebb-dev/ebb/infra/saga"
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

//go:embed ordersv1/orders.binpb
var schema []byte

type orders struct {
	f        *function.Function
	saga     *saga.Saga[order]
	products *store.Collection[product]
}

// New declares the orders function.
func New(env function.Env) (*function.Function, error) {
	return NewVersion(env, 1, func(own []saga.Step[State]) []saga.Step[State] { return own })
}

// State is the state of an order, of which its saga makes commands.
type State = order

// NewVersion declares the function with another version of its saga, made from its own steps, while orders that were
// placed before go on with those: as a later build does, for simulations of a deploy.
func NewVersion(
	env function.Env, version int, change func(own []saga.Step[State]) []saga.Step[State],
) (*function.Function, error) {
	f := function.New("orders", env)
	c, err := function.Configure[Config](f)
	if err != nil {
		return nil, err
	}
	s := &orders{f: f, products: function.Collection[product](f, "products")}
	d := saga.Declaration[order]{
		Name: "order", Version: version, Steps: change(placing(c.StepDeadline)), Ended: s.ended,
		Timer: saga.Send(events.OrderDeadline, deadline),
		Store: saga.InJournal("orders", fold, foldRevision, entries, byCustomer),
	}
	if version > 1 {
		d.Earlier = map[int][]saga.Step[order]{1: placing(c.StepDeadline)}
	}
	s.saga, err = saga.New(f, d)
	if err != nil {
		return nil, err
	}
	function.Serve(f, placeOrder, s.place, function.Then(s.waitFor))
	function.Serve(f, listOrders, s.list)
	function.Serve(f, getOrder, s.get)
	function.Serve(f, cancelOrder, s.cancel)
	rpc.Serve(f, "ebb.orders.v1.OrderService", schema)
	function.On(f, events.ProductChanged, s.productChanged)
	function.Emits(f, events.OrderPlaced, events.OrderConfirmed, events.OrderCancelled, events.InventoryShip)
	return f, nil
}
