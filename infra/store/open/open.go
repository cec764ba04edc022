// Package open chooses a function's database by its URL:
//
//	memory:                                    memory of the process; lost when it ends
//	sqlite:PATH                                a file; <function>.db in PATH when that is a directory or ends with /
//	postgres://role@host:5432/database?…       a schema of a PostgreSQL database, see package postgres
//	firestore://project/database               a Firestore database; its name is the function's when it is left out
//
// Only commands, hosts and tests import it. The error of an invalid URL is a predicate, such as "has no host", before
// which the caller puts the name of the setting. It contains no part of the URL, because any part may be a password.
package open

import (
	"context"
	"os"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/editdistance"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore"
	"github.com/ebb-dev/ebb/infra/store/memory"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
)

// scheme is a kind of database: the prefix of its URLs, their form for errors, and the driver's function. A new driver
// adds a line here and one to the package comment.
type scheme struct {
	prefix, form string
	open         func(url string) (store.Opener, error)
}

var schemes = []scheme{
	{"memory:", "memory:", memoryURL},
	{"sqlite:", "sqlite:PATH", sqliteURL},
	{"postgres://", "postgres://role@host:5432/database", postgres.Opener},
	{"postgresql://", "", postgres.Opener},
	{"firestore://", "firestore://project/database", firestoreURL},
}

// ByURL returns the opener of the database with this URL. It refuses an invalid URL; it opens nothing itself.
func ByURL(url string) (store.Opener, error) {
	for _, s := range schemes {
		if strings.HasPrefix(url, s.prefix) {
			return s.open(url)
		}
	}
	if url == "" {
		return nil, invalid("is empty (use %s)", forms())
	}
	for _, s := range schemes {
		if similar(url, s.prefix) {
			return nil, invalid("has an unknown scheme; did you mean %s?", s.prefix)
		}
	}
	return nil, invalid("has an unknown scheme (use %s)", forms())
}

// forms returns the forms of all URLs, for errors.
func forms() string {
	var all []string
	for _, s := range schemes {
		if s.form != "" {
			all = append(all, s.form)
		}
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}

// similar reports whether the scheme of a URL differs from that of a prefix by at most two letters.
func similar(url, prefix string) bool {
	name, _, _ := strings.Cut(prefix, ":")
	typed, _, found := strings.Cut(url, ":")
	return found && len(typed) <= len(name)+2 && editdistance.Distance(strings.ToLower(typed), name) <= 2
}

func memoryURL(url string) (store.Opener, error) {
	if url != "memory:" {
		return nil, invalid("has text after memory:")
	}
	return memory.Opener(), nil
}

func sqliteURL(url string) (store.Opener, error) {
	path := strings.TrimPrefix(url, "sqlite:")
	switch {
	case path == "":
		return nil, invalid("has no path; want sqlite:PATH")
	case strings.HasPrefix(path, "//"):
		return nil, invalid("has // before its path; want sqlite:PATH, such as sqlite:/data/orders.db")
	case strings.ContainsAny(path, "?#\x00"):
		return nil, invalid("has a ? or # in its path; sqlite takes no parameters")
	case strings.HasSuffix(path, "/"), isDirectory(path):
		return sqlite.Opener(path), nil
	}
	return func(ctx context.Context, _ string, schema store.Schema) (store.Driver, error) {
		s, err := sqlite.Open(ctx, path, schema)
		if err != nil {
			return nil, err
		}
		return s, nil
	}, nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func firestoreURL(url string) (store.Opener, error) {
	project, database, err := firestore.ParseURL(url)
	if err != nil {
		return nil, invalid("is invalid; want firestore://project/database, such as firestore://shop/orders")
	}
	return firestore.Opener(project, database), nil
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }
