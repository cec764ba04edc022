package ebb

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
)

// An order placed over HTTP is published at the sink, with the command that begins its saga.
func TestOrder(t *testing.T) {
	var mu sync.Mutex
	var said []string
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		said = append(said, r.Header.Get("Ce-Type"))
		mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	}))
	defer sink.Close()
	vars := variables(t, "orders")
	vars["K_SINK"] = sink.URL
	f := New()
	if err := f.Start(t.Context(), vars); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Stop(t.Context()) }()
	server := httptest.NewServer(http.HandlerFunc(f.Handle))
	defer server.Close()
	for ok := false; !ok; ok, _ = f.Ready(t.Context()) {
		time.Sleep(time.Millisecond)
	}

	product := uuid.NewString()
	d := events.ProductChanged.New(product, events.ChangedProduct{ProductID: product, Name: "a",
		Price: events.Money{Amount: 5, Currency: "EUR"}, Version: 1, Created: true})
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	post := func(path string, body []byte, header map[string]string) int {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, server.URL+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for k, v := range header {
			r.Header.Set(k, v)
		}
		w, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Body.Close()
		return w.StatusCode
	}
	if got := post("/events", data, map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": uuid.NewString(), "Ce-Source": "/functions/catalog", "Ce-Type": d.Info.Name,
		"Ce-Subject":      product,
		"Ce-Partitionkey": product, "Ce-Sequence": "1", "Ce-Time": time.Now().UTC().Format(time.RFC3339Nano),
	}); got != http.StatusOK {
		t.Fatalf("the product's event: got %d", got)
	}
	ring, err := auth.ParseKeyRing([]byte(vars["EBB_SIGNING_KEYS"]))
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := auth.NewIssuer(ring, "ebb", "ebb", nil).Issue(
		auth.Grant{Subject: uuid.NewString(), Roles: []string{auth.RoleCustomer}, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	order, err := json.Marshal(map[string]any{
		"lines": []map[string]any{{"product_id": product, "quantity": 1}}, "payment": map[string]string{"token": "tok_ok"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := post("/api/orders", order, map[string]string{"Authorization": "Bearer " + token,
		"Idempotency-Key": uuid.NewString()}); got != http.StatusAccepted {
		t.Errorf("the order: got %d", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"orders.placed", "inventory.reserve", "clock.schedule"} {
		if !strings.Contains(strings.Join(said, " "), want) {
			t.Errorf("%s was not published: %v", want, said)
		}
	}
}
