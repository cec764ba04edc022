package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/problem"

	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

// Subscription represents a trigger as a resource of the CloudEvents Subscriptions API.
type Subscription struct {
	ID       string            `json:"id"`
	Source   string            `json:"source,omitempty"`
	Types    []string          `json:"types,omitempty"`
	Filters  []json.RawMessage `json:"filters,omitempty"` // unchanged, as the client sent them
	Config   *Delivery         `json:"config,omitempty"`
	Sink     string            `json:"sink"`
	Protocol string            `json:"protocol"`
}

// Delivery is Knative's DeliverySpec. Durations are in ISO 8601. Without a Delivery an event has one attempt.
type Delivery struct {
	Retry          *int         `json:"retry,omitempty"`
	BackoffPolicy  string       `json:"backoffPolicy,omitempty"` // linear or exponential
	BackoffDelay   *Duration    `json:"backoffDelay,omitempty"`
	BackoffMax     *Duration    `json:"backoffMax,omitempty"`
	Timeout        *Duration    `json:"timeout,omitempty"`
	RetryAfterMax  *Duration    `json:"retryAfterMax,omitempty"` // absent: Retry-After has no limit
	DeadLetterSink *Destination `json:"deadLetterSink,omitempty"`
}

// Destination holds the URL of a sink.
type Destination struct {
	URI string `json:"uri"`
}

// served is a subscription that the broker delivers to.
type served struct {
	Subscription
	running broker.Subscription
	active  *lifetime.Lifetime // running deliveries end with it
}

func (s *served) close() error {
	s.active.End()
	return s.running.Close()
}

// maxSubscription limits the size of a subscription in bytes.
const maxSubscription = 256 << 10

func (f *Handler) create(w http.ResponseWriter, r *http.Request) {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media != "application/json" {
		err := fault.New(fault.Invalid, "invalid Content-Type: want application/json")
		problem.Write(w, r, err.WithStatus(http.StatusUnsupportedMediaType))
		return
	}
	var s Subscription
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSubscription))
	d.DisallowUnknownFields()
	err := d.Decode(&s)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("unexpected data after the subscription")
		}
	}
	if err != nil {
		err := fault.Wrap(err, fault.Invalid, "invalid subscription: %.200v", err)
		problem.Write(w, r, err.WithStatus(http.StatusBadRequest))
		return
	}
	id, err := uuid.NewV7()
	if err == nil {
		s.ID = id.String() // replaces the client's id
		err = f.add(r.Context(), s)
	}
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	w.Header().Set("Location", "/subscriptions/"+s.ID)
	answer(w, http.StatusCreated, s)
}

// add serves a subscription and stores it. It removes the subscription again when it cannot be stored.
func (f *Handler) add(ctx context.Context, s Subscription) error {
	made, err := f.serve(ctx, s)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[s.ID] = made
	if err := f.save(); err != nil {
		delete(f.subs, s.ID)
		return errors.Join(err, made.close(), f.forget(ctx, s.ID))
	}
	return nil
}

func (f *Handler) serve(ctx context.Context, s Subscription) (*served, error) {
	active := lifetime.New()
	t, err := f.trigger(s, active)
	if err != nil {
		active.End()
		return nil, err
	}
	target := &sink{api: f, url: s.Sink, active: active, replies: true}
	if s.Config != nil && s.Config.RetryAfterMax != nil {
		target.retryAfterMax = (*time.Duration)(s.Config.RetryAfterMax)
	}
	running, err := f.broker.Subscribe(context.WithoutCancel(ctx), t, target.handle)
	if err != nil {
		active.End()
		return nil, err
	}
	return &served{s, running, active}, nil
}

// forget removes the broker's cursor of a deleted trigger, if the broker has cursors.
func (f *Handler) forget(ctx context.Context, id string) error {
	if b, ok := f.broker.(interface {
		Forget(ctx context.Context, trigger string) error
	}); ok {
		return b.Forget(ctx, id)
	}
	return nil
}

func (f *Handler) list(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	all := f.all()
	f.mu.Unlock()
	answer(w, http.StatusOK, all)
}

// all returns the subscriptions, the oldest first.
func (f *Handler) all() []Subscription {
	out := make([]Subscription, 0, len(f.subs))
	for _, id := range slices.Sorted(maps.Keys(f.subs)) {
		out = append(out, f.subs[id].Subscription)
	}
	return out
}

func (f *Handler) retrieve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	s := f.subs[r.PathValue("id")]
	f.mu.Unlock()
	if s == nil {
		problem.Write(w, r, fault.New(fault.NotFound, "unknown subscription"))
		return
	}
	answer(w, http.StatusOK, s.Subscription)
}

func (f *Handler) remove(w http.ResponseWriter, r *http.Request) {
	s, err := f.take(r.PathValue("id"))
	if err == nil {
		err = s.close()
	}
	if err == nil {
		err = f.forget(r.Context(), s.ID)
	}
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, s.Subscription)
}

// take removes a subscription from the stored ones and returns it. The caller closes it.
func (f *Handler) take(id string) (*served, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.subs[id]
	if s == nil {
		return nil, fault.New(fault.NotFound, "unknown subscription")
	}
	delete(f.subs, id)
	if err := f.save(); err != nil {
		f.subs[id] = s
		return nil, err
	}
	return s, nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	text, _ := json.Marshal(body) // these types always marshal
	_, _ = w.Write(text)
}

// save writes all subscriptions to the file. The caller holds the lock.
func (f *Handler) save() error {
	if f.cfg.File == "" {
		return nil
	}
	text, err := json.MarshalIndent(f.all(), "", "  ")
	if err == nil {
		err = replace(f.cfg.File, text)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "cannot store the subscriptions")
	}
	return nil
}

// replace writes a file so that after a crash it has either the old or the new content.
func replace(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".subscriptions-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails after a successful rename
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// restore serves the stored subscriptions.
func (f *Handler) restore(ctx context.Context) error {
	if f.cfg.File == "" {
		return nil
	}
	text, err := os.ReadFile(f.cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var stored []Subscription
	if err == nil {
		err = json.Unmarshal(text, &stored)
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "cannot read the subscriptions in %s", f.cfg.File)
	}
	for _, s := range stored {
		made, err := f.serve(ctx, s)
		if err != nil {
			return fmt.Errorf("subscription %s: %w", s.ID, err)
		}
		f.subs[s.ID] = made
	}
	return nil
}

// trigger converts a subscription to a broker's trigger. Its error has a detail for each mistake.
func (f *Handler) trigger(s Subscription, active *lifetime.Lifetime) (broker.Trigger, error) {
	var details []fault.Detail
	invalid := func(at, format string, args ...any) {
		details = append(details, fault.Detail{Location: at, Message: fmt.Sprintf(format, args...)})
	}
	if s.Protocol != "HTTP" {
		invalid("protocol", "must be HTTP")
	}
	if !address(s.Sink) {
		invalid("sink", "must be an absolute URL of http or https")
	}
	t := broker.Trigger{Name: s.ID, Subscriber: s.Sink, Concurrency: f.cfg.Parallel}
	if s.Source != "" {
		t.Filters = append(t.Filters, broker.Filter{Exact: map[string]string{"source": s.Source}})
	}
	if len(s.Types) > 0 {
		any := make([]broker.Filter, len(s.Types))
		for i, name := range s.Types {
			any[i].Exact = map[string]string{"type": name}
		}
		t.Filters = append(t.Filters, broker.Filter{Any: any})
	}
	for i, raw := range s.Filters {
		filter, err := parseFilter(raw)
		if err != nil {
			invalid(fmt.Sprintf("filters[%d]", i), "%v", err)
		}
		t.Filters = append(t.Filters, filter)
	}
	if s.Config != nil {
		t.Delivery = f.delivery(s.Config, active, invalid)
	}
	if len(details) > 0 {
		return t, fault.New(fault.Invalid, "%s: %s", details[0].Location, details[0].Message).With(details...)
	}
	return t, nil
}

func (f *Handler) delivery(
	c *Delivery, active *lifetime.Lifetime, invalid func(at, format string, args ...any),
) broker.Delivery {
	d := broker.Delivery{BackoffPolicy: broker.BackoffPolicy(c.BackoffPolicy)}
	if c.Retry != nil {
		d.Retry = *c.Retry
	}
	if d.Retry < 0 {
		invalid("config.retry", "must not be negative")
	}
	switch d.BackoffPolicy {
	case "", broker.Linear, broker.Exponential:
	default:
		invalid("config.backoffPolicy", "must be linear or exponential")
	}
	for to, from := range map[*time.Duration]*Duration{
		&d.BackoffDelay: c.BackoffDelay, &d.BackoffMax: c.BackoffMax, &d.Timeout: c.Timeout,
	} {
		if from != nil {
			*to = time.Duration(*from)
		}
	}
	if c.DeadLetterSink == nil {
		return d
	}
	if !address(c.DeadLetterSink.URI) {
		invalid("config.deadLetterSink.uri", "must be an absolute URL of http or https")
	}
	d.DeadLetter = (&sink{api: f, url: c.DeadLetterSink.URI, active: active}).handle
	return d
}

func address(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// wireFilter is a filter in JSON. The Subscriptions API calls CESQL sql, Knative calls it cesql.
type wireFilter struct {
	Exact  map[string]string `json:"exact"`
	Prefix map[string]string `json:"prefix"`
	Suffix map[string]string `json:"suffix"`
	All    []json.RawMessage `json:"all"`
	Any    []json.RawMessage `json:"any"`
	Not    json.RawMessage   `json:"not"`
	CESQL  string            `json:"cesql"`
	SQL    string            `json:"sql"`
}

// parseFilter parses a filter and refuses unknown members. The broker checks the filter's content.
func parseFilter(raw json.RawMessage) (broker.Filter, error) {
	var w wireFilter
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return broker.Filter{}, err
	}
	if w.SQL != "" && w.CESQL != "" {
		return broker.Filter{}, errors.New("both sql and cesql are set")
	}
	f := broker.Filter{Exact: w.Exact, Prefix: w.Prefix, Suffix: w.Suffix, CESQL: w.CESQL + w.SQL}
	var err error
	if f.All, err = parseFilters(w.All); err != nil {
		return f, err
	}
	if f.Any, err = parseFilters(w.Any); err != nil {
		return f, err
	}
	if w.Not != nil {
		inner, err := parseFilter(w.Not)
		if err != nil {
			return f, err
		}
		f.Not = &inner
	}
	return f, nil
}

func parseFilters(raw []json.RawMessage) (out []broker.Filter, err error) {
	for _, r := range raw {
		f, err := parseFilter(r)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}
