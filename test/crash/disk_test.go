package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// fixture holds the data of a shop after some orders, and the binary that runs it.
type fixture struct {
	*options
	spree   *shop.Spree
	orders  int
	stopped string // the data after a normal stop
	killed  string // the data after a kill, with SQLite's write-ahead logs
}

// built makes the fixture once for all tests, because it takes as long as they do.
var built = sync.OnceValues(func() (*fixture, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	w := &fixture{options: &options{rounds: 1, orders: 1, seed: 1}, orders: 30}
	if err := w.prepare(); err != nil {
		return nil, err
	}
	p, err := w.process("made")
	if err != nil {
		return nil, err
	}
	p.Args = []string{"--idle", "1h"} // a function that stops leaves no write-ahead log
	if _, err := p.Start(ctx); err != nil {
		return nil, err
	}
	defer p.Kill()
	if w.spree, err = shop.NewSpree(ctx, p.URL()); err != nil {
		return nil, err
	}
	if err := w.place(ctx, w.spree, 0, w.orders); err != nil {
		return nil, err
	}
	if _, err := w.spree.AwaitEnds(ctx); err != nil {
		return nil, err
	}
	if err := w.spree.Quiet(ctx, p); err != nil {
		return nil, err
	}
	p.Kill()
	w.killed = filepath.Join(w.dir, "killed")
	if err := os.CopyFS(w.killed, os.DirFS(p.Data)); err != nil {
		return nil, err
	}
	if _, err := p.Start(ctx); err != nil {
		return nil, err
	}
	if err := p.Stop(ctx); err != nil {
		return nil, err
	}
	w.stopped = p.Data
	return w, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if w, err := built(); err == nil {
		_ = os.RemoveAll(w.dir)
	}
	os.Exit(code)
}

func fixtureOf(t *testing.T) *fixture {
	t.Helper()
	w, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *fixture) place(ctx context.Context, s *shop.Spree, from, to int) error {
	for n := from; n < to; n++ {
		if err := s.Place(ctx, n); err != nil {
			return fmt.Errorf("order %d: %w", n, err)
		}
	}
	return nil
}

// copied returns a process with a copy of the data.
func (w *fixture) copied(t *testing.T, data string) *shop.Process {
	t.Helper()
	addr, err := shop.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p := &shop.Process{Binary: w.binary, Addr: addr, Data: filepath.Join(t.TempDir(), "data"),
		Args: []string{"--idle", "100ms"}, Env: environment}
	if err := os.CopyFS(p.Data, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	return p
}

// resume starts the process, places some more orders and audits all orders. It returns the violations.
func (w *fixture) resume(t *testing.T, p *shop.Process) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	s := w.spree.At(p.URL(), w.spree.Acknowledged())
	if err := w.place(ctx, s, 0, w.orders+5); err != nil {
		t.Fatalf("%v\n%s", err, p.Output())
	}
	if _, err := s.AwaitEnds(ctx); err != nil {
		t.Fatalf("%v\n%s", err, p.Output())
	}
	if n := len(s.Acknowledged()); n != w.orders+5 {
		t.Errorf("got %d orders, want %d: a request that was repeated made a second one", n, w.orders+5)
	}
	books, violations, err := s.StopAndAudit(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if books.DeadLetters > 0 {
		t.Errorf("got %d dead letters", books.DeadLetters)
	}
	return violations
}

func checkNone(t *testing.T, violations []string) {
	t.Helper()
	if len(violations) > 0 {
		t.Errorf("%d invariants do not hold:\n%s", len(violations), strings.Join(violations, "\n"))
	}
}

// checkOutput checks that the output of the process contains want.
func checkOutput(t *testing.T, p *shop.Process, want string) {
	t.Helper()
	if !strings.Contains(p.Output(), want) {
		t.Errorf("missing %q in the output:\n%s", want, p.Output())
	}
}

// overwrite writes random bytes into a file. A negative offset counts from the file's end.
func overwrite(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at < 0 {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		at += info.Size()
	}
	if _, err := f.WriteAt(noise(n), at); err != nil {
		t.Fatal(err)
	}
}

func noise(n int) []byte {
	r, b := rand.New(rand.NewPCG(1, 2)), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func grow(t *testing.T, path string, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(noise(n)); err != nil {
		t.Fatal(err)
	}
}

// A partly written frame at the end of a write-ahead log, which a kill or a power cut may leave, loses nothing.
func TestTornWriteAheadLog(t *testing.T) {
	w := fixtureOf(t)
	p := w.copied(t, w.killed)
	logs, err := filepath.Glob(filepath.Join(p.Data, "store", "*.db-wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("got the logs %v, %v", logs, err)
	}
	for _, path := range logs {
		grow(t, path, 24+1000)
	}
	checkNone(t, w.resume(t, p))
}

// A partly written record at the end of the broker's log loses nothing.
func TestTornBrokerLog(t *testing.T) {
	w := fixtureOf(t)
	for name, data := range map[string]string{"stopped": w.stopped, "killed": w.killed} {
		t.Run(name, func(t *testing.T) {
			p := w.copied(t, data)
			grow(t, lastBlock(t, p.Data), 1000)
			checkNone(t, w.resume(t, p))
		})
	}
}

// A damaged record cuts the end of the broker's log off, unless the server knows from a normal stop that the record
// existed. All triggers have handled it, so nothing is missing. The process logs the loss, and later events are
// delivered although the triggers' cursors are beyond their positions.
func TestDamagedBrokerLog(t *testing.T) {
	w := fixtureOf(t)
	for name, data := range map[string]string{"stopped": w.stopped, "killed": w.killed} {
		t.Run(name, func(t *testing.T) {
			p := w.copied(t, data)
			overwrite(t, lastBlock(t, p.Data), -200, 200)
			checkNone(t, w.resume(t, p))
			if name == "killed" {
				checkOutput(t, p, "the broker's log has lost its end")
				checkOutput(t, p, "restore the data directory from a backup")
			}
		})
	}
}

// lastBlock returns the last file of the broker's stream of events.
func lastBlock(t *testing.T, data string) string {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(data, "broker", "jetstream", "*", "streams", "ebb", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("got the blocks %v, %v", blocks, err)
	}
	return slices.MaxFunc(blocks, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
}

// A damaged page of a database is detected when it is read. The function logs what to do and refuses to work with it.
func TestDamagedDatabase(t *testing.T) {
	w := fixtureOf(t)
	for _, function := range []string{"orders", "payments", "inventory"} {
		t.Run(function, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			p := w.copied(t, w.stopped)
			path := filepath.Join(p.Data, "store", function+".db")
			backup, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, path, -4096, 4096)
			if _, err := p.Start(ctx); err != nil {
				t.Logf("the process does not start: %v", err)
			} else {
				// Read all orders, and place some.
				s := w.spree.At(p.URL(), w.spree.Acknowledged())
				short, stop := context.WithTimeout(ctx, 5*time.Second)
				_, readErr := s.AwaitEnds(short)
				placeErr := w.place(short, s, w.orders, w.orders+3)
				stop()
				if readErr != nil || placeErr != nil {
					checkOutput(t, p, "the database file is damaged; restore it from a backup")
				}
				p.Kill()
			}
			t.Logf("output: %s", firstLines(p.Output(), 3))
			for _, suffix := range []string{"-wal", "-shm"} {
				_ = os.Remove(path + suffix)
			}
			if err := os.WriteFile(path, backup, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func firstLines(text string, n int) string {
	lines := strings.SplitN(text, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

// tmpfs mounts a new file system of the size, and skips the test where that is not possible.
func tmpfs(t *testing.T, bytes int) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can mount a small file system; run it as root")
	}
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", bytes), "tmpfs",
		dir).CombinedOutput(); err != nil {
		t.Skipf("skipped: a small file system cannot be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount: %v: %s", err, out)
		}
	})
	return dir
}

// On a full disk the process refuses requests and logs the reason. With free space again, at the latest after a
// restart, every acknowledged order ends.
func TestDiskFull(t *testing.T) {
	w := fixtureOf(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := tmpfs(t, 64<<20)
	p := w.copied(t, w.stopped)
	p.Data = filepath.Join(dir, "data")
	if err := os.CopyFS(p.Data, os.DirFS(w.stopped)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { p.Kill() }()
	s := w.spree.At(p.URL(), w.spree.Acknowledged())
	orders := placing(ctx, s)
	orders.add(w.orders + 5)
	for len(s.Acknowledged()) < w.orders+5 { // the first 30 are answered from stored responses
		pause(ctx, 5*time.Millisecond)
		if ctx.Err() != nil {
			t.Fatalf("%d orders are acknowledged\n%s", len(s.Acknowledged()), p.Output())
		}
	}
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	orders.add(300)
	for !strings.Contains(p.Output(), "is full") {
		pause(ctx, 10*time.Millisecond)
		if ctx.Err() != nil {
			t.Fatalf("no message that the disk is full; %d orders\n%s", len(s.Acknowledged()), firstLines(p.Output(), 20))
		}
	}
	pause(ctx, 500*time.Millisecond) // so that it meets the full disk in several places
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	checkOutput(t, p, "free some space")
	before := len(s.Acknowledged())
	restarted := false
	for since := time.Now(); len(s.Acknowledged()) < w.orders+305; pause(ctx, 50*time.Millisecond) {
		if n := len(s.Acknowledged()); n > before {
			before, since = n, time.Now()
		}
		if time.Since(since) > 10*time.Second && !restarted {
			t.Log("with free space again it does not continue by itself; restarting it")
			restarted = true
			p.Kill()
			if _, err := p.Start(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%d orders are acknowledged\n%s", before, firstLines(p.Output(), 20))
		}
	}
	if err := orders.wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AwaitEnds(ctx); err != nil {
		t.Fatalf("%v\n%s", err, p.Output())
	}
	_, violations, err := s.StopAndAudit(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	checkNone(t, violations)
}

// fill fills the disk with a file.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if n, err := f.Write(make([]byte, size)); err != nil || n < size {
			size /= 4
		}
	}
}

// On a read-only disk the process does not start, and prints one sentence with the reason. It changes nothing.
func TestReadOnlyDisk(t *testing.T) {
	w := fixtureOf(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := tmpfs(t, 64<<20)
	p := w.copied(t, w.stopped)
	p.Data = filepath.Join(dir, "data")
	if err := os.CopyFS(p.Data, os.DirFS(w.stopped)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		t.Skipf("skipped: the file system cannot be made read-only: %v: %s", err, out)
	}
	if _, err := p.Start(ctx); err == nil {
		p.Kill()
		t.Fatal("it starts on a read-only disk")
	}
	output := strings.TrimSpace(p.Output())
	if !strings.HasPrefix(output, "ebb: ") || strings.Contains(output, "\n") || !strings.Contains(output, "writable") {
		t.Errorf("the output is not one sentence with the reason: %s", output)
	}
	if out, err := exec.Command("mount", "-o", "remount,rw", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	checkNone(t, w.resume(t, p))
}
