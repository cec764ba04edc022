package consul

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/internal/blockingquery"
)

// watch is what is known of one function.
type watch struct {
	found    atomic.Pointer[[]discovery.Instance] // nil: the agent has not answered yet
	answered chan struct{}                        // closed by the first answer
}

// run follows the instances of a function with blocking queries until ctx ends, by Close.
func (d *Discovery) run(ctx context.Context, name string, w *watch) {
	index, failures := uint64(0), 0
	for ctx.Err() == nil {
		begun := time.Now()
		instances, next, err := d.query(ctx, name, index)
		switch {
		case err == nil:
			if failures > 0 {
				d.cfg.Logger.Info("Consul answers again", "function", name)
			}
			failures, index = 0, blockingquery.Next(index, next)
			w.set(instances)
			blockingquery.Sleep(ctx, blockingquery.Pace-time.Since(begun))
		case ctx.Err() == nil:
			if failures++; failures == 1 {
				d.cfg.Logger.Warn("Consul cannot be asked; the last instances count", "function", name, "error", err)
			}
			index = 0 // the agent may be another one now
			blockingquery.Sleep(ctx, blockingquery.Backoff(failures))
		}
	}
}

// query returns the instances as soon as the service's index differs from index, or after the wait time.
func (d *Discovery) query(ctx context.Context, name string, index uint64) ([]discovery.Instance, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, blockingquery.Timeout)
	defer cancel()
	options := (&api.QueryOptions{WaitIndex: index, WaitTime: blockingquery.Wait}).WithContext(ctx)
	entries, meta, err := d.client.Health().Service(d.cfg.Prefix+name, d.cfg.Tag, true, options)
	if err != nil {
		return nil, 0, err
	}
	instances := make([]discovery.Instance, 0, len(entries))
	for _, e := range entries {
		instances = append(instances, instance(e))
	}
	slices.SortFunc(instances, func(a, b discovery.Instance) int { return strings.Compare(a.ID, b.ID) })
	return instances, meta.LastIndex, nil
}

// instance returns what an entry stands for. Ids of services are unique on their node only.
func instance(e *api.ServiceEntry) discovery.Instance {
	host := cmp.Or(e.Service.Address, e.Node.Address)
	i := discovery.Instance{
		ID: e.Node.Node + "/" + e.Service.ID, Weight: e.Service.Weights.Passing,
		Zone: cmp.Or(e.Service.Meta[zoneKey], e.Node.Meta[zoneKey]),
		Address: &url.URL{
			Scheme: cmp.Or(e.Service.Meta[schemeKey], "http"), Host: net.JoinHostPort(host, strconv.Itoa(e.Service.Port)),
		},
	}
	if at := e.Service.Locality; i.Zone == "" && at != nil {
		i.Zone = at.Zone
	}
	return i
}

// The keys of a service's metadata.
const (
	zoneKey   = "zone"
	schemeKey = "scheme"
)

// set notes an answer. Instances that are the same stay the same slice.
func (w *watch) set(instances []discovery.Instance) {
	last := w.found.Load()
	if last == nil || !slices.EqualFunc(*last, instances, equal) {
		w.found.Store(&instances)
	}
	if last == nil {
		close(w.answered)
	}
}

func equal(a, b discovery.Instance) bool {
	return a.ID == b.ID && *a.Address == *b.Address && a.Weight == b.Weight && a.Zone == b.Zone
}
