package knative_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/knative"
)

// gateway consumes the event of the shop, and has nothing at any path.
type gateway struct{ http.Handler }

func (gateway) Consumes() []event.Typed { return []event.Typed{signalled} }

func (gateway) Receive(_ context.Context, events []ce.Event) []broker.Result {
	return make([]broker.Result, len(events))
}

var signalled = event.AccessRevoked

// Strangers reach a gateway, so it takes no events where the senders cannot be checked.
func TestGatewayTakesNoEventsFromStrangers(t *testing.T) {
	f := function.New("gateway", function.Env{})
	function.Handler(f, gateway{http.NotFoundHandler()}, nil)
	senders, err := knative.NewSenders(knative.SendersConfig{
		Issuer: "http://127.0.0.1:1", Audience: "gateway", Subjects: []string{"trigger"}, Account: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  knative.Config
		want int
	}{{knative.Config{}, 404}, {knative.Config{Senders: senders}, 401}} {
		r := httptest.NewRequest("POST", "/events", strings.NewReader(
			`{"specversion":"1.0","id":"1","source":"/x","type":"`+signalled.Name()+`"}`))
		r.Header.Set("Content-Type", "application/cloudevents+json")
		w := httptest.NewRecorder()
		knative.New(f.Instance(), c.cfg).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("got %d, want %d", w.Code, c.want)
		}
	}
}
