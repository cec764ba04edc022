package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Open returns the Discovery of an address template:
//
//	http://{function}.shop.svc.cluster.local            one address for each function, see New
//	dns+http://{function}.shop.svc.cluster.local:8080   an instance for each A and AAAA record, as of a headless Service
//	srv+http://_http._tcp.{function}.shop.example       an instance for each SRV record, with its port and weight
//
// Each form takes https too. An error begins with "invalid address template".
func Open(template string, transport http.RoundTripper) (discovery.Discovery, error) {
	kind, rest, _ := strings.Cut(template, "+")
	if kind != "dns" && kind != "srv" {
		return New(template, transport)
	}
	if _, err := New(rest, transport); err != nil {
		return nil, invalidTemplate(template)
	}
	return &Records{Template: rest, SRV: kind == "srv"}, nil
}

func invalidTemplate(template string) error {
	return fmt.Errorf("invalid address template %q: want one like http://{function}.shop.svc.cluster.local", template)
}

// Records is discovery by DNS records, of the platforms that list the instances of a function under one name. Names are
// looked up again after Refresh, while requests come; in the meantime, and while the DNS server does not answer, the
// last records count. A name without records has no instances. Records is safe for concurrent use; its fields must not
// be changed once it is in use.
type Records struct {
	Template string        // an http or https URL with {function} in its host
	SRV      bool          // look up SRV records of the host, not A and AAAA records
	Refresh  time.Duration // 0: 5 s
	Resolver *net.Resolver // nil: net.DefaultResolver

	mu    sync.Mutex
	names map[string]*records
}

var _ discovery.Discovery = (*Records)(nil)

const (
	refreshEvery = 5 * time.Second
	lookupLimit  = 5 * time.Second
	retryAfter   = time.Second // after a lookup that failed
)

// records is what was found for a name.
type records struct {
	instances []discovery.Instance
	err       error         // of the last lookup, when none has succeeded yet
	next      time.Time     // when to look again
	looking   chan struct{} // closed at the end of the lookup that runs; nil: none runs
}

// Instances implements discovery.Discovery. The first request for a name waits for the lookup.
func (d *Records) Instances(ctx context.Context, name string) ([]discovery.Instance, error) {
	if !label.MatchString(name) {
		return nil, discovery.Unknown(name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.names[name]
	if known == nil {
		if d.names == nil {
			d.names = map[string]*records{}
		}
		known = &records{}
		d.names[name] = known
	}
	if known.looking == nil && !time.Now().Before(known.next) {
		known.looking = make(chan struct{})
		go d.look(name, known)
	}
	if known.instances == nil && known.looking != nil {
		done := known.looking
		d.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
		}
		d.mu.Lock()
		if known.instances == nil && known.err == nil {
			return nil, fault.Wrap(context.Cause(ctx), fault.Unavailable, "the instances of %q are not known yet", name)
		}
	}
	return known.instances, known.err
}

// Ready implements discovery.Discovery. It always returns nil: names are looked up when requests come.
func (d *Records) Ready(context.Context) error { return nil }

// look looks a name up and notes the result.
func (d *Records) look(name string, known *records) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupLimit)
	defer cancel()
	instances, err := d.lookup(ctx, name)
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		if known.instances == nil || !slices.EqualFunc(known.instances, instances, equal) {
			known.instances = instances
		}
		known.err, known.next = nil, now.Add(cmp.Or(d.Refresh, refreshEvery))
	case known.instances == nil:
		known.err = fault.Wrap(err, fault.Unavailable, "the instances of %q cannot be looked up", name)
		fallthrough
	default:
		known.next = now.Add(retryAfter)
	}
	close(known.looking)
	known.looking = nil
}

func equal(a, b discovery.Instance) bool { return a.ID == b.ID && a.Weight == b.Weight }

// lookup returns the instances that the records of a name are about, sorted and not nil.
func (d *Records) lookup(ctx context.Context, name string) ([]discovery.Instance, error) {
	u, err := url.Parse(strings.ReplaceAll(d.Template, placeholder, name))
	if err != nil {
		return nil, err
	}
	resolver := d.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	hosts := map[string]int{} // with the weight of each
	if d.SRV {
		err = srv(ctx, resolver, u.Hostname(), hosts)
	} else {
		err = addresses(ctx, resolver, u, hosts)
	}
	var missing *net.DNSError
	if err != nil && (!errors.As(err, &missing) || !missing.IsNotFound) {
		return nil, err
	}
	all := make([]discovery.Instance, 0, len(hosts))
	for host, weight := range hosts {
		at := *u
		at.Host = host
		all = append(all, discovery.Instance{ID: at.String(), Address: &at, Weight: weight})
	}
	slices.SortFunc(all, func(a, b discovery.Instance) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// addresses adds the A and AAAA records of the URL's host, with its port.
func addresses(ctx context.Context, from *net.Resolver, u *url.URL, hosts map[string]int) error {
	found, err := from.LookupNetIP(ctx, "ip", u.Hostname())
	for _, ip := range found {
		host := ip.Unmap().String()
		switch {
		case u.Port() != "":
			host = net.JoinHostPort(host, u.Port())
		case strings.Contains(host, ":"):
			host = "[" + host + "]"
		}
		hosts[host] = 0
	}
	return err
}

// srv adds the SRV records of the highest priority. A server of another priority is one for when these are gone.
func srv(ctx context.Context, from *net.Resolver, name string, hosts map[string]int) error {
	_, found, err := from.LookupSRV(ctx, "", "", name)
	for _, r := range found {
		if r.Priority == found[0].Priority { // they are sorted by priority
			hosts[net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))] = int(r.Weight)
		}
	}
	return err
}
