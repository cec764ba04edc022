package knative_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/knative"
	"github.com/ebb-dev/ebb/infra/internal/pubsubevent"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// push returns the request of a push subscription.
func push(t *testing.T, e ce.Event, more map[string]string) *http.Request {
	t.Helper()
	m, err := pubsubevent.Encode(&e)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range more {
		m.Attributes[name] = value
	}
	body, err := json.Marshal(map[string]any{
		"message": m, "subscription": "projects/p/subscriptions/shop-inventory", "deliveryAttempt": 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return httptest.NewRequest(http.MethodPost, knative.PubSubPath, bytes.NewReader(body))
}

// What a push subscription sends is handled as other deliveries are. An event that the filters do not let through, and
// one that comes again, counts as handled; a failure is answered so that it comes again.
func TestPush(t *testing.T) {
	s := &shop{}
	h := started(t, s, knative.Config{})
	e := ship(t)
	other := ship(t)
	other.SetType("com.example.other.v1")
	elsewhere := ship(t)
	elsewhere.SetExtension(event.ReplayTo, "payments")
	for _, r := range []*http.Request{
		push(t, e, nil), push(t, e, nil), push(t, ship(t), nil), push(t, other, nil), push(t, elsewhere, nil),
	} {
		if w := send(h, r); w.Code != http.StatusOK || w.Body.Len() > 0 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	}
	counted(t, h, 2)
	failure := error(fault.New(fault.Unavailable, "away"))
	s.fail.Store(&failure)
	if w := send(h, push(t, ship(t), nil)); w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	for _, body := range []string{"", "{}", "[]", `{"message":{"data":"eyJ4IjoxfQ=="}}`, `{"message":{"data":"!"}}`} {
		r := httptest.NewRequest(http.MethodPost, knative.PubSubPath, bytes.NewReader([]byte(body)))
		if w := send(h, r); w.Code/100 != 4 {
			t.Errorf("%s: got %d %s", body, w.Code, w.Body)
		}
	}
}

// A message that a subscription has given up reaches the function that stores dead letters, as a dead letter of that
// subscription.
func TestPushedDeadLetter(t *testing.T) {
	var got []ce.Event
	f := function.New("archive", function.Env{
		Store: memory.Opener(), Publisher: nowhere{}, Logger: slog.New(slog.DiscardHandler),
	})
	function.OnDeadLetter(f, func(_ context.Context, _ *function.Tx, e ce.Event) error {
		got = append(got, e)
		return nil
	})
	h := knative.New(f.Instance(), knative.Config{Logger: slog.New(slog.DiscardHandler)})
	h.Start()
	t.Cleanup(func() { _ = h.Stop(context.Background()) })
	ready(t, h)
	moved := map[string]string{"CloudPubSubDeadLetterSourceSubscription": "shop-orders"}
	w := send(h, push(t, ship(t), moved))
	if w.Code != http.StatusOK || len(got) != 1 {
		t.Fatalf("got %d %s, %d events", w.Code, w.Body, len(got))
	}
	if dest := event.Extension(got[0], broker.ErrorDest); dest != "shop-orders" ||
		fmt.Sprint(got[0].Extensions()[broker.ErrorCode]) != "503" {
		t.Errorf("got the dead letter of %q, %v", dest, got[0].Extensions())
	}
}
