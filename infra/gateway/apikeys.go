package gateway

import (
	"net/http"
	"sync"
)

// maxAcceptedKeys is how many API keys a process remembers to have been accepted.
const maxAcceptedKeys = 8192

// acceptedKeys remembers, by their hashes, API keys that a function has accepted. The gateway does not know keys, so
// only an answer tells. What a process has forgotten costs no request more than being counted with its address.
type acceptedKeys struct {
	mu  sync.RWMutex
	all map[string]struct{}
}

func (k *acceptedKeys) has(hash string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.all[hash]
	return ok
}

// judge takes note of the status that a request with the key was answered with. A success tells that the key is good,
// and 401 that it is not; other answers tell nothing.
func (k *acceptedKeys) judge(hash string, status int) {
	good := status >= 200 && status < 300
	if !good && status != http.StatusUnauthorized || good == k.has(hash) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !good {
		delete(k.all, hash)
		return
	}
	if len(k.all) >= maxAcceptedKeys || k.all == nil {
		k.all = map[string]struct{}{}
	}
	k.all[hash] = struct{}{}
}
