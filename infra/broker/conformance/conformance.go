// Package conformance holds any CloudEvents broker against the specifications that it claims: Knative
// Eventing's data plane and broker, the CloudEvents HTTP binding, the filters of the CloudEvents
// Subscriptions API, and CESQL 1.0.
//
// It sees a broker from outside only. Events are posted to its ingress over HTTP, deliveries are received by a
// server of the suite's own, whose answers each case scripts, and triggers are made through a small port,
// Triggers, of which there is a driver for the CloudEvents Subscriptions API here and one for Knative's Trigger
// objects in package kube.
//
// Each case is named after one sentence that it holds, has its own triggers and its own event types, and so runs
// beside the others. What must not happen is waited for after something that is certain to come later, where there
// is such a thing. Waits are checked as lower bounds: not sooner than asked for.
package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Level is how binding a sentence is.
type Level string

// The levels. A convention is in no specification, but Knative's brokers document it and users rely on it.
const (
	Must       Level = "must"
	Should     Level = "should"
	Convention Level = "convention"
)

// Capability is something that a broker may lack without breaking a specification, or that its operator
// has to switch on. Cases that need one which is lacking are skipped, and say so.
type Capability string

// The capabilities.
const (
	Batch         Capability = "batch"         // the ingress takes batches
	CESQL         Capability = "cesql"         // the filter dialect of CESQL expressions
	Order         Capability = "order"         // events of one partitionkey are delivered in order
	RetryAfter    Capability = "retry-after"   // Retry-After is heeded, and bounded by retryAfterMax
	Timeout       Capability = "timeout"       // the delivery's timeout
	Subscriptions Capability = "subscriptions" // triggers are resources of the CloudEvents Subscriptions API
)

// Capabilities are all of them, in order.
func Capabilities() []Capability {
	return []Capability{Batch, CESQL, Order, RetryAfter, Timeout, Subscriptions}
}

// Case is one sentence and the trial that holds a broker against it.
type Case struct {
	ID       string       `json:"id"`
	Section  string       `json:"section"` // of which specification, and where in it
	Level    Level        `json:"level"`
	Sentence string       `json:"sentence"`
	Needs    []Capability `json:"needs,omitempty"`

	run func(*trial)
}

// Config says which broker is tried, and how.
type Config struct {
	URL      string      // of the ingress
	Header   http.Header // for every event that is posted: who posts it, say
	Triggers Triggers

	Listen string // where the suite receives deliveries; "": 127.0.0.1:0
	Sink   string // the base URL under which the broker reaches it; "": http:// and the address listened on

	Only     *regexp.Regexp        // the cases whose id or sentence it finds; nil: all
	Lacks    map[Capability]string // what the broker lacks, and why, beside what the driver says
	Has      []Capability          // what it does not lack although the driver says so
	Patience float64               // scales every wait for what must, or must not, happen; 0: 1
	Parallel int                   // how many cases run at once; 0: 24
	Observe  func(done Result)     // is told of each case when it is done, one at a time; nil: nobody
}

func (c *Config) validate() error {
	var faults []error
	for name, address := range map[string]string{"the broker's URL": c.URL, "the sink's URL": c.Sink} {
		if u, err := url.Parse(address); err != nil || address != "" && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			faults = append(faults, errors.New(name+" must be like http://host:port/path"))
		}
	}
	if c.URL == "" {
		faults = append(faults, errors.New("there is no broker's URL"))
	}
	if c.Triggers == nil {
		faults = append(faults, errors.New("there is no driver for triggers"))
	}
	if c.Patience < 0 || c.Parallel < 0 {
		faults = append(faults, errors.New("patience and parallel must not be negative"))
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Patience == 0 {
		c.Patience = 1
	}
	if c.Parallel == 0 {
		c.Parallel = 24
	}
	if err := errors.Join(faults...); err != nil {
		return fault.New(fault.Invalid, "%v", err)
	}
	return nil
}

// Cases are all cases, in the order of the report.
func Cases() []Case {
	return slices.Concat(ingressCases(), bindingCases(), deliveryCases(), retryCases(), backoffCases(),
		deadLetterCases(), replyCases(), traceCases(), filterCases(), cesqlCases(), subscriptionCases())
}

// Select are the cases that only finds, by id or sentence; nil finds all.
func Select(only *regexp.Regexp) []Case {
	return slices.DeleteFunc(Cases(), func(c Case) bool {
		return only != nil && !only.MatchString(c.ID) && !only.MatchString(c.Sentence)
	})
}

// Run tries the broker. The error tells why nothing could be tried; what a broker does wrong is in the report. When ctx ends
// before all is done, there are both: the cases that had not ended are skipped in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &suite{cfg: cfg, lacks: lacking(cfg), run: strings.ToLower(rand.Text())[:8]}
	server, err := listen(cfg.Listen, cfg.Sink)
	if err != nil {
		return nil, err
	}
	defer server.close()
	s.server = server
	s.http = &http.Client{
		Timeout:       s.patience(),
		Transport:     &http.Transport{MaxIdleConnsPerHost: cfg.Parallel, ExpectContinueTimeout: s.patience() / 2, IdleConnTimeout: idle},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer s.http.CloseIdleConnections()
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	cases := Select(cfg.Only)
	report := &Report{URL: cfg.URL, Results: make([]Result, len(cases))}
	var wg sync.WaitGroup
	turn := make(chan struct{}, cfg.Parallel)
	for i := range cases {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			report.Results[i] = s.try(ctx, &cases[i])
		})
	}
	wg.Wait()
	report.Took = time.Since(began)
	return report, ctx.Err()
}

// idle is how long a connection is kept without use: less than servers keep it, so that none is closed just when it is used.
const idle = 5 * time.Second

// suite is one run.
type suite struct {
	cfg    Config
	lacks  map[Capability]string
	run    string // part of every name, so that runs do not meet
	server *server
	http   *http.Client

	told sync.Mutex
}

// lacking is what the broker lacks, and why.
func lacking(cfg Config) map[Capability]string {
	out := map[Capability]string{}
	for _, from := range []map[Capability]string{cfg.Triggers.Lacks(), cfg.Lacks} {
		for c, why := range from {
			out[c] = why
		}
	}
	for _, c := range cfg.Has {
		delete(out, c)
	}
	return out
}

// reach fails when nothing answers at the broker's URL at all.
func (s *suite) reach(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.URL, nil)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "the broker's URL is wrong")
	}
	answer, err := s.http.Do(r)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "no broker answers at %s", s.cfg.URL)
	}
	return answer.Body.Close()
}

// patience is how long the suite waits for what must happen.
func (s *suite) patience() time.Duration { return scale(15*time.Second, s.cfg.Patience) }

// quiet is how long what must not happen is given to happen, once what is certain has happened.
func (s *suite) quiet() time.Duration { return scale(200*time.Millisecond, s.cfg.Patience) }

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

func (s *suite) try(ctx context.Context, c *Case) Result {
	r := Result{Case: *c, Outcome: Held}
	for _, need := range c.Needs {
		if why, lacks := s.lacks[need]; lacks {
			r.Outcome, r.Why = Skipped, "needs "+string(need)+": "+why
		}
	}
	if r.Outcome != Skipped && ctx.Err() == nil {
		s.conduct(ctx, c, &r)
	}
	if r.Outcome != Skipped && ctx.Err() != nil { // whatever it saw may be because of that
		r = Result{Case: *c, Outcome: Skipped, Why: "the run ended before it", Took: r.Took}
	}
	s.told.Lock()
	defer s.told.Unlock()
	if s.cfg.Observe != nil {
		s.cfg.Observe(r)
	}
	return r
}

// conduct runs the trial, and takes away the triggers that it made.
func (s *suite) conduct(ctx context.Context, c *Case, r *Result) {
	began := time.Now()
	t := &trial{suite: s, ctx: ctx, id: c.ID}
	func() {
		defer func() {
			if over := recover(); over != nil && over != stopped {
				panic(over)
			}
		}()
		c.run(t)
	}()
	t.cleanUp()
	r.Took = time.Since(began)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.faults) > 0:
		r.Outcome, r.Faults = Failed, t.faults
	case t.skipped != "":
		r.Outcome, r.Why = Skipped, t.skipped
	}
}
