package cli

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settleTime is how long files must be quiet before a change counts: an editor writes several at once.
const settleTime = 100 * time.Millisecond

// watchFiles returns a channel that gets a value after each burst of changes to the files below dir, until ctx ends.
// Folders that hold no code are left out: hidden ones, vendor, node_modules, and except.
func watchFiles(ctx context.Context, dir, except string) (<-chan struct{}, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	f := fileWatch{Watcher: w, root: dir, except: except}
	if err := f.addTree(dir); err != nil {
		return nil, err
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer w.Close()
		f.run(ctx, changes)
	}()
	return changes, nil
}

type fileWatch struct {
	*fsnotify.Watcher
	root, except string
}

func (f fileWatch) addTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == dir:
			return err
		case err != nil:
			return nil // it was removed meanwhile
		case !d.IsDir():
			return nil
		case path != f.root && f.ignoresDir(path):
			return fs.SkipDir
		}
		return f.Add(path)
	})
}

func (f fileWatch) ignoresDir(path string) bool {
	name := filepath.Base(path)
	return path == f.except || strings.HasPrefix(name, ".") || name == "vendor" || name == "node_modules" ||
		name == "testdata"
}

// ignores reports whether a file cannot change what is built: tests, and what editors leave beside a file.
func ignores(path string) bool {
	name := filepath.Base(path)
	return strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") ||
		strings.HasSuffix(
			name,
			"~",
		) || strings.HasSuffix(name, ".swp") || strings.HasSuffix(name, ".tmp") || name == "4913"
}

func (f fileWatch) run(ctx context.Context, changes chan<- struct{}) {
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-f.Events:
			if !ok {
				return
			}
			if f.counts(e) {
				settled = time.After(settleTime)
			}
		case <-f.Errors: // an overflow: some change was missed, so take it that there was one
			settled = time.After(settleTime)
		case <-settled:
			settled = nil
			select {
			case changes <- struct{}{}:
			default: // one is waiting to be taken already
			}
		}
	}
}

// counts reports whether an event is a change, and begins to watch folders that are new.
func (f fileWatch) counts(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod || ignores(e.Name) {
		return false
	}
	if info, err := os.Stat(e.Name); err == nil && info.IsDir() {
		if f.ignoresDir(e.Name) {
			return false
		}
		_ = f.addTree(e.Name) // it may be gone already
	}
	return true
}
