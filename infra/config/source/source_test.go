package source_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/config/source"
)

// desk is the settings of a function, in a product that has another, mail.
type desk struct {
	Level    string        `envconfig:"EBB_LOG_LEVEL" default:"info" reload:"true"`
	Room     int           `envconfig:"EBB_DESK_ROOM" default:"3"`
	Deadline time.Duration `envconfig:"EBB_DESK_DEADLINE" reload:"true" desc:"the deadline"`
	Longer   time.Duration `envconfig:"EBB_DESK_LONGER" reload:"true"`
	Open     bool          `envconfig:"EBB_DESK_OPEN"`
	Names    []string      `envconfig:"EBB_DESK_NAMES"`
	Key      string        `envconfig:"EBB_DESK_KEY" secret:"true" reload:"true"`
	Address  string        `envconfig:"EBB_DESK_ADDRESS"`
}

// Validate reports values that do not go together.
func (d desk) Validate() error {
	if d.Longer != 0 && d.Longer <= d.Deadline {
		return errors.New("EBB_DESK_LONGER must be longer than EBB_DESK_DEADLINE")
	}
	return nil
}

type mail struct {
	Room int `envconfig:"EBB_MAIL_ROOM"`
}

var known = source.Known{
	Common: config.Variables[struct {
		Level string `envconfig:"EBB_LOG_LEVEL" default:"info" reload:"true"`
	}](""),
	Functions: map[string][]config.Variable{"desk": config.Variables[desk](""), "mail": config.Variables[mail]("")},
}

func check(function string, lookup config.Lookup) error {
	if function == "desk" {
		_, err := config.Load[desk]("", lookup)
		return err
	}
	return nil
}

// logged collects log lines.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// write writes a file of settings and returns its path.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "config.yaml")
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, vars map[string]string, more ...func(*source.Config)) (*source.Sources, *logged, error) {
	t.Helper()
	var log logged
	cfg := source.Config{Environment: config.Map(vars), Known: known, Check: check, Function: "desk",
		Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for _, change := range more {
		change(&cfg)
	}
	s, err := source.Open(t.Context(), cfg)
	return s, &log, err
}

// The environment stands over the section of the function, that over what is for every function, and that over the
// default. Each value has its origin, and secrets are masked.
func TestPrecedence(t *testing.T) {
	path := write(t, "", `# a comment
EBB_LOG_LEVEL: debug
EBB_DESK_ROOM: 4
EBB_DESK_NAMES: [ada, grace]
EBB_DESK_KEY: topsecret
EBB_DESK_ADDRESS: https://me:topsecret@example.com
functions:
  desk:
    EBB_DESK_ROOM: 5
    EBB_DESK_DEADLINE: 45s
    EBB_DESK_OPEN: true
  mail:
    EBB_LOG_LEVEL: warn
`)
	s, _, err := open(t, map[string]string{"EBB_CONFIG": path, "EBB_DESK_DEADLINE": "1m", "EBB_DESK_OPEN": ""})
	if err != nil {
		t.Fatal(err)
	}
	d, err := config.Load[desk]("", s.Lookup)
	got := fmt.Sprintln(d.Level, d.Room, d.Deadline, d.Open, d.Names, d.Key)
	if err != nil || got != "debug 5 1m0s true [ada grace] topsecret\n" {
		t.Errorf("got %s, %v", got, err)
	}
	var lines []string
	for _, e := range s.Effective("desk").Settings {
		lines = append(lines, fmt.Sprint(e.Variable, " ", e.Value, " ", e.Origin, " ", e.Reload))
	}
	want := `EBB_DESK_ADDRESS https://me:xxxxx@example.com config.yaml:6 false
EBB_DESK_DEADLINE 1m environment true
EBB_DESK_KEY *** config.yaml:5 true
EBB_DESK_LONGER  unset true
EBB_DESK_NAMES ada,grace config.yaml:4 false
EBB_DESK_OPEN true config.yaml:11 false
EBB_DESK_ROOM 5 config.yaml:9 false
EBB_LOG_LEVEL debug config.yaml:2 true`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got %s", got)
	}
	if level, _ := s.For("mail")("EBB_LOG_LEVEL"); level != "warn" {
		t.Errorf("the level of mail is %q", level)
	}
}

// What is set for one function alone stands in no other function's lookup, and never over the environment.
func TestOwn(t *testing.T) {
	path := write(t, "", `EBB_DESK_NAMES: [ada]
functions:
  desk: {EBB_DESK_ROOM: 5, EBB_DESK_OPEN: true}
  mail: {EBB_MAIL_ROOM: 6}
`)
	s, _, err := open(t, map[string]string{"EBB_CONFIG": path, "EBB_DESK_OPEN": "false"},
		func(c *source.Config) { c.Function = "" })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, function := range []string{"desk", "mail", "gateway"} {
		for _, name := range []string{"EBB_DESK_NAMES", "EBB_DESK_OPEN", "EBB_DESK_ROOM", "EBB_MAIL_ROOM"} {
			if text, ok := s.Own(function)(name); ok {
				got = append(got, function+" "+name+" "+text)
			}
		}
	}
	if want := "desk EBB_DESK_ROOM 5, mail EBB_MAIL_ROOM 6"; strings.Join(got, ", ") != want {
		t.Errorf("got %v", got)
	}
	if room, ok := s.Lookup("EBB_DESK_ROOM"); ok {
		t.Errorf("the room of desk, %s, is for every function", room)
	}
}

// What is wrong in a file is named with its line and key, and no value is in the message.
func TestFaultsOfAFile(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	for name, test := range map[string]struct{ text, want string }{
		"a slip": {"\nEBB_LOG_LEVL: debug\n", `:2: EBB_LOG_LEVL: unknown field (did you mean "EBB_LOG_LEVEL"?`},
		"a slip in a name": {
			"functions:\n  dsk:\n    EBB_DESK_ROOM: 1\n", `:2: functions.dsk: unknown field (did you mean "desk"?)`,
		},
		"another's setting": {
			"functions:\n  mail:\n    EBB_DESK_ROOM: 1\n", `:3: functions.mail.EBB_DESK_ROOM: unknown field`,
		},
		"a word":            {"EBB_DESK_ROOM: topsecret\n", `:1: EBB_DESK_ROOM: want a whole number`},
		"a list":            {"EBB_DESK_ROOM: [topsecret]\n", `:1: EBB_DESK_ROOM: want text`},
		"no list":           {"EBB_DESK_NAMES: topsecret\n", `:1: EBB_DESK_NAMES: want a list`},
		"no duration":       {"EBB_DESK_DEADLINE: 45\n", `:1: EBB_DESK_DEADLINE: want a duration`},
		"no truth":          {"EBB_DESK_OPEN: perhaps\n", `:1: EBB_DESK_OPEN: want true or false`},
		"null":              {"EBB_DESK_KEY:\n", `:1: EBB_DESK_KEY: has no value`},
		"twice":             {"EBB_DESK_ROOM: 1\nEBB_DESK_ROOM: 2\n", `:2: EBB_DESK_ROOM: duplicate field`},
		"no YAML":           {"EBB_DESK_KEY: topsecret\n\t x", `:2: `},
		"a list at the top": {"- topsecret\n", `want fields`},
		"two documents":     {"EBB_DESK_ROOM: 1\n---\nEBB_DESK_ROOM: 2\n", `want one document`},
		"an alias":          {"EBB_DESK_KEY: &a topsecret\nEBB_DESK_ADDRESS: *a\n", `anchors and aliases are not supported`},
		"a bomb":            {bomb, `unknown field`},
		"itself":            {"EBB_CONFIG: other.yaml\n", `:1: EBB_CONFIG: unknown field`},
		"too large":         {"# " + strings.Repeat("x", 1<<20), `has more than 1048576 bytes`},
		"deep":              {strings.Repeat("[", 100000), ``},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := open(t, map[string]string{"EBB_CONFIG": write(t, "", test.text)})
			var settings *config.Error
			if !errors.As(err, &settings) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "topsecret") {
				t.Errorf("the value is in the message: %v", err)
			}
		})
	}
	if _, _, err := open(t, map[string]string{"EBB_CONFIG": "/nowhere/config.yaml"}); err == nil {
		t.Error("a file that is not there is accepted")
	}
}

// A value that only the function can judge is named with its line too.
func TestLocate(t *testing.T) {
	s, _, err := open(t, map[string]string{"EBB_CONFIG": write(t, "", "\nEBB_DESK_ROOM: 99999999999999999999999\n")})
	if err == nil {
		_, err = config.Load[desk]("", s.Lookup)
		err = s.Locate("desk", err)
	}
	if err == nil || !strings.Contains(err.Error(), "EBB_DESK_ROOM") || !strings.Contains(err.Error(), "config.yaml:2") {
		t.Errorf("got %v", err)
	}
}

// run opens sources in virtual time and follows them while the test runs.
func run(
	t *testing.T, vars map[string]string, test func(s *source.Sources, log *logged), more ...func(*source.Config),
) {
	t.Helper()
	s, log, err := open(t, vars, more...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() { s.Run(ctx) })
	test(s, log)
	cancel()
	following.Wait()
}

// wait lets time pass: longer than two looks at a file, and than the pace of queries.
func wait() {
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

// A changed file counts for settings that are declared so; the log says of others that they need a restart. What is not
// valid changes nothing, and the log says so once.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "", "EBB_DESK_DEADLINE: 10s\nEBB_DESK_ROOM: 4\nEBB_DESK_KEY: topsecret\n")
		run(t, map[string]string{"EBB_CONFIG": path, "EBB_LOG_LEVEL": "warn"}, func(s *source.Sources, log *logged) {
			d, err := config.Load[desk]("", s.Lookup)
			if err != nil {
				t.Fatal(err)
			}
			live := config.Follow("", s.Lookup, d)
			calls := 0
			s.OnChange(func() { calls++ })
			expect := func(what, want string, room string) {
				t.Helper()
				wait()
				got := fmt.Sprint(live.Get().Deadline, " ", live.Get().Key)
				if now, _ := s.Lookup("EBB_DESK_ROOM"); got != want || now != room {
					t.Errorf("%s: got %s, room %s", what, got, now)
				}
			}
			write(t, path, "EBB_DESK_DEADLINE: 20s\nEBB_DESK_ROOM: 5\nEBB_DESK_KEY: secondsecret\nEBB_LOG_LEVEL: debug\n")
			expect("changed", "20s secondsecret", "4")
			if log.count("restart needed") != 1 || log.count("EBB_DESK_DEADLINE") != 1 || log.count("secret") != 0 ||
				calls != 1 {
				t.Errorf("%d calls, log %s", calls, log.b.String())
			}
			if level, _ := s.Lookup("EBB_LOG_LEVEL"); level != "warn" {
				t.Errorf("the file stands over the environment: %s", level)
			}
			for _, e := range s.Effective("desk").Settings {
				if e.Pending != (e.Variable == "EBB_DESK_ROOM") {
					t.Errorf("%s: pending is %v", e.Variable, e.Pending)
				}
			}
			for _, bad := range []string{
				"EBB_DESK_DEADLINE: soon\n", "EBB_DESK_DEADLINE: 30s\nEBB_DESK_LONGER: 20s\n", "EBB_X: 1\n", "\t",
			} {
				write(t, path, bad)
				before := log.count("the settings from before stay")
				expect(bad, "20s secondsecret", "4")
				wait()
				if n := log.count("the settings from before stay") - before; n != 1 {
					t.Errorf("%q is told %d times: %s", bad, n, log.b.String())
				}
				if refused := s.Effective("desk").Refused; refused == "" || strings.Contains(refused, "soon") {
					t.Errorf("%q: the report says %q", bad, refused)
				}
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			expect("removed", "20s secondsecret", "4")
			write(t, path, "EBB_DESK_DEADLINE: 30s\n")
			expect("back", "30s ", "4")
			const stays = "EBB_DESK_DEADLINE: 30s\n"
			for _, spoil := range []func(){
				func() { write(t, path, "EBB_X: 1\n") },
				func() {
					if err := os.Remove(path); err != nil {
						t.Error(err)
					}
				},
			} {
				for _, step := range []struct {
					do      func()
					refused bool
				}{{spoil, true}, {func() { write(t, path, stays) }, false}} {
					step.do()
					wait()
					wait()
					if refused := s.Effective("desk").Refused; (refused != "") != step.refused {
						t.Errorf("the report says %q", refused)
					}
				}
			}
		})
	})
}

// A file that is being written does not count before it is complete.
func TestHalfAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "", "EBB_DESK_DEADLINE: 10s\n")
		run(t, map[string]string{"EBB_CONFIG": path}, func(s *source.Sources, _ *logged) {
			time.Sleep(time.Second) // between two looks
			for i := range 10 {
				write(t, path, fmt.Sprintf("EBB_DESK_DEADLINE: 2%ds\n", i%2))
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if text, _ := s.Lookup("EBB_DESK_DEADLINE"); text != "10s" {
					t.Fatalf("after %d writes it is %s", i+1, text)
				}
			}
			wait()
			if text, _ := s.Lookup("EBB_DESK_DEADLINE"); text != "21s" {
				t.Errorf("at last it is %s", text)
			}
		})
	})
}

// Settings may be read while they change, and those that go together are of one moment.
func TestReadersSeeOneMoment(t *testing.T) {
	path := write(t, "", "EBB_DESK_DEADLINE: 1s\nEBB_DESK_LONGER: 2s\n")
	s, _, err := open(t, map[string]string{"EBB_CONFIG": path}, func(c *source.Config) { c.Every = time.Millisecond })
	if err != nil {
		t.Fatal(err)
	}
	d, err := config.Load[desk]("", s.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	live := config.Follow("", s.Lookup, d)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { s.Run(ctx) })
	changed := make(chan struct{}, 1000)
	s.OnChange(func() { changed <- struct{}{} })
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if d := live.Get(); d.Longer != 2*d.Deadline {
					t.Errorf("got %v and %v", d.Deadline, d.Longer)
					return
				}
			}
		})
	}
	for i := range 20 {
		n := 1 + i%2*1000
		write(t, path, fmt.Sprintf("EBB_DESK_DEADLINE: %ds\nEBB_DESK_LONGER: %ds\n", n, 2*n))
		if i > 0 { // the first is what is there
			<-changed
		}
	}
	cancel()
	all.Wait()
}

// consul is the key-value API of an agent: what it answers has the form of Consul's own answers.
type consul struct {
	mu    sync.Mutex
	index int
	keys  map[string]string
	away  bool
	next  chan struct{} // closed by the next change
	token string        // of the last request
}

func (c *consul) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.index++
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

// RoundTrip answers GET /v1/kv/PREFIX/?recurse, at once or after a change.
func (c *consul) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = r.Header.Get("X-Consul-Token")
	q := r.URL.Query()
	for !c.away && q.Get("index") == fmt.Sprint(c.index) {
		if c.next == nil {
			c.next = make(chan struct{})
		}
		next := c.next
		c.mu.Unlock()
		select {
		case <-next:
		case <-r.Context().Done():
			c.mu.Lock()
			return nil, r.Context().Err()
		}
		c.mu.Lock()
	}
	if c.away {
		return nil, errors.New("connection refused")
	}
	prefix := strings.TrimPrefix(r.URL.Path, "/v1/kv/")
	var pairs []string
	for key, value := range c.keys {
		if strings.HasPrefix(key, prefix) && q.Has("recurse") {
			value = `"` + base64.StdEncoding.EncodeToString([]byte(value)) + `"`
			if strings.HasSuffix(key, "/") {
				value = "null"
			}
			pairs = append(pairs, fmt.Sprintf(`{"LockIndex":0,"Key":%q,"Flags":0,"Value":%s,"CreateIndex":12,"ModifyIndex":%d}`,
				key, value, c.index))
		}
	}
	w := &http.Response{StatusCode: 200, Header: http.Header{"X-Consul-Index": {fmt.Sprint(c.index)}},
		Body: io.NopCloser(strings.NewReader("[" + strings.Join(pairs, ",") + "]"))}
	if pairs == nil {
		w.StatusCode, w.Body = 404, io.NopCloser(strings.NewReader(""))
	}
	return w, nil
}

// The keys of Consul stand beneath the file. A change counts as one of the file does; while Consul is away the values
// stay, and a wrong key changes nothing.
func TestConsul(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &consul{index: 12, keys: map[string]string{
			"shop/": "", "shop/functions/": "", "shop/EBB_DESK_ROOM": "7", "shop/EBB_LOG_LEVEL": "debug",
			"shop/functions/desk/EBB_DESK_DEADLINE": "10s", "other/EBB_X": "1",
		}}
		vars := map[string]string{
			"EBB_CONFIG_CONSUL": "consul://agent:8500/shop", "CONSUL_HTTP_TOKEN": "pass",
			"EBB_CONFIG": write(t, "", "EBB_LOG_LEVEL: warn\n"),
		}
		run(t, vars, func(s *source.Sources, log *logged) {
			expect := func(what, want string) {
				t.Helper()
				wait()
				room, _ := s.Lookup("EBB_DESK_ROOM")
				level, _ := s.Lookup("EBB_LOG_LEVEL")
				deadline, _ := s.Lookup("EBB_DESK_DEADLINE")
				if got := room + " " + level + " " + deadline; got != want {
					t.Errorf("%s: got %s: %s", what, got, log.b.String())
				}
			}
			expect("at first", "7 warn 10s")
			c.set(func() { c.keys["shop/functions/desk/EBB_DESK_DEADLINE"] = "20s" })
			expect("changed", "7 warn 20s")
			c.set(func() { c.keys["shop/functions/desk/EBB_DESK_DEADLIN"] = "1s" })
			expect("a slip", "7 warn 20s")
			if log.count("shop/functions/desk/EBB_DESK_DEADLIN: unknown setting") != 1 {
				t.Errorf("log: %s", log.b.String())
			}
			c.set(func() {
				delete(c.keys, "shop/functions/desk/EBB_DESK_DEADLIN")
				c.keys["shop/functions/desk/EBB_DESK_DEADLINE"] = "soon"
			})
			expect("no duration", "7 warn 20s")
			c.set(func() { c.away = true })
			time.Sleep(time.Hour)
			expect("away", "7 warn 20s")
			if log.count("Consul cannot be asked") != 1 {
				t.Errorf("log: %s", log.b.String())
			}
			c.set(func() { c.away, c.keys["shop/functions/desk/EBB_DESK_DEADLINE"] = false, "30s" })
			time.Sleep(time.Minute)
			expect("back", "7 warn 30s")
			c.set(func() { c.index, c.keys["shop/functions/desk/EBB_DESK_DEADLINE"] = 2, "40s" })
			expect("restored from a snapshot", "7 warn 40s")
			c.set(func() { c.keys = map[string]string{"shop/EBB_DESK_ROOM": "8"} })
			expect("removed", "7 warn ")
			if log.count("restart needed") == 0 || c.token != "pass" {
				t.Errorf("token %q, log %s", c.token, log.b.String())
			}
		}, func(cfg *source.Config) { cfg.Transport = c })
	})
}

// A Consul that is away at the start is waited for, and then named in the error.
func TestConsulAwayAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &consul{index: 12, keys: map[string]string{"shop/EBB_DESK_ROOM": "7"}, away: true}
		vars := map[string]string{"EBB_CONFIG_CONSUL": "consul:shop"}
		with := func(cfg *source.Config) { cfg.Transport = c }
		if _, _, err := open(t, vars, with); err == nil || !strings.Contains(err.Error(), "EBB_CONFIG_CONSUL") {
			t.Errorf("got %v", err)
		}
		time.AfterFunc(5*time.Second, func() { c.set(func() { c.away = false }) })
		s, _, err := open(t, vars, with)
		if err != nil {
			t.Fatal(err)
		}
		if room, _ := s.Lookup("EBB_DESK_ROOM"); room != "7" {
			t.Errorf("the room is %q", room)
		}
	})
	for _, address := range []string{
		"http://x", "consul://h:1/", "consul:", "consul://me:topsecret@h/p", "consul://h/p?x=1",
	} {
		_, _, err := open(t, map[string]string{"EBB_CONFIG_CONSUL": address})
		if err == nil || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: got %v", address, err)
		}
	}
}

var agentPath = flag.String("agent", "", "the consul command, whose agent TestAgent starts")

// startAgent starts an agent of Consul on loopback and returns its address.
func startAgent(t *testing.T) string {
	t.Helper()
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
	flags := fmt.Sprintf("agent -dev -bind=127.0.0.1 -client=127.0.0.1 -dns-port=-1 -grpc-port=-1 -grpc-tls-port=-1 "+
		"-http-port=%d -server-port=%d -serf-lan-port=%d -serf-wan-port=%d", ports[0], ports[1], ports[2], ports[3])
	cmd := exec.Command(*agentPath, strings.Fields(flags)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := fmt.Sprint("http://127.0.0.1:", ports[0])
	for range 600 {
		if r, err := http.Get(address + "/v1/status/leader"); err == nil {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if len(body) > 2 {
				return address
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the agent has no leader after a minute")
	return ""
}

// A real agent answers as the one above does.
func TestAgent(t *testing.T) {
	if *agentPath == "" {
		t.Skip("make consul builds an agent of Consul and runs this with it")
	}
	address := startAgent(t)
	put := func(method, key, value string) {
		t.Helper()
		r, err := http.NewRequest(method, address+"/v1/kv/ebb-test/"+key, strings.NewReader(value))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil || response.StatusCode != 200 {
			t.Fatal(response, err)
		}
		response.Body.Close()
	}
	put("DELETE", "?recurse", "")
	put("PUT", "functions/", "")
	put("PUT", "EBB_DESK_ROOM", "7")
	put("PUT", "functions/desk/EBB_DESK_DEADLINE", "10s")
	vars := map[string]string{"EBB_CONFIG_CONSUL": "consul://" + strings.TrimPrefix(address, "http://") + "/ebb-test"}
	run(t, vars, func(s *source.Sources, _ *logged) {
		changed := make(chan struct{}, 10)
		s.OnChange(func() { changed <- struct{}{} })
		if room, _ := s.Lookup("EBB_DESK_ROOM"); room != "7" {
			t.Errorf("the room is %q", room)
		}
		put("PUT", "functions/desk/EBB_DESK_DEADLINE", "20s")
		<-changed
		if deadline, _ := s.Lookup("EBB_DESK_DEADLINE"); deadline != "20s" {
			t.Errorf("the deadline is %q", deadline)
		}
		put("DELETE", "?recurse", "")
		<-changed
		if deadline, ok := s.Lookup("EBB_DESK_DEADLINE"); ok {
			t.Errorf("the deadline is %q", deadline)
		}
	})
}
