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

// A URL chooses the driver and the place of its files.
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
		if err := d.Commit(t.Context(), store.Batch{
			Mutations: []store.Mutation{{Key: store.Key{Collection: "things", ID: "a"}, Version: 1, Data: []byte(`{}`)}},
		}); err != nil {
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

// A failed open returns a nil Driver, not an interface that holds a nil pointer.
func TestByURLThatCannotBeOpened(t *testing.T) {
	for _, url := range []string{
		"sqlite:/nowhere/at/all.db", "sqlite:/proc/nothing/", "postgres://orders@127.0.0.1:1/shop",
	} {
		opener, err := open.ByURL(url)
		if err != nil {
			t.Fatal(url, err)
		}
		if d, err := opener(t.Context(), "orders", schema); d != nil || !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: got %v, %v", url, d, err)
		}
	}
}

// valid lists valid URLs; their databases need not exist.
var valid = []string{
	"memory:", "firestore://shop/orders", "firestore://shop", "sqlite:orders.db", "sqlite:/data/",
	"postgres://orders@db:5432/shop", "postgresql://orders@db/shop?sslmode=verify-full&pool_max_conns=2",
	"postgres://orders@db/shop?search_path=orders&default_query_exec_mode=exec", "postgres://orders@[::1]:5432/shop",
	"postgres://orders@/shop?host=/run/postgresql", "postgres://orders:secret@db/shop",
	"postgres://orders@db/shop?connect_timeout=3&target_session_attrs=read-write&pool_max_conn_idle_time=10s" +
		"&application_name=x",
}

// invalid maps invalid URLs to a part of their errors.
var invalid = map[string]string{
	"": "is empty",
	"orders.db": "has an unknown scheme (use memory:, sqlite:PATH, " +
		"postgres://role@host:5432/database or firestore://project/database)",
	"mysql://orders@db/shop":         "has an unknown scheme (use",
	"postgre://orders@db/shop":       "did you mean postgres://?",
	"Postgres://orders@db/shop":      "did you mean postgres://?",
	"postgres:orders@db/shop":        "did you mean postgres://?",
	"sqllite:orders.db":              "did you mean sqlite:?",
	"memory":                         "has an unknown scheme (use",
	"memroy:":                        "did you mean memory:?",
	"memory:orders":                  "has text after memory:",
	"sqlite:":                        "has no path",
	"sqlite:///data/orders.db":       "has // before its path",
	"sqlite:orders.db?mode=ro":       "takes no parameters",
	"postgres://o@db/x?password=pw":  "has an unknown parameter (use",
	"postgres://orders:se%cret@db/x": "is not a valid URL",
	"postgres://orders:sec/ret@db/x": "is not a valid URL",
	"postgres://db/shop":             "has no role",
	"postgres://orders@/shop":        "has no host",
	"postgres://orders@db":           "has no database",
	"postgres://orders@db/":          "has no database",
	"postgres://orders@db:port/shop": "is not a valid URL",
	"postgres://orders@db:99999/x":   "check its port",
	"postgres://o@db/x?pool_max_conn=3": "has an unknown parameter (use application_name, " +
		"connect_timeout,",
	"postgres://o@db/x?pool_max_conns=0":                   "has an invalid pool_max_conns: want a number of connections",
	"postgres://o@db/x?pool_max_conns=1&pool_max_conns=2":  "has pool_max_conns twice",
	"postgres://o@db/x?sslmode=verify_full":                "has an invalid sslmode: want disable, allow,",
	"postgres://o@db/x?sslmode=verify-full&sslrootcert=/x": "the files that it names, such as sslrootcert",
	"postgres://o@db/x?search_path=a,b":                    "has an invalid search_path: want the name of one schema",
	"postgres://o@db/x?search_path=Orders":                 "in lower case",
	"postgres://o@db/x?default_query_exec_mode=simple":     "want cache_statement,",
	"postgres://o@db/x?a=%zz":                              "has invalid parameters",
	"postgres://o@db/x#y":                                  "is not a valid URL",
	"firestore://":                                         "is invalid; want firestore://project/database",
	"firestore://a:secret@shop/orders":                     "is invalid; want firestore://project/database",
	"firstore://shop/orders":                               "did you mean firestore://?",
}

func TestValidURLs(t *testing.T) {
	for _, url := range valid {
		if opener, err := open.ByURL(url); err != nil || opener == nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// The error of an invalid URL is one line.
func TestInvalidURLs(t *testing.T) {
	for url, want := range invalid {
		opener, err := open.ByURL(url)
		if opener != nil || !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Public(err), want) {
			t.Errorf("%q: got %v, want %q", url, err, want)
		}
		if strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%q: more than one line: %v", url, err)
		}
	}
}

// FuzzByURL puts a password into a URL at any place. Each error is one line without the password.
func FuzzByURL(f *testing.F) {
	for _, url := range valid {
		f.Add(url, "hunter2!", "")
	}
	for url := range invalid {
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
		text := fmt.Sprintf("%v %+v", err, fault.Public(err))
		if !fault.Is(err, fault.Invalid) || strings.Contains(text, "\n") {
			t.Fatalf("got %q", text)
		}
		if len(password) > 3 && strings.Contains(text, password) && !strings.Contains(vocabulary(), password) {
			t.Fatalf("the error has the password: %q", text)
		}
	})
}

// vocabulary returns the text of all errors of URLs without a password.
func vocabulary() string {
	var b strings.Builder
	for url := range invalid {
		if _, err := open.ByURL(url); err != nil {
			b.WriteString(err.Error())
		}
	}
	for _, p := range []string{
		"application_name", "connect_timeout", "default_query_exec_mode", "host", "pool_max_conn_idle_time",
		"pool_max_conn_lifetime", "pool_max_conns", "pool_min_conns", "search_path", "sslcert", "sslkey", "sslmode",
		"sslrootcert", "target_session_attrs",
	} {
		for _, q := range []string{"%s=", "%[1]s=x&%[1]s=y"} {
			_, err := open.ByURL("postgres://o@db/x?" + fmt.Sprintf(q, p))
			fmt.Fprintln(&b, err)
		}
	}
	return b.String()
}
