package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// Identity returns a hash of the event's source, id and extensions. An event that is published twice has one identity.
// An event that is replayed has the same source and id, and so have its dead letters of two triggers; they differ by
// extensions.
func Identity(e *ce.Event) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q", e.Source(), e.ID())
	extensions := e.Extensions()
	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		text, _ := types.Format(extensions[name])
		fmt.Fprintf(h, " %s %q", name, text)
	}
	return hex.EncodeToString(h.Sum(nil))
}
