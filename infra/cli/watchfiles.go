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

// debounce is how long no file must change before a change is reported, because an editor writes several at once.
const debounce = 100 * time.Millisecond

// watchFiles returns a channel that gets a value after each burst of changes to the files below dir, until ctx ends.
// It does not watch hidden folders, vendor, node_modules, testdata and except.
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
			return nil // removed meanwhile
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

// ignores reports whether a file cannot change the binary: tests, temporary files of editors, and logs. The output of
// this very command may go into a log below the directory, and each line of it would start the next build.
func ignores(path string) bool {
	name := filepath.Base(path)
	return strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".log") ||
		strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") ||
		strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".swp") || strings.HasSuffix(name, ".tmp") || name == "4913"
}

func (f fileWatch) run(ctx context.Context, changes chan<- struct{}) {
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-f.Events:
			if !ok {
				return
			}
			if f.counts(e) {
				quiet = time.After(debounce)
			}
		case <-f.Errors: // an overflow: assume that a change was missed
			quiet = time.After(debounce)
		case <-quiet:
			quiet = nil
			select {
			case changes <- struct{}{}:
			default: // a change is pending already
			}
		}
	}
}

// counts reports whether an event is a change, and starts to watch new folders.
func (f fileWatch) counts(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod || ignores(e.Name) {
		return false
	}
	if info, err := os.Stat(e.Name); err == nil && info.IsDir() {
		if f.ignoresDir(e.Name) {
			return false
		}
		_ = f.addTree(e.Name) // fails if it was removed meanwhile
	}
	return true
}
