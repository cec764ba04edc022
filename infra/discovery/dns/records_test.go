package dns_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/dns"
	"github.com/ebb-dev/ebb/infra/fault"
)

// nameServer is a DNS server on loopback.
type nameServer struct {
	mu    sync.Mutex
	rcode dnsmessage.RCode
	zone  map[string][]dnsmessage.ResourceBody // by name
	asked int                                  // questions answered
	conn  net.PacketConn
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, zone: map[string][]dnsmessage.ResourceBody{}}
	done := make(chan struct{})
	go func() { defer close(done); s.serve() }()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return s
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// questions returns how many questions were answered.
func (s *nameServer) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *nameServer) set(rcode dnsmessage.RCode, name string, records ...dnsmessage.ResourceBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcode = rcode
	s.zone[name] = records
}

func (s *nameServer) serve() {
	buffer := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}}
		answer.Questions = m.Questions
		q := m.Questions[0]
		s.mu.Lock()
		answer.RCode = s.rcode
		s.asked++
		records, known := s.zone[strings.ToLower(q.Name.String())]
		s.mu.Unlock()
		if !known && answer.RCode == dnsmessage.RCodeSuccess {
			answer.RCode = dnsmessage.RCodeNameError
		}
		for _, r := range records {
			var kind dnsmessage.Type
			switch r.(type) {
			case *dnsmessage.AResource:
				kind = dnsmessage.TypeA
			case *dnsmessage.AAAAResource:
				kind = dnsmessage.TypeAAAA
			case *dnsmessage.SRVResource:
				kind = dnsmessage.TypeSRV
			}
			if kind == q.Type {
				header := dnsmessage.ResourceHeader{Name: q.Name, Type: kind, Class: dnsmessage.ClassINET, TTL: 1}
				answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: r})
			}
		}
		packed, err := answer.Pack()
		if err != nil {
			continue
		}
		_, _ = s.conn.WriteTo(packed, from)
	}
}

func a(ip ...byte) *dnsmessage.AResource { return &dnsmessage.AResource{A: [4]byte(ip)} }

func records(t *testing.T, template string, s *nameServer) *dns.Records {
	t.Helper()
	d, err := dns.Open(template, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := d.(*dns.Records)
	r.Resolver = s.resolver()
	return r
}

func ids(all []discovery.Instance) string {
	var got []string
	for _, i := range all {
		got = append(got, i.Address.String())
	}
	return strings.Join(got, " ")
}

// A headless name has an instance for each address, in the same order however the server shuffles them.
func TestHeadless(t *testing.T) {
	s := newNameServer(t)
	six := &dnsmessage.AAAAResource{AAAA: [16]byte{0xfd, 15: 1}}
	s.set(0, "users.shop.example.", a(10, 0, 0, 2), six, a(10, 0, 0, 1))
	for template, want := range map[string]string{
		"dns+http://{function}.shop.example.:8080": "http://10.0.0.1:8080 http://10.0.0.2:8080 http://[fd00::1]:8080",
		"dns+https://{function}.shop.example./x":   "https://10.0.0.1/x https://10.0.0.2/x https://[fd00::1]/x",
	} {
		d := records(t, template, s)
		got, err := d.Instances(t.Context(), "users")
		if err != nil || ids(got) != want {
			t.Errorf("got %s, %v, want %s", ids(got), err, want)
		}
		if again, _ := d.Instances(t.Context(), "users"); &again[0] != &got[0] {
			t.Error("the slice changed although nothing else did")
		}
		if got, err := d.Instances(t.Context(), "orders"); err != nil || len(got) != 0 {
			t.Errorf("a name without records: got %v, %v", got, err)
		}
		if _, err := d.Instances(t.Context(), "no.label"); !fault.Is(err, fault.NotFound) {
			t.Errorf("an impossible name: got %v", err)
		}
	}
}

// SRV records have the port and the weight of each instance. Those of a lower priority are left out.
func TestSRV(t *testing.T) {
	s := newNameServer(t)
	record := func(priority, weight, port uint16, target string) dnsmessage.ResourceBody {
		return &dnsmessage.SRVResource{
			Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(target),
		}
	}
	s.set(0, "_http._tcp.users.example.", record(20, 1, 80, "c.example."), record(10, 5, 8081, "b.example."),
		record(10, 7, 8080, "a.example."))
	got, err := records(t, "srv+http://_http._tcp.{function}.example.", s).Instances(t.Context(), "users")
	want := "http://a.example:8080 http://b.example:8081"
	if err != nil || ids(got) != want || got[0].Weight != 7 || got[1].Weight != 5 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What a server answered last counts while it fails, and a change is seen by a later lookup. A server that has failed
// from the beginning makes the function unavailable.
func TestRefresh(t *testing.T) {
	s := newNameServer(t)
	d := records(t, "dns+http://{function}.example.", s)
	d.Refresh = 1 // the next request looks again
	s.set(dnsmessage.RCodeServerFailure, "users.example.", a(10, 0, 0, 1))
	if _, err := d.Instances(t.Context(), "users"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	s.set(0, "users.example.", a(10, 0, 0, 1))
	d = records(t, "dns+http://{function}.example.", s)
	d.Refresh = 1
	until := func(want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			got, err := d.Instances(t.Context(), "users")
			if err != nil {
				t.Fatal(err)
			}
			if ids(got) == want {
				return
			}
		}
		t.Errorf("it never was %q", want)
	}
	until("http://10.0.0.1")
	s.set(0, "users.example.", a(10, 0, 0, 1), a(10, 0, 0, 2))
	until("http://10.0.0.1 http://10.0.0.2")
	s.set(0, "users.example.")
	until("")
	s.set(0, "users.example.", a(10, 0, 0, 3))
	until("http://10.0.0.3")
	s.set(dnsmessage.RCodeServerFailure, "users.example.")
	first, _ := d.Instances(t.Context(), "users")
	during := func(what string) {
		t.Helper()
		// A lookup asks twice, so that its result is there when the next one asks.
		for begun := s.questions(); s.questions() < begun+6; {
			got, err := d.Instances(t.Context(), "users")
			if err != nil || ids(got) != "http://10.0.0.3" || &got[0] != &first[0] {
				t.Fatalf("%s: got %v, %v", what, got, err)
			}
		}
	}
	during("while the server fails")
	s.set(0, "users.example.", a(10, 0, 0, 3))
	during("while nothing changes")
}

// The first request waits for the lookup only as long as its caller does.
func TestFirstLookupEndsWithTheCaller(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d := records(t, "dns+http://{function}.example.", &nameServer{conn: silent})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Instances(ctx, "users"); !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOpen(t *testing.T) {
	if d, err := dns.Open("http://{function}", nil); err != nil {
		t.Error(err)
	} else if _, plain := d.(*dns.Discovery); !plain {
		t.Errorf("got %T", d)
	}
	for _, template := range []string{"dns+http://users", "srv+{function}", "a+http://{function}", "dns+", ""} {
		if _, err := dns.Open(template, nil); err == nil || !strings.Contains(err.Error(), `"`+template+`"`) {
			t.Errorf("the template %q: got %v", template, err)
		}
	}
}
