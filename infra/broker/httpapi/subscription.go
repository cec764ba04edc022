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
)

// Subscription is a trigger as a resource of the CloudEvents Subscriptions API.
type Subscription struct {
	ID       string            `json:"id"`
	Source   string            `json:"source,omitempty"`
	Types    []string          `json:"types,omitempty"`
	Filters  []json.RawMessage `json:"filters,omitempty"` // as they came, and as they are shown
	Config   *Delivery         `json:"config,omitempty"`
	Sink     string            `json:"sink"`
	Protocol string            `json:"protocol"`
}

// Delivery is Knative's DeliverySpec. Durations are in ISO 8601. Without one an event is tried once.
type Delivery struct {
	Retry          *int         `json:"retry,omitempty"`
	BackoffPolicy  string       `json:"backoffPolicy,omitempty"` // linear or exponential
	BackoffDelay   *Duration    `json:"backoffDelay,omitempty"`
	BackoffMax     *Duration    `json:"backoffMax,omitempty"`
	Timeout        *Duration    `json:"timeout,omitempty"`
	RetryAfterMax  *Duration    `json:"retryAfterMax,omitempty"` // absent: Retry-After counts as it is
	DeadLetterSink *Destination `json:"deadLetterSink,omitempty"`
}

// Destination is where something is delivered to.
type Destination struct {
	URI string `json:"uri"`
}

// served is a subscription and what delivers its events.
type served struct {
	Subscription
	running broker.Subscription
	giveUp  context.CancelFunc // deliveries that run
}

func (s *served) close() error {
	s.giveUp()
	return s.running.Close()
}

// maxSubscription is more than any subscription needs.
const maxSubscription = 256 << 10

func (f *Handler) create(w http.ResponseWriter, r *http.Request) {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media != "application/json" {
		err := fault.New(fault.Invalid, "a subscription is application/json")
		problem.Write(w, r, err.WithStatus(http.StatusUnsupportedMediaType))
		return
	}
	var s Subscription
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSubscription))
	d.DisallowUnknownFields()
	err := d.Decode(&s)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is something behind the subscription")
		}
	}
	if err != nil {
		err := fault.Wrap(err, fault.Invalid, "the subscription cannot be read: %.200v", err)
		problem.Write(w, r, err.WithStatus(http.StatusBadRequest))
		return
	}
	id, err := uuid.NewV7()
	if err == nil {
		s.ID = id.String() // whatever was proposed
		err = f.add(r.Context(), s)
	}
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	w.Header().Set("Location", "/subscriptions/"+s.ID)
	answer(w, http.StatusCreated, s)
}

// add serves a subscription, and keeps it. A new one is forgotten again when it cannot be kept.
func (f *Handler) add(ctx context.Context, s Subscription) error {
	made, err := f.serve(ctx, s)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[s.ID] = made
	if err := f.keep(); err != nil {
		delete(f.subs, s.ID)
		return errors.Join(err, made.close(), f.forget(ctx, s.ID))
	}
	return nil
}

func (f *Handler) serve(ctx context.Context, s Subscription) (*served, error) {
	life, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	t, err := f.trigger(s, life)
	if err != nil {
		giveUp()
		return nil, err
	}
	target := &sink{api: f, url: s.Sink, life: life, replies: true}
	if s.Config != nil && s.Config.RetryAfterMax != nil {
		target.longest = (*time.Duration)(s.Config.RetryAfterMax)
	}
	running, err := f.broker.Subscribe(context.WithoutCancel(ctx), t, target.handle)
	if err != nil {
		giveUp()
		return nil, err
	}
	return &served{s, running, giveUp}, nil
}

// forget drops the place of a trigger that is gone for good, where the broker keeps one.
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

// all are the subscriptions, the oldest first.
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
		problem.Write(w, r, fault.New(fault.NotFound, "there is no such subscription"))
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

// take takes a subscription out of those that are kept. It is still being served.
func (f *Handler) take(id string) (*served, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.subs[id]
	if s == nil {
		return nil, fault.New(fault.NotFound, "there is no such subscription")
	}
	delete(f.subs, id)
	if err := f.keep(); err != nil {
		f.subs[id] = s
		return nil, err
	}
	return s, nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	text, _ := json.Marshal(body) // our own types always marshal
	_, _ = w.Write(text)
}

// keep writes all subscriptions. The caller holds the lock.
func (f *Handler) keep() error {
	if f.cfg.File == "" {
		return nil
	}
	text, err := json.MarshalIndent(f.all(), "", "  ")
	if err == nil {
		err = replace(f.cfg.File, text)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "subscriptions cannot be kept just now")
	}
	return nil
}

// replace writes a file so that after a crash the old or the new one is there.
func replace(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".subscriptions-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// restore serves the subscriptions that were kept.
func (f *Handler) restore(ctx context.Context) error {
	if f.cfg.File == "" {
		return nil
	}
	text, err := os.ReadFile(f.cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var kept []Subscription
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "the subscriptions in %s cannot be read", f.cfg.File)
	}
	for _, s := range kept {
		made, err := f.serve(ctx, s)
		if err != nil {
			return fmt.Errorf("subscription %s: %w", s.ID, err)
		}
		f.subs[s.ID] = made
	}
	return nil
}

// trigger is the subscription as the broker knows it. All that is wrong is told at once.
func (f *Handler) trigger(s Subscription, life context.Context) (broker.Trigger, error) {
	var faults []fault.Detail
	wrong := func(at, format string, args ...any) {
		faults = append(faults, fault.Detail{Location: at, Message: fmt.Sprintf(format, args...)})
	}
	if s.Protocol != "HTTP" {
		wrong("protocol", "must be HTTP")
	}
	if !address(s.Sink) {
		wrong("sink", "must be an absolute URL of http or https")
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
			wrong(fmt.Sprintf("filters[%d]", i), "%v", err)
		}
		t.Filters = append(t.Filters, filter)
	}
	if s.Config != nil {
		t.Delivery = f.delivery(s.Config, life, wrong)
	}
	if len(faults) > 0 {
		return t, fault.New(fault.Invalid, "%s: %s", faults[0].Location, faults[0].Message).With(faults...)
	}
	return t, nil
}

func (f *Handler) delivery(
	c *Delivery, life context.Context, wrong func(at, format string, args ...any),
) broker.Delivery {
	d := broker.Delivery{BackoffPolicy: broker.BackoffPolicy(c.BackoffPolicy)}
	if c.Retry != nil {
		d.Retry = *c.Retry
	}
	if d.Retry < 0 {
		wrong("config.retry", "must not be negative")
	}
	switch d.BackoffPolicy {
	case "", broker.Linear, broker.Exponential:
	default:
		wrong("config.backoffPolicy", "must be linear or exponential")
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
		wrong("config.deadLetterSink.uri", "must be an absolute URL of http or https")
	}
	d.DeadLetter = (&sink{api: f, url: c.DeadLetterSink.URI, life: life}).handle
	return d
}

func address(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// wireFilter is a filter on the wire: sql is what the Subscriptions API calls CESQL, cesql what Knative does.
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

// parseFilter reads a filter strictly; whether it makes sense is for the broker to say.
func parseFilter(raw json.RawMessage) (broker.Filter, error) {
	var w wireFilter
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return broker.Filter{}, err
	}
	if w.SQL != "" && w.CESQL != "" {
		return broker.Filter{}, errors.New("has both sql and cesql")
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
