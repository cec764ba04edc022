// Package policyfile reads the file with the policies of an environment and reads it again when it has changed.
package policyfile

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// debounce is how long the folder must be quiet before the file is read, because a program may write it in pieces.
const debounce = 100 * time.Millisecond

// File is a policy file. Start and Stop are called by one goroutine at a time.
type File struct {
	path  string
	apply func(file string, document []byte) error
	log   *slog.Logger

	last []byte // that was applied or refused
	stop context.CancelFunc
	done sync.WaitGroup
}

// Open reads the file and calls apply with it. It returns the error of apply, or why the file cannot be read.
func Open(path string, apply func(file string, document []byte) error, log *slog.Logger) (*File, error) {
	f := &File{path: path, apply: apply, log: log}
	document, err := f.read()
	if err != nil {
		return nil, err
	}
	f.last = document
	return f, apply(path, document)
}

// read returns the content of the file. An empty file is an error: it is what a program that writes it begins with.
func (f *File) read() ([]byte, error) {
	document, err := os.ReadFile(f.path)
	if err == nil && len(bytes.TrimSpace(document)) == 0 {
		err = fmt.Errorf("%s: the file is empty: want at least {}", f.path)
	}
	return document, err
}

// Start begins to watch the file. It is read again when anything in its folder changes (an editor that writes another
// file in its place, a ConfigMap whose symbolic link is moved) and when the process gets SIGHUP. A content that apply
// refuses is logged, and so is one that cannot be read; what was applied before still holds. On a file system that
// reports no changes only SIGHUP has the file read.
func (f *File) Start(context.Context) error {
	if f.stop != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var events chan fsnotify.Event
	var overflows chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		if err = watcher.Add(filepath.Dir(f.path)); err != nil {
			_ = watcher.Close()
		}
	}
	if err != nil {
		f.log.WarnContext(ctx, "changes of the gateway's policies are not seen without SIGHUP", "file", f.path, "error", err)
		watcher = nil
	} else {
		events, overflows = watcher.Events, watcher.Errors
	}
	f.reload(ctx, false) // it may have changed since Open
	f.done.Go(func() {
		defer signal.Stop(hangups)
		if watcher != nil {
			defer watcher.Close()
		}
		var quiet <-chan time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				f.reload(ctx, true)
			case <-events:
				quiet = time.After(debounce)
			case <-overflows: // a change may have been missed
				quiet = time.After(debounce)
			case <-quiet:
				quiet = nil
				f.reload(ctx, false)
			}
		}
	})
	return nil
}

// Stop ends the watching and returns when apply is not called any more.
func (f *File) Stop(context.Context) error {
	if f.stop != nil {
		f.stop()
		f.done.Wait()
		f.stop = nil
	}
	return nil
}

// reload applies the file if it has changed, or in any case.
func (f *File) reload(ctx context.Context, always bool) {
	document, err := f.read()
	if err == nil {
		if !always && bytes.Equal(document, f.last) {
			return
		}
		f.last = document
		err = f.apply(f.path, document)
	}
	if err != nil {
		f.log.ErrorContext(ctx, "the gateway keeps its policies: the file was refused", "file", f.path, "error", err)
		return
	}
	f.log.InfoContext(ctx, "the gateway has new policies", "file", f.path)
}
