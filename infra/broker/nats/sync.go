package nats

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// syncer syncs the files of a stream. The server writes a message to its file before it acknowledges it, and fsync
// covers all writes to a file, also those through other descriptors. The server can sync on a timer, but does not
// report when it has.
type syncer struct {
	synced map[string]state
}

// state holds the size and modification time of a file just before its last sync.
type state struct {
	size    int64
	changed time.Time
}

// sync syncs the blocks that have changed since the last call, and the folder when blocks were added or removed.
func (s *syncer) sync(dir string) error {
	blocks, err := filepath.Glob(filepath.Join(dir, "*.blk"))
	if err != nil {
		return err
	}
	if len(blocks) == 0 {
		return fmt.Errorf("no files of the stream in %s", dir)
	}
	now, folderChanged := make(map[string]state, len(blocks)), len(blocks) != len(s.synced)
	for _, path := range blocks {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // all of its messages were trimmed
		}
		if err != nil {
			return err
		}
		now[path] = state{info.Size(), info.ModTime()}
		before, known := s.synced[path]
		folderChanged = folderChanged || !known
		if known && before == now[path] {
			continue
		}
		if err := fsync(path); err != nil {
			return err
		}
	}
	if folderChanged {
		if err := fsync(dir); err != nil {
			return err
		}
	}
	s.synced = now
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
