// Package kube makes triggers for the conformance suite as Knative Trigger objects of a Kubernetes cluster. It sends
// plain HTTPS requests with JSON to the API server: three kinds of request do not need a client library.
package kube

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/broker/conformance"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Config names the broker and its namespace.
type Config struct {
	Namespace  string        // "": the namespace of the kubeconfig's context, or default
	Broker     string        // "": default
	ReadyDelay time.Duration // the wait after a trigger has become Ready, because its data plane may lag behind
}

// Triggers implements conformance.Triggers with Trigger objects.
type Triggers struct {
	access *Access
	cfg    Config
}

var _ conformance.Triggers = (*Triggers)(nil)

// New returns a driver that makes triggers through the API server of a.
func New(a *Access, cfg Config) *Triggers {
	for _, namespace := range []string{a.namespace, "default"} {
		if cfg.Namespace == "" {
			cfg.Namespace = namespace
		}
	}
	if cfg.Broker == "" {
		cfg.Broker = "default"
	}
	return &Triggers{a, cfg}
}

// object holds the members of a Trigger that the driver writes.
type object struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       spec     `json:"spec"`
}

type metadata struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
}

type spec struct {
	Broker     string                  `json:"broker"`
	Filter     *attributes             `json:"filter,omitempty"`
	Filters    []conformance.Filter    `json:"filters,omitempty"`
	Subscriber conformance.Destination `json:"subscriber"`
	Delivery   *conformance.Delivery   `json:"delivery,omitempty"`
}

type attributes struct {
	Attributes map[string]string `json:"attributes"`
}

// label marks the triggers of the suite, so that kubectl delete triggers -l removes those of a killed run.
var label = map[string]string{"app.kubernetes.io/managed-by": "ebb-conformance"}

// Create implements conformance.Triggers. It waits until the trigger is Ready.
func (t *Triggers) Create(ctx context.Context, want conformance.Trigger) (string, error) {
	o := object{
		APIVersion: "eventing.knative.dev/v1", Kind: "Trigger",
		Metadata: metadata{"conformance-" + strings.ToLower(rand.Text())[:16], label},
		Spec: spec{Broker: t.cfg.Broker, Filters: want.Filters, Subscriber: conformance.Destination{URI: want.Sink},
			Delivery: want.Delivery},
	}
	if len(want.Attributes) > 0 {
		o.Spec.Filter = &attributes{want.Attributes}
	}
	if err := t.call(ctx, http.MethodPost, "", o, nil); err != nil {
		return "", err
	}
	if err := t.ready(ctx, o.Metadata.Name); err != nil {
		_ = t.Delete(context.WithoutCancel(ctx), o.Metadata.Name) // the caller gets the first error
		return "", err
	}
	return o.Metadata.Name, nil
}

// Delete implements conformance.Triggers.
func (t *Triggers) Delete(ctx context.Context, name string) error {
	err := t.call(ctx, http.MethodDelete, name, nil, nil)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// MissingFeatures implements conformance.Triggers. It returns the features that Knative's brokers lack or have
// switched off by default.
func (*Triggers) MissingFeatures() map[conformance.Feature]string {
	return map[conformance.Feature]string{
		conformance.Batch: "batches are optional in the HTTP binding, and Knative's ingress does not accept them",
		conformance.Order: "Knative guarantees no order",
		conformance.RetryAfter: "Knative's feature delivery-retryafter is off by default (use --with retry-after where " +
			"it is on)",
		conformance.Subscriptions: "triggers are Kubernetes objects",
	}
}

type condition struct{ Type, Status, Reason, Message string }

// ready waits until the trigger's condition Ready is true.
func (t *Triggers) ready(ctx context.Context, name string) error {
	last := "no condition Ready"
	for {
		var got struct {
			Status struct{ Conditions []condition }
		}
		if err := t.call(ctx, http.MethodGet, name, nil, &got); err != nil && !fault.Is(err, fault.Unavailable) {
			return err
		}
		for _, c := range got.Status.Conditions {
			if c.Type == "Ready" {
				last = strings.TrimSpace(c.Status + " " + c.Reason + " " + c.Message)
			}
		}
		wait, done := 250*time.Millisecond, last == "True"
		if done {
			wait = t.cfg.ReadyDelay
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fault.New(fault.Timeout, "trigger %s does not become Ready: %s", name, last)
		}
		if done {
			return nil
		}
	}
}

func (t *Triggers) call(ctx context.Context, method, name string, in, out any) error {
	path := "/apis/eventing.knative.dev/v1/namespaces/" + url.PathEscape(t.cfg.Namespace) + "/triggers"
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	status, text, err := t.access.do(ctx, method, path, body)
	for status == http.StatusTooManyRequests && ctx.Err() == nil {
		select {
		case <-time.After(time.Second):
			status, text, err = t.access.do(ctx, method, path, body)
		case <-ctx.Done():
		}
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "no Kubernetes answers at %s", t.access.server)
	}
	if status >= 300 {
		return failure(method, status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// failure converts an error response of the API server. It is a conformance.Refused only when the schema or a webhook
// rejects the object itself.
func failure(method string, status int, text []byte) error {
	var response struct{ Message string }
	_ = json.Unmarshal(text, &response) // without a message the status is enough
	message := fmt.Sprintf("%s trigger: %d %.300s", method, status, response.Message)
	webhook := strings.Contains(response.Message, "admission webhook")
	switch {
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity, status == http.StatusForbidden &&
		webhook:
		return conformance.Refused{Status: status, Message: response.Message}
	case status == http.StatusUnauthorized:
		return fault.New(fault.Unauthenticated, "%s", message)
	case status == http.StatusForbidden:
		return fault.New(fault.Denied, "%s", message)
	case status == http.StatusNotFound && method == http.MethodPost:
		return fault.New(fault.Invalid, "%s; is Knative Eventing installed, and does the namespace exist?", message)
	case status == http.StatusNotFound:
		return fault.New(fault.NotFound, "%s", message)
	}
	return fault.New(fault.Unavailable, "%s", message)
}
