package inventory_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/inventory"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

var types = event.NewCatalogue(events.Types()...)

// shop returns an inventory with 5 apples and 3 pears.
func shop(t testing.TB) *functiontest.Harness {
	h := functiontest.New(t, inventory.New)
	count(h, "apple", 5)
	count(h, "pear", 3)
	h.Emitted()
	return h
}

func count(h *functiontest.Harness, product string, available int) {
	h.T.Helper()
	body := map[string]int{"available": available}
	h.Call("PUT", "/api/stock/"+product, functiontest.Admin(), body).Expect(http.StatusOK)
}

// stock returns available/reserved/shipped/initial.
func stock(h *functiontest.Harness, product string) string {
	h.T.Helper()
	var s inventory.Stock
	h.Call("GET", "/api/stock/"+product, functiontest.Nobody, nil).Expect(http.StatusOK).JSON(&s)
	if s.Initial != s.Available+s.Reserved+s.Shipped || s.Available < 0 || s.Reserved < 0 || s.Shipped < 0 {
		h.T.Fatalf("%s does not add up: %+v", product, s)
	}
	return fmt.Sprintf("%d/%d/%d/%d", s.Available, s.Reserved, s.Shipped, s.Initial)
}

func wantStock(h *functiontest.Harness, product, want string) {
	h.T.Helper()
	if got := stock(h, product); got != want {
		h.T.Errorf("stock of %s is %s, want %s", product, got, want)
	}
}

func reserve(order string, lines ...events.StockLine) event.Draft {
	return events.InventoryReserve.New(order, events.ReserveStock{OrderID: order, Lines: lines})
}
func release(order string) event.Draft {
	return events.InventoryRelease.New(order, events.ReleaseStock{OrderID: order})
}
func ship(order string) event.Draft {
	return events.InventoryShip.New(order, events.ShipStock{OrderID: order})
}
func of(product string, n int) events.StockLine {
	return events.StockLine{ProductID: product, Quantity: n}
}

// emitted writes events as text: "stock-changed:apple reserved:o1".
func emitted(es []ce.Event) string {
	var all []string
	for _, e := range es {
		info, _ := types.Lookup(e.Type())
		all = append(all, info.What+":"+e.Subject())
	}
	return strings.Join(all, " ")
}

func wantEmitted(h *functiontest.Harness, want string) []ce.Event {
	h.T.Helper()
	es := h.Emitted()
	if got := emitted(es); got != want {
		h.T.Errorf("emitted %q, want %q", got, want)
	}
	return es
}

// An order's stock is reserved, then shipped; an event for each changed product has its new stock.
func TestReserveAndShip(t *testing.T) {
	h := shop(t)
	h.MustDeliver(reserve("o1", of("apple", 2), of("pear", 3)))
	es := wantEmitted(h, "stock-changed:apple stock-changed:pear reserved:o1")
	got, err := events.StockChanged.Decode(es[0])
	want := events.ChangedStock{ProductID: "apple", Available: 3, Reserved: 2, Initial: 5}
	if err != nil || got != want {
		t.Errorf("emitted %+v, %v, want %+v", got, err, want)
	}
	wantStock(h, "apple", "3/2/0/5")
	wantStock(h, "pear", "0/3/0/3")

	h.MustDeliver(ship("o1"))
	wantEmitted(h, "stock-changed:apple stock-changed:pear shipped:o1")
	wantStock(h, "apple", "3/0/2/5")
	wantStock(h, "pear", "0/0/3/3")
}

// All lines or none: when one product has too little stock the whole order is refused, and the event names the product.
func TestRefused(t *testing.T) {
	for name, lines := range map[string][]events.StockLine{
		"too many":              {of("apple", 1), of("pear", 4)},
		"too many in two lines": {of("pear", 2), of("apple", 1), of("pear", 2)},
		"unknown product":       {of("apple", 1), of("plum", 1)},
		"more than its stock":   {of("pear", 1000000)},
	} {
		t.Run(name, func(t *testing.T) {
			h := shop(t)
			h.MustDeliver(reserve("o1", lines...))
			es := wantEmitted(h, "refused:o1")
			got, _ := events.InventoryRefused.Decode(es[0])
			if got.ProductID == "" || got.Reason != "insufficient stock of "+got.ProductID || got.ProductID == "apple" {
				t.Errorf("refused with %+v", got)
			}
			wantStock(h, "apple", "5/0/0/5")
			wantStock(h, "pear", "3/0/0/3")
		})
	}
}

// Every command in every state of a reservation: its status code, the emitted events and the stock after it.
func TestEveryCommandInEveryState(t *testing.T) {
	states := map[string][]event.Draft{
		"none":     nil,
		"reserved": {reserve("o1", of("apple", 2))},
		"refused":  {reserve("o1", of("apple", 9))},
		"released": {reserve("o1", of("apple", 2)), release("o1")},
		"early":    {release("o1")}, // before anything was reserved
		"shipped":  {reserve("o1", of("apple", 2)), ship("o1")},
	}
	again := reserve("o1", of("apple", 2))
	tests := []struct {
		state  string
		cmd    event.Draft
		status int
		emits  string
		apple  string
	}{
		{"none", again, 200, "stock-changed:apple reserved:o1", "3/2/0/5"},
		{"none", release("o1"), 200, "released:o1", "5/0/0/5"},
		{"none", ship("o1"), 503, "", "5/0/0/5"},
		{"reserved", again, 200, "reserved:o1", "3/2/0/5"},
		{"reserved", release("o1"), 200, "stock-changed:apple released:o1", "5/0/0/5"},
		{"reserved", ship("o1"), 200, "stock-changed:apple shipped:o1", "3/0/2/5"},
		{"refused", again, 200, "refused:o1", "5/0/0/5"},
		{"refused", release("o1"), 200, "released:o1", "5/0/0/5"},
		{"refused", ship("o1"), 422, "", "5/0/0/5"},
		{"released", again, 200, "released:o1", "5/0/0/5"},
		{"released", release("o1"), 200, "released:o1", "5/0/0/5"},
		{"released", ship("o1"), 422, "", "5/0/0/5"},
		{"early", again, 200, "released:o1", "5/0/0/5"},
		{"early", release("o1"), 200, "released:o1", "5/0/0/5"},
		{"early", ship("o1"), 422, "", "5/0/0/5"},
		{"shipped", again, 200, "shipped:o1", "3/0/2/5"},
		{"shipped", release("o1"), 422, "", "3/0/2/5"},
		{"shipped", ship("o1"), 200, "shipped:o1", "3/0/2/5"},
	}
	for _, tt := range tests {
		t.Run(tt.cmd.Info.What+" when "+tt.state, func(t *testing.T) {
			h := shop(t)
			h.MustDeliver(states[tt.state]...)
			h.Emitted()
			if got := h.Deliver(tt.cmd)[0]; got.Status != tt.status {
				t.Errorf("got %+v, want %d", got, tt.status)
			}
			wantEmitted(h, tt.emits)
			wantStock(h, "apple", tt.apple)
		})
	}
}

// The same event again changes nothing and emits nothing.
func TestSameEventTwice(t *testing.T) {
	h := shop(t)
	e := h.Event(reserve("o1", of("apple", 2)))
	h.Receive(e)
	h.Emitted()
	if r := h.Receive(e, e); !r[0].OK() || !r[1].OK() {
		t.Errorf("got %+v", r)
	}
	wantEmitted(h, "")
	wantStock(h, "apple", "3/2/0/5")
}

// A batch shares one unit of work: each order sees the reservations of those before it.
func TestBatch(t *testing.T) {
	h := shop(t)
	var batch []event.Draft
	for n := range 8 {
		batch = append(batch, reserve(fmt.Sprint("o", n), of("apple", 1)))
	}
	h.MustDeliver(batch...)
	types := functiontest.Types(h.Emitted())
	reserved := slices.DeleteFunc(slices.Clone(types), func(s string) bool { return s != "inventory.reserved.v1" })
	refused := slices.DeleteFunc(types, func(s string) bool { return s != "inventory.refused.v1" })
	if len(reserved) != 5 || len(refused) != 3 {
		t.Errorf("%d reserved and %d refused, want 5 and 3", len(reserved), len(refused))
	}
	wantStock(h, "apple", "0/5/0/5")
}

// Setting the available stock changes neither reserved nor shipped stock.
func TestSetAvailable(t *testing.T) {
	h := shop(t)
	h.MustDeliver(reserve("o1", of("apple", 2)), reserve("o2", of("apple", 1)), ship("o2"))
	h.Emitted()
	count(h, "apple", 10)
	wantEmitted(h, "stock-changed:apple")
	wantStock(h, "apple", "10/2/1/13")
	count(h, "apple", 10) // the same number
	wantEmitted(h, "")

	h.Call("GET", "/api/stock/plum", functiontest.Nobody, nil).Expect(http.StatusNotFound)
	one, negative := map[string]int{"available": 1}, map[string]int{"available": -1}
	h.Call("PUT", "/api/stock/plum", functiontest.Nobody, one).Expect(http.StatusUnauthorized)
	h.Call("PUT", "/api/stock/plum", functiontest.As("ada"), one).Expect(http.StatusForbidden)
	h.Call("PUT", "/api/stock/plum", functiontest.Admin(), negative).Expect(http.StatusUnprocessableEntity)
	h.Call("PUT", "/api/stock/plum", functiontest.Admin(), map[string]int{}).Expect(http.StatusUnprocessableEntity)
	count(h, "plum", 0)
	wantStock(h, "plum", "0/0/0/0")
}

// After random commands in random order the invariant holds for each product, and the reserved and shipped stock is
// that of the orders' reservations.
func TestInvariant(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		h := shop(t)
		count(h, "apple", 40)
		want := map[string]inventory.Status{}
		for range 60 {
			order := fmt.Sprint("o", rnd.IntN(15))
			d := []event.Draft{
				reserve(order, of("apple", 3), of("pear", rnd.IntN(2)+1)), reserve(order, of("apple", 3)),
				release(order), ship(order),
			}[rnd.IntN(4)]
			h.Deliver(d)
			for _, e := range h.Emitted() {
				if info, _ := types.Lookup(e.Type()); info.What != "stock-changed" {
					want[e.Subject()] = inventory.Status(info.What)
				}
			}
		}
		var s inventory.Stock
		h.Call("GET", "/api/stock/apple", functiontest.Nobody, nil).JSON(&s)
		reserved, shipped := 0, 0
		for _, status := range want {
			switch status {
			case inventory.Reserved:
				reserved += 3
			case inventory.Shipped:
				shipped += 3
			}
		}
		if s.Initial != 40 || s.Reserved != reserved || s.Shipped != shipped || s.Available != 40-reserved-shipped {
			t.Fatalf("seed %d: %+v, want %d reserved and %d shipped", seed, s, reserved, shipped)
		}
		stock(h, "pear")
	}
}
