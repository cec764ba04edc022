package functiontest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/store"
)

// UnderFaults runs a scenario undisturbed, and then once more for each fault that can happen at each of its steps. The
// scenario is a test as usual, and its expectations must hold under every fault: the harness does what clients and
// brokers do, and repeats a request or a delivery that a fault has interrupted.
//
//	func TestReviewUnderFaults(t *testing.T) {
//		functiontest.UnderFaults(t, reviews.New, func(h *functiontest.Harness) {
//			h.MustDeliver(opened)
//			h.Call("PUT", "/api/reviews/t-1", functiontest.As("ada"), reviews.Review{Stars: 5}).Expect(200)
//			if got := functiontest.Types(h.Emitted()); !slices.Equal(got, []string{"reviews.left.v1"}) {
//				h.T.Errorf("emitted %v", got)
//			}
//		})
//	}
//
// The faults:
//
//   - at each commit: the process dies before or after it, another unit of work was faster, its answer is lost;
//   - at each publishing of events: the process dies before or after it, the broker is away for a moment;
//   - at each read: the store is away for a moment;
//   - each delivery comes twice, to two instances at once, or its batch in another order (that of the partition key
//     stays);
//   - each request that writes is sent twice, with one Idempotency-Key;
//   - every step meets a new instance, and three instances take turns.
//
// In a run with faults, Emitted returns each event once, as the inboxes of its receivers see it, and no event may be
// left in the outbox at the end. A request gets an Idempotency-Key unless the scenario gives one. An operation
// without idempotency (function.Off) cannot be repeated safely, so its commits and publishing have no faults.
//
// The scenario runs in a subtest each time, and must use the T of its harness. It must call the function from one
// goroutine, and do the same in each run.
func UnderFaults(
	t *testing.T, constructor func(function.Env) (*function.Function, error), scenario func(h *Harness),
	options ...Option,
) {
	t.Helper()
	run := func(name string, f *faults) bool {
		return t.Run(name, func(t *testing.T) {
			h := New(t, constructor, append(slices.Clone(options), func(h *Harness) { h.faults = f })...)
			scenario(h)
			if !t.Failed() {
				h.checkOutbox()
			}
			if f.what != "" && !f.injected {
				t.Errorf("the scenario did not come to %s: it does not do the same in each run", f.at)
			}
		})
	}
	undisturbed := &faults{}
	if !run("undisturbed", undisturbed) {
		return
	}
	run("every step meets a new instance", &faults{restarts: true})
	run("three instances take turns", &faults{instances: 3})
	for _, s := range undisturbed.steps {
		for _, what := range s.faults {
			run(fmt.Sprintf("%s: %s", s, what), &faults{at: s, what: what})
		}
	}
}

// step is a place in a run where a fault can happen: the nth read, commit, publishing, delivery or request.
type step struct {
	kind   string
	n      int
	faults []string
}

func (s step) String() string { return fmt.Sprintf("%s %d", s.kind, s.n) }

// The faults.
const (
	diesBefore = "the process dies before"
	diesAfter  = "the process dies after"
	conflicts  = "another was faster"
	lost       = "the answer is lost"
	away       = "away for a moment"
	twice      = "twice"
	atOnce     = "to two instances at once"
	reordered  = "in another order"
)

// faults plans at most one fault, and records the steps of a run.
type faults struct {
	at        step
	what      string
	restarts  bool // before each step
	instances int  // that take turns

	mu       sync.Mutex
	count    map[string]int
	steps    []step
	injected bool
	unsafe   bool // an operation without idempotency runs
	pool     []*process
	seen     map[string]bool // ids of events that were published
}

// next counts a step, and returns the fault to inject at it, or "".
func (f *faults) next(kind string, possible ...string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unsafe && (kind == "commit" || kind == "publishing") {
		return ""
	}
	if f.count == nil {
		f.count = map[string]int{}
	}
	f.count[kind]++
	s := step{kind, f.count[kind], possible}
	f.steps = append(f.steps, s)
	if f.injected || kind != f.at.kind || s.n != f.at.n {
		return ""
	}
	f.injected = true
	return f.what
}

func (f *faults) wasInjected() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.injected
}

// fresh reports whether an event is published for the first time.
func (f *faults) fresh(e ce.Event) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	before := f.seen[e.ID()]
	f.seen[e.ID()] = true
	return !before
}

// process is one instance with what it can lose.
type process struct {
	f      *function.Function
	i      host.Instance
	faults *faults
	mu     sync.Mutex
	dead   bool
}

var errDied = fault.New(fault.Unavailable, "the process has died")

func (p *process) die() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	return errDied
}

func (p *process) died() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// start starts an instance in an environment in which its ports can fail.
func (h *Harness) start() *process {
	h.T.Helper()
	p := &process{faults: h.faults}
	env := h.env
	env.Publisher = &publisher{p, h.env.Publisher}
	env.Store = func(ctx context.Context, function string, schema store.Schema) (store.Driver, error) {
		d, err := h.env.Store(ctx, function, schema)
		if err != nil {
			return nil, err
		}
		return &driver{d, p}, nil
	}
	var err error
	p.f, err = h.new(env)
	check(h.T, err)
	p.i = p.f.Instance()
	for range attempts {
		if err = p.i.Start(context.Background()); err == nil {
			return p
		}
		if p.died() {
			return h.start()
		}
	}
	h.T.Fatalf("the function does not start: %v", err)
	return nil
}

// use makes an instance the one that gets the next call.
func (h *Harness) use(p *process) { h.F, h.I = p.f, p.i }

// turn chooses the instance for the next step.
func (h *Harness) turn() {
	h.T.Helper()
	f := h.faults
	if len(f.pool) == 0 {
		f.pool = append(f.pool, h.start())
	}
	switch {
	case f.pool[0].died() || f.restarts:
		_ = f.pool[0].i.Stop(context.Background())
		f.pool[0] = h.start()
	case len(f.pool) < f.instances:
		f.pool = append([]*process{h.start()}, f.pool...)
	case f.instances > 1:
		f.pool = append(f.pool[1:], f.pool[0])
	}
	h.use(f.pool[0])
}

// attempts is how often the harness repeats what a fault has interrupted.
const attempts = 12

// repeat does one step until it has ended, as a client or a broker would: with growing pauses. The clock shows the
// time from before the pauses afterwards. try reports whether it has ended; if no fault was injected since before, it
// is tried once.
func (h *Harness) repeat(before bool, try func() bool) {
	h.T.Helper()
	pause, waited := time.Second, time.Duration(0)
	for n := 0; ; n++ {
		h.turn()
		if done := try(); !h.faults.pool[0].died() && (done || before || !h.faults.wasInjected()) || n == attempts {
			break
		}
		h.Clock.Advance(pause)
		waited, pause = waited+pause, min(2*pause, time.Minute)
	}
	h.Clock.Advance(-waited)
}

// deliver delivers a batch under faults.
func (h *Harness) deliver(batch []ce.Event) []broker.Result {
	h.T.Helper()
	possible := []string{twice, atOnce}
	order := otherOrder(batch)
	if order != nil {
		possible = append(possible, reordered)
	}
	results := make([]broker.Result, len(batch))
	left := make([]int, len(batch))
	for i := range left {
		left[i] = i
	}
	before := h.faults.wasInjected()
	what := h.faults.next("delivery", possible...)
	if what == reordered {
		left = order
	}
	again := what == twice
	h.repeat(before, func() bool {
		events := make([]ce.Event, len(left))
		for i, at := range left {
			events[i] = batch[at].Clone()
		}
		var others sync.WaitGroup
		if what == atOnce {
			what = ""
			other := h.start()
			others.Go(func() { other.i.Receive(context.Background(), slices.Clone(events)) })
			defer func() { _ = other.i.Stop(context.Background()) }()
		}
		got := h.I.Receive(context.Background(), events)
		others.Wait()
		var open []int
		for i, at := range left {
			if results[at] = got[i]; !got[i].OK() || h.faults.pool[0].died() {
				open = append(open, at)
			}
		}
		if len(open) == 0 && again {
			again = false
			return false
		}
		if len(open) > 0 {
			left = open
		}
		return len(open) == 0
	})
	return results
}

// request sends a request under faults.
func (h *Harness) request(method, path string, header http.Header, send func() *Response) *Response {
	h.T.Helper()
	f := h.faults
	var possible []string
	if method != http.MethodGet && method != http.MethodHead {
		if f.unsafe = !h.idempotent(method, path); !f.unsafe {
			possible = append(possible, twice)
			if header.Get("Idempotency-Key") == "" {
				header.Set("Idempotency-Key", `"`+uuid.NewString()+`"`)
			}
		}
	}
	defer func() { f.unsafe = false }()
	before := f.wasInjected()
	again := f.next("request", possible...) == twice
	var first, answer *Response
	h.repeat(before, func() bool {
		answer = send()
		switch {
		case answer.Status >= 500 || slices.Contains(comeAgain, answer.Status):
			return false
		case again:
			again, first = false, answer
			return false
		}
		return true
	})
	if first != nil && (first.Status != answer.Status || !bytes.Equal(first.Body, answer.Body)) {
		h.T.Errorf("%s %s: sent again with the same Idempotency-Key it is answered %d %s instead of %d %s", method, path,
			answer.Status, answer.Body, first.Status, first.Body)
	}
	return answer
}

// comeAgain are answers after which a client repeats a request while something is going on.
var comeAgain = []int{http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests}

// Stored writes a document into a collection of the function as it is, without the checks of its type: one that an
// older version of the function has left.
func (h *Harness) Stored(collection, id, document string) {
	h.T.Helper()
	declared := h.I.Declaration()
	db, err := h.env.Store(context.Background(), declared.Name, declared.Schema)
	check(h.T, err)
	defer func() { _ = db.Close() }()
	key := store.Key{Collection: collection, ID: id}
	before, err := db.Get(context.Background(), key)
	check(h.T, err)
	version := before[0].Version
	check(h.T, db.Commit(context.Background(), store.Batch{
		Preconditions: []store.Precondition{{Key: key, Version: version}},
		Mutations:     []store.Mutation{{Key: key, Version: version + 1, Data: json.RawMessage(document)}},
	}))
}

// otherOrder returns the order of a batch in which the last partition key comes first, or nil if there is only one.
func otherOrder(batch []ce.Event) []int {
	var keys []string
	of := map[string][]int{}
	for i, e := range batch {
		key, _ := e.Extensions()[event.PartitionKey].(string)
		if of[key] == nil {
			keys = append(keys, key)
		}
		of[key] = append(of[key], i)
	}
	if len(keys) < 2 {
		return nil
	}
	var order []int
	for _, key := range slices.Backward(keys) {
		order = append(order, of[key]...)
	}
	return order
}

// idempotent reports whether an operation takes an Idempotency-Key.
func (h *Harness) idempotent(method, path string) bool {
	h.T.Helper()
	raw, err := h.I.Declaration().OpenAPI()
	check(h.T, err)
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	check(h.T, json.Unmarshal(raw, &document))
	path, _, _ = strings.Cut(path, "?")
	for template, methods := range document.Paths {
		if matches(template, path) && strings.Contains(string(methods[strings.ToLower(method)]), `"Idempotency-Key"`) {
			return true
		}
	}
	return false
}

func matches(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	return slices.EqualFunc(want, got, func(w, g string) bool { return w == g || strings.HasPrefix(w, "{") })
}

// checkOutbox fails the test if an event is left in the outbox after a sweep.
func (h *Harness) checkOutbox() {
	h.T.Helper()
	h.flush()
	declared := h.I.Declaration()
	if len(declared.Schema) == 0 {
		return
	}
	db, err := h.env.Store(context.Background(), declared.Name, declared.Schema)
	check(h.T, err)
	defer func() { _ = db.Close() }()
	left, _, err := db.Query(context.Background(), store.Query{Collection: "_outbox", Limit: 10})
	check(h.T, err)
	for _, d := range left {
		h.T.Errorf("the outbox still has entry %s: %s", d.ID, d.Data)
	}
}

// flush has the function publish what a fault has left in its outbox, as a sweep of the clock does.
func (h *Harness) flush() {
	h.T.Helper()
	if !slices.Contains(h.I.Declaration().Consumes, event.ClockSwept.Name()) {
		return
	}
	const older = time.Minute
	h.Clock.Advance(older)
	swept := h.Event(event.ClockSwept.New("clock", event.SweptClock{At: h.Clock.Now()}))
	h.repeat(h.faults.wasInjected(), func() bool { return h.I.Receive(context.Background(), []ce.Event{swept})[0].OK() })
	h.Clock.Advance(-older)
}

// publisher is a broker that can fail.
type publisher struct {
	p    *process
	next broker.Publisher
}

func (b *publisher) Publish(ctx context.Context, es ...ce.Event) error {
	if b.p.died() {
		return errDied
	}
	what := b.p.faults.next("publishing", diesBefore, diesAfter, away)
	switch what {
	case diesBefore:
		return b.p.die()
	case away:
		return fault.New(fault.Unavailable, "the broker is away")
	}
	err := b.next.Publish(ctx, es...)
	if what == diesAfter {
		return b.p.die()
	}
	return err
}

// driver is a store that can fail.
type driver struct {
	store.Driver
	p *process
}

// RunTwice passes on what the memory store says; see memory.Twice.
func (d *driver) RunTwice() bool {
	t, ok := d.Driver.(interface{ RunTwice() bool })
	return ok && t.RunTwice()
}

func (d *driver) read() error {
	if d.p.died() {
		return errDied
	}
	if d.p.faults.next("read", away) == away {
		return fault.New(fault.Unavailable, "the store is away")
	}
	return nil
}

func (d *driver) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	if err := d.read(); err != nil {
		return nil, err
	}
	return d.Driver.Get(ctx, keys...)
}

func (d *driver) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	if err := d.read(); err != nil {
		return nil, false, err
	}
	return d.Driver.Query(ctx, q)
}

func (d *driver) Commit(ctx context.Context, b store.Batch) error {
	if d.p.died() {
		return errDied
	}
	what := d.p.faults.next("commit", diesBefore, diesAfter, conflicts, lost)
	switch what {
	case diesBefore:
		return d.p.die()
	case conflicts:
		return fault.New(fault.Conflict, "another unit of work was faster")
	}
	err := d.Driver.Commit(ctx, b)
	switch what {
	case diesAfter:
		return d.p.die()
	case lost:
		return fault.New(fault.Unavailable, "the answer of the store is lost")
	}
	return err
}
