package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

func thing(id string) store.Key { return store.Key{Collection: "things", ID: id} }
func other(id string) store.Key { return store.Key{Collection: "others", ID: id} }

func put(k store.Key, version int64, data string) store.Mutation {
	return store.Mutation{Key: k, Version: version, Data: []byte(data)}
}

func at(k store.Key, version int64) store.Precondition {
	return store.Precondition{Key: k, Version: version}
}

func open(t *testing.T, url string, schema store.Schema) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, "orders", schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func commit(t *testing.T, s *postgres.Store, pre []store.Precondition, mutations ...store.Mutation) {
	t.Helper()
	if err := s.Commit(t.Context(), store.Batch{Preconditions: pre, Mutations: mutations}); err != nil {
		t.Error(err)
	}
}

func version(t *testing.T, s *postgres.Store, k store.Key) int64 {
	t.Helper()
	docs, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return docs[0].Version
}

// together runs functions concurrently and returns their errors.
func together(functions ...func() error) []error {
	errs := make([]error, len(functions))
	var running sync.WaitGroup
	for i, f := range functions {
		running.Go(func() { errs[i] = f() })
	}
	running.Wait()
	return errs
}

// Of two batches that each read the document that the other writes only one commits, because a precondition without a
// write still holds at the commit. This is so for existing documents and for missing ones.
func TestPreconditionsHoldAtCommit(t *testing.T) {
	s := open(t, pgtest.Role(t), storetest.Schema)
	for _, there := range []bool{true, false} {
		conflicts := 0
		for round := range 150 {
			a, b := thing(fmt.Sprint(there, round, "a")), thing(fmt.Sprint(there, round, "b"))
			var v int64
			if there {
				v = 1
				commit(t, s, nil, put(a, 1, `{}`), put(b, 1, `{}`))
			}
			cross := func(read, write store.Key) func() error {
				return func() error {
					return s.Commit(t.Context(), store.Batch{
						Preconditions: []store.Precondition{at(read, v)}, Mutations: []store.Mutation{put(write, v+1, `{"n":1}`)}})
				}
			}
			errs := together(cross(a, b), cross(b, a))
			if errs[0] == nil && errs[1] == nil {
				t.Fatalf("there %v, round %d: both were committed", there, round)
			}
			for _, err := range errs {
				if err != nil && !fault.Is(err, fault.Conflict) {
					t.Fatalf("there %v: %v", there, err)
				} else if err != nil {
					conflicts++
				}
			}
		}
		if conflicts == 0 {
			t.Errorf("there %v: nobody ever lost, so nobody was tried", there)
		}
	}
}

// commitBeside commits a batch while another transaction is creating the thing with the id, which is made or rolled
// back when the batch waits for it. It returns the error of the batch.
func commitBeside(t *testing.T, s *postgres.Store, url, id string, made bool, b store.Batch) error {
	t.Helper()
	tx, err := pgtest.Connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "INSERT INTO things VALUES ($1, 1, '{}')", id); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() { answer <- s.Commit(t.Context(), b) }()
	waitFor(t, url, "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND wait_event_type = 'Lock'", 1)
	end := tx.Rollback
	if made {
		end = tx.Commit
	}
	if err := end(t.Context()); err != nil {
		t.Fatal(err)
	}
	return <-answer
}

// A batch requires that a document is missing while another transaction is creating it: the batch waits for the result.
func TestMissingWaits(t *testing.T) {
	url := pgtest.Role(t)
	s := open(t, url, storetest.Schema)
	for made, want := range map[bool]fault.Kind{true: fault.Conflict, false: 0} {
		id := fmt.Sprint("a", made)
		err := commitBeside(t, s, url, id, made, store.Batch{
			Preconditions: []store.Precondition{at(thing(id), 0)}, Mutations: []store.Mutation{put(other(id), 1, `{}`)},
		})
		if made && !fault.Is(err, want) || !made && err != nil {
			t.Errorf("made %v: got %v", made, err)
		}
		// The temporary row of the missing document is removed.
		if v := version(t, s, thing(id)); (v == 1) != made {
			t.Errorf("made %v: the document is at %d", made, v)
		}
	}
}

// A batch deletes a document, whatever its version, while another transaction is creating it: the batch waits, and the
// document is gone. Without that, the deletion would come before the creation, and the rest of the batch after it.
func TestDeletionWaits(t *testing.T) {
	url := pgtest.Role(t)
	s := open(t, url, storetest.Schema)
	for _, made := range []bool{true, false} {
		id := fmt.Sprint("a", made)
		err := commitBeside(t, s, url, id, made, store.Batch{Mutations: []store.Mutation{{Key: thing(id)}}})
		if err != nil {
			t.Errorf("made %v: got %v", made, err)
		}
		if v := version(t, s, thing(id)); v != 0 {
			t.Errorf("made %v: the document is at %d, want none", made, v)
		}
	}
	if n, err := s.Marks(t.Context()); n != 1 || err != nil {
		t.Errorf("%d marks, %v, want that of the one document that existed", n, err)
	}
}

// waitFor waits until a query returns the wanted number.
func waitFor(t *testing.T, url, sql string, want int) {
	t.Helper()
	c := pgtest.Connect(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for got := -1; got != want; time.Sleep(time.Millisecond) {
		if err := c.QueryRow(ctx, sql).Scan(&got); err != nil {
			t.Fatalf("%s was %d, and never %d: %v", sql, got, want, err)
		}
	}
}

// Batches with the same documents in opposite orders form no deadlock. PostgreSQL's detection is off in this test, so
// that a deadlock would last for ever.
func TestNoDeadlock(t *testing.T) {
	url := pgtest.Role(t)
	pgtest.Exec(t, pgtest.Superuser(t), "ALTER ROLE "+pgtest.User(t, url)+" SET deadlock_timeout = '1h'")
	s := open(t, url, storetest.Schema)
	var there store.Batch
	var batches [2]store.Batch
	for i := range 40 {
		a, b, c := thing(fmt.Sprint(i)), other(fmt.Sprint(i)), other(fmt.Sprint(i, " never"))
		there.Mutations = append(there.Mutations, put(a, 1, `{"n":1}`), put(b, 1, `{}`))
		batches[0].Mutations = append(batches[0].Mutations, put(a, 1, `{"n":1}`), put(b, 1, `{}`))
		batches[1].Mutations = append(batches[1].Mutations, put(b, 1, `{}`))
		batches[1].Preconditions = append(batches[1].Preconditions, at(a, 1), at(c, 0))
	}
	slices.Reverse(batches[1].Mutations)
	slices.Reverse(batches[1].Preconditions)
	if err := s.Commit(t.Context(), there); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var writers []func() error
	for i := range 8 {
		writers = append(writers, func() error {
			for range 10 {
				if err := s.Commit(ctx, batches[i%2]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, err := range together(writers...) {
		if err != nil {
			t.Error(err)
		}
	}
}

// Rows that are locked by hand in another order can form a deadlock. The driver then retries.
func TestDeadlockIsRetried(t *testing.T) {
	url := pgtest.Role(t)
	s := open(t, url, storetest.Schema)
	commit(t, s, nil, put(thing("a"), 1, `{}`), put(thing("b"), 1, `{}`))
	tx, err := pgtest.Connect(t, pgtest.Superuser(t)).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lock := func(id string) {
		if _, err := tx.Exec(
			t.Context(), "SELECT FROM "+pgtest.User(t, url)+".things WHERE id = $1 FOR UPDATE", id,
		); err != nil {
			t.Fatal("the wrong one lost:", err)
		}
	}
	// The transaction that detects a deadlock is rolled back, and this one does not detect any.
	if _, err := tx.Exec(t.Context(), "SET LOCAL deadlock_timeout = '1h'"); err != nil {
		t.Fatal(err)
	}
	lock("b")
	answer := make(chan error, 1)
	go func() {
		answer <- s.Commit(t.Context(), store.Batch{
			Preconditions: []store.Precondition{at(thing("a"), 1), at(thing("b"), 1)},
			Mutations:     []store.Mutation{put(thing("a"), 2, `{}`), put(thing("b"), 2, `{}`)}})
	}()
	waitFor(t, url, "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND wait_event_type = 'Lock'", 1)
	lock("a")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Error(err)
	}
	if v := version(t, s, thing("b")); v != 2 {
		t.Errorf("got version %d", v)
	}
}

// A role may have another default isolation; the guarantees are the same in each.
func TestOtherIsolations(t *testing.T) {
	for _, level := range []string{"repeatable read", "serializable"} {
		url := pgtest.Role(t)
		pgtest.Exec(
			t, pgtest.Superuser(t), "ALTER ROLE "+pgtest.User(t, url)+" SET default_transaction_isolation = '"+level+"'",
		)
		s := open(t, url, storetest.Schema)
		var won atomic.Int64
		var all []func() error
		for range 8 {
			all = append(all, func() error {
				for range 10 {
					v, err := increment(t.Context(), s)
					if err != nil {
						return err
					}
					won.Store(max(won.Load(), v))
				}
				return nil
			})
		}
		for _, err := range together(all...) {
			if err != nil {
				t.Errorf("%s: %v", level, err)
			}
		}
		if v := version(t, s, thing("counter")); v != 80 {
			t.Errorf("%s: the counter is at %d of 80", level, v)
		}
	}
}

// increment writes a document's next version, and retries after each conflict.
func increment(ctx context.Context, s *postgres.Store) (int64, error) {
	for {
		docs, err := s.Get(ctx, thing("counter"))
		if err != nil {
			return 0, err
		}
		v := docs[0].Version
		err = s.Commit(ctx, store.Batch{
			Preconditions: []store.Precondition{at(thing("counter"), v)},
			Mutations:     []store.Mutation{put(thing("counter"), v+1, `{}`)},
		})
		if !fault.Is(err, fault.Conflict) {
			return v + 1, err
		}
	}
}
