package postgres

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ebb-dev/ebb/infra/fault"
)

// config is what a URL says.
type config struct {
	pool   *pgxpool.Config
	schema string // of the database; empty: the role's
}

// What a URL does not say. Many instances share a server, so each takes few connections and gives them back soon.
const (
	maxConns       = 4
	connectTimeout = 5 * time.Second
	idleTime       = time.Minute
)

// parameter is one that a URL may have: what its value must be, in words and as a check.
type parameter struct {
	name, want string
	ok         func(string) bool
}

var parameters = []parameter{
	{"application_name", "a name", some},
	{"connect_timeout", "a number of seconds", whole},
	{"default_query_exec_mode", "cache_statement, cache_describe, describe_exec or exec", oneOf("cache_statement", "cache_describe", "describe_exec", "exec")},
	{"host", "the directory of the server's socket", some},
	{"pool_max_conn_idle_time", "a duration such as 1m", duration},
	{"pool_max_conn_lifetime", "a duration such as 1h", duration},
	{"pool_max_conns", "a number of connections", whole},
	{"pool_min_conns", "a number of connections", whole},
	{"search_path", "the name of one schema, in lower case", regexp.MustCompile(`^[a-z_][a-z0-9_$-]{0,62}$`).MatchString},
	{"sslcert", "a file", some},
	{"sslkey", "a file", some},
	{"sslmode", "disable, allow, prefer, require, verify-ca or verify-full", oneOf("disable", "allow", "prefer", "require", "verify-ca", "verify-full")},
	{"sslrootcert", "a file", some},
	{"target_session_attrs", "any, read-write or primary", oneOf("any", "read-write", "primary")},
}

func some(s string) bool { return s != "" && !strings.ContainsRune(s, 0) }

func whole(s string) bool {
	n, err := strconv.ParseInt(s, 10, 32)
	return err == nil && n > 0
}

func duration(s string) bool {
	d, err := time.ParseDuration(s)
	return err == nil && d > 0
}

func oneOf(values ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(values, s) }
}

const form = "postgres://role@host:5432/database?name=value"

// parse reads a URL. What it says of one that is wrong holds nothing of the URL, in which a password may be anywhere.
func parse(text string) (config, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" || u.Fragment != "" || strings.ContainsRune(text, 0) {
		return config{}, bad("cannot be read; write %s, with %%40 for an @ and so on", form)
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return config{}, bad("has something after its ? that cannot be read; write name=value, with & between several")
	}
	if err := check(u, values); err != nil {
		return config{}, err
	}
	pool, err := pgxpool.ParseConfig(text)
	if err != nil { // its words may hold parts of the URL
		return config{}, bad("is of no use to pgx; see that its port is one and that its files, such as sslrootcert, can be read")
	}
	if !values.Has("pool_max_conns") {
		pool.MaxConns = maxConns
	}
	if !values.Has("pool_max_conn_idle_time") {
		pool.MaxConnIdleTime = idleTime
	}
	if pool.ConnConfig.ConnectTimeout == 0 {
		pool.ConnConfig.ConnectTimeout = connectTimeout
	}
	// Statements name the schema instead, so that nothing depends on the session.
	delete(pool.ConnConfig.RuntimeParams, "search_path")
	return config{pool: pool, schema: values.Get("search_path")}, nil
}

func check(u *url.URL, values url.Values) error {
	switch {
	case u.User.Username() == "":
		return bad("names no role; write %s", form)
	case u.Hostname() == "" && values.Get("host") == "":
		return bad("names no host; write %s", form)
	case strings.Trim(u.Path, "/") == "":
		return bad("names no database; write %s", form)
	}
	known := 0
	for _, p := range parameters {
		given, ok := values[p.name]
		if !ok {
			continue
		}
		if known++; len(given) > 1 {
			return bad("says %s twice", p.name)
		}
		if !p.ok(given[0]) {
			return bad("has a %s that is not %s", p.name, p.want)
		}
	}
	if known < len(values) {
		var names []string
		for _, p := range parameters {
			names = append(names, p.name)
		}
		return bad("has a parameter that there is not; there are %s", strings.Join(names, ", "))
	}
	return nil
}

// bad says what is wrong with a URL, as in "names no host": who calls knows what the URL is called.
func bad(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }
