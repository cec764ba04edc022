package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// The path of dev's log below the data directory.
const (
	logDir  = "log"
	logName = "dev.log"
)

// The limits of the log: the current file and the older ones, which are numbered from 1, the latest.
const (
	maxLogFile = 8 << 20 // bytes
	oldLogs    = 4
)

// logFile is a log file that is rotated when it becomes too large. The first write opens it and makes its directory. It
// may be used concurrently.
type logFile struct {
	path string
	max  int64 // bytes; 0: maxLogFile

	mu   sync.Mutex
	file *os.File
	size int64
}

// Write appends complete lines. It rotates the file between two writes only.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.prepare(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// prepare opens the file, and rotates a full one.
func (l *logFile) prepare(more int64) error {
	limit := l.max
	if limit == 0 {
		limit = maxLogFile
	}
	if l.file != nil && l.size > 0 && l.size+more > limit {
		if err := l.file.Close(); err != nil {
			return err
		}
		l.file = nil
		if err := rotate(l.path); err != nil {
			return err
		}
	}
	if l.file != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// rotate increments the files' numbers and drops the oldest.
func rotate(path string) error {
	for n := oldLogs; n > 0; n-- {
		if err := os.Rename(oldLog(path, n-1), oldLog(path, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// oldLog returns the path of the nth older file; 0 is the current one.
func oldLog(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// Close closes the file. A later write opens it again.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
