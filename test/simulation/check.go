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
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/shop"
)

// projections are what follows from events alone.
func (s *run) projections() []simulate.Projection {
	return []simulate.Projection{
		{Function: "views", Types: viewed, Collections: []string{"orders", "revenue", "users", "products", "stock"}, Seen: s.ofGeneration},
		{Function: "orders", Types: []string{events.ProductChanged.Name()}, Collections: []string{"products"}, Seen: whole},
		{Function: "notifications", Types: []string{events.UserRegistered.Name(), events.UserChanged.Name(), events.UserDeleted.Name()}, Collections: []string{"users"}, Seen: whole},
	}
}

var viewed = []string{events.UserRegistered.Name(), events.UserChanged.Name(), events.UserDeleted.Name(), events.ProductChanged.Name(), events.StockChanged.Name(),
	events.OrderPlaced.Name(), events.OrderConfirmed.Name(), events.OrderCancelled.Name()}

// whole is all of a document that every version knows.
func whole(d store.Document, _ bool) (name, data string, ok bool) { return d.ID, without(d.Data), true }

// ofGeneration is a document of the views without the number of its generation, if that is the one that is read. Users,
// products and stock have none.
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
	return name, string(plain), err == nil
}

// settled reports whether every order has ended and nothing is being rebuilt.
func (s *run) settled(w *simulate.World) bool {
	for _, d := range w.Documents("orders", "orders") {
		if bytes.Contains(d.Data, []byte(`"status":"pending"`)) {
			return false
		}
	}
	for _, d := range w.Documents("views", "generations") {
		if bytes.Contains(d.Data, []byte(`"building"`)) {
			return false
		}
	}
	return len(w.Documents("clock", "timers")) == 0
}

func documents[T any](w *simulate.World, function, collection string) map[string]T {
	found := map[string]T{}
	for _, d := range w.Documents(function, collection) {
		var v T
		if err := json.Unmarshal(d.Data, &v); err != nil {
			w.Violated("%s of %s cannot be read: %v", collection, function, err)
		}
		found[d.ID] = v
	}
	return found
}

// check is everything that must hold when the dust has settled.
func (s *run) check(w *simulate.World) {
	books := &shop.Books{
		Orders:   documents[shop.OrderBook](w, "orders", "orders"),
		Payments: documents[shop.PaymentBook](w, "payments", "payments"),
		Stock:    documents[shop.StockBook](w, "inventory", "stock"), Reservations: documents[shop.ReservationBook](w, "inventory", "reservations"),
		Views: s.liveViews(w),
	}
	for _, fault := range books.Audit(s.acked) {
		w.Violated("the books: %s", fault)
	}
	log := s.archived(w)
	s.checkMoney(w, books)
	s.checkAsked(w)
	s.checkArchive(w, log)
	s.checkSaidOnce(w, books, log)
	s.checkViews(w, books, log)
	s.checkLetters(w)
}

// generation is the number of the views that are read.
func (s *run) generation() string {
	for _, g := range documents[struct{ Live int64 }](s.w, "views", "generations") {
		return fmt.Sprint(g.Live)
	}
	return "1"
}

// liveViews are the views' orders by their ids, of the generation that is read.
func (s *run) liveViews(w *simulate.World) map[string]shop.ViewBook {
	found := map[string]shop.ViewBook{}
	live := s.generation() + "/"
	for key, v := range documents[shop.ViewBook](w, "views", "orders") {
		if id, ok := strings.CutPrefix(key, live); ok {
			found[id] = v
		}
	}
	return found
}

// checkMoney asks the bank itself.
func (s *run) checkMoney(w *simulate.World, books *shop.Books) {
	for id, o := range books.Orders {
		a := s.bank.accounts[id]
		if a == nil {
			a = &account{}
		}
		switch {
		case o.State.Status == "confirmed" && (a.state != "taken" || a.charges != 1 || a.amount != o.State.Total.Amount):
			w.Violated("a confirmed order is not charged exactly once: %s", fmt.Sprintf("%s %q %d times %d of %d", id, a.state, a.charges, a.amount, o.State.Total.Amount))
		case o.State.Status == "cancelled" && (a.state == "held" || a.state == "taken"):
			w.Violated("a cancelled order holds money: %s", fmt.Sprintf("%s %q", id, a.state))
		}
	}
	for id, a := range s.bank.accounts {
		if _, ok := books.Orders[id]; !ok && a.state != "" {
			w.Violated("the bank holds money of an order that there is not: %s", id)
		}
	}
}

// checkAsked sees that an Idempotency-Key made one order at most.
func (s *run) checkAsked(w *simulate.World) {
	had := map[string]int{}
	for _, o := range documents[struct {
		State struct {
			CustomerID string `json:"customer_id"`
		}
	}](w, "orders", "orders") {
		had[o.State.CustomerID]++
	}
	for who, n := range had {
		if n > s.asked[who] {
			w.Violated("a customer has more orders than were asked for: %s", fmt.Sprintf("%s has %d of %d", who, n, s.asked[who]))
		}
	}
}

// poison is the source of events that nobody can take.
const poison = "/poison"

// archived is the archive's log, as it was when it was first asked for.
func (s *run) archived(w *simulate.World) []ce.Event {
	if s.log != nil {
		return s.log
	}
	var log []ce.Event
	for _, d := range w.Documents("archive", "events") {
		var kept struct{ Event ce.Event }
		if err := json.Unmarshal(d.Data, &kept); err != nil {
			w.Violated("the archive cannot be read: %v", err)
			return log
		}
		log = append(log, kept.Event)
	}
	s.log = log
	return log
}

// checkArchive compares what was published with what is archived: every event, once.
func (s *run) checkArchive(w *simulate.World, log []ce.Event) {
	kept := map[string]int{}
	for _, e := range log {
		kept[e.Source()+" "+e.ID()]++
	}
	for id, n := range kept {
		if n > 1 {
			w.Violated("the archive keeps an event more than once: %s", fmt.Sprintf("%s %d times", id, n))
		}
	}
	for _, e := range w.Published() {
		if e.Extensions()[event.ReplayTo] != nil {
			continue
		}
		if kept[e.Source()+" "+e.ID()] == 0 {
			w.Violated("the archive does not keep an event: %s", e.Type()+" "+e.ID())
		}
	}
}

// checkSaidOnce sees that every order ended once, its stock left once, and its customer was told once.
func (s *run) checkSaidOnce(w *simulate.World, books *shop.Books, log []ce.Event) {
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
				w.Violated("an order is not said once to be "+what+": %s", fmt.Sprintf("%s %d times", id, n))
			}
		}
		delete(ids, "placed of "+id)
	}
	for key := range ids {
		if strings.HasPrefix(key, "placed of ") {
			w.Violated("an order was said to be placed and is not there: %s", key)
		}
	}
}

// checkViews folds the archive by itself, more simply than the views do, and compares.
func (s *run) checkViews(w *simulate.World, books *shop.Books, log []ce.Event) {
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
			w.Violated("a view is not what the archive says: %s", fmt.Sprintf("%s is %q, not %q", id, got, want))
		}
	}
	if len(books.Views) != len(status) {
		w.Violated("the views have other orders than the archive: %s", fmt.Sprintf("%d, not %d", len(books.Views), len(status)))
	}
	var got, want int64
	for _, e := range documents[struct {
		CustomerID string `json:"customer_id"`
		Generation int64
		Amount     int64
	}](w, "views", "revenue") {
		if e.CustomerID == "*" && fmt.Sprint(e.Generation) == s.generation() {
			got += e.Amount
		}
	}
	for _, amount := range revenue {
		want += amount
	}
	if got != want {
		w.Violated("the revenue is not what the archive says: %s", fmt.Sprintf("%d, not %d", got, want))
	}
}

// checkLetters sees that the archive buried what was poisonous and nothing else.
func (s *run) checkLetters(w *simulate.World) {
	for _, l := range documents[struct {
		Type, Subscriber string
		Event            ce.Event
	}](w, "archive", "dead_letters") {
		if l.Event.Source() != poison {
			w.Violated("the archive buried an event that was not poisonous: %s", l.Type+" for "+l.Subscriber)
		}
	}
}
