// Package dns is discovery by host name: the address of a function is made from its name, as with the cluster-local DNS
// of Knative, where the platform itself finds or starts an instance behind that address. Where the name server lists
// the instances, as for a headless Service of Kubernetes, Records finds each of them.
package dns

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Discovery gives each function one instance, whose address is made with a template. It is safe for concurrent use.
type Discovery struct {
	template  string
	transport http.RoundTripper

	mu        sync.Mutex                                      // guards prewarmed, and changes of instances
	instances atomic.Pointer[map[string][]discovery.Instance] // replaced as a whole, so that readers take no lock
	prewarmed map[string]time.Time                            // when a function was last asked to start
}

var (
	_ discovery.Discovery = (*Discovery)(nil)
	_ discovery.Prewarmer = (*Discovery)(nil)
)

const placeholder = "{function}"

// New returns the Discovery of an address template such as "http://{function}.shop.svc.cluster.local", or an error if
// the template is no http or https URL with {function} in it. Prewarm sends its requests through transport; nil is
// http.DefaultTransport.
func New(template string, transport http.RoundTripper) (*Discovery, error) {
	u, err := url.Parse(strings.ReplaceAll(template, placeholder, "x"))
	valid := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
	if !valid || !strings.Contains(template, placeholder) {
		return nil, invalidTemplate(template)
	}
	if transport == nil {
		transport = http.DefaultTransport
	}
	d := &Discovery{template: template, transport: transport, prewarmed: map[string]time.Time{}}
	d.instances.Store(&map[string][]discovery.Instance{})
	return d, nil
}

var label = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Instances implements discovery.Discovery. Every name that is a DNS label has one instance; others are fault.NotFound.
func (d *Discovery) Instances(_ context.Context, name string) ([]discovery.Instance, error) {
	if instances := (*d.instances.Load())[name]; instances != nil {
		return instances, nil
	}
	if !label.MatchString(name) {
		return nil, discovery.Unknown(name)
	}
	address := d.address(name)
	u, err := url.Parse(address)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the address of %q", name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known := *d.instances.Load()
	if instances := known[name]; instances != nil { // another caller was faster
		return instances, nil
	}
	grown := maps.Clone(known)
	grown[name] = []discovery.Instance{{ID: address, Address: u}}
	d.instances.Store(&grown)
	return grown[name], nil
}

func (d *Discovery) address(name string) string {
	return strings.ReplaceAll(d.template, placeholder, name)
}

// Ready implements discovery.Discovery. It always returns nil: the platform starts instances when requests come.
func (d *Discovery) Ready(context.Context) error { return nil }

// An instance that was started lives longer than prewarmEvery, and starts within prewarmLimit.
const (
	prewarmEvery = 5 * time.Second
	prewarmLimit = 60 * time.Second
)

// Prewarm implements discovery.Prewarmer: it sends a readiness check to each function, which makes the platform start
// one that has no instance. A function that was asked less than 5 seconds ago is left alone.
func (d *Discovery) Prewarm(names ...string) {
	for _, name := range names {
		if d.mayPrewarm(name) {
			go d.prewarm(d.address(name) + "/health/readiness")
		}
	}
}

func (d *Discovery) mayPrewarm(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if !label.MatchString(name) || now.Sub(d.prewarmed[name]) < prewarmEvery {
		return false
	}
	d.prewarmed[name] = now
	return true
}

// prewarm sends one request and ignores the answer.
func (d *Discovery) prewarm(url string) {
	ctx, cancel := context.WithTimeout(context.Background(), prewarmLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	if answer, err := d.transport.RoundTrip(r); err == nil {
		_ = answer.Body.Close()
	}
}
