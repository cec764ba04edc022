package redis

import "time"

// OpenPatient is Open for tests of what is decided: a busy machine may take longer than a request would wait.
func OpenPatient(url string) (*Limiter, error) { return openWithin(url, 20*time.Second) }
