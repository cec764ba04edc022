// Package open chooses a function's database by its URL:
//
//	memory:                                    nothing lasts
//	sqlite:PATH                                a file; or <function>.db in PATH when that is a directory or ends with /
//	postgres://role@host:5432/database?…       a schema of a PostgreSQL database, see package postgres
//	firestore://project/database               a Firestore database; firestore://project for one that is named as the function
//
// Only those who compose import it: commands, hosts and tests. What is wrong with a URL is said as in "names no host", for who
// knows what the setting is called, and never with a part of the URL, since a password may be anywhere in it.
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

// scheme is a kind of database: what its URLs begin with, what they look like, and who opens them. A new driver
// is a line here, and one in the package comment.
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

// ByURL is the opener of the database that a URL names. A URL that cannot be right is refused with one sentence; nothing is
// opened before a function is.
func ByURL(url string) (store.Opener, error) {
	for _, s := range schemes {
		if strings.HasPrefix(url, s.prefix) {
			return s.open(url)
		}
	}
	if url == "" {
		return nil, bad("is empty; write %s", forms())
	}
	for _, s := range schemes {
		if meant(url, s.prefix) {
			return nil, bad("begins almost like %s, and has to begin just so", s.prefix)
		}
	}
	return nil, bad("is of no kind that there is; write %s", forms())
}

func forms() string {
	var all []string
	for _, s := range schemes {
		if s.form != "" {
			all = append(all, s.form)
		}
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}

// meant reports whether a URL begins with a prefix but for a letter or two.
func meant(url, prefix string) bool {
	name, _, _ := strings.Cut(prefix, ":")
	typed, _, found := strings.Cut(url, ":")
	return found && len(typed) <= len(name)+2 && editdistance.Distance(strings.ToLower(typed), name) <= 2
}

func memoryURL(url string) (store.Opener, error) {
	if url != "memory:" {
		return nil, bad("begins with memory: and goes on, which it must not")
	}
	return memory.Opener(), nil
}

func sqliteURL(url string) (store.Opener, error) {
	path := strings.TrimPrefix(url, "sqlite:")
	switch {
	case path == "":
		return nil, bad("has no path; write sqlite:PATH")
	case strings.HasPrefix(path, "//"):
		return nil, bad("has // before its path; write sqlite:PATH, as in sqlite:/data/orders.db")
	case strings.ContainsAny(path, "?#\x00"):
		return nil, bad("has a ? or # in its path; sqlite takes no parameters")
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
		return nil, bad("is not like firestore://project/database, as in firestore://shop/orders")
	}
	return firestore.Opener(project, database), nil
}

func bad(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }
