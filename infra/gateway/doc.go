// Package gateway is the engine of a gateway: it routes HTTP requests to the functions that serve them, by their
// manifests.
//
// A request passes a chain of policies, each a Middleware in a file of its own; see Gateway.chain for their order. The
// chain ends at the function, which is found by package discovery and reached by package proxy. A new operation of a
// function needs nothing here. A new policy is one file, and one line in the chain or in Config.Policies.
//
// The gateway checks credentials so that it can refuse early; the function checks them again, because it trusts no
// header. The gateway keeps no state between requests. Every failure is answered with a problem document (RFC 9457).
//
// It serves a few things itself: answers composed of those of several functions, the documents that describe the system
// (/openapi.json, /asyncapi.json, /docs), /healthz, /readyz and /metrics.
package gateway
