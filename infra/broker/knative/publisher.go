// Package knative publishes events to the broker of a Knative cluster, or to any other receiver of CloudEvents over
// HTTP. A SinkBinding sets its URL in K_SINK.
//
// It implements the publishing half of the port. The platform does the other half: a trigger is an object of the
// cluster, which Terraform makes from the manifest, and its deliveries are requests to host/knative.
//
// When Publish returns nil, the broker has answered 2xx to each event, and by Knative's data-plane specification is
// responsible for delivering it. Durability depends on the broker's channel: the in-memory channel loses its events
// when its dispatcher dies, Kafka's does not.
package knative

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	"github.com/ebb-dev/ebb/infra/internal/tlsconfig"
)

// Config configures a Publisher. Sink is required.
type Config struct {
	Sink      string            // the URL of the sink, from K_SINK
	Overrides map[string]string // extensions to add to every event, from K_CE_OVERRIDES
	CACerts   string            // PEM certificates of authorities to trust besides the system's, from K_CA_CERTS
	TokenFile string            // a file with a bearer token, which may be missing; see the constant TokenFile
	TLS       TLS               // of connections to the sink; nil: without a client certificate
	MaxEvent  int               // the largest event in bytes; 0: 1 MiB
	Logger    *slog.Logger      // nil: slog.Default
}

// TLS returns the configuration of connections to a server that the authorities vouch for; nil: those of the system.
type TLS func(authorities *x509.CertPool) *tls.Config

// TokenFile is where a SinkBinding puts the token that identifies the sender to the broker, in a cluster with OIDC.
const TokenFile = "/oidc/token"

// The limits of one Publish.
const (
	parallel       = 16                     // partition keys published at once
	attempts       = 5                      // attempts to post one event
	backoff        = 100 * time.Millisecond // the wait before the second attempt; doubles with each attempt
	attemptTimeout = 15 * time.Second       // the time limit of one attempt
)

// Publisher posts events to a sink. Its methods may be called concurrently.
type Publisher struct {
	cfg    Config
	client *http.Client
	token  token
}

var (
	_ broker.Publisher = (*Publisher)(nil)
	_ broker.Limiter   = (*Publisher)(nil)
)

// New checks the configuration and returns a Publisher. It does not call the sink.
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
		trusted, ok := tlsconfig.Config([]byte(cfg.CACerts))
		if !ok {
			return nil, errors.New("invalid CA certificates of the sink: want PEM")
		}
		transport.TLSClientConfig = trusted
	}
	if cfg.TLS != nil {
		var authorities *x509.CertPool
		if trusted := transport.TLSClientConfig; trusted != nil {
			authorities = trusted.RootCAs
		}
		transport.TLSClientConfig = cfg.TLS(authorities)
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
		return nil, fmt.Errorf(`invalid overrides: want {"extensions": {"name": "value"}}: %w`, err)
	}
	probe := event.New()
	for name, value := range o.Extensions {
		if err := probe.Context.SetExtension(name, value); err != nil {
			return nil, fmt.Errorf("extension %q: %w", name, err)
		}
	}
	return o.Extensions, nil
}

// MaxEvent implements broker.Limiter.
func (p *Publisher) MaxEvent() int { return p.cfg.MaxEvent }

// Publish implements broker.Publisher. It posts events of one partition key in order and different keys in parallel. It
// retries a few times when the sink answers 401, 403, 404, 429 or 5xx, or does not answer.
func (p *Publisher) Publish(ctx context.Context, events ...event.Event) error {
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return fault.Wrap(err, fault.Invalid, "invalid event to publish")
		}
	}
	queues := byKey(events)
	if len(queues) == 1 {
		return p.publishInOrder(ctx, queues[0])
	}
	var working sync.WaitGroup
	errs := make([]error, len(queues))
	running := make(chan struct{}, parallel)
	for i, queue := range queues {
		running <- struct{}{}
		working.Go(func() {
			defer func() { <-running }()
			errs[i] = p.publishInOrder(ctx, queue)
		})
	}
	working.Wait()
	for _, err := range errs {
		if err != nil {
			return err // one error only: a joined one would have no single kind
		}
	}
	return nil
}

// byKey groups the events by partition key and keeps their order. An event without a key has a group of its own.
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
		if err := p.postWithRetry(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// postWithRetry posts one event until the sink accepts it, refuses it finally, or the attempts are used up.
func (p *Publisher) postWithRetry(ctx context.Context, e *event.Event) error {
	for n := 1; ; n++ {
		wait, err := p.post(ctx, e)
		if err == nil || !fault.KindOf(err).Retryable() || n == attempts || ctx.Err() != nil {
			return err
		}
		p.cfg.Logger.WarnContext(ctx, "the broker did not accept an event; trying again", "event", e.ID(), "attempt", n,
			"error", err)
		timer := time.NewTimer(max(wait, jitter(backoff<<(n-1))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// jitter randomizes a wait, so that instances that failed at the same time do not retry at the same time.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func (p *Publisher) post(ctx context.Context, e *event.Event) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	r, err := httpevent.Request(ctx, p.cfg.Sink, p.overridden(e))
	if err != nil {
		return 0, fault.Wrap(err, fault.Invalid, "cannot encode the event")
	}
	token, err := p.token.read(time.Now())
	if err != nil {
		return 0, fault.Wrap(err, fault.Unavailable, "cannot read the token for the broker")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return 0, fault.Wrap(err, fault.Unavailable, "cannot reach the broker")
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	return httpevent.RetryAfter(answer.Header.Get("Retry-After"), time.Now()), statusError(answer.StatusCode, body)
}

// statusError returns the error for a response of the sink, or nil for 2xx.
func statusError(status int, body []byte) error {
	message := strings.TrimSpace(string(body))
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		// This may be temporary: a new policy takes a while to apply. The event stays in the sender's outbox until then.
		return fault.New(fault.Unavailable, "the broker does not allow this function to publish (%d): %s", status, message)
	case status == http.StatusNotFound || status == http.StatusTooManyRequests || status >= 500:
		return fault.New(fault.Unavailable, "the broker does not accept events at the moment (%d): %s", status, message)
	case status == http.StatusRequestEntityTooLarge:
		return fault.New(fault.TooLarge, "the event is larger than the broker's limit")
	}
	return fault.New(fault.Invalid, "the broker refused the event (%d): %s", status, message)
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

// token reads and caches a file that the platform replaces from time to time.
type token struct {
	file string

	mu      sync.Mutex
	text    string
	expires time.Time
}

func (t *token) read(now time.Time) (string, error) {
	if t.file == "" {
		return "", nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.expires) {
		return t.text, nil
	}
	data, err := os.ReadFile(t.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	t.text, t.expires = strings.TrimSpace(string(data)), now.Add(time.Minute)
	return t.text, nil
}
