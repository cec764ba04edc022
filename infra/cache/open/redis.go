//go:build !lambda

package open

import (
	"github.com/ebb-dev/ebb/infra/cache"
	"github.com/ebb-dev/ebb/infra/cache/redis"
)

func openRedis(url string) (cache.Store, error) {
	s, err := redis.Open(url)
	if err != nil {
		return nil, err
	}
	return s, nil
}
