package run

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/system"
)

// Function is a hosted function with the instanced signature of the func CLI: its middleware calls Start, then Handle
// for every request, and Stop. Handle, Alive and Ready may be called concurrently.
type Function struct {
	system system.System
	hosted atomic.Pointer[hosted]
}

// New returns a function of the system; Start chooses which. Until then it answers that it is not ready.
func New(sys system.System) *Function { return &Function{system: sys} }

// Start reads the settings, those of cfg before the environment's, and begins to open what the function that FUNCTION
// names needs. An error is a *config.Error and names every violation.
func (f *Function) Start(ctx context.Context, cfg map[string]string) error {
	h, err := compose(ctx, f.system, config.Overlay(config.Map(cfg), config.Environment), nil, Machine{})
	if err != nil {
		return err
	}
	h.watch(context.WithoutCancel(ctx))
	if !f.hosted.CompareAndSwap(nil, h) {
		h.unwatch()
		return fault.New(fault.Internal, "the function was started before")
	}
	h.Start()
	return nil
}

// Handle serves a request: an operation of the function, or a delivery to /events.
func (f *Function) Handle(w http.ResponseWriter, r *http.Request) {
	if h := f.hosted.Load(); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	problem.Write(w, r, fault.New(fault.Unavailable, "the function was not started"))
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
	h.unwatch()
	if flushed := h.telemetry.Shutdown(ctx); err == nil {
		err = flushed
	}
	return err
}
