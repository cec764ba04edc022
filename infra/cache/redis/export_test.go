package redis

import "time"

// OpenPatient is Open for tests of what is stored: a busy machine may take longer than a request would wait.
func OpenPatient(url string) (*Store, error) { return openWithin(url, 20*time.Second) }

// Ask has the server asked again at once after a failure.
func Ask(s *Store) { s.away.Store(0) }
