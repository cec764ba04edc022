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

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/host/hosttest"
	"github.com/ebb-dev/ebb/infra/host/knative"
	"github.com/ebb-dev/ebb/infra/internal/pubsubevent"
)

// platform is the host as Knative Eventing or Pub/Sub sees it.
type platform struct {
	h    *knative.Host
	push bool
}

func newPlatform(push bool) func(t *testing.T, f host.Instance, manifest string) hosttest.Host {
	return func(t *testing.T, f host.Instance, manifest string) hosttest.Host {
		h := knative.New(f, knative.Config{Manifest: manifest, Logger: slog.New(slog.DiscardHandler)})
		h.Start()
		t.Cleanup(func() { _ = h.Stop(context.Background()) })
		if manifest == "" {
			ready(t, h)
		}
		return platform{h, push}
	}
}

// outcome returns what a status means by Knative's delivery specification. Pub/Sub repeats a final refusal as well,
// until the subscription's attempts are used up.
func outcome(status int) hosttest.Outcome {
	switch {
	case status/100 == 2:
		return hosttest.Done
	case fault.RetryableStatus(status):
		return hosttest.Again
	}
	return hosttest.Refused
}

func (p platform) Deliver(t *testing.T, events ...ce.Event) (out []hosttest.Outcome) {
	for _, e := range events {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, knative.EventsPath, bytes.NewReader(text))
		r.Header.Set("Content-Type", ce.ApplicationCloudEventsJSON)
		if p.push {
			r = push(t, e, nil)
		}
		out = append(out, outcome(send(p.h, r).Code))
	}
	return out
}

func (p platform) DeliverText(t *testing.T, text string) hosttest.Outcome {
	r := httptest.NewRequest(http.MethodPost, knative.EventsPath, bytes.NewReader([]byte(text)))
	r.Header.Set("Content-Type", ce.ApplicationCloudEventsJSON)
	if p.push {
		body, err := json.Marshal(map[string]any{"message": pubsubevent.Message{Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		r = httptest.NewRequest(http.MethodPost, knative.PubSubPath, bytes.NewReader(body))
	}
	return outcome(send(p.h, r).Code)
}

// Tick sends what a PingSource sends, and Terraform's job of the Scheduler.
func (p platform) Tick(*testing.T) error {
	r := httptest.NewRequest(http.MethodPost, knative.EventsPath, bytes.NewReader([]byte("{}")))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Type": "dev.knative.sources.ping",
		"Ce-Source": "/scheduler/shop", "Ce-Id": "tick",
	} {
		r.Header.Set(name, value)
	}
	if w := send(p.h, r); w.Code != http.StatusOK {
		return fmt.Errorf("status %d: %s", w.Code, w.Body)
	}
	return nil
}

// The host passes the suite for deliveries of Knative Eventing. That applies filters, and keeps the order of a key
// where its broker does.
func TestHost(t *testing.T) {
	hosttest.Run(t, hosttest.Harness{
		New: newPlatform(false), Platform: []string{hosttest.Filters, hosttest.Order},
	})
}

// The host passes the suite for push subscriptions of Pub/Sub, which keep the order of a key.
func TestHostPush(t *testing.T) {
	hosttest.Run(t, hosttest.Harness{New: newPlatform(true), Platform: []string{hosttest.Order}})
}
