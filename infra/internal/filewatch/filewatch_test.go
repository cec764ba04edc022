package filewatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Changes are reported together when the folder is quiet, and after a while when it never is, as with a log file in it.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		events, reported := make(chan fsnotify.Event), 0
		go report(ctx, nil, events, nil, func(bool) { reported++ })
		send := func(n int) {
			for range n {
				events <- fsnotify.Event{}
				time.Sleep(debounce / 2)
			}
		}
		send(3)
		time.Sleep(debounce)
		synctest.Wait()
		if reported != 1 {
			t.Errorf("three changes are reported %d times, want once", reported)
		}
		send(int(3 * maxDelay / (debounce / 2)))
		synctest.Wait()
		if reported < 3 || reported > 4 {
			t.Errorf("while the folder is never quiet, reports are %d, want one each %v", reported-1, maxDelay)
		}
		cancel()
		synctest.Wait()
	})
}
