// Package open chooses a function's store by its URL.
package open

import (
	"fmt"
	"strings"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
)

// ByURL is the opener that a URL names: memory:, or sqlite: and the folder of a function's file.
func ByURL(url string) (store.Opener, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch {
	case scheme == "memory" && rest == "":
		return memory.Opener(), nil
	case scheme == "sqlite" && rest != "":
		return sqlite.Opener(rest), nil
	}
	return nil, fmt.Errorf("is no store; memory: and sqlite:FOLDER are")
}
