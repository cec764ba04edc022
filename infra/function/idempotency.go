package function

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// Requests with one Idempotency-Key, from one caller for one operation, are one request that is tried several times
// (draft-ietf-httpapi-idempotency-key-header-07):
//
//   - Tx.Key gives each of them the same keys for remote calls. They are derived from the caller, the operation, the
//     key and the request, so that a key that is used for another request later gives other keys.
//   - What the first commits is stored with its response, in the same commit, and given to the others. A refusal that
//     was committed (see CommitThen) is such a response. A failure that committed nothing is not stored: the next try
//     runs the handler again.
//   - The same key with another request is 422.
//   - While an instance carries a request out, it answers 409 to others with its key. That is known in memory only.
//   - Other instances do not know it. They run the handler too, and the first commit decides: each of the others loses
//     the race, finds the stored response and gives it. So nothing has to be released after a crash: an instance that
//     is killed while it carries a request out has written nothing, and the next try is the first one.
//
// A handler may therefore run in several instances at once for one key, as it may run again after a lost race: its
// effects are those of the commit, and its remote calls have the same keys.

// responseRetention is how long a response is stored for its Idempotency-Key.
const responseRetention = 24 * time.Hour

// beingMade is how long a client should wait that has sent a request again while the first is being carried out.
const beingMade = time.Second

// inFlight holds the requests with a key that this instance carries out, by the id of the stored response that they
// will have.
type inFlight struct {
	mu       sync.Mutex
	requests map[string]*current
}

// current is a request that is being carried out.
type current struct {
	fingerprint string
	until       time.Time // its deadline: a handler that does not end then keeps no other out
}

// enter notes that the instance begins to carry out a request, and returns the func that notes its end. It returns
// fault.Conflict while another request with the key is being carried out, and fault.Invalid when that is not the same
// request.
func (f *Function) enter(ctx context.Context, op Operation, rq *request) (leave func(), err error) {
	if rq == nil || rq.key == "" {
		return func() {}, nil
	}
	id, now, in := responseKey(ctx, op, rq).ID, f.env.Now(), &f.inFlight
	mine := &current{fingerprint(rq), now.Add(op.Deadline)}
	in.mu.Lock()
	defer in.mu.Unlock()
	if other := in.requests[id]; other != nil && now.Before(other.until) {
		if other.fingerprint != mine.fingerprint {
			return nil, reusedKey()
		}
		f.env.Telemetry.Duplicate(f.name)
		return nil, fault.New(fault.Conflict, "the first request with this Idempotency-Key is still being carried out").
			After(beingMade)
	}
	if in.requests == nil {
		in.requests = map[string]*current{}
	}
	in.requests[id] = mine
	return func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.requests[id] == mine {
			delete(in.requests, id)
		}
	}, nil
}

func reusedKey() error {
	return fault.New(fault.Invalid, "this Idempotency-Key was used for another request")
}

// messageOf returns the name of a request that Tx.Key derives keys from: the same for each try of a request with an
// Idempotency-Key, and the id of any other.
func messageOf(ctx context.Context, op Operation, rq *request, id string) string {
	if rq == nil || rq.key == "" {
		return id
	}
	sum := sha256.Sum256([]byte(responseKey(ctx, op, rq).ID + fingerprint(rq)))
	return "request " + hex.EncodeToString(sum[:])
}

// storedResponse is a response that was given for an Idempotency-Key.
type storedResponse struct {
	At          int64    `json:"at"` // Unix seconds
	Fingerprint string   `json:"fingerprint"`
	Response    response `json:"answer"`

	// Outbox names the outbox entry with the events of the request; "": it emitted none. An older version of the kit
	// wrote no name: nil.
	Outbox *string `json:"outbox,omitempty"`

	Follow follows `json:"follow,omitempty"` // what the request left to do; see followUp
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
		return nil, reusedKey()
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
