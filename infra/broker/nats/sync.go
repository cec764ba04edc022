package nats

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// synced syncs the files of a stream. The server writes a message to its file before it acknowledges it, and fsync is
// about the file, whichever descriptor it was written by. The server's own timer for syncing does not tell when it has
// done so.
type synced struct {
	known map[string]state
}

// state is how a file looked before it was synced last.
type state struct {
	size    int64
	changed time.Time
}

// sync syncs the blocks that have changed since the last time, and the folder when there are others.
func (s *synced) sync(dir string) error {
	blocks, err := filepath.Glob(filepath.Join(dir, "*.blk"))
	if err != nil {
		return err
	}
	if len(blocks) == 0 {
		return fmt.Errorf("the stream has no files in %s", dir)
	}
	now, others := make(map[string]state, len(blocks)), len(blocks) != len(s.known)
	for _, path := range blocks {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // all of its messages were trimmed
		}
		if err != nil {
			return err
		}
		now[path] = state{info.Size(), info.ModTime()}
		before, known := s.known[path]
		others = others || !known
		if known && before == now[path] {
			continue
		}
		if err := fsync(path); err != nil {
			return err
		}
	}
	if others {
		if err := fsync(dir); err != nil {
			return err
		}
	}
	s.known = now
	return nil
}

func fsync(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncTree syncs every file and folder below a folder, and the folder.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // the server has removed it
		case err != nil:
			return err
		case e.IsDir() || e.Type().IsRegular():
			return fsync(path)
		}
		return nil
	})
}
