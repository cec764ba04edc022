package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

var insideSchema = store.Schema{{Name: "things", Indexes: []store.Index{store.On("n"), store.On("kind", "n")}}}

func openInside(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "inside.db"), insideSchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func write(id, data string) store.Batch {
	return store.Batch{Mutations: []store.Mutation{{
		Key: store.Key{Collection: "things", ID: id}, Version: 1, Data: []byte(data)}}}
}

// Every query uses an index, also to continue from a cursor, and only queries that filter by a field and order by id
// sort.
func TestQueriesUseTheirIndex(t *testing.T) {
	s := openInside(t)
	equal := []store.Filter{{Field: "kind", Op: store.Equal, Value: "x"}}
	between := []store.Filter{{Field: "n", Op: store.Greater, Value: 1.0}, {Field: "n", Op: store.Less, Value: 5.0}}
	for _, desc := range []bool{false, true} {
		byN := []store.Order{{Field: "n", Desc: desc}}
		at := &store.Position{Values: []any{1.0}, ID: "a"}
		for _, q := range []store.Query{
			{},
			{After: &store.Position{ID: "a"}},
			{Where: equal},
			{Where: between},
			{Order: byN},
			{Order: byN, After: at},
			{Where: between, Order: byN, After: at},
			{Where: equal, Order: byN},
			{Where: equal, Order: byN, After: at},
			{Where: append(equal, between...), Order: byN, After: at},
		} {
			q.Collection, q.Limit = "things", 10
			plan := explain(t, s.writer.conn, q)
			searches := strings.Contains(plan, "SEARCH") || len(q.Where) == 0 && q.After == nil
			finds := q.After == nil || strings.ContainsAny(strings.ReplaceAll(plan, "<expr>", ""), "<>")
			sorts := strings.Contains(plan, "TEMP B-TREE") && !(len(q.Where) > 0 && q.Order == nil)
			if sorts || !searches || !finds {
				t.Errorf("%+v\n%s", q, plan)
			}
		}
	}
}

func explain(t *testing.T, c *conn, q store.Query) (plan string) {
	t.Helper()
	sql, args := selectSQL(q)
	err := sqlitex.ExecuteTransient(c.Conn, "EXPLAIN QUERY PLAN "+sql, &sqlitex.ExecOptions{
		Args: args,
		ResultFunc: func(stmt *zombie.Stmt) error {
			plan += stmt.ColumnText(3) + "\n"
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// A batch that cannot be written fails alone, and so do one with a conflict and one whose context has ended; the others
// of the group are committed.
func TestGroup(t *testing.T) {
	s := openInside(t)
	limit(t, s, 200)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	conflict := write("conflict", `{}`)
	conflict.Preconditions = []store.Precondition{{Key: store.Key{Collection: "things", ID: "none"}, Version: 1}}
	group := []*request{
		{batch: write("a", `{}`)},
		{batch: conflict},
		{batch: write("huge", `{"x":"`+strings.Repeat("x", 2<<20)+`"}`)},
		{batch: write("gone", `{}`), abandoned: gone.Done()},
		{batch: write("b", `{}`)},
	}
	s.writer.commitGroup(group)

	for i, want := range []string{"a:ok", "conflict:conflict", "huge:unavailable", "gone:unavailable", "b:ok"} {
		id, kind, _ := strings.Cut(want, ":")
		err := translate(group[i].err, "commit")
		if got := kindName(err); got != kind {
			t.Errorf("%s: got %v, want %s", id, err, kind)
		}
		docs, err := s.Get(t.Context(), store.Key{Collection: "things", ID: id})
		if err != nil || (docs[0].Version == 1) != (kind == "ok") {
			t.Errorf("%s: got %v, %v", id, docs, err)
		}
	}
}

// A batch that conflicts after its first write is undone, and the others of its group are committed.
func TestConflictAfterFirstWrite(t *testing.T) {
	s := openInside(t)
	if err := s.Commit(t.Context(), write("there", `{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	half := write("new", `{}`)
	half.Mutations = append(half.Mutations, write("there", `{"n":2}`).Mutations...)
	half.Preconditions = []store.Precondition{{Key: half.Mutations[0].Key}, {Key: half.Mutations[1].Key, Version: 7}}
	whole := write("whole", `{}`)
	group := []*request{{batch: half}, {batch: whole}}
	s.writer.commitGroup(group)

	if !fault.Is(group[0].err, fault.Conflict) || group[1].err != nil {
		t.Errorf("got %v, %v", group[0].err, group[1].err)
	}
	docs, err := s.Get(t.Context(), half.Mutations[0].Key, half.Mutations[1].Key, whole.Mutations[0].Key)
	if err != nil || docs[0].Version != 0 || string(docs[1].Data) != `{"n":1}` || docs[2].Version != 1 {
		t.Errorf("got %v, %v", docs, err)
	}
}

// A file of the version before, which kept no marks, gets their table, and its documents stay.
func TestFileWithoutMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	old, err := Open(t.Context(), path, insideSchema)
	if err != nil {
		t.Fatal(err)
	}
	b := write("a", `{"n":1}`)
	b.Mutations[0].Version = 5
	if err := old.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	err = old.writer.conn.execute("DROP TABLE ebb_deleted", "UPDATE ebb_schema SET fingerprint = 'of the version before'")
	if err := errors.Join(err, old.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path, insideSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	k := b.Mutations[0].Key
	before, err := s.Get(t.Context(), k)
	if err == nil {
		err = s.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{{Key: k}}})
	}
	after, err2 := s.Get(t.Context(), k)
	if errors.Join(err, err2) != nil || before[0].Version != 5 || after[0].Version != 0 || after[0].Last != 5 {
		t.Errorf("got %+v, then %+v, %v", before, after, errors.Join(err, err2))
	}
}

// A document at the expected version is written and removed, and the indexes follow.
func TestSwap(t *testing.T) {
	s := openInside(t)
	at := func(version int64, m store.Mutation) store.Batch {
		return store.Batch{
			Preconditions: []store.Precondition{{Key: m.Key, Version: version}}, Mutations: []store.Mutation{m},
		}
	}
	m := write("a", `{"n":1}`).Mutations[0]
	for n, data := range []string{`{"n":1}`, `{"n":1,"x":2}`, `{"n":5}`, `{"n":5,"kind":"k"}`, ""} {
		m.Version, m.Data = int64(n)+1, []byte(data)
		if data == "" {
			m.Data = nil
		}
		if err := s.Commit(t.Context(), at(int64(n)+3, m)); !fault.Is(err, fault.Conflict) {
			t.Fatalf("step %d at another version: got %v", n, err)
		}
		if err := s.Commit(t.Context(), at(int64(n), m)); err != nil {
			t.Fatalf("step %d: got %v", n, err)
		}
		for _, want := range []float64{1, 5} {
			docs, _, err := s.Query(
				t.Context(),
				store.Query{Collection: "things", Limit: 9, Where: []store.Filter{{Field: "n", Op: store.Equal, Value: want}}},
			)
			found := len(docs) == 1 && string(docs[0].Data) == data
			if is := strings.Contains(data, fmt.Sprint(`"n":`, want)); err != nil || found != is {
				t.Fatalf("step %d, n == %v: got %v, %v", n, want, docs, err)
			}
		}
	}
}

// A file with another layout, of an older version or for other indexes, is converted with all its documents.
func TestConvertsLayout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	old, err := connect(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.CreateFunction("ebb_key", &keyFunction); err != nil {
		t.Fatal(err)
	}
	err = old.execute("CREATE TABLE ebb_schema (fingerprint TEXT NOT NULL)", "INSERT INTO ebb_schema VALUES ('of "+
		"layout 1')",
		`CREATE TABLE "things" (id TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID`,
		`CREATE INDEX "things by n" ON "things" (ebb_key(data, 'n'), id)`,
		`INSERT INTO "things" VALUES ('a', 3, '{"n":2}'), ('b', 1, '{"n":1}'), ('c', 1, '{}')`)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.close(); err != nil {
		t.Fatal(err)
	}
	for _, schema := range []store.Schema{
		insideSchema, {{Name: "things", Large: true, Indexes: []store.Index{store.On("n")}}}, insideSchema,
	} {
		s, err := Open(t.Context(), path, schema)
		if err != nil {
			t.Fatal(err)
		}
		docs, _, err := s.Query(t.Context(), store.Query{Collection: "things", Limit: 9, Order: []store.Order{{Field: "n"}}})
		got := ""
		for _, d := range docs {
			got += fmt.Sprint(d.ID, d.Version, " ")
		}
		if err != nil || got != "c1 b1 a3 " {
			t.Errorf("%+v: got %q, %v", schema, got, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Instances of two versions of a function, for which a collection is large or not, work on one file at the same time:
// each conversion keeps all documents, and those that have the file open go on, with the versions that they know.
func TestConvertsBesideOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shared.db")
	small := store.Schema{{Name: "things", Indexes: []store.Index{store.On("n")}}}
	large := store.Schema{{Name: "things", Large: true, Indexes: []store.Index{store.On("n")}}}
	counter := store.Key{Collection: "things", ID: "counter"}
	var open []*Store
	commits := int64(0)
	for round, schema := range []store.Schema{small, large, small, large} {
		s, err := Open(t.Context(), path, schema)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		open = append(open, s)
		for i, s := range open {
			own := store.Key{Collection: "things", ID: fmt.Sprint(round, "-", i)}
			err := s.Commit(t.Context(), store.Batch{
				Preconditions: []store.Precondition{{Key: counter, Version: commits}, {Key: own}},
				Mutations: []store.Mutation{
					{Key: counter, Version: commits + 1, Data: []byte(`{"n":0}`)}, {Key: own, Version: 1, Data: []byte(`{"n":1}`)},
				},
			})
			if err != nil {
				t.Fatalf("round %d, instance %d: %v", round, i, err)
			}
			commits++
		}
		for i, s := range open {
			docs, _, err := s.Query(t.Context(), store.Query{
				Collection: "things", Limit: 99, Order: []store.Order{{Field: "n"}},
			})
			if err != nil || len(docs) != int(commits)+1 || docs[0].ID != "counter" || docs[0].Version != commits {
				t.Errorf("round %d, instance %d: got %d documents, %v, want %d", round, i, len(docs), err, commits+1)
			}
		}
	}
}

func kindName(err error) string {
	if err == nil {
		return "ok"
	}
	return fault.KindOf(err).String()
}

// A full disk has its own error, and writes succeed when there is space again.
func TestDiskFull(t *testing.T) {
	s := openInside(t)
	limit(t, s, 50)
	big := write("big", `{"x":"`+strings.Repeat("x", 1<<20)+`"}`)
	err := s.Commit(t.Context(), big)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "free some space") {
		t.Errorf("got %v", err)
	}
	limit(t, s, 1<<20)
	if err := s.Commit(t.Context(), big); err != nil {
		t.Error(err)
	}
}

// limit sets the most pages of the file, which then fails as on a full disk.
func limit(t *testing.T, s *Store, pages int) {
	t.Helper()
	if err := sqlitex.ExecuteTransient(
		s.writer.conn.Conn, fmt.Sprint("PRAGMA max_page_count = ", pages), nil,
	); err != nil {
		t.Fatal(err)
	}
}

// Only the owner may read a database and its logs, also one that an older version or another program has made.
func TestPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("skipped: Windows has no such permissions")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x.db")
	for _, loosened := range []bool{false, true} {
		if loosened {
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(t.Context(), path, insideSchema)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), write("a", `{"x":"y"}`)); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(dir)
		if err != nil || len(files) != 3 {
			t.Fatalf("got %v, %v, want the file and its two logs", files, err)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v, %v, want 0600", f.Name(), info.Mode(), err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The error for a damaged file, or one that is not a database, tells what to do.
func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "damaged.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path, insideSchema)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "restore it from a backup") {
		t.Errorf("no database: got %v", err)
	}

	s := openInside(t)
	for i := range 100 {
		if err := s.Commit(t.Context(), write(fmt.Sprint(i), `{"x":"`+strings.Repeat("x", 400)+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
	path = s.reads.path
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	spoilPages(t, path)
	s, err = Open(t.Context(), path, insideSchema)
	if err == nil {
		defer func() { _ = s.Close() }()
		_, _, err = s.Query(t.Context(), store.Query{Collection: "things", Limit: 1000})
	}
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "restore it from a backup") {
		t.Errorf("damaged pages: got %v", err)
	}
}

// spoilPages overwrites every page but the first, which holds the schema.
func spoilPages(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(text); i++ {
		text[i] = 0xa5
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Failures of the database's surroundings are fault.Unavailable with a remedy; others are fault.Internal.
func TestTranslate(t *testing.T) {
	for code, want := range map[zombie.ResultCode]fault.Kind{
		zombie.ResultReadOnly: fault.Unavailable, zombie.ResultReadOnlyDBMoved: fault.Unavailable,
		zombie.ResultCantOpen: fault.Unavailable, zombie.ResultIOErrFsync: fault.Unavailable,
		zombie.ResultFull: fault.Unavailable, zombie.ResultCorruptVTab: fault.Unavailable,
		zombie.ResultBusySnapshot: fault.Unavailable, zombie.ResultTooBig: fault.TooLarge,
		zombie.ResultError: fault.Internal, zombie.ResultMisuse: fault.Internal,
	} {
		if got := translate(fmt.Errorf("step: %w", code.ToError()), "commit"); fault.KindOf(got) != want {
			t.Errorf("%v: got %v, want %v", code, got, want)
		}
	}
	if err := translate(errors.Join(nil, context.Canceled), "get"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Open fails when the directory is missing; the Opener creates it.
func TestMissingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	if _, err := Open(t.Context(), filepath.Join(dir, "x.db"), insideSchema); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	d, err := Opener(dir)(t.Context(), "orders", insideSchema)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "orders.db")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "orders.db-wal")); err == nil {
		t.Error("a closed database still has a log")
	}
	for _, bad := range []string{"../orders", "a/b"} {
		if _, err := Opener(dir)(t.Context(), bad, insideSchema); !fault.Is(err, fault.Internal) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// The write-ahead log stays small under any number of writes and reads.
func TestLogStaysSmall(t *testing.T) {
	s := openInside(t)
	data := `{"n":1,"x":"` + strings.Repeat("x", 16000) + `"}`
	for i := range 1500 {
		if err := s.Commit(t.Context(), write(fmt.Sprint(i%100), data)); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if _, _, err := s.Query(t.Context(), store.Query{Collection: "things", Limit: 10}); err != nil {
				t.Fatal(err)
			}
		}
	}
	info, err := os.Stat(s.reads.path + "-wal")
	if err != nil || info.Size() > 8<<20 {
		t.Errorf("the log has %d bytes, %v", info.Size(), err)
	}
}
