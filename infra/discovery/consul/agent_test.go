package consul_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery/consul"
	"github.com/ebb-dev/ebb/infra/discovery/consul/consultest"
)

var agentPath = flag.String("agent", "",
	"the consul command; its agent is used in place of the one of package consultest")

// address returns the address of an agent on loopback: of the command -agent, or of package consultest.
func address(t *testing.T) string {
	t.Helper()
	if *agentPath == "" {
		s := httptest.NewServer(&consultest.Agent{})
		t.Cleanup(s.Close)
		return s.URL
	}
	ports := make([]int, 4)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
	}
	cmd := exec.Command(*agentPath, "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-dns-port=-1",
		"-grpc-port=-1", "-grpc-tls-port=-1", fmt.Sprint("-http-port=", ports[0]), fmt.Sprint("-server-port=", ports[1]),
		fmt.Sprint("-serf-lan-port=", ports[2]), fmt.Sprint("-serf-wan-port=", ports[3]))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return fmt.Sprint("http://127.0.0.1:", ports[0])
}

// eventually calls try until it returns nil, for at most a minute.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if err = try(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(err)
}

// Over a network, and with a real agent: two instances register, are found, fail and pass their checks, and go. A watch
// sees each change.
func TestAgent(t *testing.T) {
	d, err := consul.New(consul.Config{Address: address(t), Prefix: "shop-"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	eventually(t, func() error { return d.Ready(t.Context()) })
	until := func(want string) {
		t.Helper()
		eventually(t, func() error {
			all, err := d.Instances(t.Context(), "users")
			if err != nil {
				return err
			}
			var got []string
			for _, i := range all {
				got = append(got, fmt.Sprint(i.Address, "*", i.Weight, "@", i.Zone))
			}
			if strings.Join(got, " ") != want {
				return fmt.Errorf("got %q, want %q", got, want)
			}
			return nil
		})
	}
	until("")
	ill := make(chan error, 1) // what the check of the second instance returns
	ill <- errors.New("it is starting")
	check := func() error { err := <-ill; ill <- err; return err }
	set := func(err error) { <-ill; ill <- err }
	one, err := d.Register(t.Context(), consul.Registration{
		Name: "users", Address: "10.0.0.1", Port: 80, Zone: "north", Weight: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	until("http://10.0.0.1:80*5@north")
	two, err := d.Register(t.Context(), consul.Registration{
		Name: "users", Address: "10.0.0.2", Port: 80, TTL: 3 * time.Second,
		Check: func(context.Context) error { return check() },
	})
	if err != nil {
		t.Fatal(err)
	}
	set(nil)
	until("http://10.0.0.1:80*5@north http://10.0.0.2:80*1@")
	set(errors.New("its store is away"))
	until("http://10.0.0.1:80*5@north")
	set(nil)
	until("http://10.0.0.1:80*5@north http://10.0.0.2:80*1@")
	for _, r := range []*consul.Registered{one, two} {
		if err := r.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
	}
	until("")
}
