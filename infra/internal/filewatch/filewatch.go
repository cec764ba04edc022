// Package filewatch tells when files may have changed.
package filewatch

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// debounce is how long the folders must be quiet before a change is reported, because a program may write a file in
// pieces.
const debounce = 100 * time.Millisecond

// maxDelay is how long after the first change it is reported at the latest: a folder with a log or a database in it is
// never quiet.
const maxDelay = 2 * time.Second

// Watcher watches files until Stop.
type Watcher struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

// Start calls changed when anything in the folder of a file has changed (an editor that writes another file in its
// place, a ConfigMap whose symbolic link is moved), and with true when the process gets SIGHUP. The first call, with
// false, is before Start returns: the files may have changed since they were read. Calls do not overlap, and there are
// fewer of them than changes. The error tells which folders are not watched, because they are missing or on a file
// system that reports no changes; the Watcher still reports SIGHUP then.
func Start(changed func(hangup bool), paths ...string) (*Watcher, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{stop: cancel}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var events chan fsnotify.Event
	var overflows chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		events, overflows = watcher.Events, watcher.Errors
		for _, p := range paths {
			err = errors.Join(err, watcher.Add(filepath.Dir(p)))
		}
	}
	changed(false)
	w.done.Go(func() {
		defer signal.Stop(hangups)
		if watcher != nil {
			defer watcher.Close()
		}
		report(ctx, hangups, events, overflows, changed)
	})
	return w, err
}

// report calls changed until ctx ends.
func report(
	ctx context.Context, hangups <-chan os.Signal, events <-chan fsnotify.Event, overflows <-chan error,
	changed func(hangup bool),
) {
	var quiet, latest <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			changed(true)
			continue
		case <-quiet:
			quiet, latest = nil, nil
			changed(false)
			continue
		case <-latest:
			quiet, latest = nil, nil
			changed(false)
			continue
		case <-events:
		case <-overflows: // a change may have been missed
		}
		quiet = time.After(debounce)
		if latest == nil {
			latest = time.After(maxDelay)
		}
	}
}

// Stop ends the watching and returns when changed is not called any more.
func (w *Watcher) Stop() {
	w.stop()
	w.done.Wait()
}
