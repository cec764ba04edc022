// Package attempts stores the attempts at events in a store of blobs, for drivers whose product cannot change a
// message.
package attempts

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Store stores the attempts at the events of one trigger. Its methods may be called concurrently.
type Store struct {
	blobs  *blob.Store
	prefix string
	logger *slog.Logger
}

// New returns the store of a broker's trigger. Without a store of blobs, nil, it stores nothing.
func New(blobs *blob.Store, broker, trigger string, logger *slog.Logger) Store {
	return Store{blobs, "tries/" + broker + "/" + trigger + "/", logger}
}

// Key returns the key of the blob with the attempts at an event.
func (s Store) Key(e *event.Event) string { return s.prefix + delivery.Identity(e) }

// Load returns the attempts that are stored under a key. It logs why those that cannot be read are counted anew.
func (s Store) Load(ctx context.Context, key string) (t delivery.Tries) {
	if s.blobs == nil {
		return t
	}
	b, err := s.blobs.Get(ctx, key)
	if err == nil {
		err = json.Unmarshal(b.Data, &t)
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		s.logger.Warn("the attempts at an event were not loaded; they are counted anew", "error", err)
		return delivery.Tries{}
	}
	return t
}

// Save stores attempts under a key. Its errors are those of the store of blobs.
func (s Store) Save(ctx context.Context, key string, t delivery.Tries) error {
	if s.blobs == nil {
		return nil
	}
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return s.blobs.Put(ctx, key, blob.Blob{Type: "application/json", Data: data})
}

// Delete deletes the attempts at an event that is finished. It logs why it could not.
func (s Store) Delete(ctx context.Context, key string) {
	if s.blobs == nil {
		return
	}
	if err := s.blobs.Delete(ctx, key); err != nil {
		s.logger.Warn("the attempts at a finished event are still stored", "error", err)
	}
}
