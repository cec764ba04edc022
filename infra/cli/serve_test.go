package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth/authtest"
	"github.com/ebb-dev/ebb/infra/discovery/consul/consultest"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/system"
)

// waiting is a product with one function, whose operation waits for the channel.
func waiting(release <-chan struct{}, entered chan<- struct{}) system.System {
	type output struct{ Body map[string]string }
	return system.System{Name: "ebb", Functions: []system.Definition{{
		Name: "greeter", New: func(env function.Env) (*function.Function, error) {
			f := function.New("greeter", env)
			op := function.Operation{Method: "GET", Path: "/api/greetings", Access: function.Public}
			function.Serve(f, op, func(ctx context.Context, _ *function.Tx, _ *struct{}) (*output, error) {
				entered <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
				}
				return &output{map[string]string{"text": "hello"}}, nil
			})
			return f, nil
		},
	}}}
}

// soon calls try until it reports true, for at most a minute.
func soon(t *testing.T, what string, try func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !try(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// serve registers its function, which passes its check when it is ready. When it is told to end it removes itself while
// it still answers, and ends when the last request is answered.
func TestServe(t *testing.T) {
	_, keys := authtest.Keys(t)
	agent := &consultest.Agent{}
	consul := httptest.NewServer(agent)
	defer consul.Close()
	u, err := url.Parse(consul.URL)
	if err != nil {
		t.Fatal(err)
	}
	p, _, errs := process(t.TempDir(), map[string]string{
		"EBB_DISCOVERY": "consul://" + u.Host + "/shop-", "EBB_VERIFICATION_KEYS": keys, "EBB_ZONE": "north",
	})
	release, entered := make(chan struct{}), make(chan struct{}, 1)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, waiting(release, entered), p, []string{"serve", "greeter", "--addr", "127.0.0.1:0"})
	}()
	defer func() { end(); <-ended }()

	listens := regexp.MustCompile(`greeter listens on http://(127\.0\.0\.1):(\d+)\n`)
	var at []string
	soon(t, "it listens", func() bool { at = listens.FindStringSubmatch(errs.String()); return at != nil })
	passing := "shop-greeter-127.0.0.1-" + at[2] + "=passing"
	soon(t, "it passes its check", func() bool { return slices.Contains(agent.Services(), passing) })

	answers := make(chan int, 1)
	go func() {
		answer, err := http.Get("http://" + at[1] + ":" + at[2] + "/api/greetings")
		if err != nil {
			t.Error(err)
			answers <- 0
			return
		}
		answer.Body.Close()
		answers <- answer.StatusCode
	}()
	<-entered
	end()
	soon(t, "it is removed", func() bool { return len(agent.Services()) == 0 })
	answer, err := http.Get("http://" + at[1] + ":" + at[2] + "/api/nothing")
	if err != nil || answer.StatusCode != http.StatusNotFound {
		t.Errorf("a request that comes after it is removed: %v, %v", answer, err)
	} else {
		answer.Body.Close()
	}
	close(release)
	if status := <-answers; status != http.StatusOK {
		t.Errorf("the request that was being served got %d", status)
	}
	code := <-ended
	if ended <- code; code != exitOK {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

func TestServeRefuses(t *testing.T) {
	for want, c := range map[string]struct {
		vars map[string]string
		args []string
	}{
		"wants the name of one function": {nil, nil},
		`invalid --addr "here"`:          {nil, []string{"greeter", "--addr", "here"}},
		"needs --advertise HOST":         {nil, []string{"greeter", "--addr", ":0", "--discovery", "consul:"}},
		"EBB_DISCOVERY want consul:, consul://HOST:PORT/PREFIX": {
			map[string]string{"EBB_DISCOVERY": "etcd:"}, []string{"greeter", "--addr", "127.0.0.1:0"},
		},
		`FUNCTION is "greter", but the functions are greeter`: {nil, []string{"greter", "--addr", "127.0.0.1:0"}},
	} {
		p, _, errs := process(t.TempDir(), c.vars)
		code := Run(t.Context(), waiting(nil, nil), p, append([]string{"serve"}, c.args...))
		if code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: got %d, %s, want 2 and %s", c.args, code, errs, want)
		}
	}
}
