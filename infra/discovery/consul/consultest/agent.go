// Package consultest is an agent of Consul for tests: the part of its HTTP API that package consul uses, with the same
// rules of blocking queries and TTL checks. make consul runs the same tests with a real agent.
package consultest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Agent is an http.Handler of the agent's API, and an http.RoundTripper to itself without a network. The zero Agent has
// no services. It is safe for concurrent use.
type Agent struct {
	mu       sync.Mutex
	index    uint64
	services map[string]*service // by id
	changed  chan struct{}       // closed by the next change
	failing  bool
	requests int
	queries  []string // of health
}

// service is a registered service. The fields are those of the agent's JSON.
type service struct {
	ID, Name, Address string
	Port              int
	Tags              []string
	Meta              map[string]string
	Weights           struct{ Passing, Warning int }
	Check             struct {
		CheckID, TTL, Status           string
		DeregisterCriticalServiceAfter string
	}

	expires *time.Timer
}

// Fail makes all further requests fail, or no longer.
func (a *Agent) Fail(failing bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failing = failing
	a.change()
}

// Forget removes all services and begins the index anew, as an agent does that is restarted without its data.
func (a *Agent) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.services {
		s.expires.Stop()
	}
	a.services = nil
	a.change()
	a.index = 1
}

// SetIndex sets the index. No query is answered because of it.
func (a *Agent) SetIndex(index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index = index
}

// Wake answers all blocking queries, as an agent may at any time.
func (a *Agent) Wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wake()
}

// Queries returns the query strings of all health queries so far.
func (a *Agent) Queries() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.queries)
}

// Requests returns how many requests have come so far.
func (a *Agent) Requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

// Services returns the ids of the registered services with the status of each, as users-1=passing, sorted.
func (a *Agent) Services() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for id, s := range a.services {
		all = append(all, id+"="+s.Check.Status)
	}
	slices.Sort(all)
	return all
}

// change counts the index and answers blocking queries. The agent is locked.
func (a *Agent) change() {
	a.index++
	a.wake()
}

func (a *Agent) wake() {
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// RoundTrip implements http.RoundTripper.
func (a *Agent) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// ServeHTTP implements http.Handler.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	failing := a.failing
	a.requests++
	a.mu.Unlock()
	path := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1")
	after := func(prefix string) (string, bool) { return strings.CutPrefix(path, prefix) }
	switch {
	case failing:
		http.Error(w, "rpc error: No cluster leader", http.StatusInternalServerError)
	case path == "GET /status/leader":
		_ = json.NewEncoder(w).Encode("127.0.0.1:8300")
	case path == "PUT /agent/service/register":
		a.register(w, r)
	default:
		if name, ok := after("GET /health/service/"); ok {
			a.health(w, r, name)
		} else if id, ok := after("PUT /agent/service/deregister/"); ok {
			a.deregister(w, id)
		} else if id, ok := after("PUT /agent/check/update/"); ok {
			a.update(w, r, id)
		} else {
			http.NotFound(w, r)
		}
	}
}

func (a *Agent) register(w http.ResponseWriter, r *http.Request) {
	s := &service{}
	if err := json.NewDecoder(r.Body).Decode(s); err != nil {
		http.Error(w, "Request decode failed: "+err.Error(), http.StatusBadRequest)
		return
	}
	ttl, err := time.ParseDuration(s.Check.TTL)
	if err != nil || s.Name == "" {
		http.Error(w, "Missing service name or TTL", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.ID = cmp.Or(s.ID, s.Name)
	if old := a.services[s.ID]; old != nil {
		old.expires.Stop()
	}
	if a.services == nil {
		a.services = map[string]*service{}
	}
	s.expires = time.AfterFunc(ttl, func() { a.expire(s) })
	a.services[s.ID] = s
	a.change()
}

// expire makes a check critical whose TTL is over.
func (a *Agent) expire(s *service) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.services[s.ID] == s && s.Check.Status != "critical" {
		s.Check.Status = "critical"
		a.change()
	}
}

func (a *Agent) deregister(w http.ResponseWriter, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.services[id]
	if s == nil {
		http.Error(w, fmt.Sprintf("Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id),
			http.StatusNotFound)
		return
	}
	s.expires.Stop()
	delete(a.services, id)
	a.change()
}

func (a *Agent) update(w http.ResponseWriter, r *http.Request, id string) {
	var report struct{ Status, Output string }
	if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
		http.Error(w, "Request decode failed: "+err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.services {
		if s.Check.CheckID == id {
			if ttl, err := time.ParseDuration(s.Check.TTL); err == nil {
				s.expires.Reset(ttl)
			}
			if s.Check.Status != report.Status {
				s.Check.Status = report.Status
				a.change()
			}
			return
		}
	}
	http.Error(w, fmt.Sprintf("Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id),
		http.StatusNotFound)
}

// health answers a query. One with an index blocks until the agent's index is another, at most for its wait time.
func (a *Agent) health(w http.ResponseWriter, r *http.Request, name string) {
	q := r.URL.Query()
	last, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	wait, err := time.ParseDuration(q.Get("wait"))
	if err != nil {
		wait = 5 * time.Minute
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	a.mu.Lock()
	a.queries = append(a.queries, r.URL.RawQuery)
	if last > 0 && a.index <= last {
		if a.changed == nil {
			a.changed = make(chan struct{})
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
		a.mu.Lock()
	}
	defer a.mu.Unlock()
	if a.failing {
		http.Error(w, "rpc error: No cluster leader", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Consul-Index", strconv.FormatUint(a.index, 10))
	w.Header().Set("X-Consul-Lastcontact", "0")
	w.Header().Set("X-Consul-Knownleader", "true")
	_ = json.NewEncoder(w).Encode(a.entries(name, q.Get("tag"), q.Has("passing")))
}

// entries returns the services of a name in the form of the health endpoint. The agent is locked.
func (a *Agent) entries(name, tag string, passing bool) []any {
	all := []any{}
	for _, s := range a.services {
		if s.Name != name || tag != "" && !slices.Contains(s.Tags, tag) || passing && s.Check.Status != "passing" {
			continue
		}
		all = append(all, map[string]any{
			"Node": map[string]any{"Node": "machine", "Address": "127.0.0.1", "Meta": map[string]string{}},
			"Service": map[string]any{
				"ID": s.ID, "Service": s.Name, "Tags": s.Tags, "Address": s.Address, "Port": s.Port, "Meta": s.Meta,
				"Weights": s.Weights,
			},
			"Checks": []any{map[string]any{
				"Node": "machine", "CheckID": s.Check.CheckID, "Status": s.Check.Status, "ServiceID": s.ID, "Type": "ttl",
			}},
		})
	}
	return all
}
