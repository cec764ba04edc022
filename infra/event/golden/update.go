package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/event"
)

// Update records what the recordings that were committed do not have yet, and replaces the drafts. It returns the files
// that it wrote and those that it removed. A process that is stopped in the middle leaves some files unwritten; the
// next Update writes them.
func Update(dir string, types []*event.Info) (written, removed []string, err error) {
	if len(Check(dir, types)) == 0 {
		return nil, nil, nil
	}
	drafts, err := draftsIn(dir)
	if err != nil {
		return nil, nil, err
	}
	committed, errs := load(dir, drafts)
	if len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	files, err := filesFor(dir, types, committed, drafts)
	if err != nil {
		return nil, nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(drafts)) {
		if files[path] != nil {
			continue
		}
		if err := os.Remove(path); err != nil {
			return written, removed, err
		}
		removed = append(removed, path)
		if folder := filepath.Dir(path); folder != filepath.Clean(dir) {
			_ = os.Remove(folder) // it stays as long as it holds another file
		}
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		changed, err := write(path, files[path])
		if err != nil {
			return written, removed, err
		}
		if changed {
			written = append(written, path)
		}
	}
	return written, removed, nil
}

// filesFor returns the recordings to be made, one for each function with a type that lacks something.
func filesFor(
	dir string,
	types []*event.Info,
	committed recordings,
	drafts map[string]bool,
) (map[string][]byte, error) {
	byFunction := map[string]map[string]recording{}
	for _, info := range types {
		missing, ok, err := committed.of(info).lacks(info)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if byFunction[info.Function] == nil {
			byFunction[info.Function] = map[string]recording{}
		}
		byFunction[info.Function][info.Name] = missing
	}
	files := map[string][]byte{}
	for function, missing := range byFunction {
		path, err := freePath(dir, function, drafts)
		if err != nil {
			return nil, err
		}
		raw, err := json.MarshalIndent(missing, "", "  ")
		if err != nil {
			return nil, err
		}
		files[path] = append(raw, '\n')
	}
	return files, nil
}

// freePath returns the first name for a function's recording that no committed one has.
func freePath(dir, function string, drafts map[string]bool) (string, error) {
	for n := 1; ; n++ {
		path := filepath.Join(dir, function+".json")
		if n > 1 {
			path = filepath.Join(dir, fmt.Sprintf("%s-%d.json", function, n))
		}
		taken, err := exists(path)
		if err != nil {
			return "", err
		}
		if !taken || drafts[path] {
			return path, nil
		}
	}
}

// write replaces a file unless it has this content already.
func write(path string, content []byte) (changed bool, err error) {
	before, err := os.ReadFile(path)
	if err == nil && bytes.Equal(before, content) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	return true, os.WriteFile(path, content, 0o644)
}

// draftsIn returns the recordings that no commit of any branch holds. Without a git repository there are none.
func draftsIn(dir string) (map[string]bool, error) {
	all := paths(dir)
	if len(all) == 0 {
		return nil, nil
	}
	inside, err := exec.Command("git", "-C", dir, "rev-parse", "--is-inside-work-tree").Output()
	if err != nil || strings.TrimSpace(string(inside)) != "true" {
		return nil, nil // no repository, or no git
	}
	// With -m the files that a merge adds are listed too.
	log := exec.Command(
		"git",
		"-C",
		dir,
		"log",
		"--all",
		"-m",
		"--format=",
		"--name-only",
		"-z",
		"--relative",
		"--",
		".",
	)
	names, err := log.Output()
	if err != nil {
		return nil, fmt.Errorf("ask git which files of %s were committed: %w", dir, err)
	}
	committed := map[string]bool{}
	for name := range strings.SplitSeq(string(names), "\x00") {
		committed[filepath.Join(dir, filepath.FromSlash(strings.TrimSpace(name)))] = true
	}
	drafts := map[string]bool{}
	for _, path := range all {
		if !committed[filepath.Clean(path)] {
			drafts[path] = true
		}
	}
	return drafts, nil
}
