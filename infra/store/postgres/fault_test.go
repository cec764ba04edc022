package postgres_test

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

// Each error of opening a database tells in one line what to do, without a password.
func TestOpenErrors(t *testing.T) {
	role, superuser := pgtest.Role(t), pgtest.Superuser(t)
	name := pgtest.User(t, role)
	alter := func(sql string) func(*testing.T) string {
		return func(t *testing.T) string {
			url := pgtest.Role(t)
			pgtest.Exec(t, superuser, fmt.Sprintf(sql, pgtest.User(t, url)))
			return url
		}
	}
	change := func(f func(*url.URL)) func(*testing.T) string {
		return func(t *testing.T) string { return pgtest.With(t, role, f) }
	}
	for what, row := range map[string]struct {
		url  func(*testing.T) string
		says string
	}{
		"a wrong password": {change(func(u *url.URL) { u.User = url.UserPassword(name, "wrong-secret") }), "set PGPASSWORD"},
		"no such role": {
			change(func(u *url.URL) { u.User = url.UserPassword("nobody_"+name, "wrong-secret") }), "set PGPASSWORD",
		},
		"no login":         {alter("ALTER ROLE %s NOLOGIN"), "may log in"},
		"no such database": {change(func(u *url.URL) { u.Path = "/nowhere" }), "the database does not exist; create it"},
		"no such host":     {change(func(u *url.URL) { u.Host = "nowhere.invalid:5432" }), "the database does not answer"},
		"no such port":     {change(func(u *url.URL) { u.Host = "127.0.0.1:1" }), "the database does not answer"},
		"no such schema": {func(t *testing.T) string { return pgtest.Param(t, role, "search_path", "nowhere") },
			`run CREATE SCHEMA "nowhere" AUTHORIZATION "` + name + `"`},
		"no schema at all": {alter("ALTER ROLE %s SET search_path = nowhere"), "run CREATE SCHEMA AUTHORIZATION"},
		"another's schema": {
			func(t *testing.T) string { return pgtest.Param(t, role, "search_path", pgtest.User(t, pgtest.Role(t))) },
			"run ALTER SCHEMA",
		},
		"a schema to look at only": {
			func(t *testing.T) string { return pgtest.Param(t, role, "search_path", "pg_catalog") }, "run ALTER SCHEMA",
		},
		"commits that do not last":  {alter("ALTER ROLE %s SET synchronous_commit = off"), "SET synchronous_commit = on"},
		"an encoding that is small": {smallEncoding, "ENCODING 'UTF8'"},
		"only reading":              {alter("ALTER ROLE %s SET default_transaction_read_only = on"), "name the primary"},
		"no connection to spare":    {alter("ALTER ROLE %s CONNECTION LIMIT 0"), "lower pool_max_conns"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), row.url(t), "orders", storetest.Schema)
			if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), row.says) {
				t.Errorf("got %v, want %q", err, row.says)
			}
			if strings.Contains(fmt.Sprintf("%v %+v", err, err), "wrong-secret") {
				t.Error("it tells the password: ", err)
			}
		})
	}
}

func smallEncoding(t *testing.T) string {
	superuser, role := pgtest.Superuser(t), pgtest.Role(t)
	name := pgtest.User(t, role) + "_latin"
	pgtest.Exec(
		t, superuser, "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' OWNER "+pgtest.User(t, role),
	)
	t.Cleanup(func() { pgtest.Exec(t, superuser, "DROP DATABASE "+name+" WITH (FORCE)") })
	return pgtest.Param(t, pgtest.With(t, role, func(u *url.URL) { u.Path = "/" + name }), "search_path", "public")
}

// A document or id that the database cannot store is refused with a reason, and an id that cannot exist is missing.
func TestUnstorable(t *testing.T) {
	s := open(t, pgtest.Role(t), storetest.Schema)
	noise := func(n int) string { // that cannot be compressed
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%x", uint32(i)*2654435761%4093)
		}
		return b.String()
	}
	for what, row := range map[string]struct {
		m    store.Mutation
		want fault.Kind
	}{
		"a long id":            {put(thing(noise(9000)), 1, `{}`), fault.TooLarge},
		"a long indexed field": {put(thing("a"), 1, `{"n":"`+noise(9000)+`"}`), fault.TooLarge},
		"an id with NUL":       {put(thing("a\x00"), 1, `{}`), fault.Invalid},
		"an id not in UTF-8":   {put(thing("a\xff"), 1, `{}`), fault.Invalid},
		"deep nesting": {
			put(thing("a"), 1, strings.Repeat(`{"a":`, 50000)+"1"+strings.Repeat("}", 50000)), fault.Invalid,
		},
		"no JSON": {put(thing("a"), 1, `{"a"`), fault.Internal},
	} {
		if err := s.Commit(
			t.Context(), store.Batch{Mutations: []store.Mutation{put(thing("beside"), 1, `{}`), row.m}},
		); !fault.Is(err, row.want) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	docs, err := s.Get(t.Context(), thing("a\x00"), thing("beside"), thing("a\xff"))
	if err != nil || docs[0].Version+docs[1].Version+docs[2].Version != 0 {
		t.Errorf("got %v, %v", docs, err)
	}
	_, _, err = s.Query(t.Context(), store.Query{Collection: "things", Limit: 1, After: &store.Position{ID: "a\x00"}})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("a cursor with NUL: got %v", err)
	}
	commit(t, s, nil, put(thing("long"), 1, `{"text":"`+noise(9000)+`","n":"`+noise(300)+`"}`))
}

// Reads and commits succeed after a restart of the server.
func TestServerRestart(t *testing.T) {
	server := pgtest.New(t)
	url := pgtest.RoleOf(t, server.URL)
	s := open(t, url, storetest.Schema)
	all := make([]func() error, 8)
	for i := range all {
		all[i] = func() error {
			return s.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{put(thing(fmt.Sprint(i)), 1, `{}`)}})
		}
	}
	together(all...) // so that there are several connections
	for _, again := range []func() error{
		func() error { _, err := s.Get(t.Context(), thing("0")); return err },
		func() error {
			_, _, err := s.Query(t.Context(), store.Query{Collection: "things", Limit: 1})
			return err
		},
		all[0],
	} {
		server.Stop(t, syscall.SIGINT)
		server.Start(t)
		if err := again(); err != nil {
			t.Error(err)
		}
	}
	server.Stop(t, syscall.SIGINT)
	for _, call := range []func() error{all[0], func() error { _, err := s.Get(t.Context(), thing("0")); return err }} {
		if err := call(); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "does not answer") {
			t.Errorf("without a server: got %v", err)
		}
	}
	server.Start(t)
	if v := version(t, s, thing("7")); v != 1 {
		t.Errorf("got version %d", v)
	}
}

// The error tells that the server has no connection left.
func TestTooManyConnections(t *testing.T) {
	server := pgtest.New(t, "max_connections=6", "superuser_reserved_connections=3")
	url := pgtest.RoleOf(t, server.URL)
	s := open(t, url, storetest.Schema)
	for range 2 {
		pgtest.Connect(t, url)
	}
	var all []func() error
	for i := range 4 {
		all = append(all, func() error {
			return s.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{put(thing(fmt.Sprint(i)), 1, `{}`)}})
		})
	}
	refused := 0
	for _, err := range together(all...) {
		if err == nil {
			continue
		}
		if refused++; !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "no connection to spare") {
			t.Errorf("got %v", err)
		}
	}
	if refused == 0 {
		t.Error("nobody was refused")
	}
}

// A function's role can use its own schema and no other, and no other role can use it.
func TestRolesAreKeptApart(t *testing.T) {
	orders, users := pgtest.Role(t), pgtest.Role(t)
	s := open(t, orders, storetest.Schema)
	commit(t, s, nil, put(thing("a"), 1, `{"secret":true}`))
	theirs := pgtest.User(t, orders)
	c := pgtest.Connect(t, users)
	for _, sql := range []string{"SELECT data FROM %s.things", "DELETE FROM %s.things", "INSERT INTO %s.things VALUES " +
		"('b', 1, '{}')",
		"CREATE TABLE %s.mine ()", "SELECT %s.ebb_key('1')", "DROP SCHEMA %s CASCADE"} {
		if _, err := c.Exec(t.Context(), fmt.Sprintf(sql, theirs)); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: got %v", sql, err)
		}
	}
	// Nor with the driver's statements and another function's URL.
	_, err := postgres.Open(t.Context(), pgtest.Param(t, users, "search_path", theirs), "orders", storetest.Schema)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "may not use the schema") {
		t.Errorf("got %v", err)
	}
	if v := version(t, s, thing("a")); v != 1 {
		t.Errorf("got version %d", v)
	}
}
