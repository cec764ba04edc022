package proxy

import "time"

// SetHeaderTimeout sets how long an answer may take to begin.
func (t *Transport) SetHeaderTimeout(d time.Duration) { t.headerTimeout = d }
