package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/cache"
	"github.com/ebb-dev/ebb/infra/cache/memory"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// BrokenNotices declares how the gateway before the notices differs from the real one. The zero BrokenNotices is the
// real one.
type BrokenNotices struct {
	Store func(cache.Store) cache.Store   // changes the store of its answers; nil: none
	Serve func(http.Handler) http.Handler // changes the function as the gateway reaches it; nil: none
	Deaf  bool                            // it does not carry out the events that it gets
}

// notice is a notice, and the data of its events. Changes is how often it was changed.
type notice struct {
	ID      string `json:"id"`
	Changes int    `json:"changes,omitempty"`
}

var (
	noticeSent    = event.Define(depotEvents, "notices.sent", 1, event.Fact, "A notice came.", notice{ID: "n1"})
	noticeChanged = event.Define(depotEvents, "notices.changed", 1, event.Fact, "A notice was changed.",
		notice{ID: "n1", Changes: 1})
)

// Notices returns a system with a gateway that stores the answers of a function. Notices are changed by requests, some
// of which are refused and change one all the same, and by events; and the gateway gives requests up that the function
// carries out later, within its deadline. The gateway gives no answer that is older than a change: one that was
// answered, one that was carried out late, and one whose event has come.
func Notices(b BrokenNotices) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin:  func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return beginNotices(sim, r, b) },
	}
}

// notices is the state of one run.
type notices struct {
	sim    *simulate.Simulation
	broken BrokenNotices
	system manifest.System
	store  cache.Store        // of all gateways
	idle   []*gateway.Gateway // each serves one request at a time: requests must not wait for one another
	least  map[string]int     // of the changes of a notice that an answer must tell, by its id
	giveUp map[string]time.Duration
}

func beginNotices(sim *simulate.Simulation, r *rand.Rand, b BrokenNotices) *simulate.Scenario {
	s := &notices{
		sim: sim, broken: b, store: memory.New(1<<20, sim.Now), least: map[string]int{}, giveUp: map[string]time.Duration{},
	}
	if b.Store != nil {
		s.store = b.Store(s.store)
	}
	newNotices := func(e function.Env) (*function.Function, error) { return newNotices(sim, e) }
	declared, err := newNotices(env("30s"))
	if err != nil {
		sim.Violated("the notices cannot be declared: %v", err)
		return &simulate.Scenario{}
	}
	s.system.Functions = []*manifest.Declaration{declared.Instance().Declaration()}
	sc := &simulate.Scenario{
		Functions: []simulate.Function{
			{Name: "notices", New: newNotices, Next: newNotices, Env: env("30s")},
			{Name: "edge", New: newEdge, Next: newEdge, Env: env("30s")},
			{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
		},
		Serve: s.serve, Handle: s.handle,
	}
	add := func(what, id string, times int, do func(n int)) {
		for range times {
			n, at := len(sc.Actions), time.Duration(r.Int64N(int64(3*time.Minute)))
			sc.Actions = append(sc.Actions, simulate.Action{At: at, What: what + " " + id, Do: func(*simulate.Simulation) {
				do(n)
			}})
		}
	}
	for n := range 1 + r.IntN(3) {
		id := fmt.Sprint("n", n)
		path := "/api/notices/" + id
		request := func(method, path string) func(int) {
			return func(n int) {
				sim.Send(simulate.Request{
					Function: "notices", Method: method, Path: path,
					Header: map[string]string{clientHeader: fmt.Sprintf("192.0.2.%d:1", n%250)},
				}, func(simulate.Response) {})
			}
		}
		add("somebody reads", id, 20+r.IntN(40), request(http.MethodGet, path))
		add("somebody changes", id, 2+r.IntN(6), request(http.MethodPut, path))
		add("somebody strikes", id, r.IntN(3), request(http.MethodPost, path+"/strikes"))
		add("an event changes", id, r.IntN(4), func(n int) {
			sim.Publish(emitted(sim, n, noticeSent.New(id, notice{ID: id}), n))
		})
		for range 1 + r.IntN(3) {
			after := time.Duration(r.Int64N(int64(30 * time.Second)))
			add("the gateway gives up the next change of", id, 1, func(int) { s.giveUp[id] = after })
		}
	}
	return sc
}

// slowRead is how long the function takes to answer with what it has read.
const slowRead = 100 * time.Millisecond

// newNotices declares the function.
func newNotices(sim *simulate.Simulation, e function.Env) (*function.Function, error) {
	f := function.New("notices", e)
	all := function.Collection[notice](f, "notices")
	change := func(ctx context.Context, tx *function.Tx, id string) (notice, error) {
		n, _, err := all.Find(ctx, tx, id)
		if err != nil {
			return n, err
		}
		n.ID, n.Changes = id, n.Changes+1
		return n, all.Put(ctx, tx, id, n)
	}
	type input struct {
		ID string `path:"id"`
	}
	type output struct{ Body notice }
	const path = "/api/notices/{id}"
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: path, Access: function.Public, Policy: policy.Policy{Cache: &policy.Cache{
			TTL: policy.Duration(time.Hour), InvalidatedBy: []string{"PUT " + path, "POST " + path + "/strikes"},
			InvalidatedByEvents: []policy.CacheEvent{{Type: noticeChanged.Name(), Subject: "id"}},
		}},
	}, func(ctx context.Context, tx *function.Tx, in *input) (*output, error) {
		n, _, err := all.Find(ctx, tx, in.ID)
		sim.Sleep(slowRead)
		return &output{n}, err
	})
	function.Serve(f, function.Operation{Method: http.MethodPut, Path: path, Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *input) (*output, error) {
			n, err := change(ctx, tx, in.ID)
			return &output{n}, err
		})
	function.Serve(f, function.Operation{
		Method: http.MethodPost, Path: path + "/strikes", Access: function.Public, Errors: []int{http.StatusForbidden},
	}, func(ctx context.Context, tx *function.Tx, in *input) (*output, error) {
		n, err := change(ctx, tx, in.ID)
		if err != nil {
			return nil, err
		}
		return nil, function.CommitThen(fault.New(fault.Denied, "strike %d", n.Changes))
	})
	function.Emits(f, noticeChanged)
	function.On(f, noticeSent, func(ctx context.Context, tx *function.Tx, sent notice) error {
		n, err := change(ctx, tx, sent.ID)
		if err == nil {
			tx.Emit(noticeChanged.New(n.ID, n))
		}
		return err
	})
	return f, nil
}

// newEdge declares a function that consumes the events for the gateway; see handle.
func newEdge(e function.Env) (*function.Function, error) {
	f := function.New("edge", e)
	function.On(f, noticeChanged, func(context.Context, *function.Tx, notice) error { return nil })
	return f, nil
}

// clientHeader is the field with the address of the client, and lateHeader that with the time, in nanoseconds since
// 1970, until which the function may carry out a request that the gateway has given up.
const (
	clientHeader = "X-Client"
	lateHeader   = "X-Late"
)

// instanceKey is the key of the instance that serves a request.
type instanceKey struct{}

// take returns a gateway that serves no request.
func (s *notices) take() (*gateway.Gateway, error) {
	if n := len(s.idle); n > 0 {
		g := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return g, nil
	}
	var upstream http.Handler = http.HandlerFunc(s.upstream)
	if s.broken.Serve != nil {
		upstream = s.broken.Serve(upstream)
	}
	return gateway.New(gateway.Config{
		System: s.system, Discovery: static.Discovery{"notices": static.Handler(upstream)}, Cache: s.store,
		Events: []string{noticeChanged.Name()}, Now: s.sim.Now, Logger: slog.New(slog.DiscardHandler),
	})
}

// serve puts the gateway in front of the instances.
func (s *notices) serve(name string, instance http.Handler) http.Handler {
	if name != "notices" {
		return instance
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, answer := noticeOf(r), httptest.NewRecorder()
		if until := r.Header.Get(lateHeader); until != "" {
			instance.ServeHTTP(answer, r)
			nanoseconds, _ := strconv.ParseInt(until, 10, 64)
			if n := changesOf(answer); n > 0 && s.sim.Now().Before(time.Unix(0, nanoseconds)) {
				s.seen(id, n, "was carried out late")
			}
			reply(w, answer)
			return
		}
		g, err := s.take()
		if err != nil {
			s.sim.Violated("the gateway cannot be made: %v", err)
			return
		}
		least := s.least[id]
		asked := r.Clone(context.WithValue(r.Context(), instanceKey{}, instance))
		asked.RequestURI, asked.RemoteAddr = r.URL.RequestURI(), r.Header.Get(clientHeader)
		g.ServeHTTP(answer, asked)
		s.idle = append(s.idle, g)
		switch n := changesOf(answer); {
		case n < 0:
		case r.Method != http.MethodGet:
			s.seen(id, n, "was answered")
		case n < least:
			s.sim.Violated("an answer of before a change was given: %s",
				fmt.Sprintf("%s was changed %d times, the answer tells %d", id, least, n))
		case answer.Header().Get("Cache-Status") == "ebb; hit":
			s.sim.Count("hits", 1)
		}
		reply(w, answer)
	})
}

// seen notes that a notice has had n changes: answers to requests that come now must tell them.
func (s *notices) seen(id string, n int, why string) {
	if n > s.least[id] {
		s.least[id] = n
		s.sim.Note("change %d of %s %s", n, id, why)
	}
}

// upstream serves a request of the gateway by an instance, or has it given up and carried out later.
func (s *notices) upstream(w http.ResponseWriter, r *http.Request) {
	id := noticeOf(r)
	after, giveUp := s.giveUp[id]
	if r.Method != http.MethodPut || !giveUp {
		r.Context().Value(instanceKey{}).(http.Handler).ServeHTTP(w, r)
		return
	}
	delete(s.giveUp, id)
	s.sim.Count("given up", 1)
	s.sim.Note("the gateway gives up a change of %s, which is carried out after %s", id, after)
	late := simulate.Request{Function: "notices", Method: r.Method, Path: r.URL.Path, Times: 1, Header: map[string]string{
		lateHeader: strconv.FormatInt(s.sim.Now().Add(35*time.Second).UnixNano(), 10),
	}}
	s.sim.After(after, func() { s.sim.Send(late, func(simulate.Response) {}) })
	w.WriteHeader(http.StatusGatewayTimeout)
}

// handle has the gateway receive what the edge gets.
func (s *notices) handle(name string, next broker.Handler) broker.Handler {
	if name != "edge" {
		return next
	}
	return func(ctx context.Context, events []ce.Event) []broker.Result {
		g, err := s.take()
		if err != nil {
			s.sim.Violated("the gateway cannot be made: %v", err)
			return next(ctx, events)
		}
		if !s.broken.Deaf {
			g.Receive(ctx, events)
		}
		s.idle = append(s.idle, g)
		for _, e := range events {
			var n notice
			if e.Type() == noticeChanged.Name() && json.Unmarshal(e.Data(), &n) == nil {
				s.seen(n.ID, n.Changes, "was told by an event")
			}
		}
		return next(ctx, events)
	}
}

// noticeOf returns the id of the notice that a request is about.
func noticeOf(r *http.Request) string {
	var id string
	_, _ = fmt.Sscanf(r.URL.Path, "/api/notices/%2s", &id)
	return id
}

// changesOf returns the changes that an answer tells; -1: it tells none.
func changesOf(answer *httptest.ResponseRecorder) int {
	var told struct {
		Changes int
		Detail  string
	}
	err := json.Unmarshal(answer.Body.Bytes(), &told)
	if answer.Code == http.StatusForbidden {
		_, scanned := fmt.Sscanf(told.Detail, "strike %d", &told.Changes)
		err = errors.Join(err, scanned)
	} else if answer.Code != http.StatusOK {
		return -1
	}
	if err != nil {
		return -1
	}
	return told.Changes
}

// reply gives a recorded answer.
func reply(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}
