package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// A few power cuts at random moments of a short run. make power runs more of them.
func TestPowerCuts(t *testing.T) {
	o := &options{rounds: 4, orders: 24, seed: rand.Uint64()}
	o.random = rand.New(rand.NewPCG(o.seed, 0))
	o.dir, o.binary = t.TempDir(), fixtureOf(t).binary
	r, err := power(t.Context(), o)
	switch {
	case errors.Is(err, errNoStrace):
		t.Skip("skipped: " + err.Error())
	case err != nil && strings.Contains(err.Error(), "ptrace"):
		t.Skipf("skipped: strace may not trace here: %v", err)
	case err != nil:
		t.Fatalf("seed %d: %v", o.seed, err)
	}
	t.Log(r)
}

// After a power cut synced data is always there. Other data may be there, page by page, but no later write of a lost
// page.
func TestDataAfterAPowerCut(t *testing.T) {
	in := &inode{}
	page := func(c byte) []byte { return bytes.Repeat([]byte{c}, pageSize) }
	for n, o := range []*op{
		{kind: opWrite, off: 0, data: page('a')},
		{kind: opWrite, off: pageSize, data: page('b')},
		{kind: opSync},
		{kind: opWrite, off: 0, data: page('c')},
		{kind: opWrite, off: 0, data: page('d')},
		{kind: opWrite, off: 2 * pageSize, data: page('e')},
		{kind: opSync}, // after the cut
	} {
		o.in, o.begin, o.end = in, float64(n), float64(n)+0.5
		in.ops = append(in.ops, o)
	}
	seen := map[string]bool{}
	for seed := range uint64(500) {
		b := in.after(5.9, rand.New(rand.NewPCG(seed, 0)))
		var pages []byte
		for at := 0; at < len(b); at += pageSize {
			if !bytes.Equal(b[at:at+pageSize], page(b[at])) {
				t.Fatal("a page is torn")
			}
			pages = append(pages, b[at])
		}
		seen[string(pages)] = true
	}
	for _, want := range []string{"ab", "cb", "db", "abe", "cbe", "dbe"} {
		if !seen[want] {
			t.Errorf("%q is never left", want)
		}
		delete(seen, want)
	}
	for got := range seen {
		t.Errorf("%q cannot be left", got)
	}
	// After the second sync there is one possibility.
	if b := in.after(7, rand.New(rand.NewPCG(1, 0))); len(b) != 3*pageSize || b[0] != 'd' || b[2*pageSize] != 'e' {
		t.Errorf("got %d bytes", len(b))
	}
}

// Names are those of a journaling file system: all changes up to a sync, and a prefix of the later ones.
func TestNamesAfterAPowerCut(t *testing.T) {
	const trace = `7 1.0 openat(AT_FDCWD, "\x2f\x64\x2f\x61", O_RDWR|O_CREAT, 0600) = 3
7 1.1 write(3, "\x78\x79", 2 <unfinished ...>
8 1.2 openat(AT_FDCWD, "\x2f\x6f", O_RDWR|O_CREAT, 0600) = 4
7 1.3 <... write resumed>) = 2
8 1.4 write(4, "\x7a", 1) = 1
7 1.5 fsync(3) = 0
7 1.6 rename("\x2f\x64\x2f\x61", "\x2f\x64\x2f\x62") = 0
7 1.7 close(3)               = 0
8 1.8 open("\x2f\x64\x2f\x63", O_RDWR|O_CREAT|O_EXCL, 0600) = -1 EEXIST (File exists)
7 1.9 +++ exited with 0 +++
`
	read, err := parseTrace(strings.NewReader(trace), "/d")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for seed := range uint64(100) {
		files := read.files(1.65, rand.New(rand.NewPCG(seed, 0)))
		if len(files) != 1 {
			t.Fatalf("got %d files", len(files))
		}
		for name, content := range files {
			if string(content) != "xy" {
				t.Errorf("%s holds %q", name, content)
			}
			seen[name] = true
		}
	}
	if !seen["/d/a"] || !seen["/d/b"] {
		t.Errorf("got %v, want the old name and the new one", seen)
	}
}
