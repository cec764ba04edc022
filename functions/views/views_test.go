package views_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/views"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func euro(amount int64) events.Money { return events.Money{Amount: amount, Currency: "EUR"} }

func placed(id, customer string, amount int64, at time.Time) event.Draft {
	return events.OrderPlaced.New(id, events.PlacedOrder{OrderID: id, CustomerID: customer,
		Total: euro(amount), PlacedAt: at,
		Lines: []events.OrderLine{{ProductID: "tea", Quantity: 1, UnitPrice: euro(amount), Name: "Tea, as it was"}}})
}

func confirmed(id, customer string, amount int64, at time.Time) event.Draft {
	return events.OrderConfirmed.New(
		id, events.ConfirmedOrder{OrderID: id, CustomerID: customer, Total: euro(amount), ConfirmedAt: at},
	)
}

func cancelled(id, customer string, at time.Time) event.Draft {
	return events.OrderCancelled.New(
		id, events.CancelledOrder{OrderID: id, CustomerID: customer, Reason: "declined", CancelledAt: at},
	)
}

type orders struct {
	Items []views.Order
	Next  string
}

func list(h *functiontest.Harness, as auth.Principal, query string) orders {
	h.T.Helper()
	var o orders
	h.Call("GET", "/api/views/orders"+query, as, nil).Expect(200).JSON(&o)
	return o
}

func (o orders) ids() string {
	text := ""
	for _, i := range o.Items {
		text += i.ID + ":" + i.Status + " "
	}
	return text
}

func revenue(h *functiontest.Harness, as auth.Principal, query string) string {
	h.T.Helper()
	var days struct{ Items []views.Day }
	h.Call("GET", "/api/views/revenue"+query, as, nil).Expect(200).JSON(&days)
	text := ""
	for _, d := range days.Items {
		text += fmt.Sprintf("%s %d %s in %d; ", d.Day, d.Amount, d.Currency, d.Orders)
	}
	return text
}

func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// Products are listed with their price and stock, in any order of the events; deleted ones are not.
func TestProducts(t *testing.T) {
	h := functiontest.New(t, views.New)
	changed := func(id string, version int, amount int64, deleted bool) event.Draft {
		return events.ProductChanged.New(
			id, events.ChangedProduct{ProductID: id, Name: id, Price: euro(amount), Version: version, Deleted: deleted},
		)
	}
	counted := func(id string, available int) ce.Event {
		return h.Event(
			events.StockChanged.New(id, events.ChangedStock{ProductID: id, Available: available, Initial: available}),
		)
	}
	early := counted("tea", 5)
	h.Clock.Advance(time.Second)
	h.Receive(counted("tea", 4), early)
	h.MustDeliver(
		changed("tea", 2, 300, false), changed("tea", 1, 200, false), changed("rum", 1, 900, false),
		changed("rum", 2, 900, true), changed("oil", 1, 100, false),
	)
	var got struct{ Items []views.Product }
	h.Call("GET", "/api/views/products", functiontest.Nobody, nil).Expect(200).JSON(&got)
	same(t, "products", fmt.Sprint(got.Items), "[{oil oil {100 EUR} 0} {tea tea {300 EUR} 4}]")
}

// A customer sees their own orders, newest first; an administrator sees all.
func TestOrders(t *testing.T) {
	h := functiontest.New(t, views.New)
	h.MustDeliver(
		placed("1", "ada", 10, noon), placed("2", "bob", 20, noon.Add(time.Second)),
		placed("3", "ada", 30, noon.Add(1500*time.Millisecond)),
	)
	h.MustDeliver(confirmed("1", "ada", 10, noon.Add(time.Minute)), cancelled("2", "bob", noon.Add(time.Minute)))
	admin, ada := functiontest.Admin(), functiontest.As("ada")
	same(t, "admin", list(h, admin, "").ids(), "3:pending 2:cancelled 1:confirmed ")
	same(t, "of bob", list(h, admin, "?customer_id=bob").ids(), "2:cancelled ")
	same(t, "pending", list(h, admin, "?status=pending").ids(), "3:pending ")
	same(t, "ada", list(h, ada, "").ids(), "3:pending 1:confirmed ")
	same(t, "ada's confirmed", list(h, ada, "?status=confirmed").ids(), "1:confirmed ")
	h.Call("GET", "/api/views/orders?customer_id=bob", ada, nil).Expect(403)
	h.Call("GET", "/api/views/orders", functiontest.Nobody, nil).Expect(401)

	first := list(h, admin, "?limit=2")
	second := list(h, admin, "?limit=2&cursor="+first.Next)
	same(t, "page by page", first.ids()+second.ids(), "3:pending 2:cancelled 1:confirmed ")
	if second.Next != "" {
		t.Error("the last page has a next one")
	}
	bob := list(h, functiontest.As("bob"), "").Items[0]
	if bob.Reason != "declined" || bob.Total != euro(20) || !bob.PlacedAt.Equal(noon.Add(time.Second)) ||
		!bob.EndedAt.Equal(noon.Add(time.Minute)) {
		t.Errorf("got %+v", bob)
	}
}

// Old orders too have the present names of users and products; a deleted user has no name.
func TestNames(t *testing.T) {
	h := functiontest.New(t, views.New)
	names := func() string {
		o := list(h, functiontest.As("ada"), "").Items[0]
		return o.CustomerName + "/" + o.Lines[0].ProductName
	}
	tea := func(name string, version int) event.Draft {
		return events.ProductChanged.New(
			"tea", events.ChangedProduct{ProductID: "tea", Name: name, Price: euro(1), Version: version},
		)
	}
	h.MustDeliver(placed("1", "ada", 10, noon))
	same(t, "before anything is known", names(), "/Tea, as it was")

	registered := h.Event(
		events.UserRegistered.New("ada", events.RegisteredUser{UserID: "ada", Name: "Ada", Email: "a@example.com"}),
	)
	registered.SetExtension(event.Sequence, "1")
	h.Clock.Advance(-time.Minute) // the clocks of two instances differ
	changed := h.Event(
		events.UserChanged.New("ada", events.ChangedUser{UserID: "ada", Name: "Ada King", Email: "a@example.com"}),
	)
	changed.SetExtension(event.Sequence, "2")
	h.Receive(changed)
	h.Receive(registered)
	h.MustDeliver(tea("Green tea", 2))
	h.MustDeliver(tea("Tea", 1))
	same(t, "in the wrong order", names(), "Ada King/Green tea")

	h.MustDeliver(events.UserDeleted.New("ada", events.DeletedUser{UserID: "ada"}))
	again := registered.Clone()
	again.SetID("again")
	h.Receive(again)
	same(t, "deleted", names(), "/Green tea")
}

// Revenue is the sum of the orders confirmed per day; a customer sees only their own.
func TestRevenue(t *testing.T) {
	h := functiontest.New(t, views.New)
	next := noon.AddDate(0, 0, 1)
	h.MustDeliver(
		confirmed("1", "ada", 10, noon), confirmed("2", "bob", 20, noon), confirmed("3", "ada", 30, next),
		cancelled("4", "ada", next),
	)
	admin := functiontest.Admin()
	same(t, "all", revenue(h, admin, ""), "2026-03-01 30 EUR in 2; 2026-03-02 30 EUR in 1; ")
	same(t, "from", revenue(h, admin, "?from=2026-03-02"), "2026-03-02 30 EUR in 1; ")
	same(t, "to", revenue(h, admin, "?to=2026-03-01"), "2026-03-01 30 EUR in 2; ")
	same(t, "ada's", revenue(h, functiontest.As("ada"), ""), "2026-03-01 10 EUR in 1; 2026-03-02 30 EUR in 1; ")
}

// dayEvents returns the events of one day in the shop.
func dayEvents(h *functiontest.Harness) []ce.Event {
	var all []ce.Event
	for n := range 12 {
		id, at := fmt.Sprintf("%02d", n), noon.Add(time.Duration(n)*time.Minute)
		all = append(all, h.Event(placed(id, "ada", 10, at)))
		if n%3 == 0 {
			all = append(all, h.Event(cancelled(id, "ada", at)))
		} else {
			all = append(all, h.Event(confirmed(id, "ada", 10, at)))
		}
	}
	return all
}

// snapshot returns all views as text.
func snapshot(h *functiontest.Harness) string {
	return list(h, functiontest.Admin(), "").ids() + revenue(h, functiontest.Admin(), "")
}

// The views are the same for any order of the events and any number of deliveries, also of the same fact with another
// id.
func TestAnyOrder(t *testing.T) {
	want := ""
	for seed := range uint64(8) {
		h := functiontest.New(t, views.New)
		all := dayEvents(h)
		all = append(all, dayEvents(h)[:9]...) // the same facts in other events
		if seed > 0 {
			rand.New(rand.NewPCG(seed, 1)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		for len(all) > 0 {
			n := min(len(all), 1+int(seed))
			h.Receive(all[:n]...)
			h.Receive(all[0])
			all = all[n:]
		}
		got := snapshot(h)
		if seed == 0 {
			want = got
			same(t, "revenue", revenue(h, functiontest.Admin(), ""), "2026-03-01 80 EUR in 8; ")
		}
		same(t, fmt.Sprint("shuffle ", seed), got, want)
	}
}

type rebuild struct {
	State    string
	Live     int64
	ReplayID string `json:"replay_id"`
	Handled  int
	Expected *int
	Removing []int64
}

func state(h *functiontest.Harness) rebuild {
	h.T.Helper()
	var r rebuild
	h.Call("GET", "/api/views/rebuild", functiontest.Admin(), nil).Expect(200).JSON(&r)
	return r
}

func start(h *functiontest.Harness) string {
	h.T.Helper()
	var r rebuild
	h.Call("POST", "/api/views/rebuild", functiontest.Admin(), nil).Expect(202).JSON(&r)
	return r.ReplayID
}

func again(all []ce.Event, replay string) []ce.Event {
	var marked []ce.Event
	for _, e := range all {
		e = e.Clone()
		e.SetExtension(event.Replay, replay)
		e.SetExtension(event.ReplayTo, "views")
		marked = append(marked, e)
	}
	return marked
}

func finished(replay string, count int) event.Draft {
	return event.ArchiveReplayed.New(replay, event.FinishedReplay{ReplayID: replay, To: "views", Count: count})
}

// A rebuild is built beside the live views, includes the events of that time, and replaces them when it is complete.
func TestRebuild(t *testing.T) {
	h := functiontest.New(t, views.New)
	history := dayEvents(h)
	h.Receive(history[4:]...) // the views have missed something
	broken := snapshot(h)
	if got := state(h); got.State != "none" || got.Live != 1 {
		t.Fatalf("got %+v", got)
	}
	h.Call("POST", "/api/views/rebuild", functiontest.As("ada"), nil).Expect(403)
	id := start(h)
	command, err := event.ArchiveReplay.Decode(h.Emitted()[0])
	if err != nil || command.ReplayID != id || command.To != "views" || len(command.Types) != 8 {
		t.Fatalf("got %+v, %v", command, err)
	}
	past := again(history, id)
	h.Receive(past[:20]...)
	h.Restart()
	same(t, "while it is built", snapshot(h), broken)
	h.MustDeliver(finished(id, len(past))) // overtakes the last events
	same(t, "before the last", snapshot(h), broken)
	if got := state(h); got.State != "building" || got.Handled != 20 || *got.Expected != len(past) {
		t.Fatalf("got %+v", got)
	}
	live := h.Event(confirmed("live", "bob", 5, noon.AddDate(0, 0, 1)))
	h.Receive(live)
	h.Receive(past[15:]...) // some for the second time
	same(t, "revenue", revenue(h, functiontest.Admin(), ""), "2026-03-01 80 EUR in 8; 2026-03-02 5 EUR in 1; ")
	if got := len(list(h, functiontest.Admin(), "").Items); got != 13 {
		t.Fatalf("got %d orders, want 13", got)
	}
	if got := state(h); got.State != "done" || got.Live != 2 {
		t.Fatalf("got %+v", got)
	}
	h.Receive(again(history, id)...) // late, and already taken
	same(t, "afterwards", revenue(h, functiontest.Admin(), ""), "2026-03-01 80 EUR in 8; 2026-03-02 5 EUR in 1; ")
}

// The old generation's documents are removed a few at a time, when other events are handled.
func TestRemovesOldGeneration(t *testing.T) {
	h := functiontest.New(t, views.New, functiontest.Once())
	var history []ce.Event
	for n := range 450 {
		history = append(history, h.Event(confirmed(fmt.Sprint(n), "ada", 1, noon)))
	}
	h.Receive(history...)
	id := start(h)
	h.Receive(again(history, id)...)
	h.MustDeliver(finished(id, len(history)))
	steps := 0
	for ; len(state(h).Removing) > 0 && steps < 20; steps++ {
		h.Clock.Advance(2 * time.Second)
		h.MustDeliver(placed(fmt.Sprint("new-", steps), "ada", 1, noon))
	}
	if steps < 3 || steps > 5 {
		t.Errorf("got %d steps", steps)
	}
	same(t, "revenue", revenue(h, functiontest.Admin(), ""), "2026-03-01 450 EUR in 450; ")
}

// A database that takes few documents at once has them removed in smaller steps.
func TestRemovesOldGenerationInSmallSteps(t *testing.T) {
	h := functiontest.New(t, views.New, functiontest.Once(), functiontest.CommitLimit(100))
	var history []ce.Event
	for n := range 60 {
		history = append(history, h.Event(confirmed(fmt.Sprint(n), "ada", 1, noon)))
	}
	h.Receive(history...)
	id := start(h)
	h.Receive(again(history, id)...)
	h.MustDeliver(finished(id, len(history)))
	steps := 0
	for ; len(state(h).Removing) > 0 && steps < 40; steps++ {
		h.Clock.Advance(2 * time.Second)
		h.MustDeliver(placed(fmt.Sprint("new-", steps), "ada", 1, noon))
	}
	if steps < 4 || steps == 40 {
		t.Errorf("got %d steps", steps)
	}
	same(t, "revenue", revenue(h, functiontest.Admin(), ""), "2026-03-01 60 EUR in 60; ")
}

// A second rebuild abandons the first one; late events of the first change nothing.
func TestRebuildTwice(t *testing.T) {
	h := functiontest.New(t, views.New)
	history := dayEvents(h)
	h.Receive(history...)
	want := snapshot(h)
	first := start(h)
	h.Receive(again(history, first)[:7]...)
	second := start(h)
	h.Receive(again(history, first)[7:]...)
	h.MustDeliver(finished(first, len(history)))
	if got := state(h); got.State != "building" || got.ReplayID != second || got.Handled != 0 {
		t.Fatalf("got %+v", got)
	}
	same(t, "while it is built", snapshot(h), want)
	h.Receive(again(history, second)...)
	h.MustDeliver(finished(second, len(history)))
	if got := state(h); got.State != "done" || got.Live != 3 {
		t.Fatalf("got %+v", got)
	}
	same(t, "in the end", snapshot(h), want)
}

// A rebuild from an empty archive makes empty views.
func TestRebuildEmpty(t *testing.T) {
	h := functiontest.New(t, views.New)
	id := start(h)
	h.MustDeliver(finished(id, 0))
	if got := state(h); got.State != "done" || got.Live != 2 {
		t.Fatalf("got %+v", got)
	}
	same(t, "orders", snapshot(h), "")
}

// Each instance adds to a part of the sum of all customers, beside what an older version has stored in one document.
// The parts of a day are shown as one sum, on one page.
func TestRevenueInParts(t *testing.T) {
	h := functiontest.New(t, views.New)
	h.MustDeliver(confirmed("x", "ada", 1, noon))
	d := h.I.Declaration()
	db, err := h.Store(t.Context(), d.Name, d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	for day, currency := range []string{"EUR", "USD", "EUR"} {
		date := fmt.Sprintf("2026-03-%02d", day/2+1)
		const form = `{"generation":1,"customer_id":"*","day":%q,"currency":%q,"amount":1000,"orders":3}`
		old := fmt.Sprintf(form, date, currency)
		if err := db.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{{
			Key: store.Key{Collection: "revenue", ID: "1/*/" + date + "/" + currency}, Version: 1, Data: []byte(old),
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 200 {
		h.Restart() // each instance draws a part
		at := noon.AddDate(0, 0, n%2)
		h.MustDeliver(confirmed(fmt.Sprint("o", n), fmt.Sprint("c", n), 10, at))
	}
	parts, _, err := db.Query(t.Context(), store.Query{
		Collection: "revenue", Limit: store.MaxLimit, Order: []store.Order{{Field: "day"}}, Where: []store.Filter{
			{Field: "generation", Op: store.Equal, Value: int64(1)}, {Field: "customer_id", Op: store.Equal, Value: "*"},
		},
	})
	if err != nil || len(parts) < 10 || len(parts) > 3+2*32 {
		t.Errorf("the sums are in %d documents, %v", len(parts), err)
	}
	const want = "2026-03-01 2001 EUR in 104; 2026-03-01 1000 USD in 3; 2026-03-02 2000 EUR in 103; "
	same(t, "all", revenue(h, functiontest.Admin(), ""), want)
	for limit := 1; limit <= 4; limit++ {
		got, cursor, pages := "", "", 0
		for {
			var page struct {
				Items []views.Day
				Next  string
			}
			query := fmt.Sprintf("/api/views/revenue?limit=%d", limit)
			if cursor != "" {
				query += "&cursor=" + cursor
			}
			h.Call("GET", query, functiontest.Admin(), nil).Expect(200).JSON(&page)
			for _, d := range page.Items {
				got += fmt.Sprintf("%s %d %s in %d; ", d.Day, d.Amount, d.Currency, d.Orders)
			}
			pages++
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		same(t, fmt.Sprint("with limit ", limit), got, want)
		if pages != (3+limit-1)/limit {
			t.Errorf("%d pages with limit %d", pages, limit)
		}
	}
}
