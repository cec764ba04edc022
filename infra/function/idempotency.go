package function

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// responseRetention is how long a response is stored for its Idempotency-Key.
const responseRetention = 24 * time.Hour

// storedResponse is a response that was given for an Idempotency-Key.
type storedResponse struct {
	At          int64    `json:"at"` // Unix seconds
	Fingerprint string   `json:"fingerprint"`
	Response    response `json:"answer"`

	// Outbox names the outbox entry with the events of the request; "": it emitted none. An older version of the kit
	// wrote no name: nil.
	Outbox *string `json:"outbox,omitempty"`
}

// replayedHeader marks a response that was stored before.
const replayedHeader = "Idempotency-Replayed"

// loadResponse returns the response that is stored for the request's key; nil when there is none. A key that was used
// for another request is fault.Invalid.
func (f *Function) loadResponse(ctx context.Context, db *store.Tx, op Operation, rq *request) (*storedResponse, error) {
	if rq == nil || rq.key == "" {
		return nil, nil
	}
	d, err := db.Get(ctx, responseKey(ctx, op, rq))
	if err != nil || d.Version == 0 {
		return nil, err
	}
	var s storedResponse
	if err := json.Unmarshal(d.Data, &s); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "decode a stored response")
	}
	if s.Fingerprint != fingerprint(rq) {
		return nil, fault.New(fault.Invalid, "this Idempotency-Key was used for another request")
	}
	f.env.Telemetry.Duplicate(f.name)
	s.Response.replayed = true
	return &s, nil
}

// saveResponse stores a response for the request's key, if it has one.
func (f *Function) saveResponse(ctx context.Context, db *store.Tx, op Operation, rq *request, s storedResponse) error {
	if rq == nil || rq.key == "" {
		return nil
	}
	s.Fingerprint = fingerprint(rq)
	data, err := json.Marshal(s)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "encode the response to store")
	}
	_, err = db.Set(ctx, responseKey(ctx, op, rq), data)
	return err
}

// responseKey keeps the keys of different callers and operations apart.
func responseKey(ctx context.Context, op Operation, rq *request) store.Key {
	sum := sha256.Sum256([]byte(auth.From(ctx).Subject + "\x00" + op.Method + " " + op.Path + "\x00" + rq.key))
	return store.Key{Collection: idempotencyName, ID: hex.EncodeToString(sum[:])}
}

func fingerprint(rq *request) string {
	h := sha256.New()
	h.Write([]byte(rq.http.Method + " " + rq.http.URL.RequestURI() + "\x00"))
	h.Write(rq.body)
	return hex.EncodeToString(h.Sum(nil))
}
