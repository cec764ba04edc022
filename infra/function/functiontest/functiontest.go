// Package functiontest runs one function alone, on the memory store, with a clock that stands still, so that a test can
// call it, deliver events to it and see what it emits. Every handler runs twice, which finds impure ones.
//
//	func TestReview(t *testing.T) {
//		h := functiontest.New(t, reviews.New)
//		h.MustDeliver(events.TicketOpened.New("t-1", events.OpenedTicket{TicketID: "t-1", UserID: "ada"}))
//		h.Call("PUT", "/api/reviews/t-1", functiontest.As("ada"), reviews.Review{Stars: 5}).Expect(200)
//		if got := functiontest.Types(h.Emitted()); !slices.Equal(got, []string{"reviews.left.v1"}) {
//			t.Errorf("emitted %v", got)
//		}
//	}
//
// UnderFaults runs such a test once more for each fault that can happen on the way: crashes, duplicates, outages,
// several instances. What else a test can do: hand the same event over twice (Event, Receive), stop the function and
// start it again (Restart), have the broker refuse (RefuseToPublish), move the clock so that timers go off (Advance),
// and start from documents that an older version has left (Stored).
package functiontest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/manifest"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// Issuer and Audience are what test tokens are issued by and for.
const (
	Issuer   = "ebb"
	Audience = "ebb"
)

// personalKey is what all harnesses wrap the keys of persons under, so that one decrypts what another has emitted.
var personalKey = personal.NewKey()

// Harness is one function under test. Its methods may be called concurrently.
type Harness struct {
	T     testing.TB
	Clock *Clock
	F     *function.Function
	I     host.Instance // of F
	Store store.Opener

	new     func(function.Env) (*function.Function, error)
	env     function.Env
	tokens  *auth.Issuer
	mu      sync.Mutex
	emitted []ce.Event
	noted   []ce.Event
	timers  timers
	refuse  error
	faults  *faults // nil: none
}

// Option changes the environment of the function.
type Option func(*Harness)

// Set sets environment variables of the function.
func Set(vars map[string]string) Option {
	return func(h *Harness) { h.env.Lookup = config.Overlay(config.Map(vars), h.env.Lookup) }
}

// Once runs handlers once only: for those whose first, lost attempt has an effect elsewhere.
func Once() Option { return func(h *Harness) { h.Store = memory.Opener() } }

// Knows makes event types known to a function that asks what the system's functions consume and emit.
func Knows(types ...*event.Info) Option {
	system := manifest.System{Functions: []*manifest.Declaration{{Types: types}}}
	return func(h *Harness) { h.env.System = func() manifest.System { return system } }
}

// Beside sets what is deployed together with the function, for a function that asks.
func Beside(system func() manifest.System) Option { return func(h *Harness) { h.env.System = system } }

// New starts the function that the constructor declares.
func New(t testing.TB, constructor func(function.Env) (*function.Function, error), options ...Option) *Harness {
	t.Helper()
	clock := &Clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	h := &Harness{T: t, Clock: clock, Store: memory.Opener(memory.Twice()), new: constructor}
	keys, err := auth.GenerateKeyRing()
	check(t, err)
	private, err := keys.Marshal()
	check(t, err)
	verifier, err := auth.NewVerifier(auth.VerifierConfig{
		Keys: keys.Public(), Issuer: Issuer, Audience: Audience, Clock: clock.Now,
	})
	check(t, err)
	h.tokens = auth.NewIssuer(keys, Issuer, Audience, h.Clock.Now)
	h.env = function.Env{
		Publisher: (*collector)(h), Authenticator: apikey.Beside(verifier), Now: h.Clock.Now,
		Sleep:  func(_ context.Context, d time.Duration) { h.Clock.Advance(d) },
		Go:     func(call func()) { call() },
		Logger: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelError})),
		Lookup: config.Map(map[string]string{
			"EBB_SIGNING_KEYS": string(private), "EBB_ISSUER": Issuer, "EBB_AUDIENCE": Audience,
			personal.Variable: personalKey,
		}),
	}
	for _, o := range options {
		o(h)
	}
	h.env.Store = h.Store
	h.Restart()
	t.Cleanup(func() {
		if h.faults == nil {
			_ = h.I.Stop(context.Background())
			return
		}
		for _, p := range h.faults.pool {
			_ = p.i.Stop(context.Background())
		}
	})
	return h
}

// Restart stops the function and starts a new instance on the same data.
func (h *Harness) Restart() {
	h.T.Helper()
	if h.faults != nil {
		h.turn()
		return
	}
	if h.I != nil {
		check(h.T, h.I.Stop(context.Background()))
	}
	f, err := h.new(h.env)
	check(h.T, err)
	check(h.T, f.Instance().Start(context.Background()))
	h.F, h.I = f, f.Instance()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// collector keeps what the function publishes.
type collector Harness

func (c *collector) Publish(_ context.Context, es ...ce.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return c.refuse
	}
	if c.faults != nil {
		es = slices.DeleteFunc(slices.Clone(es), func(e ce.Event) bool { return !c.faults.fresh(e) })
	}
	if err := c.timers.take(es); err != nil {
		return err
	}
	for _, e := range es {
		if e.Type() == event.ActRecorded.Name() || e.Type() == event.APIKeyUsed.Name() {
			c.noted = append(c.noted, e)
			continue
		}
		c.emitted = append(c.emitted, e)
	}
	return nil
}

// Noted returns the events that the kit has published by itself since the last call, which Emitted leaves out: records
// of acts of staff, and that API keys were used.
func (h *Harness) Noted() []ce.Event {
	h.T.Helper()
	if h.faults != nil && h.faults.wasInjected() {
		h.flush()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	es := h.noted
	h.noted = nil
	return es
}

// RefuseToPublish makes the broker refuse events with err until it is called with nil.
func (h *Harness) RefuseToPublish(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = err
}

// Emitted returns the events that the function has published since the last call.
func (h *Harness) Emitted() []ce.Event {
	h.T.Helper()
	if h.faults != nil && h.faults.wasInjected() {
		h.flush()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	es := h.emitted
	h.emitted = nil
	return es
}

// Decode returns the data of an event that a harness has collected, with its personal fields as they were emitted.
func Decode[T any](t event.Type[T], e ce.Event) (T, error) {
	data, err := t.Decode(e)
	sealed, wrapped := event.Extension(e, event.PersonalValues), event.Extension(e, event.PersonalKey)
	if err != nil || sealed == "" || wrapped == "" {
		return data, err
	}
	keys, err := personal.ParseKeys(personalKey)
	if err != nil {
		return data, err
	}
	key, err := keys.Unwrap(wrapped)
	if err != nil {
		return data, err
	}
	values, err := key.Open(sealed, personal.EventPurpose(e.Source(), e.ID()))
	if err == nil {
		personal.FieldsOf(reflect.TypeFor[T]()).Put(&data, values)
	}
	return data, err
}

// Types returns the types of events without the prefix of their namespace: "orders.placed.v1".
func Types(es []ce.Event) []string {
	types := make([]string, len(es))
	for i, e := range es {
		types[i] = shortType(e.Type())
	}
	return types
}

// shortType returns FUNCTION.WHAT.VERSION of a type.
func shortType(name string) string {
	parts := strings.Split(name, ".")
	return strings.Join(parts[max(len(parts)-3, 0):], ".")
}

// As returns a customer with this id.
func As(id string) auth.Principal {
	return auth.Principal{Subject: id, Roles: []string{auth.RoleCustomer}}
}

// Admin returns an administrator, who is a customer too.
func Admin() auth.Principal {
	return auth.Principal{Subject: "admin", Roles: []string{auth.RoleAdmin, auth.RoleCustomer}}
}

// Nobody is the anonymous caller: Call sends no token.
var Nobody auth.Principal

// Response is what the function answered.
type Response struct {
	T      testing.TB
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body.
func (r *Response) JSON(v any) {
	r.T.Helper()
	if err := json.Unmarshal(r.Body, v); err != nil {
		r.T.Fatalf("decode %q: %v", r.Body, err)
	}
}

// Expect fails the test when the status is another.
func (r *Response) Expect(status int) *Response {
	r.T.Helper()
	if r.Status != status {
		r.T.Fatalf("got status %d, want %d: %s", r.Status, status, r.Body)
	}
	return r
}

// Call sends a request with a token of the caller. The body is marshalled unless it is a string, which is sent
// unchanged. Headers are pairs of name and value.
func (h *Harness) Call(method, path string, as auth.Principal, body any, headers ...string) *Response {
	h.T.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		data, err := json.Marshal(b)
		check(h.T, err)
		reader = bytes.NewReader(data)
	}
	var sent []byte
	if reader != nil {
		sent, _ = io.ReadAll(reader)
	}
	header := http.Header{}
	if reader != nil {
		header.Set("Content-Type", "application/json")
	}
	if !as.Anonymous() {
		header.Set("Authorization", "Bearer "+h.Token(as))
	}
	for i := 0; i+1 < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	send := func() *Response {
		r := httptest.NewRequest(method, path, nil)
		if reader != nil {
			r = httptest.NewRequest(method, path, bytes.NewReader(sent))
		}
		r.Header = header.Clone()
		w := httptest.NewRecorder()
		h.I.ServeHTTP(w, r)
		return &Response{T: h.T, Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}
	}
	if h.faults == nil {
		return send()
	}
	return h.request(method, path, header, send)
}

// Token returns a valid token of the caller.
func (h *Harness) Token(as auth.Principal) string {
	h.T.Helper()
	token, _, err := h.tokens.Issue(auth.Grant{Subject: as.Subject, Roles: as.Roles, Session: as.Session, TTL: time.Hour})
	check(h.T, err)
	return token
}

// Event returns the complete event of a draft, as its function would have published it. To answer a command set the
// draft's Cause to the command's id.
func (h *Harness) Event(d event.Draft) ce.Event {
	h.T.Helper()
	data, err := d.Encode()
	check(h.T, err)
	e := ce.New()
	if e.SetID(d.ID); d.ID == "" {
		e.SetID(uuid.Must(uuid.NewV7()).String())
	}
	if d.Cause != "" {
		e.SetExtension(event.CausationID, d.Cause)
	}
	e.SetSource("/functions/" + d.Info.Function)
	e.SetType(d.Info.Name)
	e.SetSubject(d.Subject)
	e.SetTime(h.Clock.Now())
	e.SetDataSchema(d.Info.DataSchema)
	e.SetExtension(event.PartitionKey, d.Key)
	e.SetExtension(event.CorrelationID, d.Key)
	check(h.T, e.SetData(ce.ApplicationJSON, data))
	return e
}

// Deliver delivers events in one batch and returns the result of each.
func (h *Harness) Deliver(drafts ...event.Draft) []broker.Result {
	h.T.Helper()
	batch := make([]ce.Event, len(drafts))
	for i, d := range drafts {
		batch[i] = h.Event(d)
	}
	return h.Receive(batch...)
}

// Receive delivers complete events in one batch.
func (h *Harness) Receive(batch ...ce.Event) []broker.Result {
	h.T.Helper()
	if h.faults != nil {
		return h.deliver(batch)
	}
	return h.I.Receive(context.Background(), batch)
}

// MustDeliver fails the test when an event is not handled.
func (h *Harness) MustDeliver(drafts ...event.Draft) {
	h.T.Helper()
	for i, r := range h.Deliver(drafts...) {
		if !r.OK() {
			h.T.Fatalf("%s: got status %d: %s", drafts[i].Info.Name, r.Status, r.Message)
		}
	}
}

// Tick calls the tick handler until it has no more work.
func (h *Harness) Tick() {
	h.T.Helper()
	for more := true; more; {
		var err error
		now := h.Clock.Now()
		tick := func() bool { more, err = h.I.Tick(context.Background(), now); return err == nil }
		if h.faults == nil {
			tick()
		} else {
			h.repeat(h.faults.wasInjected(), tick)
		}
		check(h.T, err)
	}
}

// Clock stands still until it is advanced.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
