package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

// TriesConfig is how often and how long a request is tried.
type TriesConfig struct {
	// Timeout is how long an instance may take to begin its answer; 0: as long as the whole request may.
	Timeout time.Duration

	// Retries is how often a request is tried again, at the next instance, when one could not be reached, did not
	// answer in time, or answered 502, 503 or 504. Only requests with an idempotent method are: GET, HEAD, OPTIONS, PUT
	// and DELETE (RFC 9110, 9.2.2). Their bodies are stored for it.
	Retries int

	// Hedge is the time after which a GET or HEAD that has no answer is sent to a second instance too. The first answer
	// counts; 0: never.
	Hedge time.Duration

	// Observe is called for each retry and each hedge, with that word; nil: nothing is.
	Observe func(what string)
}

// Retries and hedges together are at most this share of the requests under way, so that they do not add to an overload;
// a few are always allowed.
const (
	budgetShare = 0.2
	budgetLeast = 3
)

// The pauses before retries, each twice the one before, and by chance up to half shorter or longer.
const (
	firstPause   = 10 * time.Millisecond
	longestPause = 250 * time.Millisecond
)

// Tries tries requests again. It has the budget of all requests that it is given, and may be used concurrently.
type Tries struct {
	cfg   TriesConfig
	retry failsafe.Executor[*http.Response] // for idempotent methods; nil: they are tried once
	safe  failsafe.Executor[*http.Response] // for GET and HEAD
}

// NewTries returns the Tries of a configuration.
func NewTries(cfg TriesConfig) *Tries {
	if cfg.Observe == nil {
		cfg.Observe = func(string) {}
	}
	t := &Tries{cfg: cfg}
	shared := budget.NewBuilder().WithMaxRate(budgetShare).WithMinConcurrency(budgetLeast).Build()
	var policies []failsafe.Policy[*http.Response]
	if cfg.Retries > 0 {
		retry := retrypolicy.NewBuilder[*http.Response]().HandleIf(retryable).WithMaxRetries(cfg.Retries).
			WithBackoff(firstPause, longestPause).WithJitterFactor(.5).WithBudget(shared).ReturnLastFailure().
			OnRetry(func(failsafe.ExecutionEvent[*http.Response]) { cfg.Observe("retry") }).Build()
		policies = append(policies, retry)
		t.retry = failsafe.With(policies...)
	}
	if cfg.Hedge > 0 {
		hedge := hedgepolicy.NewBuilderWithDelay[*http.Response](cfg.Hedge).WithBudget(shared).
			OnHedge(func(failsafe.ExecutionEvent[*http.Response]) { cfg.Observe("hedge") }).Build()
		policies = append(policies, hedge)
	}
	if len(policies) > 0 {
		t.safe = failsafe.With(policies...)
	}
	return t
}

// executor returns what tries the request again; nil: it is tried once.
func (t *Tries) executor(r *http.Request) failsafe.Executor[*http.Response] {
	if t == nil || r.Header["Upgrade"] != nil {
		return nil
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return t.safe
	case http.MethodOptions, http.MethodPut, http.MethodDelete:
		return t.retry
	}
	return nil
}

// retryable reports whether another instance may do better.
func retryable(answer *http.Response, err error) bool {
	if err != nil {
		return !errors.Is(err, context.Canceled) && !errors.Is(err, errNoOther)
	}
	return failedStatus(answer.StatusCode)
}
