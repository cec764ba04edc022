// Package conformance checks any CloudEvents broker against its specifications: Knative Eventing's data plane and
// broker, the CloudEvents HTTP binding, the filters of the CloudEvents Subscriptions API, and CESQL 1.0.
//
// It tests a broker from outside only. The suite posts events to the broker's ingress over HTTP and receives the
// deliveries with its own server, whose answers each case scripts. It makes triggers through a small port, Triggers.
// The driver for the CloudEvents Subscriptions API is in this package, the one for Knative's Trigger objects in
// package kube.
//
// Each case checks one sentence. It has its own triggers and its own event types, so cases run in parallel. To show
// that an event is not delivered, a case first waits for a later event where it can, and then a short time more.
// Delays are checked as lower bounds only: a retry must not come sooner than configured.
package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

// Level tells how binding a sentence is.
type Level string

// The levels. No specification contains a Convention, but Knative's brokers document it and users rely on it.
const (
	Must       Level = "must"
	Should     Level = "should"
	Convention Level = "convention"
)

// Feature names something optional: a broker may lack it without breaking a specification, or its operator has to
// switch it on. Cases that need a missing feature are skipped, and the report gives the reason.
type Feature string

// The features.
const (
	Batch         Feature = "batch"         // the ingress accepts batches
	CESQL         Feature = "cesql"         // the filter dialect of CESQL expressions
	Order         Feature = "order"         // events of one partitionkey are delivered in order
	RetryAfter    Feature = "retry-after"   // the broker waits as Retry-After asks, up to retryAfterMax
	Timeout       Feature = "timeout"       // the delivery option timeout
	Subscriptions Feature = "subscriptions" // triggers are resources of the CloudEvents Subscriptions API
)

// Features returns all features, in order.
func Features() []Feature {
	return []Feature{Batch, CESQL, Order, RetryAfter, Timeout, Subscriptions}
}

// Case holds one sentence and the function that checks a broker against it.
type Case struct {
	ID       string    `json:"id"`
	Section  string    `json:"section"` // the specification and the part of it
	Level    Level     `json:"level"`
	Sentence string    `json:"sentence"`
	Needs    []Feature `json:"needs,omitempty"`

	run func(*trial)
}

// Config names the broker to test and sets how the suite tests it.
type Config struct {
	URL      string      // the URL of the ingress
	Header   http.Header // is added to every posted event, for example Authorization
	Triggers Triggers

	Listen string // the address at which the suite receives deliveries; "": 127.0.0.1:0
	Sink   string // the base URL under which the broker reaches that address; "": http:// and the address

	Only     *regexp.Regexp     // selects cases by id or sentence; nil: all
	Without  map[Feature]string // features that the broker lacks, and why, in addition to the driver's
	With     []Feature          // features that the broker has although the driver lists them as missing
	Patience float64            // scales every wait; 0: 1
	Parallel int                // the number of cases that run at once; 0: 24
	Observe  func(done Result)  // is called after each case, never concurrently; nil: not called
}

func (c *Config) validate() error {
	var problems []error
	for name, address := range map[string]string{"the broker's URL": c.URL, "the sink's URL": c.Sink} {
		if u, err := url.Parse(address); err != nil || address != "" && (u.Scheme != "http" && u.Scheme != "https" ||
			u.Host == "") {
			problems = append(problems, fmt.Errorf("invalid %s %q: want http://host:port/path", name, address))
		}
	}
	if c.URL == "" {
		problems = append(problems, errors.New("missing the broker's URL"))
	}
	if c.Triggers == nil {
		problems = append(problems, errors.New("missing a driver for triggers"))
	}
	if c.Patience < 0 || c.Parallel < 0 {
		problems = append(problems, errors.New("patience and parallel must not be negative"))
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
	if err := errors.Join(problems...); err != nil {
		return fault.New(fault.Invalid, "%v", err)
	}
	return nil
}

// Cases returns all cases, in the order of the report.
func Cases() []Case {
	return slices.Concat(ingressCases(), bindingCases(), deliveryCases(), retryCases(), backoffCases(),
		deadLetterCases(), replyCases(), traceCases(), filterCases(), cesqlCases(), subscriptionCases())
}

// Select returns the cases whose id or sentence matches only; nil matches all.
func Select(only *regexp.Regexp) []Case {
	return slices.DeleteFunc(Cases(), func(c Case) bool {
		return only != nil && !only.MatchString(c.ID) && !only.MatchString(c.Sentence)
	})
}

// Run tests the broker. It returns an error when it could not test at all; the broker's failures are in the report.
// When ctx ends early, Run returns both a report and ctx's error, and the report marks unfinished cases as skipped.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &suite{cfg: cfg, missing: missingFeatures(cfg), run: strings.ToLower(rand.Text())[:8]}
	server, err := listen(cfg.Listen, cfg.Sink)
	if err != nil {
		return nil, err
	}
	defer server.close()
	s.server = server
	s.http = &http.Client{
		Timeout: s.patience(),
		Transport: &http.Transport{MaxIdleConnsPerHost: cfg.Parallel, ExpectContinueTimeout: s.patience() / 2,
			IdleConnTimeout: idle},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer s.http.CloseIdleConnections()
	if err := s.checkReachable(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	cases := Select(cfg.Only)
	report := &Report{URL: cfg.URL, Results: make([]Result, len(cases))}
	var wg sync.WaitGroup
	slots := make(chan struct{}, cfg.Parallel)
	for i := range cases {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			report.Results[i] = s.runCase(ctx, &cases[i])
		})
	}
	wg.Wait()
	report.Took = time.Since(began)
	return report, ctx.Err()
}

// idle limits how long an unused connection stays open: less than at most servers, so that no server closes one at
// the moment of use.
const idle = 5 * time.Second

// suite holds the state of one run.
type suite struct {
	cfg     Config
	missing map[Feature]string
	run     string // is part of every name, so that runs do not collide
	server  *server
	http    *http.Client

	observeMu sync.Mutex
}

// missingFeatures returns the features that the broker lacks, and why.
func missingFeatures(cfg Config) map[Feature]string {
	out := map[Feature]string{}
	for _, from := range []map[Feature]string{cfg.Triggers.MissingFeatures(), cfg.Without} {
		for c, why := range from {
			out[c] = why
		}
	}
	for _, c := range cfg.With {
		delete(out, c)
	}
	return out
}

// checkReachable returns an error when no server answers at the broker's URL.
func (s *suite) checkReachable(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.URL, nil)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "invalid broker URL %q", s.cfg.URL)
	}
	answer, err := s.http.Do(r)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "no broker answers at %s", s.cfg.URL)
	}
	return answer.Body.Close()
}

// patience returns how long the suite waits for something that must happen.
func (s *suite) patience() time.Duration { return scale(15*time.Second, s.cfg.Patience) }

// quiet returns how much longer the suite waits for a delivery that must not come.
func (s *suite) quiet() time.Duration { return scale(200*time.Millisecond, s.cfg.Patience) }

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

func (s *suite) runCase(ctx context.Context, c *Case) Result {
	r := Result{Case: *c, Outcome: Held}
	for _, need := range c.Needs {
		if why, ok := s.missing[need]; ok {
			r.Outcome, r.Why = Skipped, "needs "+string(need)+": "+why
		}
	}
	if r.Outcome != Skipped && ctx.Err() == nil {
		s.runTrial(ctx, c, &r)
	}
	if r.Outcome != Skipped && ctx.Err() != nil { // a failure may come from the interruption
		r = Result{Case: *c, Outcome: Skipped, Why: "the run ended before it", Took: r.Took}
	}
	s.observeMu.Lock()
	defer s.observeMu.Unlock()
	if s.cfg.Observe != nil {
		s.cfg.Observe(r)
	}
	return r
}

// runTrial runs the case and deletes the triggers that it made.
func (s *suite) runTrial(ctx context.Context, c *Case, r *Result) {
	began := time.Now()
	t := &trial{suite: s, id: c.ID, lasts: lifetime.New()}
	defer context.AfterFunc(ctx, t.lasts.End)()
	func() {
		defer func() {
			if p := recover(); p != nil && p != stopped {
				panic(p)
			}
		}()
		c.run(t)
	}()
	t.cleanUp()
	r.Took = time.Since(began)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.failures) > 0:
		r.Outcome, r.Failures = Failed, t.failures
	case t.skipped != "":
		r.Outcome, r.Why = Skipped, t.skipped
	}
}
