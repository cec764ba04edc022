package policy

import (
	"fmt"
	"slices"
	"strings"
)

// maxCacheEvents is the most types of events that invalidate the answers of one operation.
const maxCacheEvents = 8

// forbiddenHeaders are fields by which answers are private.
var forbiddenHeaders = []string{"authorization", "cookie", "proxy-authorization"}

// Cache has a gateway store the answers of an operation that reads and is public, and give them again (RFC 9111). The
// header fields of an answer decide first: Cache-Control, Expires, Vary. Requests with credentials pass by the cache.
type Cache struct {
	TTL                  Duration `json:"ttl,omitempty"` // how long an answer is fresh that does not say so itself
	StaleWhileRevalidate Duration `json:"stale_while_revalidate,omitempty"`
	StaleIfError         Duration `json:"stale_if_error,omitempty"`

	// InvalidatedBy are operations, by method and path, after whose success no answer from before is given, nor after a
	// refusal that has changed data (function.CommitThen). Those that write at the same path are among them.
	InvalidatedBy []string `json:"invalidated_by,omitempty"`

	// InvalidatedByEvents are the types of events after which no answer from before is given. The gateway must consume
	// them.
	InvalidatedByEvents []CacheEvent `json:"invalidated_by_events,omitempty"`

	// Headers are the fields of a request that the function reads beside Accept, Accept-Charset, Accept-Encoding and
	// Accept-Language. An answer is stored for their values. Other fields do not reach the function.
	Headers []string `json:"headers,omitempty"`
}

// CacheEvent is a type of event that invalidates answers.
type CacheEvent struct {
	Type string `json:"type"`

	// Subject is the parameter of the operation's path that is the subject of the event: only the answers with that value
	// are invalidated. "": all answers of the operation.
	Subject string `json:"subject,omitempty"`
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
	for i, e := range c.InvalidatedByEvents {
		if e.Type == "" {
			report(fmt.Sprintf("cache.invalidated_by_events[%d].type", i), "want a type of event")
		}
	}
	if len(c.InvalidatedByEvents) > maxCacheEvents {
		report("cache.invalidated_by_events", fmt.Sprintf("want at most %d", maxCacheEvents))
	}
	for i, h := range c.Headers {
		if slices.Contains(forbiddenHeaders, strings.ToLower(h)) || h == "" {
			report(fmt.Sprintf("cache.headers[%d]", i), "want a field without credentials")
		}
	}
}
