//go:build !lambda

package gateway

import (
	"github.com/ebb-dev/ebb/infra/ratelimit"
	"github.com/ebb-dev/ebb/infra/ratelimit/redis"
)

func openLimiter(url string) (ratelimit.Limiter, error) {
	l, err := redis.Open(url)
	if err != nil {
		return nil, err
	}
	return l, nil
}
