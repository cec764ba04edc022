package discovery

import "time"

// Within has answers begin so soon.
func (t *Transport) Within(d time.Duration) { t.patience = d }
