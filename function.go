// Package ebb hosts the capability that $FUNCTION names, on Knative.
//
// New has the instanced signature of the func CLI, which builds this package by func.yaml; cmd/function is the same in
// a program of its own, the one of the image. Both are configured by the environment:
//
//   - FUNCTION, and PORT (8080).
//   - EBB_STORE: memory:, sqlite:PATH, postgres://USER@HOST/DATABASE, firestore://PROJECT/DATABASE.
//   - K_SINK, K_CE_OVERRIDES and K_CA_CERTS, which a SinkBinding sets: where events are published.
//   - EBB_VERIFICATION_KEYS, EBB_ISSUER, EBB_AUDIENCE: what access tokens are checked by.
//   - EBB_SENDER_AUDIENCE, EBB_SENDERS, EBB_SENDER_ISSUER: who may deliver events; see knative.Senders.
//   - EBB_MANIFEST_HASH: the hash of the declaration that the platform was set up with.
//   - what the capability itself reads; see its settings in terraform/manifest.json.
package ebb

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// Function is the hosted capability as the func CLI's middleware calls it.
type Function struct {
	hosted atomic.Pointer[hosted]
}

// New makes a function that is started by Start. Until then it answers that it is not ready.
func New() *Function { return &Function{} }

// Start reads the configuration, cfg before the environment, and begins to open what the capability needs. An error names
// every fault of the configuration.
func (f *Function) Start(_ context.Context, cfg map[string]string) error {
	h, err := compose(config.Overlay(config.Map(cfg), config.Environment), nil)
	if err != nil {
		return err
	}
	if !f.hosted.CompareAndSwap(nil, h) {
		return fault.New(fault.Internal, "the function was started before")
	}
	h.Start()
	return nil
}

// Handle serves a request: an operation of the capability, or a delivery to /events.
func (f *Function) Handle(w http.ResponseWriter, r *http.Request) {
	if h := f.hosted.Load(); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	function.WriteProblem(w, r, fault.New(fault.Unavailable, "the function was not started"))
}

// Alive reports whether the process can go on.
func (f *Function) Alive(context.Context) (bool, error) { return true, nil }

// Ready reports whether requests may come, and if not, why.
func (f *Function) Ready(context.Context) (bool, error) {
	h := f.hosted.Load()
	if h == nil {
		return false, fault.New(fault.Unavailable, "the function was not started")
	}
	err := h.Ready()
	return err == nil, err
}

// Stop closes what Start has opened. No request runs any more.
func (f *Function) Stop(ctx context.Context) error {
	h := f.hosted.Load()
	if h == nil {
		return nil
	}
	err := h.Stop(ctx)
	if flushed := h.watch.Shutdown(ctx); err == nil {
		err = flushed
	}
	return err
}
