// Package blockingquery has what users of Consul's blocking queries share: the index of the next query, and how long to
// wait for an answer and between queries.
package blockingquery

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	Wait    = 5 * time.Minute                 // for a change; the agent adds up to a sixteenth
	Timeout = Wait + Wait/16 + 15*time.Second // of a query, after which its connection counts as dead
	Pace    = 200 * time.Millisecond          // between the begins of two queries, for what changes all the time

	backoffMin = time.Second
	backoffMax = 30 * time.Second
)

// Next returns the index of the next query after an answer with an index. One that goes backwards, after a restored
// snapshot for instance, begins from 0, or the query would wait until it is reached again. 0 itself would not block at
// all.
func Next(last, answered uint64) uint64 {
	if answered < last {
		return 0
	}
	return max(answered, 1)
}

// Backoff returns how long to wait after so many failures in a row: twice as long each time, by chance up to half less,
// so that not all processes come back at once.
func Backoff(failures int) time.Duration {
	wait := min(backoffMin<<min(failures-1, 10), backoffMax)
	return wait - rand.N(wait/2)
}

// Sleep waits, and reports false when ctx ended before.
func Sleep(ctx context.Context, wait time.Duration) bool {
	if wait <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
