package simulation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/event"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/outside"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/shop"
)

// projections returns the collections that follow from events alone.
func (s *run) projections() []simulate.Projection {
	return []simulate.Projection{
		{
			Function:    "views",
			Types:       viewed,
			Collections: []string{"orders", "revenue", "users", "products", "stock"},
			Seen:        s.ofGeneration,
			Merge:       addedUp,
		},
		{Function: "orders", Types: []string{events.ProductChanged.Name()}, Collections: []string{"products"}, Seen: whole},
		{
			Function:    "notifications",
			Types:       []string{events.UserRegistered.Name(), events.UserChanged.Name(), events.UserDeleted.Name()},
			Collections: []string{"users"},
			Seen:        whole,
		},
	}
}

var viewed = []string{
	events.UserRegistered.Name(),
	events.UserChanged.Name(),
	events.UserDeleted.Name(),
	events.ProductChanged.Name(),
	events.StockChanged.Name(),
	events.OrderPlaced.Name(),
	events.OrderConfirmed.Name(),
	events.OrderCancelled.Name(),
}

// whole returns a document without the member of the next version.
func whole(d store.Document, _ bool) (name, data string, ok bool) { return d.ID, without(d.Data), true }

// ofGeneration returns a document of the live generation of the views without the generation's number. Users, products
// and stock have no generation.
func (s *run) ofGeneration(d store.Document, live bool) (name, data string, ok bool) {
	if d.Collection == "users" || d.Collection == "products" || d.Collection == "stock" {
		return whole(d, live)
	}
	if live && !strings.HasPrefix(d.ID, s.generation()+"/") {
		return "", "", false
	}
	var doc map[string]any
	if json.Unmarshal([]byte(without(d.Data)), &doc) != nil {
		return whole(d, live)
	}
	delete(doc, "generation")
	plain, err := json.Marshal(doc)
	_, name, _ = strings.Cut(d.ID, "/")
	if parts := strings.Split(name, "/"); parts[0] == "*" { // which part an instance adds to follows from no event
		name = strings.Join(parts[:len(parts)-1], "/")
	}
	return name, string(plain), err == nil
}

// addedUp returns the sum of two parts of a day's revenue.
func addedUp(data, other string) string {
	var a, b map[string]any
	if json.Unmarshal([]byte(data), &a) != nil || json.Unmarshal([]byte(other), &b) != nil {
		return data
	}
	for _, name := range []string{"amount", "orders"} {
		x, _ := a[name].(float64)
		y, _ := b[name].(float64)
		a[name] = x + y
	}
	sum, _ := json.Marshal(a) // numbers and texts always marshal
	return string(sum)
}

// settled reports whether every order has ended and nothing is being rebuilt.
func (s *run) settled(sim *simulate.Simulation) bool {
	for _, d := range sim.Documents("orders", "orders") {
		if bytes.Contains(d.Data, []byte(`"status":"pending"`)) {
			return false
		}
	}
	for _, d := range sim.Documents("views", "generations") {
		if bytes.Contains(d.Data, []byte(`"building"`)) {
			return false
		}
	}
	return len(sim.Documents("clock", "timers")) == 0
}

func documents[T any](sim *simulate.Simulation, function, collection string) map[string]T {
	found := map[string]T{}
	for _, d := range sim.Documents(function, collection) {
		var v T
		if err := json.Unmarshal(d.Data, &v); err != nil {
			sim.Violated("%s of %s cannot be read: %v", collection, function, err)
		}
		found[d.ID] = v
	}
	return found
}

// check checks everything that must hold at rest.
func (s *run) check(sim *simulate.Simulation) {
	books := &shop.Books{
		Orders:   documents[shop.OrderBook](sim, "orders", "orders"),
		Payments: documents[shop.PaymentBook](sim, "payments", "payments"),
		Stock: documents[shop.StockBook](
			sim,
			"inventory",
			"stock",
		), Reservations: documents[shop.ReservationBook](sim, "inventory", "reservations"),
		Views: s.liveViews(sim),
	}
	for _, failure := range books.Audit(s.acked) {
		sim.Violated("the books: %s", failure)
	}
	log := s.archived(sim)
	for _, name := range []string{"payments", "notifications"} {
		if n := len(sim.Documents(name, outside.Collection)); n > 0 {
			sim.Violated("a call of another service has no result: %s", fmt.Sprintf("%d of %s", n, name))
		}
	}
	s.checkMoney(sim, books)
	s.checkAsked(sim)
	s.checkArchive(sim, log)
	s.arrivals.check(sim, log)
	s.checkReplays(sim, log)
	s.checkEmittedOnce(sim, books, log)
	s.checkViews(sim, books, log)
	s.checkLetters(sim)
	s.checkRevoked(sim)
	s.checkKeys(sim)
	s.checkErased(sim)
	checkTimers(sim)
}

// generation returns the number of the live generation of the views.
func (s *run) generation() string {
	for _, g := range documents[struct{ Live int64 }](s.sim, "views", "generations") {
		return fmt.Sprint(g.Live)
	}
	return "1"
}

// liveViews returns the orders of the live generation of the views, by their ids.
func (s *run) liveViews(sim *simulate.Simulation) map[string]shop.ViewBook {
	found := map[string]shop.ViewBook{}
	live := s.generation() + "/"
	for key, v := range documents[shop.ViewBook](sim, "views", "orders") {
		if id, ok := strings.CutPrefix(key, live); ok {
			found[id] = v
		}
	}
	return found
}

// checkMoney compares the orders with the accounts of the bank.
func (s *run) checkMoney(sim *simulate.Simulation, books *shop.Books) {
	for id, o := range books.Orders {
		a := s.bank.accounts[id]
		if a == nil {
			a = &account{}
		}
		switch {
		case o.State.Status == "confirmed" && (a.state != "taken" || a.charges != 1 || a.amount != o.State.Total.Amount):
			sim.Violated(
				"a confirmed order is not charged exactly once: %s",
				fmt.Sprintf("%s %q %d times %d of %d", id, a.state, a.charges, a.amount, o.State.Total.Amount),
			)
		case o.State.Status == "cancelled" && (a.state == "held" || a.state == "taken"):
			sim.Violated("a cancelled order holds money: %s", fmt.Sprintf("%s %q", id, a.state))
		}
		if why, card := o.State.Saga.Reason, s.cards[id]; card != "" && card != declined &&
			strings.HasPrefix(why, "payment declined") {
			sim.Violated("a good card is declined: %s", fmt.Sprintf("%s with %s: %s", id, card, why))
		}
	}
	for id, a := range s.bank.accounts {
		if _, ok := books.Orders[id]; !ok && a.state != "" {
			sim.Violated("the bank holds money for an unknown order: %s", id)
		}
	}
}

// checkAsked checks that an Idempotency-Key made one order at most.
func (s *run) checkAsked(sim *simulate.Simulation) {
	had := map[string]int{}
	for _, o := range documents[struct {
		State struct {
			CustomerID string `json:"customer_id"`
		}
	}](sim, "orders", "orders") {
		had[o.State.CustomerID]++
	}
	for who, n := range had {
		if n > s.asked[who] {
			sim.Violated(
				"a customer has more orders than were asked for: %s",
				fmt.Sprintf("%s has %d of %d", who, n, s.asked[who]),
			)
		}
	}
}

// poison is the source of the events that no handler accepts.
const poison = "/poison"

// archived returns the log of the archive at the time of its first call.
func (s *run) archived(sim *simulate.Simulation) []ce.Event {
	if s.log != nil {
		return s.log
	}
	keys := archivedKeys(sim)
	var log []ce.Event
	for _, d := range sim.Documents("archive", "log") {
		var doc struct{ Event json.RawMessage }
		err := json.Unmarshal(d.Data, &doc)
		var e ce.Event
		if err == nil {
			e, err = event.FromJSON(doc.Event)
		}
		if err != nil {
			sim.Violated("the archive cannot be read: %v", err)
			return log
		}
		log = append(log, withKeys(e, keys))
	}
	s.log = log
	return log
}

// checkArchive checks that every published event is archived once, with the same data.
func (s *run) checkArchive(sim *simulate.Simulation, log []ce.Event) {
	archived, same := map[string]int{}, map[string]bool{}
	withData := func(e ce.Event) string { return e.Source() + " " + e.ID() + " " + without(e.Data()) }
	for _, e := range log {
		archived[e.Source()+" "+e.ID()]++
	}
	for _, e := range sim.Published() {
		same[withData(e)] = true
	}
	for _, e := range log {
		if !same[withData(e)] {
			sim.Violated("the archive keeps other data than was published: %s", e.Type()+" "+e.ID())
		}
	}
	for id, n := range archived {
		if n > 1 {
			sim.Violated("the archive keeps an event more than once: %s", fmt.Sprintf("%s %d times", id, n))
		}
	}
	for _, e := range sim.Published() {
		if e.Extensions()[event.ReplayTo] != nil {
			continue
		}
		if archived[e.Source()+" "+e.ID()] == 0 {
			sim.Violated("the archive does not keep an event: %s", e.Type()+" "+e.ID())
		}
	}
}

// checkEmittedOnce checks that each order was placed, ended and notified about exactly once.
func (s *run) checkEmittedOnce(sim *simulate.Simulation, books *shop.Books, log []ce.Event) {
	ids := map[string]map[string]bool{}
	count := func(what, subject, id string) {
		key := what + " of " + subject
		if ids[key] == nil {
			ids[key] = map[string]bool{}
		}
		ids[key][id] = true
	}
	for _, e := range log {
		if e.Source() == poison {
			continue
		}
		switch e.Type() {
		case events.OrderPlaced.Name():
			count("placed", e.Subject(), e.ID())
		case events.OrderConfirmed.Name(), events.OrderCancelled.Name():
			count("ended", e.Subject(), e.ID())
		case events.NotificationSent.Name(), events.NotificationFailed.Name():
			var n struct {
				OrderID string `json:"order_id"`
			}
			_ = json.Unmarshal(e.Data(), &n)
			if n.OrderID != "" {
				count("notified", n.OrderID, e.ID())
			}
		}
	}
	for id := range books.Orders {
		for _, what := range []string{"placed", "ended", "notified"} {
			if n := len(ids[what+" of "+id]); n != 1 {
				sim.Violated("an order is not "+what+" exactly once: %s", fmt.Sprintf("%s %d times", id, n))
			}
		}
		delete(ids, "placed of "+id)
	}
	for key := range ids {
		if strings.HasPrefix(key, "placed of ") {
			sim.Violated("an order was placed and is missing: %s", key)
		}
	}
}

// checkViews compares the views with its own, simpler fold of the archive.
func (s *run) checkViews(sim *simulate.Simulation, books *shop.Books, log []ce.Event) {
	status, revenue, counted := map[string]string{}, map[string]int64{}, map[string]bool{}
	for _, e := range log {
		if e.Source() == poison {
			continue
		}
		switch e.Type() {
		case events.OrderPlaced.Name():
			if status[e.Subject()] == "" {
				status[e.Subject()] = "pending"
			}
		case events.OrderCancelled.Name():
			status[e.Subject()] = "cancelled"
		case events.OrderConfirmed.Name():
			status[e.Subject()] = "confirmed"
			var c events.ConfirmedOrder
			if json.Unmarshal(e.Data(), &c) == nil && !counted[c.OrderID] {
				counted[c.OrderID] = true
				revenue[c.ConfirmedAt.UTC().Format(time.DateOnly)] += c.Total.Amount
			}
		}
	}
	for id, want := range status {
		if got := books.Views[id].Status; got != want {
			sim.Violated("a view does not follow from the archive: %s", fmt.Sprintf("%s is %q, not %q", id, got, want))
		}
	}
	if len(books.Views) != len(status) {
		sim.Violated(
			"the views have other orders than the archive: %s",
			fmt.Sprintf("%d, not %d", len(books.Views), len(status)),
		)
	}
	var got, want int64
	for _, e := range documents[struct {
		CustomerID string `json:"customer_id"`
		Generation int64
		Amount     int64
	}](sim, "views", "revenue") {
		if e.CustomerID == "*" && fmt.Sprint(e.Generation) == s.generation() {
			got += e.Amount
		}
	}
	for _, amount := range revenue {
		want += amount
	}
	if got != want {
		sim.Violated("the revenue does not follow from the archive: %s", fmt.Sprintf("%d, not %d", got, want))
	}
}

// checkLetters checks that the archive keeps poisonous events as dead letters and no others.
func (s *run) checkLetters(sim *simulate.Simulation) {
	for _, l := range documents[struct {
		Type, Subscriber string
		Event            ce.Event
	}](sim, "archive", "dead_letters") {
		if l.Event.Source() != poison {
			sim.Violated("the archive keeps a dead letter that was not poisonous: %s", l.Type+" for "+l.Subscriber)
		}
	}
}
