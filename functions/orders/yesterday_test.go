package orders_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/orders"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// An order as it was stored before the kit kept sagas: it waits for the payment, with a timer from its beginning, which
// was set again once.
const (
	oldSaga = `{"status":"running","step":"authorize","due":"2026-03-01T12:00:14Z","steps":[
		{"name":"reserve","state":"done","started_at":"2026-03-01T12:00:00Z","ended_at":"2026-03-01T12:00:04Z"},
		{"name":"authorize","state":"running","started_at":"2026-03-01T12:00:04Z"},{"name":"capture","state":"todo"}]}`
	oldPlaced = `{"id":"o1","customer_id":"ada","lines":[{"product_id":"apple","quantity":2,
		"unit_price":{"amount":150,"currency":"EUR"},"name":"a apple"}],"total":{"amount":300,"currency":"EUR"},
		"token":"tok_ok","created_at":"2026-03-01T12:00:00Z","status":"pending","timer":"t1",
		"saga":{"status":"running","step":"reserve","due":"2026-03-01T12:00:10Z","steps":[{"name":"reserve","state":"running",
		"started_at":"2026-03-01T12:00:00Z"},{"name":"authorize","state":"todo"},{"name":"capture","state":"todo"}]}}`
	oldHead = `{"version":3,"revision":%d,"state":{"id":"o1","customer_id":"ada","lines":[{"product_id":"apple",
		"quantity":2,"unit_price":{"amount":150,"currency":"EUR"},"name":"a apple"}],"total":{"amount":300,"currency":"EUR"},
		"created_at":"2026-03-01T12:00:00Z","status":"pending","timer":"t2","saga":` + oldSaga + `}}`
)

// yesterday returns a function whose store has the order; revision is that of the fold that made its snapshot.
func yesterday(t *testing.T, revision int) *functiontest.Harness {
	h := functiontest.New(t, orders.New, functiontest.Set(map[string]string{"EBB_ORDERS_STEP_DEADLINE": "10s"}))
	d, err := function.Declare(orders.New)
	if err != nil {
		t.Fatal(err)
	}
	db, err := h.Store(t.Context(), "orders", d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	var b store.Batch
	add := func(collection, id, data string) {
		b.Mutations = append(b.Mutations, store.Mutation{
			Key: store.Key{Collection: collection, ID: id}, Version: 1, Data: json.RawMessage(data),
		})
	}
	add("orders", "o1", fmt.Sprintf(oldHead, revision))
	add("orders_events", "o1/1", `{"version":1,"events":[{"what":"placed","at":"2026-03-01T12:00:00Z",
		"placed":`+oldPlaced+`}]}`)
	add("orders_events", "o1/2", `{"version":2,"events":[{"what":"heard","at":"2026-03-01T12:00:04Z",
		"event":"dev.ebb.inventory.reserved.v1","saga":`+oldSaga+`}]}`)
	add("orders_events", "o1/3", `{"version":3,"events":[{"what":"rearmed","at":"2026-03-01T12:00:10Z","timer":"t2"}]}`)
	if err := db.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return h
}

// Orders that were placed with the code of before go on: by an answer, by a deadline, by a cancel. Their journals are
// read, also where the snapshot has to be made again.
func TestYesterdaysOrders(t *testing.T) {
	for _, revision := range []int{1, 0} {
		h := yesterday(t, revision)
		if o := get(h, "o1"); o.Saga.Step != "authorize" || o.Total.Amount != 300 || o.Status != orders.Pending {
			t.Fatalf("revision %d: got %+v", revision, o)
		}
		h.MustDeliver(answer("authorized", "o1"))
		wantEmitted(h, "payments.capture")
		h.MustDeliver(answer("captured", "o1"))
		es := wantEmitted(h, "orders.confirmed inventory.ship clock.cancel")
		if !strings.Contains(string(es[2].Data()), `"t2"`) {
			t.Errorf("cancelled %s", es[2].Data())
		}
		h = yesterday(t, revision)
		h.Clock.Advance(15 * time.Second)
		e := h.Event(deadlineOf("o1"))
		e.SetID("t2")
		h.Receive(e)
		wantEmitted(h, "payments.void clock.schedule")
		h.MustDeliver(answer("voided", "o1"), answer("released", "o1"))
		wantEmitted(h, "inventory.release orders.cancelled clock.cancel")
		if o := get(h, "o1"); o.Status != orders.Cancelled || o.Code != "deadline" {
			t.Errorf("revision %d: got %+v", revision, o)
		}
		h = yesterday(t, revision)
		cancel(h, "o1").Expect(http.StatusAccepted)
		wantEmitted(h, "payments.void")
	}
}
