package policy

// Cache has a gateway store the answers of an operation that reads and is public, and give them again (RFC 9111). The
// header fields of an answer decide first: Cache-Control, Expires, Vary. Requests with credentials pass by the cache.
type Cache struct {
	TTL                  Duration `json:"ttl,omitempty"` // how long an answer is fresh that does not say so itself
	StaleWhileRevalidate Duration `json:"stale_while_revalidate,omitempty"`
	StaleIfError         Duration `json:"stale_if_error,omitempty"`

	// InvalidatedBy are operations, by method and path, after whose success no answer from before is given.
	InvalidatedBy []string `json:"invalidated_by,omitempty"`
}

func (c *Cache) check(report Report) {
	for _, d := range []struct {
		field string
		value Duration
	}{
		{"ttl", c.TTL}, {"stale_while_revalidate", c.StaleWhileRevalidate}, {"stale_if_error", c.StaleIfError},
	} {
		if d.value < 0 {
			report("cache."+d.field, "want a duration of zero or more")
		}
	}
}
