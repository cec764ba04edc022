// Package open chooses a function's store by its URL.
package open

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore"
	"github.com/ebb-dev/ebb/infra/store/memory"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
)

// ByURL is the opener of the store that a URL names:
//
//	memory:                               gone with the process
//	sqlite:FOLDER                         a file for each function in the folder
//	postgres://ROLE@HOST:5432/DATABASE    the role's own schema; its password is in PGPASSWORD
//	firestore://PROJECT/DATABASE          with Google's default credentials
//
// The error says what is wrong with it, and never shows the URL, which may hold a password.
func ByURL(url string) (store.Opener, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "memory":
		if rest != "" {
			return nil, errors.New("has something behind memory:, which takes nothing")
		}
		return memory.Opener(), nil
	case "sqlite":
		if rest == "" {
			return nil, errors.New("has no folder behind its scheme sqlite")
		}
		return sqlite.Opener(rest), nil
	case "postgres", "postgresql":
		return postgres.Opener(url)
	case "firestore":
		project, database, err := firestore.ParseURL(url)
		if err != nil {
			return nil, err
		}
		return firestore.Opener(project, database), nil
	}
	return nil, fmt.Errorf("has the scheme %.20q, but there are only memory, sqlite, postgres and firestore", scheme)
}
