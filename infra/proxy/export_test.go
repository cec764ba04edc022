package proxy

import "context"

import "time"

// SetHeaderTimeout sets how long an answer may take to begin.
func (t *Transport) SetHeaderTimeout(d time.Duration) { t.headerTimeout = d }

// SaysNothing reports whether an error says nothing about the instance.
func SaysNothing(err error) bool { return judge(context.Background(), nil, err) == unknown }
