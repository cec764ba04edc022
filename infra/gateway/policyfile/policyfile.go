// Package policyfile reads the file with the policies of an environment and reads it again when it has changed.
package policyfile

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/ebb-dev/ebb/infra/internal/filewatch"
)

// File is a policy file. Start and Stop are called by one goroutine at a time.
type File struct {
	path  string
	apply func(file string, document []byte) error
	log   *slog.Logger

	last    []byte // that was applied or refused
	watcher *filewatch.Watcher
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
	if f.watcher != nil {
		return nil
	}
	ctx := context.Background()
	var err error
	f.watcher, err = filewatch.Start(func(hangup bool) { f.reload(ctx, hangup) }, f.path)
	if err != nil {
		f.log.WarnContext(ctx, "changes of the gateway's policies are not seen without SIGHUP", "file", f.path, "error", err)
	}
	return nil
}

// Stop ends the watching and returns when apply is not called any more.
func (f *File) Stop(context.Context) error {
	if f.watcher != nil {
		f.watcher.Stop()
		f.watcher = nil
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
