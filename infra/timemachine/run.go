package timemachine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/rerun"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Options changes how a run is made.
type Options struct {
	// Settings are settings of functions, by the names of their variables, in place of the defaults. A secret one is an
	// error: a run calls no service outside of the system.
	Settings map[string]string
}

const (
	// warmUp is how much earlier than the first input a run begins.
	warmUp = 10 * time.Minute

	// patience is the longest time that an input or a delivery waits for the events that came before it in the past.
	patience = 2 * time.Second

	// look is the time after which one that waits checks again whether they have come.
	look = 5 * time.Millisecond

	settle = time.Hour // the longest time to come to rest after the last input

	// maxTicks bounds the ticks of the clock during the recorded time.
	maxTicks = 20_000

	// seed is that of the simulation, whose random values are only how long things take.
	seed = 1
)

// world is one run.
type world struct {
	*tracker
	sys      system.System
	declared map[string]*manifest.Declaration
	types    event.Catalogue
	rec      *Recording
	first    time.Time  // of the recorded events
	events   []ce.Event // those of the recording and what others did meanwhile, by their times
	facts    []ce.Event // of others
	before   []ce.Event // what others did before
	sim      *simulate.Simulation
	byID     map[string]bool             // the ids of the recorded events
	given    map[int]bool                // events that are given
	others   map[int]bool                // of these, those of others
	about    map[string][]ce.Event       // by subject
	reacted  map[string]map[string][]int // the recorded events of a function by their cause
	emitted  map[[2]string][]int         // the recorded events of a function about an entity
	asked    map[string]time.Duration    // since when a delivery waits for its turn
	ins      []*input
	timer    map[string]bool           // the ids of the recorded events of timers
	past     map[string][]pastTimer    // those of the past, by what they publish
	timers   map[string]time.Time      // those that are set, and when they are due
	who      map[string]auth.Principal // by the token of a request
	notes    []string
	report   *Report
}

// Run runs a recording with the functions of the product as they are, and returns what differs. It returns an error for
// options that are not valid, for functions that cannot be declared, and when ctx has ended.
func Run(ctx context.Context, sys system.System, rec *Recording, o Options) (*Report, error) {
	if err := rec.check(); err != nil {
		return nil, err
	}
	declared, err := sys.Declare()
	if err != nil {
		return nil, err
	}
	w := &world{
		sys: sys, declared: map[string]*manifest.Declaration{}, types: declared.Types(), rec: rec,
		byID: map[string]bool{}, given: map[int]bool{}, others: map[int]bool{}, about: map[string][]ce.Event{},
		reacted: map[string]map[string][]int{}, emitted: map[[2]string][]int{}, asked: map[string]time.Duration{},
		who:    map[string]auth.Principal{},
		timers: map[string]time.Time{}, past: map[string][]pastTimer{},
		notes: slices.Clone(rec.Notes), first: rec.first(),
	}
	for _, d := range declared.Functions {
		w.declared[d.Name] = d
	}
	lookup, err := w.settings(declared, o.Settings)
	if err != nil {
		return nil, err
	}
	w.learn()
	w.learnTimers()
	w.ins = w.inputs()
	w.tracker = newTracker(w.events, w.given, w.others, w.timer)
	w.knowBefore()
	w.notes = append(w.notes, notesOf(w.ins, sys)...)
	functions := w.functions(lookup)
	span := rec.last().Sub(w.first)
	report := simulate.Run(simulate.System{
		MaxFaults: -1, Horizon: warmUp + span + patience, Settle: settle, Epoch: w.first.Add(-warmUp),
		Tick: max(time.Second, span/maxTicks).Round(time.Second),
		Begin: func(sim *simulate.Simulation, _ *rand.Rand) *simulate.Scenario {
			w.sim = sim
			return &simulate.Scenario{
				Functions: functions, Setup: w.setup, Hold: w.hold, Serve: w.serve,
				Check:   func(*simulate.Simulation) { w.compare() },
				Actions: []simulate.Action{{What: "the inputs begin", Do: func(*simulate.Simulation) { w.begin(ctx) }}},
			}
		},
	}, seed)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for _, v := range report.Violations {
		if v.Class == simulate.NotMade {
			return nil, errors.New(v.Text)
		}
	}
	if w.report == nil { // the run did not come to its end
		w.compare()
	}
	w.report.tell(report.Violations)
	return w.report, nil
}

// settings returns the settings of the functions.
func (w *world) settings(declared manifest.System, set map[string]string) (config.Lookup, error) {
	known := map[string]manifest.Setting{}
	for _, d := range declared.Functions {
		for _, s := range d.Settings {
			known[s.Variable] = s
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		switch s, ok := known[name]; {
		case !ok:
			return nil, fmt.Errorf("unknown setting %q", name)
		case s.Secret:
			return nil, fmt.Errorf("invalid setting %s: it is secret, and a run calls no service outside of the system", name)
		}
	}
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		return nil, err
	}
	keys, err := ring.Marshal()
	if err != nil {
		return nil, err
	}
	own := map[string]string{}
	for name, s := range known {
		if s.Secret && s.Required {
			own[name] = "unknown"
		}
	}
	own["EBB_SIGNING_KEYS"], own[personal.Variable] = string(keys), personal.NewKey()
	return config.Overlay(config.Map(set), config.Map(own)), nil
}

// learn puts the events in order and indexes them.
func (w *world) learn() {
	own, other := map[string]bool{}, map[string]bool{}
	w.events = slices.Clone(w.rec.Events)
	for _, e := range w.events {
		own[identity(e)] = true
	}
	for _, e := range w.rec.Others {
		switch info, known := w.types.Lookup(e.Type()); {
		case !known || info.Kind != event.Fact || own[identity(e)]: // its own events may be there as a replay too
			continue
		case e.Time().Before(w.first):
			w.before = append(w.before, e)
		default:
			other[identity(e)] = true
			w.events = append(w.events, e)
		}
		w.facts = append(w.facts, e)
	}
	slices.SortStableFunc(w.events, func(a, b ce.Event) int { return a.Time().Compare(b.Time()) })
	inSequence(w.events)
	for i, e := range w.events {
		w.given[i], w.others[i] = other[identity(e)], other[identity(e)]
		w.byID[e.ID()] = true
		w.about[e.Subject()] = append(w.about[e.Subject()], e)
		cause, name := event.Extension(e, event.CausationID), functionOf(e.Source())
		if !isMachinery(e.Type()) {
			w.emitted[[2]string{name, e.Subject()}] = append(w.emitted[[2]string{name, e.Subject()}], i)
		}
		if cause == "" {
			continue
		}
		if w.reacted[name] == nil {
			w.reacted[name] = map[string][]int{}
		}
		w.reacted[name][cause] = append(w.reacted[name][cause], i)
	}
}

// About implements rerun.Past.
func (w *world) About(id string) []ce.Event {
	if w.tracker != nil {
		w.update(w.sim.Published())
		id = w.names.back(id)
	}
	return w.about[id]
}

// knowBefore notes that the ids which others and the requests name are the same in the run, except for those that a
// request has made.
func (w *world) knowBefore() {
	made := map[string]bool{}
	asked := make([]string, len(w.ins)) // what each request names
	for n, in := range w.ins {
		body, _ := json.Marshal(in.request.Body) // one that cannot be encoded is told when it is sent
		asked[n] = in.request.Path + " " + in.request.Subject + " " + string(body)
		for _, i := range in.emitted {
			if id := w.events[i].Subject(); !in.Given && id != "" && !strings.Contains(asked[n], id) {
				made[id] = true
			}
		}
	}
	know := func(text string) {
		for _, id := range word.FindAllString(text, -1) {
			if isUUID(id) && !made[id] {
				w.names.same(id, id)
			}
		}
	}
	for _, e := range w.facts {
		know(e.Subject())
		know(string(e.Data()))
	}
	for _, text := range asked {
		know(text)
	}
}

// functions returns the functions of the run: those that have emitted recorded events, and those that react to what
// they emit. Functions that consume everything, the gateway and those that only read take no part.
func (w *world) functions(lookup config.Lookup) (all []simulate.Function) {
	takes := map[string]bool{}
	happens := map[string]bool{}
	for _, e := range slices.Concat(w.rec.Events, w.facts) {
		happens[e.Type()] = true
	}
	for _, in := range w.ins {
		takes[functionOf(in.source)] = takes[functionOf(in.source)] || !in.Given
	}
	for more := true; more; {
		more = false
		for name, d := range w.declared {
			reacts := len(d.Consumes) > 0 && (d.Ticks || slices.ContainsFunc(w.rec.Events, func(e ce.Event) bool {
				return e.Source() == "/functions/"+name
			}) || len(d.Emits) > 0 && slices.ContainsFunc(d.Consumes, func(t string) bool { return happens[t] }))
			if d.Gateway || d.DeadLetters || slices.Contains(d.Consumes, "*") || !reacts && !takes[name] {
				continue
			}
			more = more || !takes[name]
			takes[name] = true
			for _, t := range d.Emits {
				if !isKit(t) && !happens[t] {
					happens[t], more = true, true
				}
			}
		}
	}
	for _, d := range w.sys.Functions {
		if !takes[d.Name] || w.declared[d.Name] == nil {
			continue
		}
		made := d.New
		if isClock(w.declared[d.Name]) {
			made = func(env function.Env) (*function.Function, error) { return w.clock(d.Name, env), nil }
		}
		doubles := d.Rerun != nil && d.Rerun.Doubles != nil
		if doubles {
			made = func(env function.Env) (*function.Function, error) { return d.Rerun.Doubles(env, w) }
		}
		if calls := w.declared[d.Name].Calls; len(calls) > 0 && !doubles {
			w.notes = append(w.notes, fmt.Sprintf("%s calls services outside of the system with its default settings: "+
				"no recorded answers are known of them", d.Name))
		}
		all = append(all, simulate.Function{Name: d.Name, New: made, Env: function.Env{Authenticator: w, Lookup: lookup}})
	}
	return all
}

// isKit reports whether any function may emit a type, which says nothing about what it reacts to.
func isKit(eventType string) bool {
	return slices.ContainsFunc(event.KitTypes(), func(i *event.Info) bool { return i.Name == eventType })
}

// setup makes what the functions know of the time before.
func (w *world) setup(sim *simulate.Simulation) {
	sim.Publish(wakeUp(sim.Now())) // so that none of them starts while it has work to do
	for _, e := range marked(w.before) {
		w.ignored[identity(e)] = true
		sim.Publish(e)
	}
	w.put(w.before...)
}

// put makes the documents again that facts tell.
func (w *world) put(facts ...ce.Event) {
	for key, d := range w.documents(facts) {
		if err := w.sim.Put(key.function, d.Collection, d.ID, d.version, d.Data); err != nil {
			w.notes = append(w.notes, fmt.Sprintf("the document %s of %s cannot be made again: %v", d.ID, key.function, err))
		}
	}
}

// documentKey names a document of the system.
type documentKey struct{ function, collection, id string }

// document is a document after its latest fact.
type document struct {
	rerun.Document
	version int64
}

// documents returns the documents after the latest of the facts that tell them.
func (w *world) documents(facts []ce.Event) map[documentKey]document {
	found := map[documentKey]document{}
	for _, e := range facts {
		name := functionOf(e.Source())
		d, known := w.sys.Lookup(name)
		if !known || d.Rerun == nil || d.Rerun.Document == nil {
			continue
		}
		if made, ok := d.Rerun.Document(e); ok {
			found[documentKey{name, made.Collection, made.ID}] = document{made, sequenceOf(e)}
		}
	}
	return found
}

// sequenceOf returns the sequence of a fact; 0: it has none.
func sequenceOf(e ce.Event) int64 {
	n, _ := strconv.ParseInt(event.Extension(e, event.Sequence), 10, 64)
	return n
}

// begin schedules the inputs.
func (w *world) begin(ctx context.Context) {
	for _, in := range w.ins {
		if !in.Given {
			w.at(in.At, in.emitted[0], func() { w.send(ctx, in) })
			continue
		}
		for _, i := range in.emitted {
			w.at(w.events[i].Time(), i, func() {
				w.gave(i)
				w.sim.Publish(w.translated(w.events[i]))
			})
		}
	}
	for i, e := range w.events {
		if w.others[i] {
			w.at(e.Time(), i, func() {
				w.gave(i)
				now := w.translated(e)
				w.put(now)
				w.sim.Publish(marked([]ce.Event{now})...)
			})
		}
	}
}

// translated returns a recorded event with the ids that the run has made in place of the recorded ones.
func (w *world) translated(e ce.Event) ce.Event {
	e = e.Clone()
	if subject := e.Subject(); subject != "" {
		e.SetSubject(w.names.translate(subject))
	}
	if key := event.Extension(e, event.PartitionKey); key != "" {
		e.SetExtension(event.PartitionKey, w.names.translate(key))
	}
	if e.DataEncoded != nil && !e.DataBase64 {
		e.DataEncoded = []byte(w.names.translate(string(e.DataEncoded)))
	}
	return e
}

// at calls do at a recorded time, when what came before the i-th recorded event about the same entity has come.
func (w *world) at(t time.Time, i int, do func()) {
	var try func()
	since := max(t.Sub(w.sim.Now()), 0)
	deadline := w.sim.Now().Add(since + patience)
	try = func() {
		w.update(w.sim.Published())
		if !w.cameBefore(i, w.events[i].Subject()) && w.sim.Now().Before(deadline) {
			w.sim.After(look, try)
			return
		}
		do()
	}
	w.sim.After(since, try)
}

// The headers that a request of the run carries to its function.
const correlationHeader = "Timemachine-Correlation"

// send makes a request.
func (w *world) send(ctx context.Context, in *input) {
	if ctx.Err() != nil {
		return
	}
	r := in.request
	header := maps.Clone(r.Header)
	if header == nil {
		header = map[string]string{}
	}
	header[correlationHeader] = in.correlation
	var body any
	if r.Body != nil {
		data, err := json.Marshal(r.Body)
		if err != nil {
			in.Answer = "the body cannot be encoded: " + err.Error()
			return
		}
		body = json.RawMessage(w.names.translate(string(data)))
	}
	token := ""
	if r.Subject != "" {
		token = in.correlation
		w.who[token] = auth.Principal{Subject: r.Subject, Roles: r.Roles, IssuedAt: w.sim.Now()}
	}
	w.sim.Send(simulate.Request{
		Function: functionOf(in.source), Method: r.Method, Path: w.names.translate(r.Path), Token: token,
		Key: in.correlation, Body: body, Header: header, Times: 5,
	}, func(a simulate.Response) {
		in.Status = a.Status
		if !a.OK() {
			var problem struct{ Detail string }
			_ = a.JSON(&problem) // without a problem document the status is enough
			in.Answer = cmp.Or(problem.Detail, http.StatusText(a.Status), "there was no answer")
		}
	})
}

// Authenticate implements auth.Authenticator for the requests of the run.
func (w *world) Authenticate(r *http.Request) (auth.Principal, error) {
	token, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	who, known := w.who[token]
	if given && !known {
		return who, fault.New(fault.Unauthenticated, "this is no token of the run")
	}
	return who, nil
}

// serve gives the events of a request the correlation of the recorded ones.
func (w *world) serve(_ string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		ctx := telemetry.WithCorrelation(r.Context(), r.Header.Get(correlationHeader))
		r = r.WithContext(ctx)
		r.Header.Del(correlationHeader)
		next.ServeHTTP(out, r)
	})
}

// hold holds a delivery back until the time at which the function has reacted to the event in the past, and until what
// had been emitted before about the same entities was emitted.
func (w *world) hold(function string, e ce.Event) time.Duration {
	w.update(w.sim.Published())
	i, known := w.index[identity(e)]
	if !known || i < 0 {
		return 0
	}
	reactions := w.reacted[function][w.events[i].ID()]
	if len(reactions) == 0 {
		return w.overtaken(function, i)
	}
	at := w.events[reactions[0]].Time()
	if w.timer[w.events[i].ID()] {
		at = at.Add(w.delay(function, i, reactions[0]))
	}
	if wait := at.Sub(w.sim.Now()); wait > 0 {
		return wait
	}
	key := function + " " + identity(e)
	now := w.sim.Now().Sub(w.first)
	if _, waits := w.asked[key]; !waits {
		w.asked[key] = now
	}
	if now-w.asked[key] >= patience {
		return 0
	}
	checked := map[string]bool{}
	for _, r := range reactions {
		reaction := w.events[r]
		if checked[reaction.Subject()] || !reaction.Time().Equal(w.events[reactions[0]].Time()) {
			continue // it follows from the first one, or from another unit of work
		}
		checked[reaction.Subject()] = true
		if !w.cameBefore(r, reaction.Subject()) {
			return look
		}
	}
	return 0
}

// delay returns how much later than in the past a function has emitted what it emitted last about the entity of the
// i-th event before its reaction to it. A timer comes that much later too: its function decides by the time that has
// passed since then.
func (w *world) delay(function string, i, reaction int) time.Duration {
	all := w.emitted[[2]string{function, w.events[i].Subject()}]
	n, _ := slices.BinarySearch(all, reaction)
	for n--; n >= 0; n-- {
		if now, ok := w.pairs[all[n]]; ok && !w.timer[w.events[all[n]].ID()] {
			return max(now.Time().Sub(w.events[all[n]].Time()), 0)
		}
	}
	return 0
}

// race is for how long an event may have waited for a request or a timer that came first.
const race = time.Second

// overtaken holds an event back to which the function had not reacted, if the next that it emitted about the entity
// came of a request or a timer soon after: the event came too late then, and must not come first now.
func (w *world) overtaken(function string, i int) time.Duration {
	e := w.events[i]
	all := w.emitted[[2]string{function, e.Subject()}]
	n, _ := slices.BinarySearch(all, i+1)
	if n == len(all) || w.done[all[n]] {
		return 0
	}
	next := w.events[all[n]]
	late := next.Time().Sub(e.Time())
	cause := event.Extension(next, event.CausationID)
	answers := w.byID[cause] && !w.timer[cause] // it is the reaction to another event, which the broker keeps in order
	if answers && !w.timer[e.ID()] || late > race || w.sim.Now().Sub(next.Time()) > patience {
		return 0
	}
	return look
}

// inSequence puts the facts of each entity into the order of their sequences, in the places that they have together:
// those of a batch have the same time.
func inSequence(events []ce.Event) {
	places := map[string][]int{}
	for i, e := range events {
		if sequenceOf(e) > 0 {
			key := e.Source() + " " + e.Subject()
			places[key] = append(places[key], i)
		}
	}
	for _, at := range places {
		facts := make([]ce.Event, len(at))
		for n, i := range at {
			facts[n] = events[i]
		}
		slices.SortStableFunc(facts, func(a, b ce.Event) int { return cmp.Compare(sequenceOf(a), sequenceOf(b)) })
		for n, i := range at {
			events[i] = facts[n]
		}
	}
}
