// Package gateway is the gateway of a product: the policy and the wiring of infra/gateway, which is the engine.
//
// It routes HTTP requests to the functions that serve them, and is the only function that calls others synchronously.
// Its routes come from the functions' manifests, so a new operation needs nothing here. It consumes and emits no events
// and stores nothing, so it may be stopped after any request. It checks the signature and the expiry of a token; the
// function behind it, which checks again, refuses a token that was revoked.
//
// GET /api/me is an answer composed of those of several functions.
package gateway
