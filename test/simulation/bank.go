package simulation

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// bank is a payment provider that keeps accounts of its own, to compare the shop with. Its calls go over the simulated
// network, so they are slow, fail, and fail after they took effect.
type bank struct {
	sim      *simulate.Simulation
	accounts map[string]*account // by order
	careless bool
	doubtful bool // it declines what it has authorized, when it is asked again
}

type account struct {
	state   string // "", held, taken, released, returned
	amount  int64
	charges int // how often money was taken
	tried   bool
}

var (
	_ provider.Provider = (*bank)(nil)
	_ provider.Opener   = (*bank)(nil)
)

func (b *bank) of(p provider.Payment) *account {
	if b.accounts[p.OrderID] == nil {
		b.accounts[p.OrderID] = &account{}
	}
	return b.accounts[p.OrderID]
}

// Open implements provider.Opener.
func (b *bank) Open(_ context.Context, p provider.Payment) (string, error) {
	err := b.sim.RemoteCall(p.Key, "open "+p.OrderID, func() error {
		b.of(p)
		return nil
	})
	return "ref-" + p.OrderID, err
}

// Authorize implements provider.Provider, by the tokens of the sandbox.
func (b *bank) Authorize(_ context.Context, p provider.Payment) error {
	if p.Token == slow {
		b.sim.Sleep(18 * time.Second) // with a slow network, longer than the deadline of the step
	}
	return b.sim.RemoteCall(p.Key, "authorize "+p.OrderID, func() error {
		a := b.of(p)
		switch {
		case p.Ref == "":
			return fault.New(fault.Internal, "the payment was not opened")
		case b.doubtful && a.state == "held":
			return &provider.Declined{Code: "requires_capture", Reason: "the payment is in an unexpected state"}
		case a.state == "held" || a.state == "taken":
			return nil
		case a.state != "":
			return &provider.Declined{Code: "closed", Reason: "the payment is closed"}
		case p.Token == flaky && !a.tried:
			a.tried = true
			return fault.New(fault.Unavailable, "the bank is not available just now")
		case p.Token == declined:
			return &provider.Declined{Code: "card_declined", Reason: "the card was declined"}
		}
		a.state, a.amount = "held", p.Amount
		return nil
	})
}

// Capture implements provider.Provider.
func (b *bank) Capture(_ context.Context, p provider.Payment) error {
	return b.sim.RemoteCall(p.Key, "capture "+p.OrderID, func() error {
		a := b.of(p)
		switch a.state {
		case "held":
			a.state = "taken"
			a.charges++
		case "taken":
			if b.careless {
				a.charges++
			}
		default:
			return &provider.Declined{Code: "closed", Reason: "nothing is held for the order"}
		}
		return nil
	})
}

// Void implements provider.Provider.
func (b *bank) Void(_ context.Context, p provider.Payment) error {
	return b.sim.RemoteCall(p.Key, "void "+p.OrderID+" by "+p.Key, func() error { // a refund voids too
		a := b.of(p)
		switch a.state {
		case "", "held":
			a.state = "released"
		case "taken":
			return provider.ErrCaptured
		}
		return nil
	})
}

// Refund implements provider.Provider.
func (b *bank) Refund(_ context.Context, p provider.Payment) error {
	return b.sim.RemoteCall(p.Key, "refund "+p.OrderID, func() error {
		a := b.of(p)
		switch a.state {
		case "taken":
			a.state = "returned"
		case "", "held":
			return fault.New(fault.Internal, "there is nothing to give back")
		}
		return nil
	})
}
