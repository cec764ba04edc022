package open_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/open"
)

var schema = store.Schema{{Name: "things"}}

// A URL chooses the driver and where it keeps its files.
func TestByURL(t *testing.T) {
	dir := t.TempDir()
	for url, file := range map[string]string{
		"memory:":                       "",
		"sqlite:" + dir + "/one.db":     "one.db",
		"sqlite:" + dir + "/each/":      "each/orders.db",
		"sqlite:" + dir:                 "orders.db",
		"sqlite:" + dir + "/per:cent%2": "per:cent%2",
	} {
		opener, err := open.ByURL(url)
		if err != nil {
			t.Fatal(url, err)
		}
		d, err := opener(t.Context(), "orders", schema)
		if err != nil {
			t.Fatal(url, err)
		}
		if err := d.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{{Key: store.Key{Collection: "things", ID: "a"}, Version: 1, Data: []byte(`{}`)}}}); err != nil {
			t.Error(url, err)
		}
		if err := d.Close(); err != nil {
			t.Error(url, err)
		}
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A database that cannot be opened is no driver, and not one that is nil inside.
func TestByURLThatCannotBeOpened(t *testing.T) {
	for _, url := range []string{"sqlite:/nowhere/at/all.db", "sqlite:/proc/nothing/", "postgres://orders@127.0.0.1:1/shop"} {
		opener, err := open.ByURL(url)
		if err != nil {
			t.Fatal(url, err)
		}
		if d, err := opener(t.Context(), "orders", schema); d != nil || !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: got %v, %v", url, d, err)
		}
	}
}

// good are URLs that are right, whether or not there is such a database.
var good = []string{
	"memory:", "firestore://shop/orders", "firestore://shop", "sqlite:orders.db", "sqlite:/data/", "postgres://orders@db:5432/shop", "postgresql://orders@db/shop?sslmode=verify-full&pool_max_conns=2",
	"postgres://orders@db/shop?search_path=orders&default_query_exec_mode=exec", "postgres://orders@[::1]:5432/shop", "postgres://orders@/shop?host=/run/postgresql", "postgres://orders:secret@db/shop",
	"postgres://orders@db/shop?connect_timeout=3&target_session_attrs=read-write&pool_max_conn_idle_time=10s&application_name=x",
}

// wrong are URLs with a mistake, and what is said of each.
var wrong = map[string]string{
	"":                                   "is empty",
	"orders.db":                          "is of no kind that there is; write memory:, sqlite:PATH, postgres://role@host:5432/database or firestore://project/database",
	"mysql://orders@db/shop":             "is of no kind",
	"postgre://orders@db/shop":           "begins almost like postgres://",
	"Postgres://orders@db/shop":          "begins almost like postgres://",
	"postgres:orders@db/shop":            "begins almost like postgres://",
	"sqllite:orders.db":                  "begins almost like sqlite:",
	"memory":                             "is of no kind",
	"memroy:":                            "begins almost like memory:",
	"memory:orders":                      "goes on",
	"sqlite:":                            "has no path",
	"sqlite:///data/orders.db":           "has // before its path",
	"sqlite:orders.db?mode=ro":           "takes no parameters",
	"postgres://o@db/x?password=pw":      "has a parameter that there is not",
	"postgres://orders:se%cret@db/x":     "cannot be read",
	"postgres://orders:sec/ret@db/x":     "cannot be read",
	"postgres://db/shop":                 "names no role",
	"postgres://orders@/shop":            "names no host",
	"postgres://orders@db":               "names no database",
	"postgres://orders@db/":              "names no database",
	"postgres://orders@db:port/shop":     "cannot be read",
	"postgres://orders@db:99999/x":       "see that its port is one",
	"postgres://o@db/x?pool_max_conn=3":  "has a parameter that there is not; there are application_name, connect_timeout,",
	"postgres://o@db/x?pool_max_conns=0": "has a pool_max_conns that is not a number of connections",
	"postgres://o@db/x?pool_max_conns=1&pool_max_conns=2":  "says pool_max_conns twice",
	"postgres://o@db/x?sslmode=verify_full":                "has a sslmode that is not disable, allow,",
	"postgres://o@db/x?sslmode=verify-full&sslrootcert=/x": "its files, such as sslrootcert, can be read",
	"postgres://o@db/x?search_path=a,b":                    "has a search_path that is not the name of one schema",
	"postgres://o@db/x?search_path=Orders":                 "in lower case",
	"postgres://o@db/x?default_query_exec_mode=simple":     "that is not cache_statement,",
	"postgres://o@db/x?a=%zz":                              "has something after its ? that cannot be read",
	"postgres://o@db/x#y":                                  "cannot be read",
	"firestore://":                                         "is not like firestore://project/database",
	"firestore://a:secret@shop/orders":                     "is not like firestore://project/database",
	"firstore://shop/orders":                               "begins almost like firestore://",
}

func TestGoodURLs(t *testing.T) {
	for _, url := range good {
		if opener, err := open.ByURL(url); err != nil || opener == nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A mistake in a URL is said in one sentence.
func TestWrongURLs(t *testing.T) {
	for url, says := range wrong {
		opener, err := open.ByURL(url)
		if opener != nil || !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Public(err), says) {
			t.Errorf("%q: got %v, want %q", url, err, says)
		}
		if strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%q: more than one line: %v", url, err)
		}
	}
}

// FuzzByURL hides a password in a URL. Whatever is around it, nothing fails but with a sentence, and none holds the password.
func FuzzByURL(f *testing.F) {
	for _, url := range good {
		f.Add(url, "hunter2!", "")
	}
	for url := range wrong {
		before, after, _ := strings.Cut(url, "@")
		f.Add(before+":", "Tr0ub4dor&3", "@"+after)
	}
	f.Add("postgres://orders@db/shop?", "p%40ss=", "&sslmode=disable")
	f.Add("postgres://orders:", "pa?ss#word", "@db/shop")
	f.Add("", "postgres://x@y/z?sslmode=hunter2", "")
	f.Fuzz(func(t *testing.T, before, password, after string) {
		opener, err := open.ByURL(before + password + after)
		if (opener == nil) == (err == nil) {
			t.Fatalf("got an opener %v and %v", opener != nil, err)
		}
		if err == nil {
			return
		}
		said := fmt.Sprintf("%v %+v", err, fault.Public(err))
		if !fault.Is(err, fault.Invalid) || strings.Contains(said, "\n") {
			t.Fatalf("got %q", said)
		}
		if len(password) > 3 && strings.Contains(said, password) && !strings.Contains(vocabulary(), password) {
			t.Fatalf("it tells the password: %q", said)
		}
	})
}

// vocabulary is all that is ever said of URLs that hold no secret.
func vocabulary() string {
	var b strings.Builder
	for url := range wrong {
		if _, err := open.ByURL(url); err != nil {
			b.WriteString(err.Error())
		}
	}
	for _, p := range []string{"application_name", "connect_timeout", "default_query_exec_mode", "host", "pool_max_conn_idle_time", "pool_max_conn_lifetime", "pool_max_conns",
		"pool_min_conns", "search_path", "sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs"} {
		for _, q := range []string{"%s=", "%[1]s=x&%[1]s=y"} {
			_, err := open.ByURL("postgres://o@db/x?" + fmt.Sprintf(q, p))
			fmt.Fprintln(&b, err)
		}
	}
	return b.String()
}
