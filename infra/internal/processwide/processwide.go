// Package processwide sets what libraries keep once per process. The main functions of programs call it; packages that
// others import change no library's global state.
package processwide

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Set is called once, at the start of a program's main function. It keeps the client of Redis from printing, between
// the structured log lines, what its callers are told as errors.
func Set() { redis.SetLogger(silent{}) }

type silent struct{}

// Printf implements the client's logger.
func (silent) Printf(context.Context, string, ...any) {}
