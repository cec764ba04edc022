package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// Registration is an instance of a function that this process is. Name, Address and Port are required.
type Registration struct {
	Name    string // of the function
	ID      string // "": the service's name, address and port
	Address string // where the gateways reach it: a host name or an IP address
	Port    int
	Tags    []string
	Scheme  string // http or https; "": http
	Zone    string
	Weight  int // 0: 1

	TTL        time.Duration // after which an instance that has not reported fails its check; 0: 15 s
	Deregister time.Duration // after which an instance that fails its check is removed; 0: 10 min. Consul's least is 1 min

	// Check returns nil when requests may come, and otherwise why not. It is called once a second until it has returned
	// nil for the first time, and then every third of the TTL.
	Check func(context.Context) error
}

const (
	defaultTTL        = 15 * time.Second
	defaultDeregister = 10 * time.Minute
	firstChecks       = time.Second
)

// Registered is an instance that Register has registered.
type Registered struct {
	d       *Discovery
	r       Registration
	cancel  context.CancelFunc
	end     sync.WaitGroup
	checkID string
}

// Register registers the instance, with a check that it reports to itself, and reports until Deregister or Close: after
// a crash the check fails within the TTL and the instance is removed later. An agent that has forgotten the instance,
// because it was restarted without its data or could not be asked yet, gets it with the next report. Register fails
// when the registration is not valid.
func (d *Discovery) Register(ctx context.Context, r Registration) (*Registered, error) {
	if r.Name == "" || r.Address == "" || r.Port < 1 || r.Port > 65535 {
		return nil, fmt.Errorf("consul: invalid registration of %q at %q, port %d", r.Name, r.Address, r.Port)
	}
	r.TTL, r.Deregister = cmp.Or(r.TTL, defaultTTL), cmp.Or(r.Deregister, defaultDeregister)
	r.ID = cmp.Or(r.ID, fmt.Sprintf("%s%s-%s-%d", d.cfg.Prefix, r.Name, r.Address, r.Port))
	if r.Check == nil {
		r.Check = func(context.Context) error { return nil }
	}
	reg := &Registered{d: d, r: r, checkID: "service:" + r.ID}
	if err := reg.register(ctx); err != nil {
		d.cfg.Logger.Warn("the instance cannot be registered with Consul yet", "id", r.ID, "error", err)
	}
	background, cancel := d.lifetime.Bind(context.Background())
	reg.cancel = cancel
	reg.end.Go(func() { reg.report(background) })
	return reg, nil
}

// register tells the agent of the instance. It fails its check until the first report.
func (g *Registered) register(ctx context.Context) error {
	service := &api.AgentServiceRegistration{
		ID: g.r.ID, Name: g.d.cfg.Prefix + g.r.Name, Address: g.r.Address, Port: g.r.Port, Tags: g.r.Tags,
		Weights: &api.AgentWeights{Passing: max(g.r.Weight, 1), Warning: 1},
		Check: &api.AgentServiceCheck{
			CheckID: g.checkID, TTL: g.r.TTL.String(), Status: api.HealthCritical,
			DeregisterCriticalServiceAfter: g.r.Deregister.String(),
		},
	}
	if g.d.cfg.Tag != "" {
		service.Tags = append([]string{g.d.cfg.Tag}, service.Tags...)
	}
	service.Meta = map[string]string{}
	for key, value := range map[string]string{zoneKey: g.r.Zone, schemeKey: g.r.Scheme} {
		if value != "" {
			service.Meta[key] = value
		}
	}
	options := api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx)
	return g.d.client.Agent().ServiceRegisterOpts(service, options)
}

// report reports the result of the check again and again.
func (g *Registered) report(ctx context.Context) {
	log, passed, failures := g.d.cfg.Logger, false, 0
	for ctx.Err() == nil {
		status, output := api.HealthPassing, ""
		if err := g.r.Check(ctx); err != nil {
			status, output = api.HealthCritical, err.Error()
		}
		every := g.r.TTL / 3
		if passed = passed || status == api.HealthPassing; !passed {
			every = min(every, firstChecks)
		}
		err := g.update(ctx, status, output, every)
		switch {
		case err == nil && failures > 0:
			failures = 0
			log.Info("Consul knows the instance again", "id", g.r.ID)
		case err != nil && ctx.Err() == nil:
			if failures++; failures == 1 {
				log.Warn("the instance cannot be reported to Consul", "id", g.r.ID, "error", err)
			}
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
		}
	}
}

// update sends one report, and registers the instance again if the agent does not know it.
func (g *Registered) update(ctx context.Context, status, output string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	send := func() error {
		return g.d.client.Agent().UpdateTTLOpts(g.checkID, output, status, (&api.QueryOptions{}).WithContext(ctx))
	}
	err := send()
	var refused api.StatusError
	if errors.As(err, &refused) { // 404, or 500 of older agents: unknown check
		if err = g.register(ctx); err == nil {
			err = send()
		}
	}
	return err
}

// Deregister ends the reports and removes the instance, so that gateways send it no more requests. When it fails, the
// instance fails its check after the TTL.
func (g *Registered) Deregister(ctx context.Context) error {
	g.cancel()
	g.end.Wait()
	err := g.d.client.Agent().ServiceDeregisterOpts(g.r.ID, (&api.QueryOptions{}).WithContext(ctx))
	var refused api.StatusError
	if errors.As(err, &refused) && refused.Code == http.StatusNotFound {
		return nil // the agent does not know it
	}
	if err != nil {
		return fmt.Errorf("consul: deregister %s: %w", g.r.ID, err)
	}
	return nil
}
