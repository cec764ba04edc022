package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
)

// killed names the database to which a child process commits until it is killed.
const killed = "EBB_TEST_KILLED_DATABASE"

// visited names the database that a child process opens and closes.
const visited = "EBB_TEST_VISITED_DATABASE"

func TestMain(m *testing.M) {
	if path := os.Getenv(killed); path != "" {
		commitForever(path)
	}
	if path := os.Getenv(visited); path != "" {
		s, err := sqlite.Open(context.Background(), path, killSchema)
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

var killSchema = store.Schema{{Name: "things", Indexes: []store.Index{store.On("writer", "n")}}}

const writers = 8

// commitForever runs several writers that commit numbered batches and print the number of each acknowledged one.
func commitForever(path string) {
	s, err := sqlite.Open(context.Background(), path, killSchema)
	if err != nil {
		panic(err)
	}
	for w := range writers {
		go func() {
			for n := 0; ; n++ {
				if err := s.Commit(context.Background(), killBatch(w, n)); err != nil {
					panic(err)
				}
				fmt.Fprintf(os.Stdout, "%d %d\n", w, n)
			}
		}()
	}
	select {}
}

// killBatch returns a batch that writes two new documents and a counter.
func killBatch(w, n int) store.Batch {
	data := fmt.Appendf(nil, `{"writer":%d,"n":%d}`, w, n)
	var b store.Batch
	for _, k := range killKeys(w, n) {
		b.Mutations = append(b.Mutations, store.Mutation{Key: k, Version: int64(n) + 1, Data: data})
	}
	b.Preconditions = []store.Precondition{{Key: b.Mutations[2].Key, Version: int64(n)}}
	return b
}

func killKeys(w, n int) (keys []store.Key) {
	for _, id := range []string{fmt.Sprintf("%d-%d-a", w, n), fmt.Sprintf("%d-%d-b", w, n), fmt.Sprint("counter-", w)} {
		keys = append(keys, store.Key{Collection: "things", ID: id})
	}
	return keys
}

// Acknowledged batches survive SIGKILL, and others are applied completely or not at all.
func TestAcknowledgedSurvivesKill(t *testing.T) {
	for round := range 3 {
		path := filepath.Join(t.TempDir(), fmt.Sprint(round, ".db"))
		last := runAndKill(t, path, 400*(round+1))
		s, err := sqlite.Open(t.Context(), path, killSchema)
		if err != nil {
			t.Fatal(err)
		}
		for w := range writers {
			checkWriter(t, s, w, last[w])
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// runAndKill returns the last batch of each writer that was acknowledged; -1 for none.
func runAndKill(t *testing.T, path string, acknowledgements int) (last [writers]int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killed+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for w := range last {
		last[w] = -1
	}
	var kill sync.Once
	lines := bufio.NewScanner(out)
	for seen := 1; lines.Scan(); seen++ {
		var w, n int
		if _, err := fmt.Sscan(lines.Text(), &w, &n); err != nil {
			continue // a line that the kill cut off
		}
		last[w] = max(last[w], n)
		if seen >= acknowledgements {
			kill.Do(func() { _ = child.Process.Kill() })
		}
	}
	_ = child.Wait() // "signal: killed", as intended
	return last
}

func checkWriter(t *testing.T, s *sqlite.Store, w, last int) {
	t.Helper()
	for n := 0; n <= last; n++ {
		if got := present(t, s, killKeys(w, n)[:2]); got != 2 {
			t.Errorf("acknowledged batch %d of writer %d has %d of 2 documents", n, w, got)
		}
	}
	// At most one more batch was running.
	if got := present(t, s, killKeys(w, last+1)[:2]); got == 1 {
		t.Errorf("half of batch %d of writer %d is there", last+1, w)
	}
	counter, err := s.Get(t.Context(), killKeys(w, 0)[2])
	if err != nil {
		t.Fatal(err)
	}
	if v := counter[0].Version; v != int64(last)+1 && v != int64(last)+2 {
		t.Errorf("the counter of writer %d is at %d after %d batches", w, v, last+1)
	}
	docs, _, err := s.Query(t.Context(), store.Query{
		Collection: "things", Limit: 3,
		Where: []store.Filter{{Field: "writer", Op: store.Equal, Value: int64(w)}},
		Order: []store.Order{{Field: "n", Desc: true}},
	})
	if err != nil || len(docs) > 0 && docs[0].Version != counter[0].Version {
		t.Errorf("the index of writer %d says %v, %v", w, docs, err)
	}
}

func present(t *testing.T, s *sqlite.Store, keys []store.Key) (n int) {
	t.Helper()
	docs, err := s.Get(t.Context(), keys...)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if d.Version > 0 {
			n++
		}
	}
	return n
}

// A second handle of a process leaves the locks of the first one: another process that opens and closes the database
// must not take itself for the last one and remove the log in which the first handle goes on to write.
func TestSecondHandleLeavesLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	open := func() *sqlite.Store {
		s, err := sqlite.Open(t.Context(), path, killSchema)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	first := open()
	open()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), visited+"="+path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := first.Commit(t.Context(), killBatch(0, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); err != nil {
		t.Errorf("another process has removed the log: %v", err)
	}
}
