package delivery

import (
	"fmt"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/breaker"
)

// judge tells the breaker how a call ended. It reports whether the trigger is paused by it, or is no longer.
func (e *Engine[R]) judge(c *call[R], results []broker.Result) bool {
	if e.breaker == nil || c.dead {
		return false
	}
	if c.probe {
		e.probing = false
	}
	tried, allOfFunction, wait := false, true, time.Duration(0)
	for i := range c.items {
		if r := results[i]; !r.Skipped {
			tried = true
			allOfFunction = allOfFunction && breaker.OfFunction(r)
			wait = max(wait, retryAfter(r))
		}
	}
	return tried && e.breaker.Called(c.probe, allOfFunction, wait, time.Now())
}

// reportPause logs that the trigger is paused or goes on, after a call with these results.
func (e *Engine[R]) reportPause(results []broker.Result) {
	e.mu.Lock()
	paused, waiting := e.breaker.Paused(), e.count
	e.mu.Unlock()
	logger, name := e.trigger.registry.opts.Logger, e.trigger.Name()
	if paused {
		logger.Warn("delivery is paused: the function is away, or what it needs; it is asked again with single events",
			"trigger", name, "status", results[0].Status, "message", fmt.Sprintf("%.200s", results[0].Message),
			"waiting", waiting)
	} else {
		logger.Info("delivery goes on: the function is back", "trigger", name, "waiting", waiting)
	}
	e.observePause(paused)
}

func (e *Engine[R]) observePause(paused bool) {
	if o := e.trigger.registry.opts.Observer; o != nil {
		o.Paused(e.trigger.Name(), paused)
	}
}

// PausedSince returns since when the trigger is paused; zero when it is not.
func (e *Engine[R]) PausedSince() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.breaker.Since()
}
