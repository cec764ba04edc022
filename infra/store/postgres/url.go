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

// config is a parsed URL.
type config struct {
	pool   *pgxpool.Config
	schema string // empty: the first schema that the role's search_path finds
}

// The defaults of a URL. Many instances share a server, so each uses few connections and closes idle ones soon.
const (
	maxConns       = 4
	connectTimeout = 5 * time.Second
	idleTime       = time.Minute
)

// parameter is a parameter of a URL: its name, the description of valid values, and their check.
type parameter struct {
	name, want string
	ok         func(string) bool
}

var parameters = []parameter{
	{"application_name", "a name", some},
	{"connect_timeout", "a number of seconds", whole},
	{
		"default_query_exec_mode", "cache_statement, cache_describe, describe_exec or exec",
		oneOf("cache_statement", "cache_describe", "describe_exec", "exec"),
	},
	{"host", "the directory of the server's socket", some},
	{"pool_max_conn_idle_time", "a duration such as 1m", duration},
	{"pool_max_conn_lifetime", "a duration such as 1h", duration},
	{"pool_max_conns", "a number of connections", whole},
	{"pool_min_conns", "a number of connections", whole},
	{"search_path", "the name of one schema, in lower case", regexp.MustCompile(`^[a-z_][a-z0-9_$-]{0,62}$`).MatchString},
	{"sslcert", "a file", some},
	{"sslkey", "a file", some},
	{
		"sslmode", "disable, allow, prefer, require, verify-ca or verify-full",
		oneOf("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
	},
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

// parse parses a URL. Its errors contain no part of the URL, because any part may be a password.
func parse(text string) (config, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" || u.Fragment != "" ||
		strings.ContainsRune(text, 0) {
		return config{}, invalid("is not a valid URL; want %s, with %%40 for an @", form)
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return config{}, invalid("has invalid parameters; want name=value, with & between several")
	}
	if err := check(u, values); err != nil {
		return config{}, err
	}
	pool, err := pgxpool.ParseConfig(text)
	if err != nil { // err may contain parts of the URL
		return config{}, invalid("is refused by pgx; check its port and the files that it names, such as sslrootcert")
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
		return invalid("has no role; want %s", form)
	case u.Hostname() == "" && values.Get("host") == "":
		return invalid("has no host; want %s", form)
	case strings.Trim(u.Path, "/") == "":
		return invalid("has no database; want %s", form)
	}
	known := 0
	for _, p := range parameters {
		given, ok := values[p.name]
		if !ok {
			continue
		}
		if known++; len(given) > 1 {
			return invalid("has %s twice", p.name)
		}
		if !p.ok(given[0]) {
			return invalid("has an invalid %s: want %s", p.name, p.want)
		}
	}
	if known < len(values) {
		var names []string
		for _, p := range parameters {
			names = append(names, p.name)
		}
		return invalid("has an unknown parameter (use %s)", strings.Join(names, ", "))
	}
	return nil
}

// invalid returns the error of an invalid URL: a predicate such as "has no host", before which the caller puts the name
// of the setting.
func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }
