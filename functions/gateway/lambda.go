//go:build lambda

package gateway

import (
	"errors"

	"github.com/ebb-dev/ebb/infra/ratelimit"
)

// openLimiter refuses the URL: the package for Lambda has no client of Redis, which would make it too large.
func openLimiter(string) (ratelimit.Limiter, error) {
	return nil, errors.New("the package for Lambda has no client of Redis; leave it out")
}
