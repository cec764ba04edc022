package consul_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery/consul"
	"github.com/ebb-dev/ebb/infra/discovery/consul/consultest"
	"github.com/ebb-dev/ebb/infra/fault"
)

// run runs a test in virtual time with an agent, and a Discovery of it.
func run(t *testing.T, cfg consul.Config, test func(*testing.T, *consultest.Agent, *consul.Discovery)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		agent := &consultest.Agent{}
		cfg.Transport, cfg.Logger, cfg.Address = agent, slog.New(slog.DiscardHandler), "http://agent"
		d, err := consul.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		test(t, agent, d)
	})
}

func register(t *testing.T, d *consul.Discovery, r consul.Registration) *consul.Registered {
	t.Helper()
	got, err := d.Register(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return got
}

// addresses returns those of the instances of users.
func addresses(t *testing.T, d *consul.Discovery) string {
	t.Helper()
	time.Sleep(time.Second) // longer than the pace of queries
	synctest.Wait()
	all, err := d.Instances(t.Context(), "users")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range all {
		got = append(got, i.Address.Host)
	}
	return strings.Join(got, " ")
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func at(address string, port int) consul.Registration {
	return consul.Registration{Name: "users", Address: address, Port: port}
}

// An instance is listed when it is registered and passes its check, until it is deregistered.
func TestLifecycle(t *testing.T) {
	run(t, consul.Config{}, func(t *testing.T, agent *consultest.Agent, d *consul.Discovery) {
		want(t, "at first", addresses(t, d), "")
		one := register(t, d, at("10.0.0.2", 8080))
		want(t, "with one", addresses(t, d), "10.0.0.2:8080")
		var ready atomic.Bool
		other := at("10.0.0.1", 8080)
		other.Check = func(context.Context) error {
			if !ready.Load() {
				return errors.New("it is not ready")
			}
			return nil
		}
		other.Zone, other.Weight = "north", 3
		two := register(t, d, other)
		want(t, "while the second one starts", addresses(t, d), "10.0.0.2:8080")
		ready.Store(true)
		time.Sleep(time.Second)
		want(t, "with two", addresses(t, d), "10.0.0.1:8080 10.0.0.2:8080")
		all, err := d.Instances(t.Context(), "users")
		weights := err == nil && all[0].Weight == 3 && all[1].Weight == 1
		if !weights || all[0].Zone != "north" || all[0].Address.Scheme != "http" {
			t.Errorf("got %+v, %v", all, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if again, _ := d.Instances(t.Context(), "users"); &again[0] != &all[0] {
			t.Error("the slice changed although nothing else did")
		}
		ready.Store(false)
		time.Sleep(5 * time.Second)
		want(t, "with a failing check", addresses(t, d), "10.0.0.2:8080")
		if err := one.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		want(t, "without the first", addresses(t, d), "")
		if err := two.Deregister(t.Context()); err != nil || len(agent.Services()) != 0 {
			t.Errorf("got %v; registered: %v", err, agent.Services())
		}
	})
}

// An instance that no longer reports, because it was killed, is left out after its TTL.
func TestTTL(t *testing.T) {
	run(t, consul.Config{}, func(t *testing.T, agent *consultest.Agent, d *consul.Discovery) {
		hanging := make(chan struct{})
		var hangs atomic.Bool
		r := at("10.0.0.1", 80)
		r.Check = func(context.Context) error {
			if hangs.Load() {
				<-hanging
			}
			return nil
		}
		register(t, d, r)
		want(t, "at first", addresses(t, d), "10.0.0.1:80")
		hangs.Store(true)
		time.Sleep(21 * time.Second)
		want(t, "after its TTL", addresses(t, d), "")
		hangs.Store(false)
		close(hanging)
		want(t, "when it reports again", addresses(t, d), "10.0.0.1:80")
	})
}

// An agent that was restarted without its data gets the instance again.
func TestForgottenRegistration(t *testing.T) {
	run(t, consul.Config{}, func(t *testing.T, agent *consultest.Agent, d *consul.Discovery) {
		one := register(t, d, at("10.0.0.1", 80))
		agent.Forget()
		want(t, "while it is forgotten", addresses(t, d), "")
		time.Sleep(5 * time.Second)
		want(t, "after the next report", addresses(t, d), "10.0.0.1:80")
		agent.Fail(true)
		time.Sleep(time.Minute)
		agent.Fail(false)
		time.Sleep(35 * time.Second)
		want(t, "after an outage", addresses(t, d), "10.0.0.1:80")
		agent.Forget()
		if err := one.Deregister(t.Context()); err != nil {
			t.Errorf("an instance that the agent does not know: %v", err)
		}
	})
}

// While the agent cannot be asked, the last instances count. Before its first answer there are none.
func TestAgentAway(t *testing.T) {
	run(t, consul.Config{}, func(t *testing.T, agent *consultest.Agent, d *consul.Discovery) {
		agent.Fail(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.Instances(ctx, "users"); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v, want unavailable", err)
		}
		if err := d.Ready(t.Context()); !fault.Is(err, fault.Unavailable) {
			t.Errorf("ready: %v", err)
		}
		early := register(t, d, at("10.0.0.1", 80)) // the machine's agent starts later
		agent.Fail(false)
		if err := d.Ready(t.Context()); err != nil {
			t.Errorf("ready: %v", err)
		}
		time.Sleep(time.Minute)
		want(t, "when it is back", addresses(t, d), "10.0.0.1:80")
		agent.Fail(true)
		time.Sleep(time.Hour)
		want(t, "when it is away again", addresses(t, d), "10.0.0.1:80")
		if err := d.Ready(t.Context()); err != nil {
			t.Errorf("ready with instances: %v", err)
		}
		if err := early.Deregister(t.Context()); err == nil {
			t.Error("deregistered from an agent that fails")
		}
	})
}

// Failed queries are repeated less and less often, at last once in 15 to 30 s.
func TestBackoff(t *testing.T) {
	run(t, consul.Config{}, func(t *testing.T, agent *consultest.Agent, d *consul.Discovery) {
		agent.Fail(true)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.Instances(ctx, "users"); err == nil {
			t.Error("no error")
		}
		time.Sleep(time.Minute) // 1, 2, 4, 8, 16 and 30 s, or half of that
		begun := agent.Requests()
		if begun < 6 || begun > 12 {
			t.Errorf("%d requests in the first minute", begun)
		}
		time.Sleep(time.Hour)
		if n := agent.Requests() - begun; n < 3600/30-1 || n > 3600/15+1 {
			t.Errorf("%d requests in an hour", n)
		}
	})
}

// Queries block with the index of the last answer. One that went backwards is forgotten, and one of 0, which would not
// block, is 1.
func TestIndex(t *testing.T) {
	run(t, consul.Config{}, func(t *testing.T, agent *consultest.Agent, d *consul.Discovery) {
		want(t, "at first", addresses(t, d), "")
		next := func(index uint64) {
			agent.SetIndex(index)
			agent.Wake()
			time.Sleep(time.Second)
			synctest.Wait()
		}
		next(40)
		next(41)
		next(7) // after a snapshot was restored
		agent.Fail(true)
		time.Sleep(time.Minute)
		agent.SetIndex(2) // another agent answers now, and counts from 3 on
		agent.Fail(false)
		time.Sleep(time.Minute)
		var got []string
		for _, q := range agent.Queries() {
			values, err := url.ParseQuery(q)
			if err != nil || values.Get("passing") != "1" {
				t.Errorf("the query is %q, %v", q, err)
			}
			got = append(got, values.Get("index"))
		}
		// The query after the reset does not block, and neither does the one after a failure.
		if want := []string{"", "1", "40", "41", "", "7", "", "3"}; !slices.Equal(got, want) {
			t.Errorf("the indexes are %q, want %q", got, want)
		}
	})
}

// A service that changes all the time is asked for five times a second at most.
func TestPace(t *testing.T) {
	run(t, consul.Config{}, func(t *testing.T, agent *consultest.Agent, d *consul.Discovery) {
		want(t, "at first", addresses(t, d), "")
		begun := len(agent.Queries())
		for n := range 1000 {
			agent.SetIndex(uint64(n + 2))
			agent.Wake()
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(agent.Queries()) - begun; n < 45 || n > 55 {
			t.Errorf("%d queries in 10 s", n)
		}
	})
}

// A prefix and a tag make the services of another system invisible.
func TestPrefixAndTag(t *testing.T) {
	cfg, err := consul.ParseURL("consul://agent:8500/shop-?tag=v2&dc=north")
	if err != nil {
		t.Fatal(err)
	}
	run(t, cfg, func(t *testing.T, agent *consultest.Agent, d *consul.Discovery) {
		register(t, d, at("10.0.0.1", 80))
		for _, other := range []consul.Config{{}, {Prefix: "shop-"}, {Tag: "v2"}} {
			other.Transport, other.Address = agent, "http://agent"
			o, err := consul.New(other)
			if err != nil {
				t.Fatal(err)
			}
			register(t, o, at("10.0.0.9", 80))
			defer o.Close()
		}
		want(t, "of this system", addresses(t, d), "10.0.0.1:80")
		if q := agent.Queries()[0]; !strings.Contains(q, "dc=north") {
			t.Errorf("the query is %q", q)
		}
	})
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]consul.Config{
		"consul:":                         {},
		"consul://127.0.0.1:8500":         {Address: "http://127.0.0.1:8500"},
		"consul+https://c.example/shop-":  {Address: "https://c.example", Prefix: "shop-"},
		"consul:///shop-?tag=v2":          {Prefix: "shop-", Tag: "v2"},
		"consul://[::1]:8500/?dc=d&tag=t": {Address: "http://[::1]:8500", Datacenter: "d", Tag: "t"},
	} {
		if got, err := consul.ParseURL(text); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "http://x", "consul:x", "consul://u:secret@x", "consul://x?token=secret", "consul://x:%zz",
	} {
		if _, err := consul.ParseURL(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// Names that are no service are not asked for, and a registration needs an address.
func TestInvalid(t *testing.T) {
	run(t, consul.Config{}, func(t *testing.T, agent *consultest.Agent, d *consul.Discovery) {
		for _, name := range []string{"", "a/b", "../agent"} {
			if _, err := d.Instances(t.Context(), name); !fault.Is(err, fault.NotFound) {
				t.Errorf("%q: got %v", name, err)
			}
		}
		for _, r := range []consul.Registration{at("", 80), at("x", 0), at("x", 70000), {Address: "x", Port: 80}} {
			if _, err := d.Register(t.Context(), r); err == nil {
				t.Errorf("registered %+v", r)
			}
		}
		if agent.Requests() != 0 {
			t.Errorf("%d requests", agent.Requests())
		}
	})
}
