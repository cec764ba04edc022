package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// traced lists the system calls that change files. Writes through mapped memory cannot be traced: only SQLite's -shm
// file is written that way, and its content is not needed after a power cut.
var traced = []string{"open", "openat", "close", "write", "pwrite64", "lseek", "ftruncate", "fsync", "fdatasync",
	"rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "fallocate", "writev", "pwritev",
	"link", "linkat", "dup", "dup2", "dup3"}

// inode is a file or a directory, independent of its current name.
type inode struct {
	dir bool
	end int64 // the file's size while the trace is read
	ops []*op // the operations on its content
}

type opKind int

const (
	opWrite opKind = iota
	opTruncate
	opSync
	opLink   // path names the inode from now on; nil: path is removed
	opRename // from path to other
)

// op is one operation with its begin and end.
type op struct {
	kind        opKind
	begin, end  float64
	in          *inode
	path, other string
	off         int64
	data        []byte
	synced      bool // the write itself is synced, because the file was opened with O_SYNC
}

// trace holds all operations below one directory, ordered by their ends.
type trace struct {
	dir string
	ops []*op
}

// handle is an open file.
type handle struct {
	in     *inode
	path   string
	off    int64
	append bool
	synced bool
}

type reader struct {
	trace
	names map[string]*inode
	fds   map[int]*handle
}

// readTrace reads the output of strace.
func readTrace(file, dir string) (*trace, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseTrace(f, dir)
}

func parseTrace(from io.Reader, dir string) (*trace, error) {
	r := &reader{trace: trace{dir: dir}, names: map[string]*inode{dir: {dir: true}}, fds: map[int]*handle{}}
	begun := map[string]call{} // by thread
	in := bufio.NewReaderSize(from, 1<<20)
	for n := 1; ; n++ {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			return &r.trace, nil
		}
		if err != nil {
			return nil, err
		}
		if err := r.line(strings.TrimSuffix(line, "\n"), begun); err != nil {
			return nil, fmt.Errorf("line %d of the trace: %w: %.200s", n, err, line)
		}
	}
}

// call is a system call that may not have returned yet.
type call struct {
	begin float64
	text  string
}

func (r *reader) line(line string, begun map[string]call) error {
	thread, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimLeft(rest, " ")
	stamp, text, _ := strings.Cut(rest, " ")
	at, err := strconv.ParseFloat(stamp, 64)
	if err != nil {
		return err
	}
	c := call{at, text}
	if cut, unfinished := strings.CutSuffix(text, " <unfinished ...>"); unfinished {
		c.text = cut
		begun[thread] = c
		return r.atOnce(c)
	}
	if strings.HasPrefix(text, "<... ") {
		_, tail, ok := strings.Cut(text, " resumed>")
		if !ok {
			return errors.New("unknown format")
		}
		c = begun[thread]
		c.text += tail
		delete(begun, thread)
	}
	i := strings.LastIndex(c.text, " = ")
	if i < 0 {
		return nil // the end of a thread
	}
	name, args, ok := strings.Cut(strings.TrimRight(c.text[:i], " "), "(")
	if !ok || !strings.HasSuffix(args, ")") {
		return errors.New("unknown format")
	}
	if name == "close" && c.begin != at {
		return nil // see atOnce
	}
	result, _, _ := strings.Cut(c.text[i+3:], " ")
	value, err := strconv.ParseInt(result, 0, 64)
	if err != nil || value < 0 {
		return nil // the call failed
	}
	return r.done(name, strings.Split(strings.TrimSuffix(args, ")"), ", "), value, c.begin, at)
}

// atOnce handles calls that take effect at their begin: a descriptor may be used again before close has returned.
func (r *reader) atOnce(c call) error {
	if args, ok := strings.CutPrefix(c.text, "close("); ok {
		if fd, err := strconv.Atoi(strings.TrimRight(args, ") ")); err == nil {
			delete(r.fds, fd)
		}
	}
	return nil
}

func (r *reader) add(o *op) {
	r.ops = append(r.ops, o)
	if o.in != nil && o.kind != opLink {
		o.in.ops = append(o.in.ops, o)
	}
}

func (r *reader) done(name string, args []string, result int64, begin, end float64) error {
	if len(args) == 0 {
		return errors.New("a call without arguments")
	}
	switch name {
	case "open":
		return r.open(append([]string{""}, args...), int(result), begin, end)
	case "openat":
		return r.open(args, int(result), begin, end)
	case "rename", "renameat", "renameat2":
		if name != "rename" {
			args = []string{args[1], args[3]}
		}
		return r.rename(args, begin, end)
	case "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat":
		path := args[0]
		if strings.HasSuffix(name, "at") {
			path = args[1]
		}
		at, err := r.path(path)
		if err != nil || at == "" {
			return err
		}
		var in *inode
		if strings.HasPrefix(name, "mkdir") {
			in = &inode{dir: true}
		}
		r.link(at, in, begin, end)
		return nil
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	h := r.fds[fd]
	if h == nil {
		return nil // a socket, or a file elsewhere
	}
	switch name {
	case "close":
		delete(r.fds, fd)
	case "lseek":
		h.off = result
	case "fsync", "fdatasync":
		r.add(&op{kind: opSync, begin: begin, end: end, in: h.in})
	case "ftruncate":
		size, err := strconv.ParseInt(args[1], 0, 64)
		if err != nil {
			return err
		}
		h.in.end = size
		r.add(&op{kind: opTruncate, begin: begin, end: end, in: h.in, off: size, synced: h.synced})
	case "write", "pwrite64":
		data, err := text(args[1])
		if err != nil {
			return err
		}
		off := h.off
		switch {
		case name == "pwrite64":
			if off, err = strconv.ParseInt(args[3], 0, 64); err != nil {
				return err
			}
		case h.append:
			off = h.in.end
		}
		data = data[:min(int64(len(data)), result)]
		if name == "write" {
			h.off = off + int64(len(data))
		}
		h.in.end = max(h.in.end, off+int64(len(data)))
		r.add(&op{kind: opWrite, begin: begin, end: end, in: h.in, off: off, data: data, synced: h.synced})
	default:
		return fmt.Errorf("unknown system call %s", name)
	}
	return nil
}

func (r *reader) open(args []string, fd int, begin, end float64) error {
	delete(r.fds, fd)
	path, err := r.path(args[1])
	if err != nil || path == "" {
		return err
	}
	flags := strings.Split(args[2], "|")
	in := r.names[path]
	if in == nil {
		in = &inode{dir: slices.Contains(flags, "O_DIRECTORY")}
		r.link(path, in, begin, end)
	} else if slices.Contains(flags, "O_TRUNC") {
		in.end = 0
		r.add(&op{kind: opTruncate, begin: begin, end: end, in: in})
	}
	r.fds[fd] = &handle{in: in, path: path, append: slices.Contains(flags, "O_APPEND"),
		synced: slices.Contains(flags, "O_SYNC") || slices.Contains(flags, "O_DSYNC")}
	return nil
}

func (r *reader) link(path string, in *inode, begin, end float64) {
	if in == nil {
		delete(r.names, path)
	} else {
		r.names[path] = in
	}
	r.add(&op{kind: opLink, begin: begin, end: end, in: in, path: path})
}

func (r *reader) rename(args []string, begin, end float64) error {
	from, err := r.path(args[0])
	if err != nil {
		return err
	}
	to, err := r.path(args[1])
	if err != nil {
		return err
	}
	if from == "" || to == "" {
		return nil
	}
	move(r.names, from, to)
	r.add(&op{kind: opRename, begin: begin, end: end, path: from, other: to})
	return nil
}

// move renames a file, or a directory with its content.
func move(names map[string]*inode, from, to string) {
	for _, path := range slices.Collect(maps.Keys(names)) {
		if path == from || strings.HasPrefix(path, from+"/") {
			names[to+strings.TrimPrefix(path, from)] = names[path]
			delete(names, path)
		}
	}
}

// path parses a path; it returns "" for a path that is not below the directory.
func (r *reader) path(quoted string) (string, error) {
	b, err := text(quoted)
	path := string(b)
	if err != nil || path != r.dir && !strings.HasPrefix(path, r.dir+"/") || strings.HasSuffix(path, "-shm") {
		return "", err
	}
	return filepath.Clean(path), nil
}

// text parses a string such as "\x41\x42".
func text(quoted string) ([]byte, error) {
	if len(quoted) < 2 || quoted[0] != '"' || quoted[len(quoted)-1] != '"' {
		return nil, fmt.Errorf("invalid or truncated string %.40q", quoted)
	}
	return hex.DecodeString(strings.ReplaceAll(quoted[1:len(quoted)-1], `\x`, ""))
}

// check compares the files that result from the trace with the real files, to show that the trace is complete.
func (t *trace) check() error {
	names := map[string]*inode{}
	for _, o := range t.ops {
		t.name(names, o)
	}
	return filepath.WalkDir(t.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "-shm") {
			return err
		}
		in := names[path]
		if in == nil {
			return fmt.Errorf("the trace does not contain the file %s", path)
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got := in.content(func(*op) bool { return true }, nil); !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs from the trace: want %d bytes, got %d", path, len(want), len(got))
		}
		return nil
	})
}

func (t *trace) name(names map[string]*inode, o *op) {
	switch {
	case o.kind == opRename:
		move(names, o.path, o.other)
	case o.kind == opLink && o.in == nil:
		delete(names, o.path)
	case o.kind == opLink:
		names[o.path] = o.in
	}
}

// leave writes the directory as a power cut at the time cut could leave it.
func (t *trace) leave(dir string, cut float64, random *rand.Rand) error {
	for path, content := range t.files(cut, random) {
		target := dir + strings.TrimPrefix(path, t.dir)
		if content == nil {
			if err := os.MkdirAll(target, 0o700); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(target, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// files returns the files after a power cut, nil for a directory. Each file has its synced data and a random part of
// later writes, by pages. Names are those of a journaling file system such as ext4 and XFS: a prefix of the changes
// that contains at least those before the last sync of any file.
func (t *trace) files(cut float64, random *rand.Rand) map[string][]byte {
	names := map[string]*inode{}
	var durable float64
	for _, o := range t.ops {
		if o.end <= cut && (o.kind == opSync || o.synced) {
			durable = max(durable, o.begin)
		}
	}
	kept := random.Float64()
	for _, o := range t.ops {
		if o.kind != opLink && o.kind != opRename {
			continue
		}
		if o.end > durable && (o.begin > cut || random.Float64() > kept) {
			break
		}
		t.name(names, o)
	}
	files := map[string][]byte{}
	for _, path := range slices.Sorted(maps.Keys(names)) { // in a fixed order, so that the draws are repeatable
		if in := names[path]; in.dir {
			files[path] = nil
		} else {
			files[path] = append([]byte{}, in.after(cut, random)...)
		}
	}
	return files
}

// after returns the content of a file after a power cut.
func (in *inode) after(cut float64, random *rand.Rand) []byte {
	durable := func(o *op) bool {
		return o.synced && o.end <= cut || slices.ContainsFunc(in.ops, func(s *op) bool {
			return s.kind == opSync && s.begin >= o.end && s.end <= cut
		})
	}
	var loose []*op
	for _, o := range in.ops {
		if o.kind != opSync && o.begin <= cut && !durable(o) {
			loose = append(loose, o)
		}
	}
	// Some files keep none of their unsynced writes, some keep all, most keep a part.
	share := []float64{0, 1, random.Float64(), random.Float64()}[random.IntN(4)]
	keep := map[*op]map[int64]bool{}
	gone := map[int64]bool{} // pages with a lost write: later writes of them are lost too
	truncates := true
	for _, o := range loose {
		keep[o] = map[int64]bool{}
		if o.kind == opTruncate {
			truncates = truncates && random.Float64() < share
			keep[o][-1] = truncates
			continue
		}
		for page := o.off / pageSize; page*pageSize < o.off+int64(len(o.data)); page++ {
			if gone[page] = gone[page] || random.Float64() >= share; !gone[page] {
				keep[o][page] = true
			}
		}
	}
	return in.content(durable, keep)
}

const pageSize = 4096

// content applies the durable operations, and the kept pages of the others.
func (in *inode) content(whole func(*op) bool, keep map[*op]map[int64]bool) (b []byte) {
	ops := slices.Clone(in.ops)
	slices.SortStableFunc(ops, func(a, c *op) int { return cmp.Compare(a.end, c.end) })
	for _, o := range ops {
		pages, all := keep[o], whole(o)
		switch {
		case o.kind == opTruncate && (all || pages[-1]):
			b = resized(b, o.off)
		case o.kind == opWrite && all:
			b = resized(b, max(int64(len(b)), o.off+int64(len(o.data))))
			copy(b[o.off:], o.data)
		case o.kind == opWrite:
			for page := range pages {
				from, to := max(o.off, page*pageSize), min(o.off+int64(len(o.data)), (page+1)*pageSize)
				b = resized(b, max(int64(len(b)), to))
				copy(b[from:to], o.data[from-o.off:to-o.off])
			}
		}
	}
	return b
}

func resized(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}
