package lambdarun

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/system"
)

// manager serves parameters of the Systems Manager; its status is 200 unless set, and after so many failures.
type manager struct {
	values   map[string]string
	status   int
	code     string // "": AccessDeniedException
	failures int    // 0: all calls
	calls    int
}

func (m *manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.calls++
	var in struct {
		Names          []string
		WithDecryption bool
	}
	if r.Header.Get("X-Amz-Target") != "AmazonSSM.GetParameters" || json.NewDecoder(r.Body).Decode(&in) != nil ||
		!in.WithDecryption || len(in.Names) > 10 || !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/ssm/") {
		http.Error(w, "{}", http.StatusBadRequest)
		return
	}
	if m.status != 0 && (m.failures == 0 || m.calls <= m.failures) {
		w.WriteHeader(m.status)
		_, _ = w.Write([]byte(`{"__type":"com.amazon#` + cmp.Or(m.code, "AccessDeniedException") + `","message":"hunter2"}`))
		return
	}
	type parameter struct{ Name, Selector, Value string }
	var out struct{ Parameters []parameter }
	for _, name := range in.Names {
		if value, ok := m.values[name]; ok {
			name, selector, selected := strings.Cut(name, ":")
			if selected {
				selector = ":" + selector
			}
			out.Parameters = append(out.Parameters, parameter{name, selector, value})
		}
	}
	_ = json.NewEncoder(w).Encode(out)
}

func serve(t *testing.T, m *manager) {
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
		"AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
}

const arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/"

// The value of a variable that names a parameter is the parameter's, in one call for ten; other variables stay out.
func TestParameters(t *testing.T) {
	m := &manager{values: map[string]string{
		"/shop/users/KEYS": "hunter2", "PLAIN": "x=y", "PLAIN:3": "third", "/shop/users/KEYS:live": "labelled",
	}}
	environment := []string{
		"A=" + arn + "shop/users/KEYS", "B=" + arn + "PLAIN", "C=" + arn + "PLAIN", "D=value", "E",
		"F=" + arn + "PLAIN:3", "G=" + arn + "shop/users/KEYS:live",
	}
	for _, name := range strings.Split("abcdefghij", "") {
		m.values["/p/"+name] = name
		environment = append(environment, "P"+name+"="+arn+"p/"+name)
	}
	serve(t, m)
	got, err := parameters(t.Context(), environment)
	if err != nil {
		t.Fatal(err)
	}
	if got["F"] != "third" || got["G"] != "labelled" {
		t.Errorf("with selectors: got %v", got)
	}
	if len(got) != 15 || got["A"] != "hunter2" || got["B"] != "x=y" || got["C"] != "x=y" || got["Pj"] != "j" {
		t.Errorf("got %v", got)
	}
	if m.calls != 2 {
		t.Errorf("got %d calls", m.calls)
	}
}

// Without references nothing is called.
func TestNoParameters(t *testing.T) {
	m := &manager{}
	serve(t, m)
	got, err := parameters(t.Context(), []string{"A=arn:aws:sns:eu-central-1:123456789012:shop.fifo", "B=x " + arn})
	if err != nil || len(got) != 0 || m.calls != 0 {
		t.Errorf("got %v, %v, %d calls", got, err, m.calls)
	}
}

// A value that is meant as a reference and is none is an error: it must not become a secret that anyone can guess.
func TestInvalidReferences(t *testing.T) {
	for _, value := range []string{
		arn, arn + "a:", arn + "a:1:2", arn + "a b", strings.Replace(arn, "123456789012", "123", 1) + "a",
		strings.TrimSuffix(arn, "/"),
	} {
		m := &manager{values: map[string]string{}}
		serve(t, m)
		got, err := parameters(t.Context(), []string{"A=" + value})
		if err == nil || !strings.Contains(err.Error(), "A names a parameter") ||
			!strings.Contains(err.Error(), "want arn:") {
			t.Errorf("%s: got %v, %v", value, got, err)
		}
	}
}

// Each variable that has no value is named, and no answer of the service is repeated.
func TestParameterFaults(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		want   []string
	}{
		"missing": {0, []string{"A names a parameter", "there is no such parameter", "B names"}},
		"denied":  {http.StatusBadRequest, []string{"A names", "AccessDeniedException", "ssm:GetParameters"}},
		"away":    {http.StatusServiceUnavailable, []string{"B names", "status 503"}},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, &manager{status: c.status})
			got, err := parameters(t.Context(), []string{"A=" + arn + "a", "B=" + arn + "b"})
			if err == nil || got != nil || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("got %v, %v", got, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
		})
	}
}

// Many sandboxes that start at once are over the rate of the Systems Manager. What may pass is tried again, and what
// the role does not allow is not.
func TestParametersAgain(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		calls  int
	}{
		"throttled": {http.StatusBadRequest, "ThrottlingException", 3},
		"failing":   {http.StatusServiceUnavailable, "ServiceUnavailable", 3},
		"denied":    {http.StatusBadRequest, "AccessDeniedException", 1},
	} {
		m := &manager{values: map[string]string{"/p/a": "x"}, status: c.status, code: c.code, failures: 2}
		serve(t, m)
		got, err := parameters(t.Context(), []string{"A=" + arn + "p/a"})
		if m.calls != c.calls || (err == nil) != (c.calls > 1) || err == nil && got["A"] != "x" {
			t.Errorf("%s: got %v, %v, %d calls", name, got, err, m.calls)
		}
	}
}

// What stands in a parameter is told without its value, whatever setting it is; the rest is told as the environment has
// it.
func TestSettingsFromParameters(t *testing.T) {
	type settings struct {
		Text string `envconfig:"EBB_BELL_TEXT" default:"ding"`
		Loud string `envconfig:"EBB_BELL_LOUD"`
	}
	var told func() config.Report
	bell := system.System{Name: "bell", Functions: []system.Definition{{Name: "bell",
		New: func(env function.Env) (*function.Function, error) {
			f := function.New("bell", env)
			_, err := function.Configure[settings](f)
			told = env.Settings
			return f, err
		}}}}
	parameters := config.Map(map[string]string{"EBB_BELL_TEXT": "a secret"})
	environment := config.Map(map[string]string{
		"FUNCTION": "bell", "EBB_STORE": "memory:", "EBB_BELL_TEXT": "arn:…", "EBB_BELL_LOUD": "yes",
	})
	if _, err := newHost(bell, parameters, environment, io.Discard); err != nil {
		t.Fatal(err)
	}
	tell := told
	of := map[string]string{}
	for _, s := range tell().Settings {
		of[s.Variable] = s.Value + " " + s.Origin
	}
	for variable, want := range map[string]string{
		"EBB_BELL_TEXT": "*** parameter", "EBB_BELL_LOUD": "yes environment", "EBB_STORE": "memory: environment",
		"EBB_ISSUER": "ebb default",
	} {
		if of[variable] != want {
			t.Errorf("%s: got %q, want %q", variable, of[variable], want)
		}
	}
}
