package policy

// Breaker is when a function is not called for a while because it fails. The zero Breaker never opens.
type Breaker struct {
	// Failures is the share of requests within 10 seconds, from 0 to 1, at which the breaker opens: those that were
	// answered 5xx. While it is open requests are 503 at once, with Retry-After; after the pause three are tried.
	Failures float64 `json:"failures,omitempty"`

	Requests int      `json:"requests,omitempty"` // within the 10 seconds, below which it does not open; 0: 20
	Pause    Duration `json:"pause,omitempty"`    // 0: 5s
}

// maxRetries limits how often a request is tried again.
const maxRetries = 10

// checkTries reports the fields about tries and load that are not valid.
func (p Policy) checkTries(report Report) {
	if p.TryTimeout < 0 {
		report("try_timeout", "want a duration of zero or more")
	}
	if p.Retries < 0 || p.Retries > maxRetries {
		report("retries", "want 0 to 10")
	}
	if p.Hedge < 0 {
		report("hedge", "want a duration of zero or more")
	}
	if p.Concurrency < 0 {
		report("concurrency", "want zero or more requests")
	}
	if b := p.Breaker; !(b.Failures >= 0 && b.Failures <= 1) || b.Failures == 0 && b != (Breaker{}) {
		report("breaker.failures", "want a share of more than 0 and at most 1")
	}
	if p.Breaker.Requests < 0 {
		report("breaker.requests", "want zero or more requests")
	}
	if p.Breaker.Pause < 0 {
		report("breaker.pause", "want a duration of zero or more")
	}
}
