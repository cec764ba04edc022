// Package gateway is the one door of the system: it routes HTTP requests to the
// functions that serve them, and is the only one that calls a function synchronously.
//
// Its routes come from the functions' manifests, so a new operation needs nothing here.
// It checks the signature and the expiry of a token and refuses early; the function checks again, because
// it trusts no header, and refuses a token that was revoked, which the gateway does not know of. It
// emits and consumes no events and keeps no state, so it may be stopped after any request.
//
// Of its own it serves GET /api/me, composed from several functions, the documents
// that describe the system, and health and metrics. Every failure is a problem document (RFC 9457).
package gateway
