package tmp

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/inventory"
	"github.com/ebb-dev/ebb/functions/orders"
	"github.com/ebb-dev/ebb/functions/payments"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

var _ = context.Background

type timer struct {
	due time.Time
	e   ce.Event
}

func TestSim(t *testing.T) {
	ends := map[string]int{}
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		hs := map[string]*functiontest.Harness{
			"orders":    functiontest.New(t, orders.New),
			"inventory": functiontest.New(t, inventory.New),
			"payments":  functiontest.New(t, payments.New, functiontest.Set(map[string]string{"EBB_PAYMENTS_SLOW": "1ms"})),
		}
		hears := map[string]string{}
		for _, e := range []*events.Info{events.InventoryReserve.Info(), events.InventoryRelease.Info(), events.InventoryShip.Info()} {
			hears[e.Name] = "inventory"
		}
		for _, e := range []*events.Info{events.PaymentAuthorize.Info(), events.PaymentCapture.Info(), events.PaymentVoid.Info(), events.PaymentRefund.Info()} {
			hears[e.Name] = "payments"
		}
		for _, e := range []*events.Info{events.InventoryReserved.Info(), events.InventoryRefused.Info(), events.InventoryReleased.Info(), events.PaymentAuthorized.Info(), events.PaymentDeclined.Info(), events.PaymentCaptured.Info(), events.PaymentVoided.Info(), events.PaymentRefunded.Info(), events.OrderDeadline.Info()} {
			hears[e.Name] = "orders"
		}
		hs["inventory"].Call("PUT", "/api/stock/apple", functiontest.Admin(), map[string]int{"available": 20}).Expect(200)
		hs["inventory"].Emitted()
		hs["orders"].MustDeliver(events.ProductChanged.New("apple", events.ChangedProduct{ProductID: "apple", Name: "a", Price: events.Money{Amount: 5, Currency: "EUR"}, Version: 1}))
		var mail []ce.Event
		timers := map[string]timer{}
		gather := func() {
			for _, h := range hs {
				for _, e := range h.Emitted() {
					switch e.Type() {
					case events.ClockSchedule.Name():
						s, _ := events.ClockSchedule.Decode(e)
						var te ce.Event
						json.Unmarshal(s.Event, &te)
						timers[s.TimerID] = timer{s.Due, te}
					case events.ClockCancel.Name():
						c, _ := events.ClockCancel.Decode(e)
						delete(timers, c.TimerID)
					default:
						if hears[e.Type()] != "" {
							mail = append(mail, e)
						}
					}
				}
			}
		}
		var ids []string
		var dead []string
		for beat := 0; ; beat++ {
			gather()
			if len(ids) < 20 && rnd.IntN(5) == 0 {
				tok := []string{"tok_ok", "tok_ok", "tok_declined", "tok_error_once", "tok_slow"}[rnd.IntN(5)]
				var o orders.Order
				hs["orders"].Call("POST", "/api/orders", functiontest.As("ada"), fmt.Sprintf(`{"lines":[{"product_id":"apple","quantity":%d}],"payment":{"token":%q}}`, 1+rnd.IntN(3), tok), "Idempotency-Key", fmt.Sprint(len(ids))).Expect(202).JSON(&o)
				ids = append(ids, o.ID)
				continue
			}
			if len(ids) > 0 && rnd.IntN(60) == 0 {
				hs["orders"].Call("POST", "/api/orders/"+ids[rnd.IntN(len(ids))]+"/cancellation", functiontest.As("ada"), nil)
			}
			if rnd.IntN(50) == 0 {
				for _, h := range hs {
					h.Restart()
				}
			}
			if rnd.IntN(30) == 0 || len(mail) == 0 {
				d := time.Duration(rnd.IntN(20)) * time.Second
				for _, h := range hs {
					h.Clock.Advance(d)
				}
				for id, tm := range timers {
					if !hs["orders"].Clock.Now().Before(tm.due) {
						mail = append(mail, tm.e)
						delete(timers, id)
					}
				}
			}
			if len(mail) == 0 {
				if len(ids) == 20 && len(timers) == 0 {
					break
				}
				continue
			}
			n := rnd.IntN(len(mail))
			e := mail[n]
			r := hs[hears[e.Type()]].Receive(e)[0]
			if !r.OK() && !fault.RetryableStatus(r.Status) {
				dead = append(dead, e.Type()+r.Message)
			}
			if (r.OK() && rnd.IntN(4) > 0) || !fault.RetryableStatus(r.Status) && !r.OK() {
				mail = append(mail[:n], mail[n+1:]...)
			}
			if beat > 100000 {
				t.Fatalf("seed %d: does not end: %d mail, e.g. %v %+v", seed, len(mail), e.Type(), r)
			}
		}
		shipped := 0
		for _, id := range ids {
			var o orders.Order
			hs["orders"].Call("GET", "/api/orders/"+id, functiontest.As("ada"), nil).Expect(200).JSON(&o)
			var p payments.Payment
			if r := hs["payments"].Call("GET", "/api/payments/"+id, functiontest.Admin(), nil); r.Status == 200 {
				r.JSON(&p)
			}
			ends[string(o.Status)+" "+string(p.Status)+" "+o.Code]++
			switch {
			case o.Status == orders.Confirmed && p.Status == payments.Captured:
				shipped += o.Lines[0].Quantity
			case o.Status == orders.Cancelled && (p.Status == "" || p.Status == payments.Declined || p.Status == payments.Voided || p.Status == payments.Refunded):
			default:
				t.Fatalf("seed %d: %+v with %+v", seed, o, p)
			}
		}
		var s inventory.Stock
		hs["inventory"].Call("GET", "/api/stock/apple", functiontest.Nobody, nil).JSON(&s)
		if s.Initial != 20 || s.Reserved != 0 || s.Shipped != shipped || s.Available != 20-shipped {
			t.Fatalf("seed %d: %+v, shipped %d", seed, s, shipped)
		}
		if len(dead) > 0 {
			t.Errorf("seed %d: dead %v", seed, dead)
		}
	}
	t.Log(ends)
}

var _ = function.Env{}
