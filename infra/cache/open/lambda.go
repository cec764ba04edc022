//go:build lambda

package open

import (
	"errors"

	"github.com/ebb-dev/ebb/infra/cache"
)

// openRedis refuses the URL: the package for Lambda has no client of Redis, which would make it too large.
func openRedis(string) (cache.Store, error) {
	return nil, errors.New("the package for Lambda has no client of Redis (use memory:)")
}
