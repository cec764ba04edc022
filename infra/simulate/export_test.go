package simulate

import (
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/breaker"
)

// HidePoison lets no answer about the function count, whatever happens to other events, until it is undone.
func HidePoison() (undo func()) {
	counts = func(b *breaker.Breaker, e *breaker.Event, eventType string, r broker.Result, n int, now time.Time) bool {
		return b.Counts(e, eventType, r, n, now) && !breaker.OfFunction(r)
	}
	return func() { counts = (*breaker.Breaker).Counts }
}
