package tmp

import (
	"fmt"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/inventory"
	"github.com/ebb-dev/ebb/functions/orders"
	"github.com/ebb-dev/ebb/functions/payments"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

func BenchmarkShop(b *testing.B) {
	hs := map[string]*functiontest.Harness{
		"orders":    functiontest.New(b, orders.New, functiontest.Once()),
		"inventory": functiontest.New(b, inventory.New, functiontest.Once()),
		"payments":  functiontest.New(b, payments.New, functiontest.Once()),
	}
	hs["inventory"].Call("PUT", "/api/stock/apple", functiontest.Admin(), map[string]int{"available": 1000000000}).Expect(200)
	hs["inventory"].Emitted()
	hs["orders"].MustDeliver(events.ProductChanged.New("apple", events.ChangedProduct{ProductID: "apple", Name: "a", Price: events.Money{Amount: 5, Currency: "EUR"}, Version: 1}))
	token := hs["orders"].Token(functiontest.As("ada"))
	_ = token
	left := b.N
	key := 0
	for b.Loop() {
		_ = left
		const batch = 64
		if key%batch != 0 {
			key++
			continue
		}
		for range batch {
			hs["orders"].Call("POST", "/api/orders", functiontest.As("ada"), `{"lines":[{"product_id":"apple","quantity":1}],"payment":{"token":"tok_ok"}}`, "Idempotency-Key", fmt.Sprint(key)).Expect(202)
			key++
		}
		key -= batch - 1
		pending := hs["orders"].Emitted()
		for len(pending) > 0 {
			to := map[string][]ce.Event{}
			for _, e := range pending {
				info, _ := events.Lookup(e.Type())
				switch {
				case info.Capability == "clock" || info.Capability == "orders" || info.What == "stock-changed" || info.What == "shipped":
				case info.Kind == events.Command:
					to[info.Capability] = append(to[info.Capability], e)
				default:
					to["orders"] = append(to["orders"], e)
				}
			}
			pending = nil
			for name, es := range to {
				if name == "payments" {
					for _, e := range es {
						hs[name].Receive(e)
					}
				} else {
					hs[name].Receive(es...)
				}
				pending = append(pending, hs[name].Emitted()...)
			}
		}
	}
}
