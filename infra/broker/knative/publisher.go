// Package knative publishes to the broker of a Knative cluster, or to whatever else takes CloudEvents at an
// address: what a SinkBinding names in K_SINK.
//
// It is the publishing half of the port. The other half, triggers and deliveries, is the platform's: a trigger is an
// object of the cluster, which Terraform makes from the manifest, and its deliveries come as requests to host/knative.
//
// What is promised: when Publish returns nil the broker has answered each event with 2xx, and by Knative's data-plane
// specification it has then taken responsibility for it. How durable that is depends on its channel: the in-memory
// channel loses what it holds when its dispatcher dies, Kafka's does not.
package knative

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/httpevent"
	"github.com/ebb-dev/ebb/infra/internal/trust"
)

// Config says where events go. Sink is required.
type Config struct {
	Sink      string            // the address, K_SINK
	Overrides map[string]string // extensions that every event gets, from K_CE_OVERRIDES
	CACerts   string            // PEM of authorities that may sign the sink's certificate, beside the system's: K_CA_CERTS
	TokenFile string            // a file whose content is sent as bearer token, if it is there; see TokenFile
	MaxEvent  int               // the largest event in bytes; 0: 1 MiB
	Logger    *slog.Logger      // nil: slog.Default
}

// TokenFile is where a SinkBinding puts the token that the broker knows the sender by, when the cluster has OIDC on.
const TokenFile = "/oidc/token"

// The limits of one Publish.
const (
	parallel = 16                     // keys that are under way at once
	attempts = 5                      // of one event
	backoff  = 100 * time.Millisecond // before the second attempt; doubles from one to the next
	each     = 15 * time.Second       // one attempt
)

// Publisher posts events to a sink. It may be used concurrently.
type Publisher struct {
	cfg    Config
	client *http.Client
	token  token
}

var (
	_ broker.Publisher = (*Publisher)(nil)
	_ broker.Limiter   = (*Publisher)(nil)
)

// New checks the configuration. It does not call the sink.
func New(cfg Config) (*Publisher, error) {
	u, err := url.Parse(cfg.Sink)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("invalid sink %q: want an address such as "+
			"http://broker-ingress.knative-eventing.svc.cluster.local/shop/default", cfg.Sink)
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost: parallel,
		IdleConnTimeout:     30 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	if cfg.CACerts != "" {
		trusted, ok := trust.Config([]byte(cfg.CACerts))
		if !ok {
			return nil, errors.New("the certificates of the sink's authority are not PEM")
		}
		transport.TLSClientConfig = trusted
	}
	if cfg.MaxEvent == 0 {
		cfg.MaxEvent = 1 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Publisher{cfg: cfg, token: token{file: cfg.TokenFile}, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Overrides reads K_CE_OVERRIDES: {"extensions": {"name": "value"}}.
func Overrides(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	var o struct {
		Extensions map[string]string `json:"extensions"`
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, fmt.Errorf(`it is not {"extensions": {"name": "value"}}: %w`, err)
	}
	probe := event.New()
	for name, value := range o.Extensions {
		if err := probe.Context.SetExtension(name, value); err != nil {
			return nil, fmt.Errorf("the extension %q: %w", name, err)
		}
	}
	return o.Extensions, nil
}

// MaxEvent implements broker.Limiter.
func (p *Publisher) MaxEvent() int { return p.cfg.MaxEvent }

// Publish implements broker.Publisher. Events of one partition key go one after the other, those of several keys side
// by side. A sink that answers 404, 429 or 5xx, or nothing, is asked again a few times.
func (p *Publisher) Publish(ctx context.Context, events ...event.Event) error {
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return fault.Wrap(err, fault.Invalid, "the event to publish breaks the specification")
		}
	}
	queues := byKey(events)
	if len(queues) == 1 {
		return p.publishInOrder(ctx, queues[0])
	}
	var working sync.WaitGroup
	faults := make([]error, len(queues))
	running := make(chan struct{}, parallel)
	for i, queue := range queues {
		running <- struct{}{}
		working.Go(func() {
			defer func() { <-running }()
			faults[i] = p.publishInOrder(ctx, queue)
		})
	}
	working.Wait()
	for _, err := range faults {
		if err != nil {
			return err // the kinds of several would not add up
		}
	}
	return nil
}

// byKey parts the events by their partition key, in order. One without a key is alone.
func byKey(events []event.Event) [][]*event.Event {
	var queues [][]*event.Event
	at := map[string]int{}
	for i := range events {
		key, _ := events[i].Extensions()["partitionkey"].(string)
		n, known := at[key]
		if key == "" || !known {
			n = len(queues)
			queues = append(queues, nil)
		}
		if key != "" {
			at[key] = n
		}
		queues[n] = append(queues[n], &events[i])
	}
	return queues
}

func (p *Publisher) publishInOrder(ctx context.Context, events []*event.Event) error {
	for _, e := range events {
		if err := p.persist(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// persist posts one event until the sink has it, or has refused it for good.
func (p *Publisher) persist(ctx context.Context, e *event.Event) error {
	for n := 1; ; n++ {
		wait, err := p.post(ctx, e)
		if err == nil || !fault.KindOf(err).Retryable() || n == attempts || ctx.Err() != nil {
			return err
		}
		p.cfg.Logger.WarnContext(ctx, "the broker has not taken an event yet", "event", e.ID(), "attempt", n, "error", err)
		timer := time.NewTimer(max(wait, jitter(backoff<<(n-1))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// jitter spreads attempts, so that instances which failed together do not come back together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func (p *Publisher) post(ctx context.Context, e *event.Event) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, each)
	defer cancel()
	r, err := httpevent.Request(ctx, p.cfg.Sink, p.overridden(e))
	if err != nil {
		return 0, fault.Wrap(err, fault.Invalid, "the event cannot be written")
	}
	token, err := p.token.read(time.Now())
	if err != nil {
		return 0, fault.Wrap(err, fault.Unavailable, "the token for the broker cannot be read")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return 0, fault.Wrap(err, fault.Unavailable, "the broker cannot be reached")
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	return httpevent.RetryAfter(answer.Header.Get("Retry-After"), time.Now()), refusal(answer.StatusCode, said)
}

// refusal is what an answer of the sink means.
func refusal(status int, said []byte) error {
	about := strings.TrimSpace(string(said))
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		// A policy may be on its way; the event is the sender's until then.
		return fault.New(fault.Unavailable, "the broker does not let this function publish (%d): %s", status, about)
	case status == http.StatusNotFound || status == http.StatusTooManyRequests || status >= 500:
		return fault.New(fault.Unavailable, "the broker does not take events just now (%d): %s", status, about)
	case status == http.StatusRequestEntityTooLarge:
		return fault.New(fault.TooLarge, "the event is over the broker's size")
	}
	return fault.New(fault.Invalid, "the broker refuses the event (%d): %s", status, about)
}

func (p *Publisher) overridden(e *event.Event) event.Event {
	if len(p.cfg.Overrides) == 0 {
		return *e
	}
	changed := e.Clone()
	for name, value := range p.cfg.Overrides {
		changed.SetExtension(name, value)
	}
	return changed
}

// token reads a file that the platform replaces now and then.
type token struct {
	file string

	mu    sync.Mutex
	text  string
	until time.Time
}

func (t *token) read(now time.Time) (string, error) {
	if t.file == "" {
		return "", nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.until) {
		return t.text, nil
	}
	data, err := os.ReadFile(t.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	t.text, t.until = strings.TrimSpace(string(data)), now.Add(time.Minute)
	return t.text, nil
}
